//! What members report of objects: what became of them, and what is observed of them. What says nothing new is not stored, and
//! reports that wait together are stored together.

use std::collections::{BTreeMap, BTreeSet};

use meridian_api::ids::{ClusterUid, ObjectId, Revision};
use serde::de::DeserializeOwned;

use super::observed::is_edge;
use super::{App, AppError, until_uncontended};
use crate::store::records::{Held, StoredObservation, StoredOutcome, TxnExt as _};
use crate::store::{Entry, MAX_BYTES, Read, StoreError, Txn, keys, records};

/// Most reports that are stored together: each takes two operations at most, so this stays below the store's limit.
pub const TOGETHER: usize = 32;

/// What a member says of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// What became of it.
    Outcome(StoredOutcome),
    /// What is observed of it.
    Observation(StoredObservation),
}

impl Report {
    /// The member was told of the object at this revision, or at a later one.
    fn needs(&self) -> Revision {
        match self {
            Self::Outcome(outcome) => outcome.revision,
            Self::Observation(_) => Revision(0),
        }
    }
}

/// What is stored of the objects that reports speak of, at one revision.
struct Known {
    told: BTreeMap<ObjectId, Revision>,
    outcomes: BTreeMap<ObjectId, Held<StoredOutcome>>,
    observed: BTreeMap<ObjectId, Held<StoredObservation>>,
}

/// What reports change: of each object the newest.
#[derive(Default)]
struct News<'r> {
    outcomes: BTreeMap<ObjectId, &'r StoredOutcome>,
    observations: BTreeMap<ObjectId, &'r StoredObservation>,
    /// Reports of what the member was never told.
    strange: Vec<(ObjectId, Revision)>,
}

impl<'r> News<'r> {
    fn of(reports: &[&'r (ObjectId, Report)], known: &Known) -> Self {
        let mut news = Self::default();
        for (object, report) in reports.iter().copied() {
            let told = known.told.get(object);
            if told.is_none_or(|told| report.needs() > *told) {
                news.strange.push((*object, report.needs()));
                continue;
            }
            match report {
                Report::Outcome(outcome) => {
                    let stored = known.outcomes.get(object).map(|held| &held.record);
                    let before = news.outcomes.get(object).copied().or(stored);
                    if before.is_none_or(|before| is_news(before, outcome)) {
                        news.outcomes.insert(*object, outcome);
                    }
                }
                Report::Observation(seen) => {
                    news.observations.insert(*object, seen);
                }
            }
        }
        news
    }
}

/// Whether an outcome says something else than the one before it, and not of an older revision.
fn is_news(before: &StoredOutcome, outcome: &StoredOutcome) -> bool {
    let StoredOutcome {
        revision,
        result,
        code,
        message,
        as_of: _,
    } = before;
    let said = (
        outcome.revision,
        outcome.result,
        &outcome.code,
        &outcome.message,
    );
    *revision <= outcome.revision && (*revision, *result, code, message) != said
}

impl App {
    /// Takes what a member reports, and returns when all of it that is stored is durable: outcomes that say something new, and of
    /// observations the edges. An outcome of an older revision than the stored one is dropped. What the member says of others' objects, or of revisions that do not exist yet, is written down nowhere but in the
    /// log.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn report(
        &self,
        uid: ClusterUid,
        reports: &[(ObjectId, Report)],
    ) -> Result<(), AppError> {
        for together in self.but_unmoved(uid, reports).chunks(TOGETHER) {
            let strange = until_uncontended(|| self.report_once(uid, together)).await?;
            for (object, revision) in strange {
                tracing::warn!(audit = true, cluster = %uid, %object, %revision, "a member reported of what it was never told");
            }
        }
        Ok(())
    }

    /// Stores what became of an object.
    ///
    /// # Errors
    /// As [`App::report`].
    pub async fn outcome(
        &self,
        uid: ClusterUid,
        object: ObjectId,
        outcome: StoredOutcome,
    ) -> Result<(), AppError> {
        self.report(uid, &[(object, Report::Outcome(outcome))])
            .await
    }

