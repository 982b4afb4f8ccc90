//! What to do about one topology now. Pure: no client, no clock, no randomness.
//!
//! Order: a fence that stands is brought to its end; then it is asked whether the primary is lost or should go; then who
//! may follow. Every answer is one change, written by compare-and-swap against the very object that was judged.

mod fenced;

use std::collections::BTreeMap;

use meridian_api::crds::topology::{
    DatabaseTopology, FollowingState, HeldReport, JOIN_LAG_BYTES, ShardAssignment, ShardReport,
    ShardRole,
};

use super::{
    growth, hand_over, recover, renew, versions,
    watch::{Fact, PodFacts, Watch, acting, own_shard, report},
};

/// A primary whose PID 1 is silent for this long is lost if a replica has lost it as well, milliseconds.
pub const SILENT_MS: u64 = 3_000;
/// A primary whose PID 1 is silent for this long is lost, whatever the replicas say, milliseconds.
pub const SILENT_ALONE_MS: u64 = 10_000;
/// A primary that does not answer for this long while its PID 1 does is lost, milliseconds.
pub const NOT_READY_MS: u64 = 3_000;
/// A primary that answers and takes no writes for this long, for no reason that it gives, is lost, milliseconds.
pub const NOT_WRITABLE_MS: u64 = 10_000;
/// A candidate that does not confirm its fence within this is no candidate, milliseconds.
pub const CONFIRM_MS: u64 = 10_000;
/// How long a planned move may keep the primary from taking writes, milliseconds.
pub const PLANNED_MS: u64 = 3_000;
/// Pause after a planned move that was given up, milliseconds.
pub const PLANNED_AGAIN_MS: u64 = 30_000;
/// A primary that is lost this long with nobody to take over is a person's business, milliseconds.
pub const HOPELESS_MS: u64 = 10_000;

/// Annotation of a topology: the primary is asked to leave this pod (`failover::request_move`).
pub const LEAVE: &str = "meridian.dev/leave-pod";
/// Annotation of a topology by which a person accepts a loss: `<pod>@<epoch>` names who is to be primary, and the epoch
/// that the person saw.
pub const ACCEPT_LOSS: &str = "meridian.dev/accept-loss";

/// Everything that is known about one topology at one moment.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The topology.
    pub topology: &'a DatabaseTopology,
    /// The REC's pods that exist, by name.
    pub pods: &'a BTreeMap<String, PodFacts>,
    /// Pod that has room for one more replica, if any.
    pub spare: Option<&'a str>,
    /// How long a replica's pod is away before another holds it, milliseconds.
    pub replace_ms: u64,
    /// Since when what holds.
    pub watch: &'a Watch,
    /// The leader's monotonic clock, milliseconds.
    pub now: u64,
}

/// One change, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Everything is as it should be, or waits for somebody else.
    Nothing,
    /// Begin a failover.
    Fence {
        /// Who takes over.
        candidate: String,
        /// The primary is asked to hand over.
        planned: bool,
        /// Why, for people.
        why: String,
    },
    /// End the failover: the candidate is primary.
    Promote,
    /// Give a planned move up: the primary goes on in the fence's epoch.
    AbandonFence {
        /// Why, for people.
        why: String,
    },
    /// The present primary goes on with what it has, in a new epoch, and nobody else is asked.
    Reinstate {
        /// Why, for people.
        why: String,
        /// Nothing was left anywhere: the database is empty now.
        all_lost: bool,
    },
    /// Only a person can say how it goes on.
    NeedsPerson {
        /// Who could take over, and what would be lost.
        choices: Vec<Loss>,
    },
    /// Take the pod out of the in-sync set.
    Shrink {
        /// The pod.
        pod: String,
    },
    /// Let the pod join the in-sync set.
    Join {
        /// The pod.
        pod: String,
    },
    /// The primary counts the pod: it is in the in-sync set now.
    Admit {
        /// The pod.
        pod: String,
    },
    /// The pod does not join after all.
    Leave {
        /// The pod.
        pod: String,
    },
    /// Let the pod hold a replica.
    AddReplica {
        /// The pod.
        pod: String,
    },
    /// The pod holds no replica any more.
    RemoveReplica {
        /// The pod.
        pod: String,
    },
    /// The pod's copy is started anew by a newer Valkey, and nobody counts on it meanwhile.
    Raise {
        /// The pod.
        pod: String,
        /// The series.
        version: String,
    },
}

/// What is lost if a pod becomes primary that is not in the in-sync set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The pod.
    pub pod: String,
    /// Bytes of the replication stream that the last primary reported and the pod does not have; `None`: unknown.
    pub bytes: Option<i64>,
    /// What its files had, where its process began from them.
    pub held: Option<HeldReport>,
}

