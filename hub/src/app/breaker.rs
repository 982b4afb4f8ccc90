//! The breaker of deletions at work: every deletion of data passes here on its way to a member, and what is frozen waits for
//! a person who has seen the list.

use std::collections::{BTreeMap, BTreeSet};

use meridian_api::ids::{ClusterUid, ObjectId, Revision};

use super::audit::Deed;
use super::writes::Manner;
use super::{App, AppError, until_uncontended};
use crate::domain::access::grant::Verb;
use crate::domain::breaker::{self, Frozen, Scope, Tally, Told};
use crate::domain::desired::Desired;
use crate::store::records::{self, Held, TxnExt as _};
use crate::store::{StoreError, Txn, keys};

/// Kind, as the audit log and errors name it.
const KIND: &str = "freeze";

/// A deletion of a frozen scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenDeletion {
    /// The member.
    pub cluster: ClusterUid,
    /// Its name.
    pub cluster_name: String,
    /// The object.
    pub desired: Desired,
    /// Revision of its tombstone.
    pub revision: Revision,
    /// Whether the member was told before the freeze.
    pub told: bool,
}

/// A frozen scope with all that waits in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// What is frozen.
    pub scope: Scope,
    /// Name of the member; `None` for the fleet.
    pub cluster_name: Option<String>,
    /// Why.
    pub frozen: Frozen,
    /// Name of exactly this list.
    pub list: String,
    /// The list.
    pub deletions: Vec<FrozenDeletion>,
}

/// What a member may be told of the deletions of its data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leave {
    /// These.
    pub granted: BTreeSet<ObjectId>,
    /// Why not the others; `None` if they are not wanted any more.
    pub frozen: Option<String>,
}

impl Leave {
    fn of(objects: &BTreeSet<ObjectId>, tallies: &[(Scope, Tally); 2]) -> Self {
        let lets = |object: &ObjectId| tallies.iter().all(|(_, tally)| tally.lets(*object));
        Self {
            granted: objects.iter().copied().filter(lets).collect(),
            frozen: frozen_reason(tallies),
        }
    }
}

/// Why no data of a member is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// For people.
    pub reason: String,
    /// Deletions that the member was told, or is to be told.
    pub objects: BTreeSet<ObjectId>,
}

/// What is remembered of a member and of the fleet, and what members are told.
struct Seen {
    tallies: BTreeMap<Scope, Held<Tally>>,
    desired: Vec<(ClusterUid, Held<Desired>)>,
}

impl Seen {
    fn tally(&self, scope: Scope) -> Tally {
        let held = self.tallies.get(&scope);
        held.map_or_else(Tally::default, |held| held.record.clone())
    }

    fn told(&self, scope: Scope) -> Told {
        let mut told = Told::default();
        for (_, held) in self.bearing_data(scope) {
            let (object, name) = (held.record.object_id, &held.record.name);
            told.databases.insert(name.clone());
            if held.record.is_tombstone() {
                told.deletions.insert(object, name.clone());
            }
        }
        told
    }

    fn bearing_data(&self, scope: Scope) -> impl Iterator<Item = &(ClusterUid, Held<Desired>)> {
        let within = move |cluster: ClusterUid| match scope {
            Scope::Fleet => true,
            Scope::Cluster(uid) => uid == cluster,
        };
        let all = self.desired.iter();
        all.filter(move |(cluster, held)| within(*cluster) && held.record.data_bearing)
    }
}

/// What is said of a frozen scope.
#[must_use]
pub fn reason(scope: Scope, frozen: &Frozen) -> String {
    let Frozen {
        since,
        deletions,
        limit,
        managed,
    } = frozen;
    let of = match scope {
        Scope::Fleet => "the fleet",
        Scope::Cluster(_) => "this cluster",
    };
    format!(
        "deletions are frozen since {since}: {deletions} of {managed} databases of {of} were to go within an hour, {limit} are let \
         through; an administrator looks at the list with `meridian hub freezes` and releases it with `meridian hub release LIST`"
    )
}

