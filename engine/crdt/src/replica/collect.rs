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
    /// Visits the metadata of up to `budget` keys (at least one) and drops what is stable. Values never change. Returns whether there is
    /// more to visit now; otherwise a further call does nothing until a clock has moved.
    pub fn collect(&mut self, budget: usize) -> bool {
        self.stability.advance(&self.config.members, &self.clock);
        let now = Some((self.stability.cut().clone(), self.clock.clone()));
        if self.sweep.last.is_none() {
            if self.sweep.begun == now {
                return false;
            }
            self.sweep.begun.clone_from(&now);
        }
        let start = self
            .sweep
            .last
            .take()
            .map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        let mut empty = Vec::new();
        let mut walk = self.entries.range_mut((start, Bound::Unbounded));
        for (key, entry) in walk.by_ref().take(budget.max(1)) {
            self.waiting -= entry.waiting();
            entry.collect(self.stability.cut(), &self.clock);
            self.waiting += entry.waiting();
            if entry.is_empty() {
                empty.push(key.clone());
            }
            last = Some(key);
        }
        if walk.next().is_some() {
            self.sweep.last = last.cloned();
        }
        for key in &empty {
            self.entries.remove(key);
        }
        self.counters.collected += empty.len() as u64;
        self.sweep.last.is_some() || self.sweep.begun != now
    }
}
