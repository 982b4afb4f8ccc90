//! What people are shown, each listing read at one revision.

mod one;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use meridian_api::ids::{ClusterUid, ObjectId, Revision};

use super::clocks::Measured;
use super::observed::{Observation, Observations};
use super::{App, AppError};
use crate::domain::access::grant::Scope;
use crate::domain::breaker::{self, Frozen};
use crate::domain::cluster::{Cluster, Presence, PresenceEdge, RecInventory};
use crate::domain::database::{Database, Membership, Waits};
use crate::domain::denial::Denial;
use crate::domain::remote::Remote;
use crate::store::keys::{self, Prefix};
use crate::store::records::{self, Held, StoredObservation, StoredOutcome, Transitions};
use crate::store::{Entry, Read, StoreError};

/// A member with everything that is known of it.
#[derive(Clone, Debug)]
pub struct MemberView {
    /// The registration.
    pub cluster: Held<Cluster>,
    /// Last edge of its presence, `None` if it never had a session.
    pub presence: Option<PresenceEdge>,
    /// What it reported last.
    pub recs: Option<RecInventory>,
    /// The newest revision of all this.
    pub newest: Revision,
    /// Why it is let in no more.
    pub denied: Option<Denial>,
    /// Why no data of it is deleted, with the scope that is frozen.
    pub frozen: Option<(breaker::Scope, Frozen)>,
    /// How far its clock is from the hub's; `None` where this process has not heard it.
    pub clock: Option<Measured>,
}

impl MemberView {
    /// Whether it has a session now. What it reported before is stale if not.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.presence
            .as_ref()
            .is_some_and(|edge| edge.presence == Presence::Connected)
    }
}

/// A remote cluster and the member it belongs to.
#[derive(Clone, Debug)]
pub struct RemoteView {
    /// The remote cluster.
    pub remote: Held<Remote>,
    /// Its member, which it shares with others; `None` only while a registration is being removed.
    pub member: Option<Arc<MemberView>>,
    /// The newest revision of all this.
    pub newest: Revision,
}

/// What is known of an object on a member.
#[derive(Clone, Debug, Default)]
pub struct ObjectView {
    /// Revision that told the member what it is to make true. What that is, which is most of the store, is shown to nobody.
    pub desired: Option<Revision>,
    /// What became of it.
    pub outcome: Option<StoredOutcome>,
    /// What the member observes.
    pub observed: Option<Observation>,
    /// The newest revision of all this; 0 if nothing is known.
    pub newest: Revision,
}

/// A participant of a database.
#[derive(Clone, Debug)]
pub struct ParticipantView {
    /// Name of its remote cluster.
    pub name: String,
    /// The remote cluster with its member, `None` if no member reports it.
    pub remote: Option<RemoteView>,
    /// Its REAADB.
    pub database: ObjectView,
    /// Its `ActiveActiveInstance`.
    pub instance: ObjectView,
}

/// A database with everything that is known of it.
#[derive(Clone, Debug)]
pub struct DatabaseView {
    /// The intent.
    pub database: Held<Database>,
    /// What was allocated, `None` until it is planned.
    pub membership: Option<Membership>,
    /// When its steps turned, as far as that is stored.
    pub transitions: Transitions,
    /// What it waits for, `None` for nothing.
    pub waits: Option<Waits>,
    /// When all this was read.
    pub read_at: Timestamp,
    /// Since when this process hears members.
    pub began_at: Timestamp,
    /// Its participants, in the order of the spec.
    pub participants: Vec<ParticipantView>,
    /// The newest revision of all this.
    pub newest: Revision,
}

/// The revision of what may be missing; 0 if it is.
fn modified<R>(held: Option<&Held<R>>) -> Revision {
    held.map(|held| held.modified).unwrap_or_default()
}

/// Records by the last part of their key.
fn keyed<K: FromStr + Ord, R>(held: Vec<Held<R>>) -> BTreeMap<K, Held<R>> {
    held.into_iter()
        .filter_map(|held| Some((keys::last_part(&held.key).parse().ok()?, held)))
        .collect()
}

type Placed<R> = BTreeMap<(ClusterUid, ObjectId), Held<R>>;

fn placed<R>(held: Vec<Held<R>>) -> Placed<R> {
    held.into_iter()
        .filter_map(|held| Some((keys::cluster_and_object(&held.key)?, held)))
        .collect()
}

/// Takes one kind after the other out of a listing of several.
struct Lists(std::vec::IntoIter<Vec<Entry>>);

impl Lists {
    fn next<R: serde::de::DeserializeOwned>(
        &mut self,
        _: &Prefix<R>,
    ) -> Result<Vec<Held<R>>, StoreError> {
        records::all(self.0.next().unwrap_or_default())
    }

