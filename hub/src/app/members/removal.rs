//! How a member ends: its registration is removed when nothing of it is wanted any more, or a person declares it lost, and
//! nobody waits for it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use meridian_api::ids::ClusterUid;

use super::super::audit::Deed;
use super::super::writes::Manner;
use super::super::{App, AppError, until_uncontended};
use super::residue;
use crate::domain::access::grant::Verb;
use crate::domain::cluster::{Cluster, Presence, PresenceEdge, RemovedCluster};
use crate::domain::database::Database;
use crate::domain::denial::Denial;
use crate::domain::desired::Desired;
use crate::domain::lost::{self, Lost};
use crate::domain::remote::Remote;
use crate::store::records::{self, Held, Mark, NameHolder, SessionEpoch, TxnExt as _};
use crate::store::{Txn, keys};

/// Remote clusters that go with their member in one transaction: each takes a check and a write, and there is more to do.
const TOGETHER: usize = 30;

/// A member, and all that hangs on it.
struct Leaver {
    holder: Held<NameHolder>,
    known: Held<Cluster>,
    presence: Option<Held<PresenceEdge>>,
    session: Option<Held<SessionEpoch>>,
    /// When an intent named members last.
    intents: Option<Held<Mark>>,
    remotes: Vec<Held<Remote>>,
    /// What it is told.
    told: Vec<Held<Desired>>,
    databases: Vec<Held<Database>>,
}

impl Leaver {
    fn uid(&self) -> ClusterUid {
        self.known.record.uid
    }

    /// Since when it has no session, in words; `None` while it has one.
    fn away(&self) -> Option<String> {
        match self.presence.as_ref().map(|held| &held.record) {
            Some(edge) if edge.presence == Presence::Connected => None,
            Some(edge) => Some(format!("unreachable since {}", edge.since)),
            None => Some("it never opened a session".to_owned()),
        }
    }

    /// Databases that a person wants there.
    fn wanted(&self) -> BTreeSet<String> {
        let mine: BTreeSet<_> = self.remotes.iter().map(|held| &held.record.name).collect();
        let over = self.databases.iter().filter(|held| {
            let participants = held.record.participants();
            let mut names = participants.iter().map(|one| &one.name);
            held.record.deletion.is_none() && names.any(|name| mine.contains(name))
        });
        over.map(|held| held.record.name.clone()).collect()
    }

    /// Databases whose data there is on its way out and has not been confirmed to be gone, with when that was decided.
    fn going(&self) -> Vec<(&str, Option<Timestamp>)> {
        let data: BTreeSet<_> = self
            .told
            .iter()
            .filter(|held| held.record.data_bearing)
            .map(|held| held.record.object_id)
            .collect();
        let going = self.databases.iter().filter(|held| {
            let Database {
                object_id,
                instance_object_id,
                ..
            } = &held.record;
            data.contains(object_id) || data.contains(instance_object_id)
        });
        going
            .map(|held| {
                let database = &held.record;
                let decided = database.deletion.as_ref();
                let decided = decided.or_else(|| database.removals.get(&self.uid()));
                (database.name.as_str(), decided.map(|it| it.at))
            })
            .collect()
    }

    /// A transaction that removes the registration, and nothing of what the member is told, nor more remote
    /// clusters than one transaction takes: the planner forgets those. It is void if a session begins or ends meanwhile, or an intent names members.
    fn removed(&self, removed: &RemovedCluster) -> Result<Txn, crate::store::StoreError> {
        let uid = self.uid();
        let mut txn = Txn::new()
            .unchanged(&self.holder)
            .unchanged(&self.known)
            .still(&keys::presence(uid), self.presence.as_ref())
            .still(&keys::session(uid), self.session.as_ref())
            .still(&keys::intents(), self.intents.as_ref())
            .put_record(&keys::departures(), &Mark {})?
            .delete(keys::cluster_name(&self.known.record.name).text())
            .delete(keys::cluster(uid).text())
            .delete(keys::recs(uid).text())
            .delete(keys::presence(uid).text())
            .delete(keys::trust_of(uid).text())
            .put_record(&keys::removed(uid), removed)?;
        for remote in self.remotes.iter().take(TOGETHER) {
            txn = txn.unchanged(remote).delete(remote.key.clone());
        }
        Ok(txn)
    }
}

