//! One object with everything that is known of it: reads as many records as it is shown from, however many others there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meridian_api::ids::ClusterUid;

use super::{App, AppError, DatabaseView, Lists, MemberView, RemoteView};
use super::{databases, members, remote_view};
use crate::domain::access::grant::Scope;
use crate::domain::breaker;
use crate::domain::database::Database;
use crate::domain::remote::Remote;
use crate::store::records::{self, Held};
use crate::store::{Read, StoreError, keys};

/// Keys of one kind after the other, in the order in which lists are read.
type Kinds = Vec<Vec<String>>;

fn of_members(clusters: &BTreeSet<ClusterUid>) -> Kinds {
    let each = |key: fn(ClusterUid) -> String| clusters.iter().copied().map(key).collect();
    let tallies = clusters.iter().copied().map(breaker::Scope::Cluster);
    let tallies = tallies.chain([breaker::Scope::Fleet]);
    vec![
        each(|uid| keys::cluster(uid).text().to_owned()),
        each(|uid| keys::presence(uid).text().to_owned()),
        each(|uid| keys::recs(uid).text().to_owned()),
        each(|uid| keys::denied_cluster(uid).text().to_owned()),
        tallies
            .map(|scope| keys::tally(scope).text().to_owned())
            .collect(),
    ]
}

fn of_remotes(names: &[String]) -> Vec<String> {
    let keys = names.iter().map(|name| keys::remote(name));
    keys.map(|key| key.text().to_owned()).collect()
}

/// Databases, each with the members that take part in it.
type Placed<'d> = [(&'d Held<Database>, BTreeSet<ClusterUid>)];

fn of_databases(databases: &Placed<'_>) -> Kinds {
    let places: Vec<_> = databases
        .iter()
        .flat_map(|(held, clusters)| {
            let objects = [held.record.object_id, held.record.instance_object_id];
            let each = clusters.iter();
            each.flat_map(move |uid| objects.map(|object| (*uid, object)))
        })
        .collect();
    let known = databases.iter().map(|(held, _)| held);
    let memberships = known
        .clone()
        .map(|it| keys::membership(it.record.object_id));
    let desired = places
        .iter()
        .map(|(uid, object)| keys::desired(*uid, *object).text().to_owned());
    let outcomes = places
        .iter()
        .map(|(uid, object)| keys::outcome(*uid, *object).text().to_owned());
    let turned = known
        .clone()
        .map(|it| keys::transitions(it.record.object_id).text().to_owned());
    let turned = turned.collect();
    let waits = known.clone().map(|it| keys::waits(it.record.object_id));
    let waits = waits.map(|key| key.text().to_owned()).collect();
    let observed = places
        .iter()
        .map(|(uid, object)| keys::observed(*uid, *object).text().to_owned());
    vec![
        known.map(|held| held.key.clone()).collect(),
        memberships.map(|key| key.text().to_owned()).collect(),
        desired.collect(),
        outcomes.collect(),
        observed.collect(),
        turned,
        waits,
    ]
}

impl App {
    /// Exactly these records, at one revision.
    async fn exactly(&self, kinds: Kinds) -> Result<Read<Lists>, StoreError> {
        let counts: Vec<usize> = kinds.iter().map(Vec::len).collect();
        let keys = kinds.into_iter().flatten().collect();
        let Read { value, revision } = self.store().get_all(keys).await?;
        let mut found = value.into_iter();
        let lists = counts
            .into_iter()
            .map(|count| found.by_ref().take(count).flatten().collect());
        Ok(Read {
            value: Lists(lists.collect::<Vec<_>>().into_iter()),
            revision,
        })
    }