/// Decides.
#[must_use]
pub fn decide(view: &View<'_>) -> Step {
    let topology = view.topology;
    if topology.metadata.deletion_timestamp.is_some() {
        return Step::Nothing;
    }
    if renew::raised(topology, &[]).is_some() {
        // It is older than what its nodes obey: nothing in it is true any more. The database's controller raises it.
        return Step::Nothing;
    }
    let Some(shard) = topology.spec.shards.first() else {
        return Step::Nothing;
    };
    let Some(primary) = shard.primary.as_deref() else {
        return Step::Nothing;
    };
    if let Some(fence) = &topology.spec.fence {
        return view.fenced(shard, primary, fence);
    }
    if let Some(step) = view.accepted(shard, primary) {
        return step;
    }
    if let Some(trouble) = view.trouble(shard, primary) {
        let step = view.take_over(shard, primary, &trouble);
        if step != Step::Nothing || !trouble.planned {
            return step;
        }
    }
    if let Some(step) = view.stuck(shard, primary) {
        return step;
    }
    if let Some(step) = versions::hand_over(view, shard, primary) {
        return step;
    }
    growth::decide(view, shard, primary)
}

/// Why another must be primary.
struct Trouble {
    planned: bool,
    lasted: u64,
    why: String,
}

impl View<'_> {
    fn facts(&self, pod: &str) -> Option<PodFacts> {
        self.pods.get(pod).copied()
    }

    /// Whether the pod's processes can be believed to run: it exists, nobody asked it to stop, and it answered.
    pub(super) fn is_alive(&self, pod: &str) -> bool {
        let runs = self
            .facts(pod)
            .is_some_and(|facts| !facts.going && !facts.stopped && facts.expected);
        runs && self.watch.answers(pod)
    }

    /// The report of a pod that can become primary: it obeys this epoch as a replica, and this process of it holds a
    /// whole copy. One that takes over a copy holds less than it had.
    fn able<'b>(&'b self, pod: &str) -> Option<&'b ShardReport> {
        let own = acting(self.topology, pod, &ShardRole::Replica)?;
        let whole = own.offset.is_some() && own.following != Some(FollowingState::Copying);
        (own.ready && whole && self.is_alive(pod)).then_some(own)
    }

    /// Who takes over: of those in the in-sync set that can, and whose Valkey is not older than the primary's, the one that has the
    /// most.
    pub(super) fn candidate(&self, shard: &ShardAssignment, planned: bool) -> Option<String> {
        let able = shard.in_sync.iter().filter_map(|pod| {
            let own = self
                .able(pod)
                .filter(|_| versions::may_lead(self.topology, pod))?;
            let follows = own.following == Some(FollowingState::Up);
            // A planned move waits until everything has arrived.
            let fit = if planned {
                follows
            } else {
                self.is_near(shard, pod, own)
            };
            fit.then_some((own.offset, std::cmp::Reverse(pod)))
        });
        able.max().map(|(_, pod)| pod.0.clone())
    }

    /// Whether what the primary said last leaves the pod within what a failover may lose. One that lost its primary has told
    /// how far it got; of one that follows only the primary's own figure is as old as the primary's word.
    fn is_near(&self, shard: &ShardAssignment, pod: &str, own: &ShardReport) -> bool {
        let behind = if own.following == Some(FollowingState::Down) {
            let had = self.watch.reached(self.topology);
            had.zip(own.offset).map(|(had, has)| had - has)
        } else {
            let primary = shard.primary.as_deref().unwrap_or_default();
            let old = acting(self.topology, primary, &ShardRole::Primary);
            let seen = old.and_then(|old| old.replicas.iter().find(|replica| replica.node == pod));
            seen.map(|replica| replica.lag_bytes)
        };
        behind.is_none_or(|behind| behind < JOIN_LAG_BYTES)
    }

    /// A primary that is there and takes no writes, although nothing is wrong that it or anybody else can name.
    fn stuck(&self, shard: &ShardAssignment, primary: &str) -> Option<Step> {
        let lasted = self.watch.lasted(primary, Fact::NotWritable, self.now)?;
        if lasted < NOT_WRITABLE_MS {
            return None;
        }
        let candidate = self.candidate(shard, false)?;
        Some(Step::Fence {
            candidate,
            planned: false,
            why: format!("`{primary}` has taken no writes for {} s", lasted / 1000),
        })
    }

    fn trouble(&self, shard: &ShardAssignment, primary: &str) -> Option<Trouble> {
        let own = acting(self.topology, primary, &ShardRole::Primary);
        let runs = own.is_some_and(|own| own.ready) && self.watch.answers(primary);
        let lasted = |fact| self.watch.lasted(primary, fact, self.now);
        let away = lasted(Fact::Away).unwrap_or(0);
        let trouble = |planned, lasted, why: String| {
            Some(Trouble {
                planned,
                lasted,
                why,
            })
        };
        match self.facts(primary) {
            None => return trouble(false, away, format!("the pod `{primary}` is gone")),
            Some(facts) if facts.stopped => {
                return trouble(false, away, format!("the container of `{primary}` ended"));
            }
            Some(facts) if facts.going => {
                let planned = hand_over::goes_on(self, primary);
                return trouble(planned, 0, format!("the pod `{primary}` is being deleted"));
            }
            Some(facts) if !facts.expected => {
                return trouble(runs, 0, format!("`{primary}` is no pod of the cluster now"));
            }
            Some(_) => {}
        }
        let silent = self.watch.silent(primary, self.now).unwrap_or(0);
        let lost = |pod: &String| {
            own_shard(self.topology, pod)
                .is_some_and(|own| own.following == Some(FollowingState::Down))
        };
        let confirmed = silent >= SILENT_MS && shard.in_sync.iter().any(lost);
        if confirmed || silent >= SILENT_ALONE_MS {
            let why = format!("`{primary}` has not answered for {} s", silent / 1000);
            return trouble(false, silent, why);
        }
        // One that was named primary and must not lead is still the replica that it was.
        let named = report(self.topology, primary)
            .filter(|told| told.epoch == self.topology.spec.epoch)
            .and_then(|_| own_shard(self.topology, primary));
        if let Some(why) = named.and_then(|own| own.wants_failover.as_ref()) {
            let writes = own.is_some_and(|own| own.writable) && runs;
            let lasted = lasted(Fact::Asks).unwrap_or(0);
            return trouble(writes, lasted, format!("`{primary}` asks for it: {why}"));
        }
        let unready = lasted(Fact::NotReady).unwrap_or(0);
        if unready >= NOT_READY_MS {
            let why = format!("the shard on `{primary}` has not answered for {unready} ms");
            return trouble(false, unready, why);
        }
        let asked = self.topology.metadata.annotations.as_ref();
        let leaves = asked.and_then(|all| all.get(LEAVE)).map(String::as_str) == Some(primary);
        if leaves && runs {
            return trouble(
                true,
                0,
                format!("the primary is asked to leave `{primary}`"),
            );
        }
        None
    }

    fn take_over(&self, shard: &ShardAssignment, primary: &str, trouble: &Trouble) -> Step {
        let rests = self.watch.since_given_up(self.now);
        let rests = rests.is_some_and(|rest| rest < PLANNED_AGAIN_MS);
        if trouble.planned && rests && !hand_over::is_going(self, primary) {
            return Step::Nothing;
        }
        if let Some(candidate) = self.candidate(shard, trouble.planned) {
            return Step::Fence {
                candidate,
                planned: trouble.planned,
                why: trouble.why.clone(),
            };
        }
        if trouble.planned {
            return Step::Nothing;
        }
        self.without_candidate(shard, primary, trouble.lasted)
    }

    /// Nobody can take over, for this long.
    fn without_candidate(&self, shard: &ShardAssignment, primary: &str, lasted: u64) -> Step {
        if let Some(step) = recover::goes_on(self, shard, primary) {
            return step;
        }
        if lasted < HOPELESS_MS {
            return Step::Nothing;
        }
        self.ask(shard, primary)
    }

    /// Lays before a person who could take over.
    fn ask(&self, shard: &ShardAssignment, primary: &str) -> Step {
        let had = self.watch.reached(self.topology);
        let loss = |pod: &String| {
            let own = own_shard(self.topology, pod)?;
            let bytes = had.zip(own.offset).map(|(had, has)| (had - has).max(0));
            (own.ready && self.is_alive(pod)).then(|| Loss {
                pod: pod.clone(),
                bytes,
                held: own.held.clone(),
            })
        };
        let choices: Vec<Loss> = shard.replicas.iter().filter_map(loss).collect();
        let waits = |own: &ShardReport| {
            own.ready && (own.wants_failover.is_some() || !shard.in_sync.is_empty())
        };
        let restarted =
            self.is_alive(primary) && own_shard(self.topology, primary).is_some_and(waits);
        if choices.is_empty() && !restarted {
            return Step::Nothing;
        }
        Step::NeedsPerson { choices }
    }

    /// What a person accepted for this very epoch.
    fn accepts(&self, pod: &str) -> bool {
        let text = format!("{pod}@{}", self.topology.spec.epoch);
        let all = self.topology.metadata.annotations.as_ref();
        all.and_then(|all| all.get(ACCEPT_LOSS)) == Some(&text)
    }

    fn accepted(&self, shard: &ShardAssignment, primary: &str) -> Option<Step> {
        if self.accepts(primary) {
            let why = format!("a person accepted that `{primary}` goes on with what it has");
            return Some(Step::Reinstate {
                why,
                all_lost: false,
            });
        }
        let ready = |pod: &str| own_shard(self.topology, pod).is_some_and(|own| own.ready);
        let pod = shard
            .replicas
            .iter()
            .find(|pod| self.accepts(pod) && self.is_alive(pod) && ready(pod))?;
        Some(Step::Fence {
            candidate: pod.clone(),
            planned: false,
            why: format!("a person accepted that `{pod}` may have less than `{primary}` had"),
        })
    }
}

#[cfg(test)]
mod tests;
