//! Two devices with one identity, recognised by their sessions.
//!
//! Every time that an agent begins to lead it draws an instance id, and it never goes back to an older one. So after a restart, an
//! update or a failover between the two replicas of an agent a *new* id follows, however often that happens. An id that was
//! replaced and *comes back* belongs to a process that still runs. A leader that was stopped and wakes up, with its lease lost,
//! may do that for a moment, and its successor once more in answer; then it ends itself. Only two that both go on, each with a
//! lease of its own in a cluster of its own, come back again and again: that is what is counted, for both.

use jiff::{SignedDuration, Timestamp};
use meridian_api::ids::ClusterUid;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What happened longer ago counts no more.
pub const WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// So often each of the two must have come back. A leader that lost its lease ends before it could.
pub const RETURNS: usize = 3;
/// Changes that are remembered. More within the window are many restarts, and no two that alternate are hidden by them: they
/// need eight.
const REMEMBERED: usize = 32;

/// Another instance than before opened a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The instance.
    pub instance: Uuid,
    /// When.
    pub at: Timestamp,
}

/// The instances of one cluster's agent, as they followed one another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instances {
    changes: Vec<Change>,
}

/// What a Hello says about the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The instance that was there already.
    Same,
    /// Another one.
    Another,
    /// Two that alternate.
    Clones {
        /// The one that was heard now.
        one: Uuid,
        /// The other.
        other: Uuid,
    },
}

impl Instances {
    /// Takes note of the instance of a session that opens.
    pub fn hear(&mut self, instance: Uuid, now: Timestamp) -> Heard {
        let last = self.changes.last().map(|change| change.instance);
        if last == Some(instance) {
            return Heard::Same;
        }
        // Counted from the newest moment that is known: a hub whose clock was set back forgets nothing too early.
        let newest = self.changes.last().map_or(now, |change| change.at.max(now));
        self.changes
            .retain(|change| newest.duration_since(change.at) < WINDOW);
        let excess = (self.changes.len() + 1).saturating_sub(REMEMBERED);
        self.changes.drain(..excess);
        self.changes.push(Change { instance, at: now });
        match last {
            Some(other) if self.returns(instance) >= RETURNS && self.returns(other) >= RETURNS => {
                Heard::Clones {
                    one: instance,
                    other,
                }
            }
            _ => Heard::Another,
        }
    }

    fn returns(&self, instance: Uuid) -> usize {
        let times = self
            .changes
            .iter()
            .filter(|change| change.instance == instance);
        times.count().saturating_sub(1)
    }
}

/// What people are told of a cluster whose identity two devices may hold.
#[must_use]
pub fn what_to_do(name: &str, cluster: ClusterUid) -> String {
    format!(
        "Neither is served, no data is touched, and databases go on. Find out which cluster is the copy (a restored etcd or a copied machine \
         has the same kube-system UID {cluster}): there delete the Secrets meridian-identity and meridian-join and scale the Deployment \
         meridian-agent to 0; a copy cannot join beside the original. Then `meridian cluster release {name}`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    /// What each of the instances, heard so many seconds after the first, is taken for.
    fn heard(sessions: &[(u128, i64)]) -> Vec<Heard> {
        let mut instances = Instances::default();
        let hear = |&(instance, seconds)| instances.hear(id(instance), at(seconds));
        sessions.iter().map(hear).collect()
    }

    fn is_clone(heard: &Heard) -> bool {
        matches!(heard, Heard::Clones { .. })
    }

    #[test]
    fn two_that_alternate_are_recognised_as_soon_as_each_came_back_three_times() {
        let turns: Vec<_> = (0..8)
            .map(|n| (u128::try_from(n % 2).unwrap(), n * 20))
            .collect();
        let heard = heard(&turns);
        assert!(!heard[..7].iter().any(is_clone), "{heard:?}");
        let (one, other) = (id(1), id(0));
        assert_eq!(heard[7], Heard::Clones { one, other });
    }

    #[test]
    fn two_that_alternate_more_slowly_than_ten_minutes_allow_are_not() {
        let turns: Vec<_> = (0..40)
            .map(|n| (u128::try_from(n % 2).unwrap(), n * 100))
            .collect();
        assert!(!heard(&turns).iter().any(is_clone));
    }

    #[test]
    fn a_leader_that_lost_its_lease_while_it_was_stopped_is_no_clone_even_if_it_wakes_twice() {
        // 0 leads and is stopped, 1 takes over; 0 wakes and comes back before it sees its lease lost, 1 answers, twice.
        let woken = [
            (0, 0),
            (1, 12),
            (0, 30),
            (1, 31),
            (0, 32),
            (1, 33),
            (2, 60),
            (3, 90),
        ];
        assert!(!heard(&woken).iter().any(is_clone));
    }

    #[test]
    fn many_restarts_in_between_hide_no_clones() {
        let mut sessions = Vec::new();
        for n in 0..8 {
            sessions.push((u128::try_from(n % 2).unwrap(), n * 30));
            sessions.push((100 + u128::try_from(n).unwrap(), n * 30 + 10));
            sessions.push((u128::try_from(n % 2).unwrap(), n * 30 + 20));
        }
        sessions.extend([(0, 300), (1, 301)]);
        assert!(heard(&sessions).iter().any(is_clone));
    }

    proptest! {
        /// Whatever restarts and failovers follow one another, each instance reconnecting as often as it likes.
        #[test]
        fn instances_that_never_come_back_are_never_clones(
            lives in prop::collection::vec((1usize..5, 0i64..60), 1..200),
        ) {
            let mut sessions = Vec::new();
            let mut seconds = 0;
            for (instance, (reconnects, pause)) in lives.into_iter().enumerate() {
                for _ in 0..reconnects {
                    sessions.push((instance as u128, seconds));
                    seconds += pause;
                }
            }
            prop_assert!(!heard(&sessions).iter().any(is_clone));
        }

        #[test]
        fn what_is_remembered_is_bounded(turns in prop::collection::vec(0u128..9, 0..300)) {
            let mut instances = Instances::default();
            for turn in turns {
                instances.hear(id(turn), at(0));
                prop_assert!(instances.changes.len() <= REMEMBERED);
            }
        }
    }
}