    /// When each record of a kind that lies by member and object was written.
    fn revisions<R>(&mut self, _: &Prefix<R>) -> BTreeMap<(ClusterUid, ObjectId), Revision> {
        let entries = self.0.next().unwrap_or_default().into_iter();
        entries
            .filter_map(|entry| Some((keys::cluster_and_object(&entry.key)?, entry.modified)))
            .collect()
    }
}

/// Where all that is known of members lies.
#[must_use]
pub fn member_prefixes() -> Vec<String> {
    vec![
        keys::clusters().text().to_owned(),
        keys::presences().text().to_owned(),
        keys::all_recs().text().to_owned(),
        keys::denied_clusters().text().to_owned(),
        keys::tallies().text().to_owned(),
    ]
}

/// Where all that is known of remote clusters lies.
#[must_use]
pub fn remote_prefixes() -> Vec<String> {
    let mut prefixes = member_prefixes();
    prefixes.push(keys::remotes().text().to_owned());
    prefixes
}

/// Where all that is known of databases lies.
#[must_use]
pub fn database_prefixes() -> Vec<String> {
    let mut prefixes = remote_prefixes();
    prefixes.extend([
        keys::databases().text().to_owned(),
        keys::memberships().text().to_owned(),
        keys::all_desired().text().to_owned(),
        keys::outcomes().text().to_owned(),
        keys::all_observed().text().to_owned(),
        keys::all_transitions().text().to_owned(),
        keys::all_waits().text().to_owned(),
    ]);
    prefixes
}

type Members = BTreeMap<ClusterUid, Arc<MemberView>>;

fn members(lists: &mut Lists) -> Result<Members, StoreError> {
    let clusters = lists.next(&keys::clusters())?;
    let mut presences: BTreeMap<ClusterUid, _> = keyed(lists.next(&keys::presences())?);
    let mut recs: BTreeMap<ClusterUid, _> = keyed(lists.next(&keys::all_recs())?);
    let mut denied: BTreeMap<ClusterUid, _> = keyed(lists.next(&keys::denied_clusters())?);
    let tallies: BTreeMap<breaker::Scope, _> = keyed(lists.next(&keys::tallies())?);
    let over = |uid| [breaker::Scope::Fleet, breaker::Scope::Cluster(uid)];
    let views = clusters.into_iter().map(|cluster| {
        let uid = cluster.record.uid;
        let (presence, recs) = (presences.remove(&uid), recs.remove(&uid));
        let denied = denied.remove(&uid);
        let newest = modified(presence.as_ref()).max(modified(recs.as_ref()));
        let newest = newest.max(modified(denied.as_ref()));
        let counted = over(uid).map(|scope| (scope, tallies.get(&scope)));
        let newest = counted
            .iter()
            .map(|(_, tally)| modified(*tally))
            .fold(newest, Revision::max);
        let frozen = counted.into_iter();
        let mut frozen =
            frozen.filter_map(|(scope, tally)| Some((scope, tally?.record.frozen()?.clone())));
        let view = MemberView {
            newest: newest.max(cluster.modified),
            cluster,
            presence: presence.map(|held| held.record),
            recs: recs.map(|held| held.record),
            denied: denied.map(|held| held.record),
            frozen: frozen.next(),
            clock: None,
        };
        (uid, Arc::new(view))
    });
    Ok(views.collect())
}

impl App {
    async fn lists(&self, prefixes: Vec<String>) -> Result<Read<Lists>, StoreError> {
        let Read { value, revision } = self.store().list(prefixes).await?;
        Ok(Read {
            value: Lists(value.into_iter()),
            revision,
        })
    }

    /// All members, by name.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn member_views(&self) -> Result<Read<Vec<Arc<MemberView>>>, AppError> {
        let Read {
            value: mut lists,
            revision,
        } = self.lists(member_prefixes()).await?;
        let mut views: Vec<_> = members(&mut lists)?.into_values().collect();
        views.sort_by(|a, b| a.cluster.record.name.cmp(&b.cluster.record.name));
        Ok(Read {
            value: views,
            revision,
        })
    }

    /// All remote clusters, by name.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn remote_views(&self) -> Result<Read<Vec<RemoteView>>, AppError> {
        let Read {
            value: mut lists,
            revision,
        } = self.lists(remote_prefixes()).await?;
        let members = members(&mut lists)?;
        let remotes = lists.next(&keys::remotes())?.into_iter();
        let view = |remote: Held<Remote>| remote_view(remote, &members);
        Ok(Read {
            value: remotes.map(view).collect(),
            revision,
        })
    }

    /// The names of all databases that somebody with this scope may see, in their order.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn database_names(&self, scope: &Scope) -> Result<Read<Vec<String>>, AppError> {
        let prefix = keys::databases();
        let Read { value, revision } = self.store().list(vec![prefix.text().to_owned()]).await?;
        let names = |entry: &Entry| keys::last_part(&entry.key).to_owned();
        let entries = value.into_iter().flatten();
        let value = match scope.projects() {
            None => entries.map(|entry| names(&entry)).collect(),
            Some(_) => records::all::<Database>(entries.collect::<Vec<_>>())?
                .into_iter()
                .filter(|held| scope.sees(held.record.project()))
                .map(|held| held.record.name)
                .collect(),
        };
        Ok(Read { value, revision })
    }

    /// All databases that somebody with this scope may see, by name.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn database_views(&self, scope: &Scope) -> Result<Read<Vec<DatabaseView>>, AppError> {
        let Read {
            value: mut lists,
            revision,
        } = self.lists(database_prefixes()).await?;
        Ok(Read {
            value: databases(
                &mut lists,
                scope,
                (&self.observations, self.now(), self.began_at),
            )?,
            revision,
        })
    }
}