impl App {
    async fn seen(&self) -> Result<Seen, StoreError> {
        let prefixes = vec![
            keys::tallies().text().to_owned(),
            keys::all_desired().text().to_owned(),
        ];
        let mut lists = self.store().list(prefixes).await?.value.into_iter();
        let tallies: Vec<Held<Tally>> = records::all(lists.next().unwrap_or_default())?;
        let desired: Vec<Held<Desired>> = records::all(lists.next().unwrap_or_default())?;
        let scope = |held: &Held<Tally>| keys::last_part(&held.key).parse().ok();
        Ok(Seen {
            tallies: tallies
                .into_iter()
                .filter_map(|held| Some((scope(&held)?, held)))
                .collect(),
            desired: desired
                .into_iter()
                .filter_map(|held| Some((keys::cluster_and_object(&held.key)?.0, held)))
                .collect(),
        })
    }

    /// The scopes that a member is in, with what is remembered of each.
    async fn tallies_over(&self, cluster: ClusterUid) -> Result<[(Scope, Tally); 2], StoreError> {
        let scopes = [Scope::Fleet, Scope::Cluster(cluster)];
        let prefixes = scopes.map(|scope| keys::tally(scope).text().to_owned());
        let lists = self.store().list(prefixes.to_vec()).await?.value;
        let held = records::all::<Tally>(lists.into_iter().flatten())?;
        let find = |scope| {
            let key = keys::tally(scope);
            let held = held.iter().find(|held| held.key == key.text());
            held.map_or_else(Tally::default, |held| held.record.clone())
        };
        Ok(scopes.map(|scope| (scope, find(scope))))
    }

