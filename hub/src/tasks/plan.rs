//! Reads everything at one revision, plans, has the plan checked, and commits it. What is committed is fenced by the term
//! and by the revisions that were read; losing a race means planning again. What became of orders is read, and waited for, only
//! where a tombstone stands: nothing else depends on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_api::ids::ObjectId;
use serde::de::DeserializeOwned;

use super::driver::{Awaited, Waits};
use super::{Outcome, Task, TaskError};
use crate::app::App;
use crate::app::reign::Reign;
use crate::domain::database::{Database, Membership};
use crate::domain::desired::Desired;
use crate::domain::remote::Remote;
use crate::planner::{self, Input, Place, Plan, check};
use crate::store::keys::{self, Prefix};
use crate::store::records::{self, Counters, Held, TxnExt as _};
use crate::store::{Entry, Revision, StoreError, Txn};

/// Objects in one transaction of a plan. Each takes a check and a write, so this stays below the store's limit.
const STEP: usize = 40;

/// The task.
#[derive(Debug)]
pub struct Planning {
    app: Arc<App>,
    waits: Waits,
}

/// Prefixes whose change may change the plan.
#[must_use]
pub fn prefixes() -> Vec<String> {
    vec![
        keys::databases().text().to_owned(),
        keys::remotes().text().to_owned(),
        keys::all_recs().text().to_owned(),
        keys::clusters().text().to_owned(),
        keys::doubts().text().to_owned(),
        keys::all_desired().text().to_owned(),
    ]
}

/// What was read, with the revisions that the commit depends on.
struct Seen {
    input: Input,
    counters: Option<Held<Counters>>,
    memberships: Vec<Held<Membership>>,
    databases: Vec<Held<Database>>,
}

impl Task for Planning {
    const NAME: &'static str = "plan";

    async fn activate(&mut self) -> Result<Outcome, TaskError> {
        if !self.app.doubts().await?.is_empty() {
            return Ok(Outcome::HeldBack);
        }
        let seen = self.read().await?;
        let plan = planner::plan(&seen.input);
        let begins_to_wait = self
            .waits
            .set(seen.input.desired.values().any(is_tombstone));
        if plan.is_empty() {
            return Ok(if begins_to_wait {
                Outcome::Progressed
            } else {
                Outcome::Settled
            });
        }
        check::check(&seen.input, &plan)?;
        tracing::info!(plan = %plan.number, "carrying out a plan:\n{plan}");
        self.commit(&seen, &plan).await?;
        Ok(Outcome::Progressed)
    }
}