/// Databases with everything that is known of them, out of lists in the order of [`database_prefixes`].
fn databases(
    lists: &mut Lists,
    scope: &Scope,
    (heard, read_at, began_at): (&Observations, Timestamp, Timestamp),
) -> Result<Vec<DatabaseView>, StoreError> {
    let members = members(lists)?;
    let remotes: BTreeMap<String, _> = keyed(lists.next(&keys::remotes())?);
    let mut databases = lists.next(&keys::databases())?;
    databases.retain(|held| scope.sees(held.record.project()));
    let memberships: BTreeMap<ObjectId, _> = keyed(lists.next(&keys::memberships())?);
    let objects = Objects {
        desired: lists.revisions(&keys::all_desired()),
        outcomes: placed(lists.next(&keys::outcomes())?),
        observed: placed(lists.next(&keys::all_observed())?),
        heard,
    };
    let transitions: BTreeMap<ObjectId, _> = keyed(lists.next(&keys::all_transitions())?);
    let waits: BTreeMap<ObjectId, _> = keyed(lists.next(&keys::all_waits())?);
    let view = |database: Held<Database>| {
        let participants = database.record.participants().into_iter();
        let participants = participants.map(|participant| {
            let remote = remotes.get(&participant.name).cloned();
            let cluster = remote.as_ref().map(|remote| remote.record.cluster);
            ParticipantView {
                name: participant.name,
                remote: remote.map(|remote| remote_view(remote, &members)),
                database: objects.view(cluster, database.record.object_id),
                instance: objects.view(cluster, database.record.instance_object_id),
            }
        });
        let participants: Vec<_> = participants.collect();
        let membership = memberships.get(&database.record.object_id);
        let newest = participants.iter().map(ParticipantView::newest).max();
        let turned = transitions.get(&database.record.object_id);
        let newest = newest.max(Some(modified(membership).max(modified(turned))));
        let waits = waits.get(&database.record.object_id);
        let newest = newest.max(Some(modified(waits)));
        DatabaseView {
            newest: newest.unwrap_or_default().max(database.modified),
            participants,
            membership: membership.map(|held| held.record.clone()),
            waits: waits.map(|held| held.record.clone()),
            transitions: turned.map(|held| held.record.clone()).unwrap_or_default(),
            read_at,
            began_at,
            database,
        }
    };
    Ok(databases.into_iter().map(view).collect())
}

fn remote_view(remote: Held<Remote>, members: &Members) -> RemoteView {
    let member = members.get(&remote.record.cluster).cloned();
    let newest = member.as_ref().map(|member| member.newest);
    RemoteView {
        newest: newest.unwrap_or_default().max(remote.modified),
        member,
        remote,
    }
}

impl ParticipantView {
    fn newest(&self) -> Revision {
        let remote = self.remote.as_ref().map(|remote| remote.newest);
        let objects = self.database.newest.max(self.instance.newest);
        objects.max(remote.unwrap_or_default())
    }
}

struct Objects<'h> {
    desired: BTreeMap<(ClusterUid, ObjectId), Revision>,
    outcomes: Placed<StoredOutcome>,
    observed: Placed<StoredObservation>,
    heard: &'h Observations,
}

impl Objects<'_> {
    fn view(&self, cluster: Option<ClusterUid>, object: ObjectId) -> ObjectView {
        let Some(cluster) = cluster else {
            return ObjectView::default();
        };
        let place = (cluster, object);
        let desired = self.desired.get(&place).copied();
        let outcome = self.outcomes.get(&place);
        let observed = self.observed.get(&place);
        let newest = modified(outcome).max(modified(observed));
        ObjectView {
            newest: newest.max(desired.unwrap_or_default()),
            desired,
            outcome: outcome.map(|held| held.record.clone()),
            observed: observed.map(|held| self.heard.latest(cluster, object, &held.record)),
        }
    }
}