    /// Outcomes, and of each object the newest observation, unless it is known to be no edge.
    fn but_unmoved<'r>(
        &self,
        uid: ClusterUid,
        reports: &'r [(ObjectId, Report)],
    ) -> Vec<&'r (ObjectId, Report)> {
        let mut newest = BTreeMap::new();
        for (at, (object, report)) in reports.iter().enumerate() {
            if matches!(report, Report::Observation(_)) {
                newest.insert(*object, at);
            }
        }
        let observations = reports.iter().map(|(_, report)| report);
        let observations = observations.filter(|it| matches!(it, Report::Observation(_)));
        self.observations.count(observations.count(), 0);
        let left = reports.iter().enumerate().filter(|(at, (object, report))| {
            let Report::Observation(seen) = report else {
                return true;
            };
            newest.get(object) == Some(at) && !self.observations.unmoved(uid, *object, seen)
        });
        left.map(|(_, report)| report).collect()
    }

    async fn report_once(
        &self,
        uid: ClusterUid,
        reports: &[&(ObjectId, Report)],
    ) -> Result<Vec<(ObjectId, Revision)>, AppError> {
        let known = self.known_of(uid, reports).await?;
        let news = News::of(reports, &known);
        let mut txns = vec![Txn::new()];
        let mut add = |one: Txn| match txns.pop() {
            Some(txn) if txn.bytes() + one.bytes() <= MAX_BYTES => txns.push(txn.and(one)),
            Some(full) => txns.extend([full, one]),
            None => txns.push(one),
        };
        for (object, outcome) in news.outcomes {
            let held = known.outcomes.get(&object);
            add(Txn::new().upsert(&keys::outcome(uid, object), held, outcome)?);
        }
        let mut observed = Vec::new();
        for (object, seen) in news.observations {
            let held = known.observed.get(&object);
            let stored = held.map(|held| &held.record);
            let stored = stored.filter(|stored| !is_edge(stored, seen));
            if stored.is_none() {
                self.observations.begin(uid, object, seen);
                add(Txn::new().upsert(&keys::observed(uid, object), held, seen)?);
            }
            observed.push((object, stored, seen));
        }
        for txn in txns {
            if !txn.writes_nothing() {
                self.commit(txn).await?;
            }
        }
        let edges = observed.iter().filter(|(_, stored, _)| stored.is_none());
        self.observations.count(0, edges.count());
        for (object, stored, seen) in observed {
            self.observations
                .note(uid, object, stored.unwrap_or(seen), seen);
        }
        Ok(news.strange)
    }

    async fn known_of(
        &self,
        uid: ClusterUid,
        reports: &[&(ObjectId, Report)],
    ) -> Result<Known, AppError> {
        let objects: BTreeSet<ObjectId> = reports.iter().map(|(object, _)| *object).collect();
        let (mut with_outcome, mut with_observation) = (BTreeSet::new(), BTreeSet::new());
        for (object, report) in reports.iter().copied() {
            match report {
                Report::Outcome(_) => with_outcome.insert(*object),
                Report::Observation(_) => with_observation.insert(*object),
            };
        }
        let desired = objects.iter().map(|it| keys::desired(uid, *it));
        let desired = desired.map(|key| key.text().to_owned());
        let outcomes = with_outcome.iter().map(|it| keys::outcome(uid, *it));
        let outcomes = outcomes.map(|key| key.text().to_owned());
        let observed = with_observation.iter().map(|it| keys::observed(uid, *it));
        let observed = observed.map(|key| key.text().to_owned());
        let keys = desired.chain(outcomes).chain(observed).collect();
        let Read { mut value, .. } = self.store().get_all(keys).await?;
        let mut outcomes = value.split_off(objects.len());
        let observed = outcomes.split_off(with_outcome.len());
        let told = objects.iter().zip(value);
        let told = told.filter_map(|(object, found)| Some((*object, found?.modified)));
        Ok(Known {
            told: told.collect(),
            outcomes: by_object(outcomes)?,
            observed: by_object(observed)?,
        })
    }
}