impl Planning {
    /// The planner of this hub.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        Self {
            app,
            waits: Waits::default(),
        }
    }

    /// Changes that matter only while a deletion is under way.
    #[must_use]
    pub fn awaited(&self) -> Awaited {
        Awaited {
            prefix: keys::outcomes().text().to_owned(),
            waits: self.waits.clone(),
        }
    }

    async fn read(&self) -> Result<Seen, StoreError> {
        let store = self.app.store();
        let prefixes = vec![
            keys::clusters().text().to_owned(),
            keys::remotes().text().to_owned(),
            keys::all_recs().text().to_owned(),
            keys::databases().text().to_owned(),
            keys::memberships().text().to_owned(),
            keys::all_desired().text().to_owned(),
            keys::counters().text().to_owned(),
        ];
        let mut lists = store.list(prefixes).await?.value.into_iter();
        let mut next = || lists.next().unwrap_or_default();
        let clusters = of(&keys::clusters(), next())?;
        let remotes = of(&keys::remotes(), next())?;
        let recs = of(&keys::all_recs(), next())?;
        let databases = of(&keys::databases(), next())?;
        let memberships = of(&keys::memberships(), next())?;
        let desired: BTreeMap<_, _> = by_place(of(&keys::all_desired(), next())?)
            .map(|(place, held)| (place, (held.record, held.modified)))
            .collect();
        let counters: Option<Held<Counters>> = records::all(next())?.pop();
        let known = counters
            .as_ref()
            .map_or_else(Counters::default, |held| held.record.clone());
        let Reign {
            store_id,
            term,
            incarnation: _,
        } = self.app.reign();
        let input = Input {
            reign: (store_id, term),
            plan_number: known.plan_number,
            instance_id_floor: known.instance_id_floor,
            config_version_floor: known.config_version_floor,
            trust_domain: self.app.ca().trust_domain().to_string(),
            clusters: clusters
                .into_iter()
                .map(|held| (held.record.uid, held.record))
                .collect(),
            remotes: remotes
                .into_iter()
                .map(|held: Held<Remote>| (held.record.name.clone(), held.record))
                .collect(),
            recs: by_last_part(recs),
            databases: databases
                .iter()
                .map(|held| (held.record.name.clone(), held.record.clone()))
                .collect(),
            memberships: by_last_part(memberships.clone()),
            done: self.done(&desired).await?,
            desired,
        };
        Ok(Seen {
            input,
            counters,
            memberships,
            databases,
        })
    }

    /// Which tombstones are carried out. It is read after them, which does no harm: it speaks of the very revision of each, and
    /// a tombstone that was replaced meanwhile makes the plan void.
    async fn done(
        &self,
        desired: &BTreeMap<Place, (Desired, Revision)>,
    ) -> Result<BTreeMap<Place, Revision>, StoreError> {
        let tombstones = desired.iter().filter(|(_, told)| is_tombstone(told));
        let keys = tombstones.map(|((cluster, object), _)| keys::outcome(*cluster, *object));
        let keys = keys.map(|key| key.text().to_owned()).collect();
        let found = self.app.store().get_all(keys).await?.value;
        let outcomes = of(&keys::outcomes(), found.into_iter().flatten().collect())?;
        let done = outcomes.iter().filter(|held| held.record.result.is_done());
        let places = done.filter_map(|held| {
            let place = keys::cluster_and_object(&held.key)?;
            Some((place, held.record.revision))
        });
        Ok(places.collect())
    }

    /// Writes the plan in transactions of bounded size, in an order in which every part of it is sound: first the number,
    /// then for each database what was allocated and what members are told, last what is forgotten. What a crash leaves
    /// out is planned again.
    async fn commit(&self, seen: &Seen, plan: &Plan) -> Result<(), StoreError> {
        let counted = Counters {
            plan_number: plan.number,
            ..seen
                .counters
                .as_ref()
                .map_or_else(Counters::default, |held| held.record.clone())
        };
        self.app
            .commit(Txn::new().upsert(&keys::counters(), seen.counters.as_ref(), &counted)?)
            .await?;
        let mut told = Told::of(plan);
        let known = seen.memberships.iter();
        let known: BTreeMap<_, _> = known.map(|held| (held.key.as_str(), held)).collect();
        for held in &seen.databases {
            let database = &held.record;
            let mine = told.take(database);
            if let Some(membership) = plan.memberships.get(&database.object_id) {
                let key = keys::membership(database.object_id);
                let known = known.get(key.text()).copied();
                // A confirmed deletion, or a change of intent, that came between makes the plan void.
                let txn = Txn::new().unchanged(held).upsert(&key, known, membership)?;
                self.app.commit(txn).await?;
            }
            self.tell(seen, &mine, Some(held)).await?;
        }
        self.tell(seen, &told.rest(), None).await?;
        self.forget(seen, plan).await
    }

    async fn tell(
        &self,
        seen: &Seen,
        told: &[(&Place, &Desired)],
        database: Option<&Held<Database>>,
    ) -> Result<(), StoreError> {
        for step in told.chunks(STEP) {
            let mut txn = database.map_or_else(Txn::new, |held| Txn::new().unchanged(held));
            for (place, desired) in step {
                let (cluster, object) = **place;
                let key = keys::desired(cluster, object);
                txn = match seen.input.desired.get(place) {
                    Some((_, revision)) => txn.at(key.text(), *revision),
                    None => txn.absent(key.text()),
                };
                txn = txn.put_record(&key, *desired)?;
            }
            self.app.commit(txn).await?;
        }
        Ok(())
    }

    async fn forget(&self, seen: &Seen, plan: &Plan) -> Result<(), StoreError> {
        let places: Vec<_> = plan.forget.iter().collect();
        for step in places.chunks(STEP / 2) {
            let mut txn = Txn::new();
            for (cluster, object) in step.iter().copied() {
                let key = keys::desired(*cluster, *object);
                if let Some((_, revision)) = seen.input.desired.get(&(*cluster, *object)) {
                    txn = txn.at(key.text(), *revision);
                }
                txn = txn
                    .delete(key.text())
                    .delete(keys::outcome(*cluster, *object).text())
                    .delete(keys::observed(*cluster, *object).text());
            }
            self.app.commit(txn).await?;
        }
        for held in seen
            .databases
            .iter()
            .filter(|held| plan.finished.contains(&held.record.name))
        {
            let membership = keys::membership(held.record.object_id);
            self.app
                .commit(
                    Txn::new()
                        .unchanged(held)
                        .delete(held.key.clone())
                        .delete(membership.text()),
                )
                .await?;
            tracing::info!(
                database = held.record.name,
                "a database is gone from every participant"
            );
        }
        Ok(())
    }
}

fn of<R: DeserializeOwned>(_: &Prefix<R>, entries: Vec<Entry>) -> Result<Vec<Held<R>>, StoreError> {
    records::all(entries)
}

fn by_last_part<K: std::str::FromStr + Ord, R>(held: Vec<Held<R>>) -> BTreeMap<K, R> {
    let keyed = held
        .into_iter()
        .filter_map(|held| Some((keys::last_part(&held.key).parse().ok()?, held.record)));
    keyed.collect()
}

fn by_place<R>(held: Vec<Held<R>>) -> impl Iterator<Item = (Place, Held<R>)> {
    held.into_iter()
        .filter_map(|held| Some((keys::cluster_and_object(&held.key)?, held)))
}

fn is_tombstone((told, _): &(Desired, Revision)) -> bool {
    told.is_tombstone()
}

/// What is to be told, by object: every database finds its own at once.
#[derive(Default)]
struct Told<'p>(BTreeMap<ObjectId, Vec<(&'p Place, &'p Desired)>>);

impl<'p> Told<'p> {
    fn of(plan: &'p Plan) -> Self {
        let mut told = Self::default();
        for one in &plan.tell {
            told.0.entry(one.0.1).or_default().push(one);
        }
        told
    }

    /// Takes out what is told of a database, member by member.
    fn take(&mut self, database: &Database) -> Vec<(&'p Place, &'p Desired)> {
        let objects = [database.object_id, database.instance_object_id];
        let mine = objects.iter().filter_map(|object| self.0.remove(object));
        let mut mine: Vec<_> = mine.flatten().collect();
        mine.sort_by_key(|(place, _)| **place);
        mine
    }

    fn rest(self) -> Vec<(&'p Place, &'p Desired)> {
        self.0.into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests;