impl App {
    /// Removes the registration of a cluster. Nothing is sent to the member and no data is touched there; its
    /// certificate opens nothing any more. A participant of a database is refused, and so is a member that has not confirmed
    /// that the data which was to go there is gone.
    ///
    /// # Errors
    /// [`AppError::NotFound`], [`AppError::Conflict`] while it takes part in a database or still holds data of one.
    pub async fn remove_cluster(&self, name: &str, manner: &Manner) -> Result<(), AppError> {
        until_uncontended(|| async {
            let leaver = self.leaver(name).await?;
            manner.meets("cluster", name, leaver.known.modified)?;
            must_not_be_wanted(name, &leaver)?;
            must_not_hold_data(name, &leaver)?;
            let removed = RemovedCluster {
                uid: leaver.uid(),
                name: name.to_owned(),
                removed_at: self.now(),
                lost: None,
            };
            let deed = Deed::new(Verb::Delete, "cluster", name);
            let txn = leaver.removed(&removed)?;
            if self.commit_as(manner, &deed, txn).await?.is_some() {
                self.forget_clock(leaver.uid());
                self.hear_anew(leaver.uid());
                tracing::info!(cluster = %leaver.uid(), name, "the registration of a cluster was removed");
            }
            Ok(())
        })
        .await
    }

    /// Declares a member lost for good: from now on it is told nothing and nobody waits for it. Deletions go on without it,
    /// databases over it go on without it, its certificates and its device key open nothing, and what may be left there is
    /// written down.
    ///
    /// # Errors
    /// [`AppError::NotFound`], [`AppError::Conflict`] while it has a session or unless `confirm` is its name,
    /// [`AppError::Changed`], [`AppError::Observing`].
    pub async fn lose_cluster(
        &self,
        name: &str,
        (confirm, by): (Option<&str>, &str),
        manner: &Manner,
    ) -> Result<RemovedCluster, AppError> {
        until_uncontended(|| async {
            self.must_decide().await?;
            let leaver = self.leaver(name).await?;
            manner.meets("cluster", name, leaver.known.modified)?;
            if leaver.away().is_none() {
                return Err(AppError::Conflict(format!(
                    "cluster {name:?} has a session with the hub: a member that answers is not lost. Take it out in order \
                     (`meridian cluster remove {name}`), or cut it off first (`meridian cluster deny {name} --reason …`) if what \
                     answers there is not to be trusted any more"
                )));
            }
            let removed = self.lost(&leaver, by).await?;
            if !manner.dry_run && confirm != Some(name) {
                return Err(AppError::Conflict(format!(
                    "declaring cluster {name:?} lost cannot be taken back: {} it, and what it holds stays where it is; look with \
                     dryRun=All, then repeat the request with ?confirm={name} if that is meant",
                    match removed.lost.as_ref().map_or(0, |lost| lost.databases.len()) {
                        1 => "one database goes on without".to_owned(),
                        count => format!("{count} databases go on without"),
                    }
                )));
            }
            let uid = leaver.uid();
            let denied = records::get(self.store().as_ref(), &keys::denied_cluster(uid)).await?;
            let denial = self.denial_of_lost(&removed, by);
            let stored = if manner.dry_run {
                removed.clone()
            } else {
                self.store_residue(&removed).await?
            };
            let txn = leaver.removed(&stored)?;
            let txn = txn.upsert(&keys::denied_cluster(uid), denied.as_ref(), &denial)?;
            let left = residue::named(&removed);
            let deed = Deed { left: &left, ..Deed::new(Verb::Lose, "cluster", name) };
            if self.commit_as(manner, &deed, txn).await?.is_some() {
                self.forget_clock(uid);
                self.hear_anew(uid);
                tracing::warn!(audit = true, cluster = %uid, name, by, ?left, "a cluster was declared lost for good");
            }
            Ok(removed)
        })
        .await
    }

