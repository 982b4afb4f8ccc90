//! How far the members' wall clocks are from the hub's, as their heartbeats show. For people only: nothing is decided by it, and
//! nothing of it is stored, because it changes with every heartbeat.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use meridian_api::ids::ClusterUid;
use meridian_api::link::clock::Skew;

use super::App;

/// What the last heartbeat of a member showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The difference; ahead is the member.
    pub skew: Skew,
    /// When, by the hub's clock.
    pub as_of: Timestamp,
    /// Since when people are warned of it, if they are.
    pub warned_since: Option<Timestamp>,
}

impl Measured {
    fn next(known: Option<Self>, skew: Skew, now: Timestamp) -> Self {
        let since = known.and_then(|known| known.warned_since);
        Self {
            skew,
            as_of: now,
            warned_since: skew.is_large().then(|| since.unwrap_or(now)),
        }
    }
}

/// The clocks of the members that spoke with this process.
#[derive(Debug, Default)]
pub(super) struct Clocks(Mutex<BTreeMap<ClusterUid, Measured>>);

impl Clocks {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ClusterUid, Measured>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Notes what a heartbeat of this member showed.
    pub fn hear_clock(&self, uid: ClusterUid, skew: Skew) {
        let now = self.now();
        let mut clocks = self.clocks.lock();
        let known = clocks.get(&uid).copied();
        let next = Measured::next(known, skew, now);
        clocks.insert(uid, next);
        drop(clocks);
        let was = known.and_then(|known| known.warned_since);
        let ahead_ms = skew.ahead_ms;
        match (was, next.warned_since) {
            (None, Some(_)) => {
                tracing::warn!(cluster = %uid, ahead_ms, "the clock of a member is far from the hub's; nothing is decided by it");
            }
            (Some(_), None) => {
                tracing::info!(cluster = %uid, ahead_ms, "the clock of a member is near the hub's again");
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
    }

    /// Forgets the clock of a member that is none any more.
    pub(super) fn forget_clock(&self, uid: ClusterUid) {
        self.clocks.lock().remove(&uid);
    }

    /// What the last heartbeat of this member showed; `None` where this process has not heard it.
    #[must_use]
    pub fn clock_of(&self, uid: ClusterUid) -> Option<Measured> {
        self.clocks.lock().get(&uid).copied()
    }

    /// Members whose clock people are warned of.
    #[must_use]
    pub fn skewed_members(&self) -> usize {
        let clocks = self.clocks.lock();
        let warned = clocks.values().filter(|known| known.warned_since.is_some());
        warned.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_warned_of_a_large_difference_and_told_since_when() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let skew = |ahead_ms| Skew {
            ahead_ms,
            trip_ms: 20,
        };
        let mut known = None;
        for (second, ahead_ms, since) in [
            (1, 5_000, None),
            (2, -5_011, Some(2)),
            (3, 7_200_000, Some(2)),
            (4, i64::MIN, Some(2)),
            (5, 0, None),
            (6, 5_011, Some(6)),
        ] {
            let next = Measured::next(known, skew(ahead_ms), at(second));
            assert_eq!(next.warned_since, since.map(at), "{ahead_ms}");
            assert_eq!((next.skew, next.as_of), (skew(ahead_ms), at(second)));
            known = Some(next);
        }
    }
}