    /// The remote clusters of these names that exist.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::app) async fn remotes_named(
        &self,
        names: &[String],
    ) -> Result<Vec<Held<Remote>>, StoreError> {
        let mut lists = self.exactly(vec![of_remotes(names)]).await?.value;
        lists.next(&keys::remotes())
    }

    /// The member of this name, `None` if there is none.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn member_view(&self, name: &str) -> Result<Option<Arc<MemberView>>, AppError> {
        let holder = records::get(self.store().as_ref(), &keys::cluster_name(name)).await?;
        let Some(holder) = holder else {
            return Ok(None);
        };
        let clusters = BTreeSet::from([holder.record.cluster]);
        let mut lists = self.exactly(of_members(&clusters)).await?.value;
        let mut views = members(&mut lists)?.into_values();
        // It may have been removed since, and nobody is another by this name.
        let view = views.find(|view| view.cluster.record.name == name);
        Ok(view.map(|view| {
            let mut view = Arc::unwrap_or_clone(view);
            view.clock = self.clock_of(view.cluster.record.uid);
            Arc::new(view)
        }))
    }

    /// The remote cluster of this name, `None` if there is none.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn remote_view(&self, name: &str) -> Result<Option<RemoteView>, AppError> {
        let names = [name.to_owned()];
        loop {
            let Some(known) = self.remotes_named(&names).await?.pop() else {
                return Ok(None);
            };
            let clusters = BTreeSet::from([known.record.cluster]);
            let mut kinds = of_members(&clusters);
            kinds.push(of_remotes(&names));
            let mut lists = self.exactly(kinds).await?.value;
            let members = members(&mut lists)?;
            let Some(remote) = lists.next(&keys::remotes())?.pop() else {
                return Ok(None);
            };
            if clusters.contains(&remote.record.cluster) {
                return Ok(Some(remote_view(remote, &members)));
            }
        }
    }

    /// The database of this name, `None` if there is none that somebody with this scope may see.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn database_view(
        &self,
        scope: &Scope,
        name: &str,
    ) -> Result<Option<DatabaseView>, AppError> {
        let names = BTreeSet::from([name.to_owned()]);
        let mut views = self.database_views_of(scope, &names).await?.value;
        Ok(views.pop())
    }

    /// Those of the databases of these names that exist and that somebody with this scope may see, by name, all at one revision.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn database_views_of(
        &self,
        scope: &Scope,
        names: &BTreeSet<String>,
    ) -> Result<Read<Vec<DatabaseView>>, AppError> {
        // Where their records lie is read first. If that has changed until they are read, another writer has made progress.
        loop {
            let keys = names
                .iter()
                .map(|name| keys::database(name).text().to_owned());
            let mut lists = self.exactly(vec![keys.collect()]).await?.value;
            let known = lists.next(&keys::databases())?;
            let remotes: BTreeSet<String> = known
                .iter()
                .flat_map(|held| held.record.participants())
                .map(|participant| participant.name)
                .collect();
            let remotes: Vec<_> = remotes.into_iter().collect();
            let on: BTreeMap<String, ClusterUid> = self
                .remotes_named(&remotes)
                .await?
                .into_iter()
                .map(|held| (held.record.name, held.record.cluster))
                .collect();
            let placed: Vec<_> = known
                .iter()
                .map(|held| {
                    let participants = held.record.participants().into_iter();
                    let clusters = participants.filter_map(|it| on.get(&it.name).copied());
                    (held, clusters.collect::<BTreeSet<_>>())
                })
                .collect();
            let mut kinds = of_members(&on.values().copied().collect());
            kinds.push(of_remotes(&remotes));
            kinds.extend(of_databases(&placed));
            let Read {
                value: mut lists,
                revision,
            } = self.exactly(kinds).await?;
            let value = databases(
                &mut lists,
                scope,
                (&self.observations, self.now(), self.began_at),
            )?;
            let is_whole = |view: &DatabaseView| {
                let before = known.iter().find(|held| held.key == view.database.key);
                let mut remotes = view
                    .participants
                    .iter()
                    .filter_map(|one| one.remote.as_ref());
                before.is_some_and(|held| held.modified == view.database.modified)
                    && remotes.all(|view| {
                        let record = &view.remote.record;
                        on.get(&record.name) == Some(&record.cluster)
                    })
            };
            if value.iter().all(is_whole) {
                return Ok(Read { value, revision });
            }
        }
    }
}

#[cfg(test)]
mod tests;