    /// Members that were declared lost and did not join again, by name.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn lost_clusters(&self) -> Result<Vec<RemovedCluster>, AppError> {
        let all = records::list(self.store().as_ref(), &keys::all_removed()).await?;
        let all = all.value.into_iter().map(|held| held.record);
        let mut lost = Vec::new();
        for removed in all.filter(|removed| removed.lost.is_some()) {
            lost.push(self.whole(removed).await?);
        }
        lost.sort_by(|a, b| (&a.name, a.removed_at).cmp(&(&b.name, b.removed_at)));
        Ok(lost)
    }

    async fn leaver(&self, name: &str) -> Result<Leaver, AppError> {
        let store = self.store().as_ref();
        let Some(holder) = records::get(store, &keys::cluster_name(name)).await? else {
            return Err(self.no_cluster(name).await?);
        };
        let uid = holder.record.cluster;
        let Some(known) = records::get(store, &keys::cluster(uid)).await? else {
            return Err(self.no_cluster(name).await?);
        };
        // What the transaction demands is read before what is judged.
        let presence = records::get(store, &keys::presence(uid)).await?;
        let session = records::get(store, &keys::session(uid)).await?;
        let intents = records::get(store, &keys::intents()).await?;
        let remotes = records::list(store, &keys::remotes()).await?.value;
        let mine = remotes
            .into_iter()
            .filter(|held| held.record.cluster == uid);
        Ok(Leaver {
            holder,
            known,
            presence,
            session,
            intents,
            remotes: mine.collect(),
            told: self.desired_of(uid).await?.value,
            databases: records::list(store, &keys::databases()).await?.value,
        })
    }

    async fn lost(&self, leaver: &Leaver, by: &str) -> Result<RemovedCluster, AppError> {
        let uid = leaver.uid();
        let recs = records::get(self.store().as_ref(), &keys::recs(uid)).await?;
        let recs = recs.map(|held| held.record.recs).unwrap_or_default();
        let told = leaver.told.iter().map(|held| &held.record);
        Ok(RemovedCluster {
            uid,
            name: leaver.known.record.name.clone(),
            removed_at: self.now(),
            lost: Some(Lost {
                by: by.to_owned(),
                away_since: leaver.presence.as_ref().map(|held| held.record.since),
                remotes: leaver
                    .remotes
                    .iter()
                    .map(|held| held.record.name.clone())
                    .collect(),
                databases: leaver.wanted(),
                residue: lost::residue(told, &recs),
                parts: 0,
            }),
        })
    }

    /// What the member is told if it comes back.
    fn denial_of_lost(&self, removed: &RemovedCluster, by: &str) -> Denial {
        let name = &removed.name;
        Denial {
            reason: format!(
                "it was declared lost for good, and the databases went on without it; nothing here is followed by anybody. Remove what \
                 `meridian cluster lost` lists, by kubectl; then an administrator lets it join as a new cluster (release, and \
                 `meridian token create {name}`)"
            ),
            by: by.to_owned(),
            since: removed.removed_at,
            quarantine: false,
            name: name.clone(),
        }
    }
}

/// A cluster that people want a database on is not removed by the way.
fn must_not_be_wanted(name: &str, leaver: &Leaver) -> Result<(), AppError> {
    let wanted: Vec<_> = leaver.wanted().into_iter().collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let lost = leaver.away().map_or_else(String::new, |away| {
        format!(
            ". It is {away}: if it will never come back, `meridian cluster remove {name} --lost` lets them go on without it"
        )
    });
    Err(AppError::Conflict(format!(
        "cluster {name:?} takes part in {}; take it out of their spec.participatingClusters or delete them first (`meridian delete \
         activeactivedatabase NAME`), then remove it{lost}",
        wanted.join(", ")
    )))
}

/// What was to go there is gone when the member says so.
fn must_not_hold_data(name: &str, leaver: &Leaver) -> Result<(), AppError> {
    let going = leaver.going();
    if going.is_empty() {
        return Ok(());
    }
    let going: Vec<_> = going
        .into_iter()
        .map(|(database, since)| match since {
            Some(since) => format!("{database} (to go since {since})"),
            None => database.to_owned(),
        })
        .collect();
    let what = match leaver.away() {
        None => "it is connected: repeat the request when it has (`meridian cluster remove --wait` does)".to_owned(),
        Some(away) => format!(
            "it is {away}: repeat the request when it has come back and confirmed (`--wait`), or, if it will never come back, \
             declare it lost (`meridian cluster remove {name} --lost`), which waits for nothing"
        ),
    };
    Err(AppError::Conflict(format!(
        "cluster {name:?} has not confirmed yet that the data of {} is gone there; {what}",
        going.join(", ")
    )))
}

#[cfg(test)]
mod tests;