fn by_object<R: DeserializeOwned>(
    found: Vec<Option<Entry>>,
) -> Result<BTreeMap<ObjectId, Held<R>>, StoreError> {
    let held: Vec<Held<R>> = records::all(found.into_iter().flatten())?;
    let placed = held.into_iter();
    let placed = placed.filter_map(|held| Some((keys::cluster_and_object(&held.key)?.1, held)));
    Ok(placed.collect())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::app::testing::TestHub;
    use crate::domain::desired::{Action, Desired};
    use crate::store::records::OutcomeKind;

    fn member() -> ClusterUid {
        "6f0c2a52-3b5e-4a3e-9d57-0d9a3c1f1e11".parse().unwrap()
    }

    fn id(n: u8) -> ObjectId {
        format!("00000000-0000-4000-8000-0000000000{n:02x}")
            .parse()
            .unwrap()
    }

    fn outcome(revision: Revision, code: &str) -> Report {
        Report::Outcome(StoredOutcome {
            revision,
            result: OutcomeKind::Deferred,
            code: code.to_owned(),
            message: String::new(),
            as_of: Timestamp::UNIX_EPOCH,
        })
    }

    fn observation(status: &str) -> Report {
        Report::Observation(StoredObservation {
            for_revision: Revision(1),
            status: status.into(),
            links: Vec::new(),
            as_of: Timestamp::UNIX_EPOCH,
        })
    }

    async fn told(hub: &TestHub, n: u8) -> Revision {
        let desired = Desired {
            object_id: id(n),
            api_version: "v1".to_owned(),
            kind: "Thing".to_owned(),
            namespace: "db".to_owned(),
            name: format!("thing-{n}"),
            data_bearing: false,
            after: Vec::new(),
            trace: None,
            plan_number: Default::default(),
            action: Action::Upsert {
                body: serde_json::Value::Null,
            },
        };
        let txn = Txn::new()
            .put_record(&keys::desired(member(), id(n)), &desired)
            .unwrap();
        hub.app.commit(txn).await.unwrap()
    }

    async fn stored(hub: &TestHub, n: u8) -> (Option<String>, Option<serde_json::Value>) {
        let store = hub.app.store().as_ref();
        let (outcome, seen) = (
            keys::outcome(member(), id(n)),
            keys::observed(member(), id(n)),
        );
        let outcome = records::get(store, &outcome).await.unwrap();
        let seen = records::get(store, &seen).await.unwrap();
        (
            outcome.map(|held| held.record.code),
            seen.map(|held| held.record.status),
        )
    }

    #[tokio::test]
    async fn reports_that_wait_together_take_one_transaction_and_the_newest_of_each_object_stays() {
        let hub = TestHub::new().await;
        let (first, second) = (told(&hub, 1).await, told(&hub, 2).await);
        let before = hub.app.store().list(Vec::new()).await.unwrap().revision;
        let reports = [
            (id(1), outcome(first, "a")),
            (id(2), observation("old")),
            (id(1), outcome(first, "b")),
            (id(2), observation("new")),
            (id(2), outcome(second, "c")),
            // Of an older revision than the one before it.
            (id(2), outcome(Revision(1), "d")),
            // Never told, and at a revision that does not exist.
            (id(3), outcome(first, "e")),
            (id(1), outcome(Revision(second.0 + 1), "f")),
        ];
        hub.app.report(member(), &reports).await.unwrap();
        let after = hub.app.store().list(Vec::new()).await.unwrap().revision;
        assert_eq!(after.0, before.0 + 1);
        assert_eq!(stored(&hub, 1).await, (Some("b".to_owned()), None));
        let both = (Some("c".to_owned()), Some("new".into()));
        assert_eq!(stored(&hub, 2).await, both);
        assert_eq!(stored(&hub, 3).await, (None, None));

        hub.app.report(member(), &reports[2..3]).await.unwrap();
        let again = hub.app.store().list(Vec::new()).await.unwrap().revision;
        assert_eq!(again, after, "what says nothing new is not stored");
    }

    #[tokio::test]
    async fn many_and_large_reports_are_stored_within_the_limits_of_a_transaction() {
        let hub = TestHub::new().await;
        let mut reports = Vec::new();
        for n in 0..=u8::try_from(TOGETHER).unwrap() {
            let revision = told(&hub, n).await;
            reports.push((id(n), outcome(revision, "a")));
            reports.push((id(n), observation(&"x".repeat(MAX_BYTES / 3))));
        }
        hub.app.report(member(), &reports).await.unwrap();
        for n in 0..=u8::try_from(TOGETHER).unwrap() {
            let (code, seen) = stored(&hub, n).await;
            assert!(code.is_some() && seen.is_some(), "{n}");
        }
    }
}
