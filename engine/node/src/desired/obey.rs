//! Which orders PID 1 follows. A topology that is missing, older or of another origin is *unknown*, not an order: the last role
//! stays. Only a higher (epoch, generation) of the same object, or a higher epoch of a rebuilt one, changes anything.

use serde::{Deserialize, Serialize};

use super::{DesiredDatabase, DesiredState};

/// What PID 1 makes of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What runs from now on.
    pub accepted: DesiredState,
    /// Parts of the proposal that were not followed, by database name.
    pub refusals: Vec<Refusal>,
}

/// A part of a proposal that was not followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The database.
    pub database: String,
    /// Why.
    pub reason: RefusalReason,
    /// What was found and what would have been followed.
    pub message: String,
}

/// Why a part of a proposal was not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RefusalReason {
    /// There is no topology any more.
    TopologyLost,
    /// There is one, but it is older than what was obeyed, or another object without a higher epoch.
    TopologyRegressed,
}

/// Decides about `proposal`, given what was obeyed last. Idempotent: what it accepts it accepts again.
#[must_use]
pub fn obey(last: &DesiredState, proposal: &DesiredState) -> Verdict {
    let mut accepted = DesiredState::default();
    let mut refusals = Vec::new();
    for (name, wanted) in &proposal.databases {
        match last
            .databases
            .get(name)
            .map(|known| regression(name, known, wanted))
        {
            None | Some(None) => {
                accepted.databases.insert(name.clone(), wanted.clone());
            }
            Some(Some(refusal)) => refusals.push(refusal),
        }
    }
    for (name, known) in &last.databases {
        if accepted.databases.contains_key(name) {
            continue;
        }
        let absent = !proposal.databases.contains_key(name);
        if absent && known.shards.is_empty() {
            // It was ordered to run nothing here and its topology is gone: that is how a database ends.
            continue;
        }
        if absent {
            refusals.push(Refusal {
                database: name.clone(),
                reason: RefusalReason::TopologyLost,
                message: format!(
                    "database {name} has no topology; its shards stay as epoch {}, generation {} left them",
                    known.epoch, known.generation
                ),
            });
        }
        accepted.databases.insert(name.clone(), known.clone());
    }
    refusals.sort_by(|a, b| a.database.cmp(&b.database));
    Verdict { accepted, refusals }
}

fn regression(name: &str, known: &DesiredDatabase, wanted: &DesiredDatabase) -> Option<Refusal> {
    let same = known.topology_uid == wanted.topology_uid;
    // A fence is a promise to the next primary: it ends only with an epoch that is at least as high.
    let newer = if same {
        (wanted.epoch, wanted.generation) >= (known.epoch, known.generation)
            && wanted.highest_epoch() >= known.highest_epoch()
    } else {
        wanted.epoch > known.highest_epoch() || known.shards.is_empty()
    };
    if newer {
        return None;
    }
    let found = if same {
        "the topology"
    } else {
        "a topology with another UID"
    };
    Some(Refusal {
        database: name.to_owned(),
        reason: RefusalReason::TopologyRegressed,
        message: format!(
            "database {name}: {found} says epoch {}, generation {}, but epoch {}, generation {} was obeyed; \
             the shards stay as they are until an epoch above {} arrives",
            wanted.epoch,
            wanted.generation,
            known.epoch,
            known.generation,
            known.highest_epoch()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Fence;
    use super::super::tests::{database, state};
    use super::*;

    #[test]
    fn every_combination_of_known_and_wanted_is_decided() {
        // (known, wanted, followed?)
        let cases = [
            (("a", 1, 1, 1), ("a", 1, 1, 1), true),
            (("a", 1, 1, 1), ("a", 1, 2, 1), true),
            (("a", 1, 5, 1), ("a", 2, 6, 1), true),
            (("a", 2, 5, 1), ("a", 1, 6, 1), false),
            (("a", 2, 5, 1), ("a", 2, 4, 1), false),
            (("a", 2, 5, 1), ("b", 2, 9, 1), false),
            (("a", 2, 5, 1), ("b", 3, 1, 1), true),
            // It runs nothing here: a database of the same name may begin again.
            (("a", 9, 9, 0), ("b", 1, 1, 1), true),
            (("a", 9, 9, 0), ("a", 8, 9, 1), false),
        ];
        for (known, wanted, followed) in cases {
            let known = database(known.0, known.1, known.2, known.3);
            let wanted = database(wanted.0, wanted.1, wanted.2, wanted.3);
            let verdict = obey(
                &state(&[("db", known.clone())]),
                &state(&[("db", wanted.clone())]),
            );
            let expected = if followed { &wanted } else { &known };
            assert_eq!(
                verdict.accepted,
                state(&[("db", expected.clone())]),
                "{known:?} then {wanted:?}"
            );
            assert_eq!(verdict.refusals.is_empty(), followed);
        }
    }

    #[test]
    fn a_fence_ends_only_with_an_epoch_as_high() {
        let fenced = |epoch, generation, fence: Option<u64>| DesiredDatabase {
            fence: fence.map(|epoch| Fence {
                epoch,
                candidate: "b".to_owned(),
                planned: false,
            }),
            ..database("a", epoch, generation, 1)
        };
        let known = fenced(7, 3, Some(8));
        // (wanted, followed?)
        let cases = [
            (fenced(7, 4, None), false),
            (fenced(7, 4, Some(8)), true),
            (fenced(7, 4, Some(9)), true),
            (fenced(8, 4, None), true),
            (
                DesiredDatabase {
                    topology_uid: "b".to_owned(),
                    ..fenced(8, 1, None)
                },
                false,
            ),
            (
                DesiredDatabase {
                    topology_uid: "b".to_owned(),
                    ..fenced(9, 1, None)
                },
                true,
            ),
        ];
        for (wanted, followed) in cases {
            let verdict = obey(
                &state(&[("db", known.clone())]),
                &state(&[("db", wanted.clone())]),
            );
            assert_eq!(verdict.refusals.is_empty(), followed, "{wanted:?}");
            let runs = &verdict.accepted.databases["db"];
            assert_eq!(runs, if followed { &wanted } else { &known });
        }
    }

    #[test]
    fn a_missing_topology_changes_nothing() {
        let last = state(&[("db", database("a", 1, 1, 1))]);
        let verdict = obey(&last, &DesiredState::default());
        assert_eq!(verdict.accepted, last);
        assert_eq!(verdict.refusals[0].reason, RefusalReason::TopologyLost);
    }

    #[test]
    fn a_database_ends_by_an_order_to_run_nothing_and_then_no_topology() {
        let last = state(&[("db", database("a", 1, 1, 1))]);
        let stopped = obey(&last, &state(&[("db", database("a", 1, 2, 0))])).accepted;
        assert!(stopped.shards().next().is_none());
        let ended = obey(&stopped, &DesiredState::default());
        assert_eq!(ended.accepted, DesiredState::default());
        assert!(ended.refusals.is_empty());
    }

    #[test]
    fn a_new_database_of_an_ended_ones_name_is_followed_from_its_first_epoch() {
        let ordered_to_stop = state(&[("db", database("a", 8, 12, 0))]);
        let mut next = database("b", 1, 1, 1);
        next.owner = "another".to_owned();
        let fresh = state(&[("db", next)]);
        // Whether or not the node saw the time between without any topology.
        let ended = obey(&ordered_to_stop, &DesiredState::default()).accepted;
        for last in [ended, ordered_to_stop] {
            let verdict = obey(&last, &fresh);
            assert_eq!((&verdict.accepted, verdict.refusals), (&fresh, vec![]));
        }
    }
}
