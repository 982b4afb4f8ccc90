//! A fence that stands is brought to its end: the candidate leads, another is chosen, or the primary goes on.

use meridian_api::crds::topology::{
    Fence, LEASE_MARGIN_MS, LEASE_MS, ShardAssignment, ShardReport, ShardRole,
};

use super::{
    super::{
        hand_over,
        watch::{acting, own_shard, report},
    },
    CONFIRM_MS, PLANNED_MS, SILENT_MS, Step, View,
};

impl View<'_> {
    /// Brings a failover to its end.
    pub(super) fn fenced(&self, shard: &ShardAssignment, primary: &str, fence: &Fence) -> Step {
        let chosen = &fence.candidate;
        if chosen == primary {
            return self.begins_again(shard, primary, fence);
        }
        let by_person = self.accepts(chosen);
        let own = if by_person {
            acting(self.topology, chosen, &ShardRole::Replica).filter(|_| self.is_alive(chosen))
        } else {
            self.able(chosen).filter(|_| shard.in_sync.contains(chosen))
        };
        let Some(own) = own else {
            return self.lost_candidate(shard, primary, fence);
        };
        // A pod of that name that began with another volume knows nothing of the process that led.
        let led = |old: &&ShardReport| old.served == Some(self.topology.spec.epoch);
        let old = own_shard(self.topology, primary)
            .filter(|old| old.fenced >= Some(fence.epoch))
            .filter(led);
        let confirmed = self.watch.confirmed(fence.epoch, self.now);
        if fence.planned
            && let Some(step) = hand_over::decide(self, own, old, primary, fence)
        {
            return step;
        }
        // Only the old primary's own word ends the wait. The kubelet's may be about a later pod of the same name, while the
        // process that holds the permission runs on where the API server does not see it.
        match confirmed {
            Some(waited) if old.is_some() || waited >= LEASE_MS + LEASE_MARGIN_MS => {
                // What the primary said since may leave the candidate further behind than was known when it was chosen.
                if by_person || self.is_near(shard, chosen, own) {
                    Step::Promote
                } else {
                    self.lost_candidate(shard, primary, fence)
                }
            }
            Some(_) => Step::Nothing,
            None => self.unconfirmed(shard, primary, fence),
        }
    }

    /// The candidate could take over and does not confirm the fence: its node may not hear of it.
    fn unconfirmed(&self, shard: &ShardAssignment, primary: &str, fence: &Fence) -> Step {
        let seen = self.watch.fenced(fence.epoch, self.now).unwrap_or(0);
        if seen < CONFIRM_MS {
            return Step::Nothing;
        }
        let chosen = &fence.candidate;
        let why = format!(
            "`{chosen}` has not confirmed for {} s that it takes over",
            seen / 1000
        );
        let mut others = shard.clone();
        others.in_sync.retain(|pod| pod != chosen);
        if let Some(candidate) = self.candidate(&others, false) {
            return Step::Fence {
                candidate,
                planned: false,
                why,
            };
        }
        if self.is_well(primary, fence) {
            return Step::AbandonFence { why };
        }
        self.without_candidate(shard, primary, self.hopeless_for(primary, seen))
    }

    /// The primary could go on, were it not for the fence. Only a report that knows of the fence says so: one from before may be
    /// of a process that has ended, whose successor has less than the candidate, and the candidate leaves the set here.
    fn is_well(&self, primary: &str, fence: &Fence) -> bool {
        let own = acting(self.topology, primary, &ShardRole::Primary);
        own.is_some_and(|own| own.fenced >= Some(fence.epoch)) && self.seems_well(primary)
    }

    /// By its last word the primary could go on.
    fn seems_well(&self, primary: &str) -> bool {
        let own = acting(self.topology, primary, &ShardRole::Primary);
        own.is_some_and(|own| own.ready && own.wants_failover.is_none()) && self.is_alive(primary)
    }

    /// How long nobody has been there to go on, when the fence has been seen for `seen`. A primary that seems well may only be as
    /// slow to hear of the fence as the candidate, and is given the same time.
    fn hopeless_for(&self, primary: &str, seen: u64) -> u64 {
        let given = if self.seems_well(primary) {
            CONFIRM_MS
        } else {
            0
        };
        seen.saturating_sub(given)
    }

    /// Ends the fence of a topology that was made again or raised: the primary goes on once nobody else can hold a permission.
    fn begins_again(&self, shard: &ShardAssignment, primary: &str, fence: &Fence) -> Step {
        let epoch = self.topology.spec.epoch;
        let own = report(self.topology, primary)
            .filter(|own| own.epoch == epoch)
            .and_then(|_| own_shard(self.topology, primary))
            .filter(|own| own.ready && self.is_alive(primary));
        let Some(own) = own.filter(|own| own.wants_failover.is_none()) else {
            return self.lost_candidate(shard, primary, fence);
        };
        // Whoever runs and has not heard of this topology may obey a newer one.
        let heard = |pod: &String| {
            let told = report(self.topology, pod);
            !self.is_alive(pod) || told.is_some_and(|told| told.epoch == epoch)
        };
        if !shard.replicas.iter().all(heard) {
            return Step::Nothing;
        }
        // This epoch is the one after everything that was known: who led in the last of those is followed by nobody.
        let last = own.served == Some(epoch - 1);
        match self.watch.confirmed(fence.epoch, self.now) {
            Some(waited) if last || waited >= LEASE_MS + LEASE_MARGIN_MS => Step::Promote,
            Some(_) | None => Step::Nothing,
        }
    }

    /// The candidate cannot take over: another does, or the primary goes on if it can.
    fn lost_candidate(&self, shard: &ShardAssignment, primary: &str, fence: &Fence) -> Step {
        let why = format!("`{}` can not take over", fence.candidate);
        let seen = self.watch.fenced(fence.epoch, self.now).unwrap_or(0);
        if fence.planned && hand_over::has_all(self, primary) {
            if seen < PLANNED_MS || self.is_only_late(&fence.candidate) {
                return Step::Nothing;
            }
            return match self.candidate(shard, true) {
                Some(candidate) => Step::Fence {
                    candidate,
                    planned: true,
                    why,
                },
                None => Step::AbandonFence { why },
            };
        }
        if seen < SILENT_MS {
            return Step::Nothing;
        }
        if let Some(candidate) = self.candidate(shard, false) {
            return Step::Fence {
                candidate,
                planned: false,
                why,
            };
        }
        if let Some(step) = self.accepted(shard, primary) {
            return step;
        }
        if fence.candidate != primary && self.is_well(primary, fence) {
            return Step::AbandonFence { why };
        }
        self.without_candidate(shard, primary, self.hopeless_for(primary, seen))
    }

    /// Nothing is wrong with the pod but answers that are due for a moment.
    fn is_only_late(&self, pod: &str) -> bool {
        let runs = self
            .facts(pod)
            .is_some_and(|facts| !facts.going && !facts.stopped && facts.expected);
        let silent = self.watch.silent(pod, self.now);
        runs && silent.is_some_and(|silent| silent < SILENT_MS)
    }
}
