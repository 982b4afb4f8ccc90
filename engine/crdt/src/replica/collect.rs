//! Forgetting what can no longer matter.

use super::Replica;
use crate::clock::Clock;
use std::ops::Bound;

/// Where the walk over the metadata stands.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Last key that was visited.
    last: Option<Vec<u8>>,
    /// Stable cut and own clock when the walk began: another walk is due when either has moved.
    begun: Option<(Clock, Clock)>,
}

impl Replica {
    /// Visits the metadata of up to `budget` keys and drops what is stable. Values never change. Returns whether the walk
    /// is unfinished; call again until it is not. A finished walk begins anew only when there is something new to drop.
    pub fn collect(&mut self, budget: usize) -> bool {
        self.stability.advance(&self.config.members, &self.clock);
        let now = (self.stability.cut().clone(), self.clock.clone());
        if self.sweep.last.is_none() {
            if self.sweep.begun.as_ref() == Some(&now) {
                return false;
            }
            self.sweep.begun = Some(now);
        }
        let start = self
            .sweep
            .last
            .take()
            .map_or(Bound::Unbounded, Bound::Excluded);
        let mut empty = Vec::new();
        let mut walk = self.entries.range_mut((start, Bound::Unbounded));
        for (key, entry) in walk.by_ref().take(budget) {
            entry.collect(self.stability.cut(), &self.clock);
            if entry.is_empty() {
                empty.push(key.clone());
            }
            self.sweep.last = Some(key.clone());
        }
        let unfinished = walk.next().is_some();
        if !unfinished {
            self.sweep.last = None;
        }
        for key in &empty {
            self.entries.remove(key);
        }
        self.counters.collected += empty.len() as u64;
        unfinished
    }
}