    /// Which of these deletions of data a member may be told now. Too many freeze their scope.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn may_delete(
        &self,
        cluster: ClusterUid,
        objects: &BTreeSet<ObjectId>,
    ) -> Result<Leave, AppError> {
        until_uncontended(|| async {
            let leave = Leave::of(objects, &self.tallies_over(cluster).await?);
            if leave.frozen.is_some() || leave.granted.len() == objects.len() {
                return Ok(leave);
            }
            self.judge(cluster).await?;
            Ok(Leave::of(objects, &self.tallies_over(cluster).await?))
        })
        .await
    }

    /// Lets all deletions of a member and of the fleet through, or freezes one of the two.
    async fn judge(&self, cluster: ClusterUid) -> Result<(), AppError> {
        let (seen, now) = (self.seen().await?, self.now());
        let mut fleet = seen.tally(Scope::Fleet);
        fleet.judge(&seen.told(Scope::Fleet), &BTreeMap::new(), now);
        let of_member = Scope::Cluster(cluster);
        let mut member = seen.tally(of_member);
        if fleet.frozen().is_none() {
            member.judge(&seen.told(of_member), &fleet.seen(), now);
        }
        let mut txn = Txn::new();
        for (scope, tally) in [(Scope::Fleet, &fleet), (of_member, &member)] {
            if *tally != seen.tally(scope) {
                txn = txn.upsert(&keys::tally(scope), seen.tallies.get(&scope), tally)?;
            }
        }
        let frozen = [(Scope::Fleet, &fleet), (of_member, &member)]
            .into_iter()
            .find_map(|(scope, tally)| Some((scope, tally.frozen()?.clone())));
        let news = frozen.filter(|(scope, _)| seen.tally(*scope).frozen().is_none());
        let Some((scope, frozen)) = news else {
            if !txn.writes_nothing() {
                self.commit(txn).await?;
            }
            return Ok(());
        };
        let name = self.scope_name(scope).await?;
        let manner = Manner::default();
        let deed = Deed {
            verb: "freeze",
            kind: KIND,
            name: name.as_deref().unwrap_or("fleet"),
            project: "",
            left: &[],
        };
        self.commit_audited(txn, &manner.by.trail, &deed).await?;
        tracing::error!(%scope, ?name, reason = reason(scope, &frozen), "too many deletions: none goes on before a person has looked");
        Ok(())
    }

    async fn scope_name(&self, scope: Scope) -> Result<Option<String>, AppError> {
        let Scope::Cluster(uid) = scope else {
            return Ok(None);
        };
        let held = records::get(self.store().as_ref(), &keys::cluster(uid)).await?;
        Ok(Some(
            held.map_or_else(|| uid.to_string(), |held| held.record.name),
        ))
    }

    /// What of a member is held back, if anything is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn held_back(&self, cluster: ClusterUid) -> Result<Option<HeldBack>, StoreError> {
        let Some(reason) = frozen_reason(&self.tallies_over(cluster).await?) else {
            return Ok(None);
        };
        let told = self.desired_of(cluster).await?.value.into_iter();
        let objects = told
            .filter(|held| held.record.data_bearing && held.record.is_tombstone())
            .map(|held| held.record.object_id)
            .collect();
        Ok(Some(HeldBack { reason, objects }))
    }

    /// How many scopes are frozen.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn frozen_scopes(&self) -> Result<usize, StoreError> {
        let tallies = records::list(self.store().as_ref(), &keys::tallies()).await?;
        let mut frozen = tallies.value.into_iter().map(|held| held.record);
        Ok(frozen
            .by_ref()
            .filter(|tally| tally.frozen().is_some())
            .count())
    }

    /// Every frozen scope, the fleet first.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn freezes(&self) -> Result<Vec<Freeze>, AppError> {
        let seen = self.seen().await?;
        let mut freezes = Vec::new();
        for (scope, held) in &seen.tallies {
            if let Some(frozen) = held.record.frozen() {
                freezes.push(self.freeze(&seen, *scope, &held.record, frozen).await?);
            }
        }
        Ok(freezes)
    }

    async fn freeze(
        &self,
        seen: &Seen,
        scope: Scope,
        tally: &Tally,
        frozen: &Frozen,
    ) -> Result<Freeze, AppError> {
        let mut deletions = Vec::new();
        for (cluster, held) in seen.bearing_data(scope) {
            if held.record.is_tombstone() {
                let name = self.scope_name(Scope::Cluster(*cluster)).await?;
                deletions.push(FrozenDeletion {
                    cluster: *cluster,
                    cluster_name: name.unwrap_or_default(),
                    told: tally.has_let(held.record.object_id),
                    desired: held.record.clone(),
                    revision: held.modified,
                });
            }
        }
        let listed = deletions
            .iter()
            .map(|one| (one.cluster, one.desired.object_id, one.revision));
        Ok(Freeze {
            scope,
            cluster_name: self.scope_name(scope).await?,
            frozen: frozen.clone(),
            list: breaker::list_name(scope, listed),
            deletions,
        })
    }

    /// Lets the deletions of exactly this list go on, after a person has seen it. Returns what went.
    ///
    /// # Errors
    /// [`AppError::NotFound`] if nothing is frozen, [`AppError::Changed`] if what is frozen is not that list any more,
    /// [`AppError::Observing`].
    pub async fn release_freeze(
        &self,
        list: &str,
        by: &str,
        manner: &Manner,
    ) -> Result<Freeze, AppError> {
        until_uncontended(|| async {
            self.must_decide().await?;
            let seen = self.seen().await?;
            let mut found = None;
            let mut lists = Vec::new();
            for (scope, held) in &seen.tallies {
                let Some(frozen) = held.record.frozen() else {
                    continue;
                };
                let freeze = self.freeze(&seen, *scope, &held.record, frozen).await?;
                lists.push(freeze.list.clone());
                if freeze.list == list {
                    found = Some((held, freeze));
                }
            }
            let Some((held, freeze)) = found else {
                return Err(no_list(list, &lists));
            };
            let mut tally = held.record.clone();
            tally.release(&seen.told(freeze.scope), by, self.now());
            // What is to go since this was read is not in the list, and is judged by itself.
            let txn = Txn::new().replace(&keys::tally(freeze.scope), held, &tally)?;
            let name = freeze.cluster_name.as_deref().unwrap_or("fleet");
            let deed = Deed::new(Verb::Release, KIND, name);
            if self.commit_as(manner, &deed, txn).await?.is_some() {
                tracing::warn!(scope = %freeze.scope, name, by, deletions = freeze.deletions.len(), list, "a person released frozen deletions");
            }
            Ok(freeze)
        })
        .await
    }
}

fn frozen_reason(tallies: &[(Scope, Tally); 2]) -> Option<String> {
    let mut frozen = tallies.iter();
    frozen.find_map(|(scope, tally)| Some(reason(*scope, tally.frozen()?)))
}

fn no_list(list: &str, lists: &[String]) -> AppError {
    if lists.is_empty() {
        return AppError::NotFound {
            kind: KIND,
            name: list.to_owned(),
            hint: "; no deletion is frozen".to_owned(),
        };
    }
    AppError::Changed(format!(
        "nothing that is frozen now is exactly the list {list:?}: expected {}; nothing was released, look again with \
         `meridian hub freezes` and decide again",
        lists.join(" or ")
    ))
}

#[cfg(test)]
mod tests;
