//! What one leader remembers about one topology: since when something has held, on its own monotonic clock. Pure.
//!
//! A new leader starts with nothing remembered, so every wait begins again with it. That costs time and never safety.

use std::collections::BTreeMap;

use meridian_api::crds::topology::{
    DatabaseTopology, FollowingState, LEAVE_LAG_BYTES, MemberReport, ShardAssignment, ShardReport,
    ShardRole,
};

/// What the Kubernetes API says about one pod of the REC. A pod that does not exist has no facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// It is marked for deletion: its processes are asked to stop, and may still run.
    pub going: bool,
    /// The kubelet says that its container is terminated and not running again.
    pub stopped: bool,
    /// Its StatefulSet makes a pod of this name. If not, it will not come back.
    pub expected: bool,
}

/// Something that may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// The shard does not answer, says its node or its PID 1.
    NotReady,
    /// The replica does not follow the live stream, or says nothing about this topology.
    NotFollowing,
    /// The replica is far behind, or its primary does not count it among those that follow.
    Lagging,
    /// The primary answers, takes no writes, and says nothing of it.
    NotWritable,
    /// The node asks that another pod becomes primary.
    Asks,
    /// The pod does not exist, its container is terminated, or its StatefulSet does not make it any more.
    Away,
}

#[derive(Clone, Copy, Debug, Default)]
struct Probed {
    answered: Option<u64>,
    failing_since: Option<u64>,
    ready: Option<bool>,
}

#[derive(Clone, Copy, Debug)]
struct FenceSeen {
    epoch: i64,
    seen: u64,
    confirmed: Option<u64>,
}

/// The memory. Times are milliseconds of the leader's monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    probes: BTreeMap<String, Probed>,
    since: BTreeMap<(String, Fact), u64>,
    fence: Option<FenceSeen>,
    abandoned: Option<u64>,
    told: Option<Told>,
}

/// What a primary said last of how far it is.
#[derive(Clone, Debug)]
struct Told {
    pod: String,
    epoch: i64,
    offset: i64,
}

impl Watch {
    /// PID 1 of `pod` answered a probe; `ready` is what it says about this database's shard, if it runs one.
    pub fn answered(&mut self, pod: &str, ready: Option<bool>, now: u64) {
        let probed = Probed {
            answered: Some(now),
            failing_since: None,
            ready,
        };
        self.probes.insert(pod.to_owned(), probed);
    }

    /// PID 1 of `pod` did not answer a probe.
    pub fn failed(&mut self, pod: &str, now: u64) {
        let probed = self.probes.entry(pod.to_owned()).or_default();
        probed.failing_since.get_or_insert(now);
        probed.ready = None;
    }

    /// A planned move was given up: the next is not tried at once.
    pub fn gave_up(&mut self, now: u64) {
        self.abandoned = Some(now);
    }

    /// Takes over what `topology` and `pods` say now. Must be called with every observation before a decision.
    pub fn saw(
        &mut self,
        topology: &DatabaseTopology,
        pods: &BTreeMap<String, PodFacts>,
        now: u64,
    ) {
        let mut holds = Vec::new();
        for shard in &topology.spec.shards {
            for pod in shard.primary.iter().chain(&shard.replicas) {
                let own = own_shard(topology, pod);
                let probed = self.probes.get(pod).and_then(|probed| probed.ready);
                let unready = own.is_some_and(|own| !own.ready) || probed == Some(false);
                let follows =
                    own.is_some_and(|own| own.following == Some(FollowingState::Up) && own.ready);
                let away = pods
                    .get(pod)
                    .is_none_or(|facts| facts.stopped || !facts.expected);
                holds.push((pod, Fact::NotReady, unready));
                holds.push((pod, Fact::NotFollowing, !follows));
                let asks = own.is_some_and(|own| own.wants_failover.is_some());
                holds.push((pod, Fact::Asks, asks));
                holds.push((pod, Fact::Lagging, lags(topology, shard, pod)));
                holds.push((pod, Fact::NotWritable, takes_no_writes(topology, pod)));
                holds.push((pod, Fact::Away, away));
            }
        }
        let before = std::mem::take(&mut self.since);
        for (pod, fact, _) in holds.into_iter().filter(|(_, _, holds)| *holds) {
            let key = (pod.clone(), fact);
            let since = before.get(&key).copied().unwrap_or(now);
            self.since.insert(key, since);
        }
        self.saw_fence(topology, now);
        self.heard(topology);
    }

    /// A process that began anew does not know how far the one before it was, and a volume that is replaced takes along what its
    /// files had.
    fn heard(&mut self, topology: &DatabaseTopology) {
        let primary = topology.spec.shards.first();
        let Some(pod) = primary.and_then(|shard| shard.primary.clone()) else {
            return;
        };
        let own = acting(topology, &pod, &ShardRole::Primary);
        let says = own.is_some_and(|own| own.offset.is_some() || own.held.is_some());
        if says && let Some(offset) = self.reached(topology) {
            let epoch = topology.spec.epoch;
            self.told = Some(Told { pod, epoch, offset });
        }
    }

    /// How far the primary of `topology` certainly was, bytes of its stream: by its own word, or else by what it said before its
    /// process began anew and what its files have, of an epoch after which nobody else led. Epochs pass in which nobody leads:
    /// those of a topology that was made again, or of a failover that was given up. What was known before them still is.
    #[must_use]
    pub fn reached(&self, topology: &DatabaseTopology) -> Option<i64> {
        let pod = topology.spec.shards.first()?.primary.as_deref()?;
        let own = acting(topology, pod, &ShardRole::Primary);
        if let Some(offset) = own.and_then(|own| own.offset) {
            return Some(offset);
        }
        let last = last_led(topology);
        let led = own.filter(|own| own.served.is_some() && own.served >= last);
        let files = led
            .and_then(|own| own.held.as_ref())
            .map(|held| held.offset);
        let told = self.told.as_ref();
        let told = told.filter(|told| told.pod == pod && Some(told.epoch) >= last);
        told.map(|told| told.offset).max(files)
    }

    fn saw_fence(&mut self, topology: &DatabaseTopology, now: u64) {
        let Some(fence) = &topology.spec.fence else {
            self.fence = None;
            return;
        };
        let fresh = FenceSeen {
            epoch: fence.epoch,
            seen: now,
            confirmed: None,
        };
        let mut seen = self
            .fence
            .filter(|seen| seen.epoch == fence.epoch)
            .unwrap_or(fresh);
        let candidate = own_shard(topology, &fence.candidate);
        if candidate.is_some_and(|own| own.fenced >= Some(fence.epoch)) {
            seen.confirmed.get_or_insert(now);
        }
        self.fence = Some(seen);
    }

    /// For how long `fact` has held of `pod`; `None`: it does not hold.
    #[must_use]
    pub fn lasted(&self, pod: &str, fact: Fact, now: u64) -> Option<u64> {
        let since = self.since.get(&(pod.to_owned(), fact))?;
        Some(now.saturating_sub(*since))
    }

    /// For how long PID 1 of `pod` has answered no probe; `None`: it answered the last one, or none was made.
    #[must_use]
    pub fn silent(&self, pod: &str, now: u64) -> Option<u64> {
        let since = self.probes.get(pod)?.failing_since?;
        Some(now.saturating_sub(since))
    }

    /// Whether PID 1 of `pod` answered its last probe.
    #[must_use]
    pub fn answers(&self, pod: &str) -> bool {
        self.probes
            .get(pod)
            .is_some_and(|probed| probed.answered.is_some() && probed.failing_since.is_none())
    }

    /// For how long the fence of `epoch` has been seen.
    #[must_use]
    pub fn fenced(&self, epoch: i64, now: u64) -> Option<u64> {
        let seen = self.fence.filter(|seen| seen.epoch == epoch)?;
        Some(now.saturating_sub(seen.seen))
    }

    /// For how long both the fence of `epoch` and its candidate's confirmation have been seen. Both were written before
    /// they could be seen, so no permission that they end was obtained later than this.
    #[must_use]
    pub fn confirmed(&self, epoch: i64, now: u64) -> Option<u64> {
        let seen = self.fence.filter(|seen| seen.epoch == epoch)?;
        Some(now.saturating_sub(seen.confirmed?))
    }

    /// For how long no planned move has been given up; `None`: never.
    #[must_use]
    pub fn since_given_up(&self, now: u64) -> Option<u64> {
        self.abandoned.map(|at| now.saturating_sub(at))
    }
}

/// Whether the primary says that `pod` is far behind, or that it takes writes and `pod` does not follow it.
fn lags(topology: &DatabaseTopology, shard: &ShardAssignment, pod: &str) -> bool {
    let primary = shard.primary.as_deref().unwrap_or_default();
    let Some(own) = acting(topology, primary, &ShardRole::Primary) else {
        return false;
    };
    let seen = own.replicas.iter().find(|replica| replica.node == pod);
    match seen {
        Some(seen) if seen.online => seen.lag_bytes >= LEAVE_LAG_BYTES,
        Some(_) | None => own.writable,
    }
}

fn takes_no_writes(topology: &DatabaseTopology, pod: &str) -> bool {
    let own = acting(topology, pod, &ShardRole::Primary);
    topology.spec.fence.is_none()
        && own.is_some_and(|own| own.ready && !own.writable && own.wants_failover.is_none())
}

/// The last epoch in which anybody says that it led.
fn last_led(topology: &DatabaseTopology) -> Option<i64> {
    let id = topology.spec.shards.first()?.id;
    let uid = topology.metadata.uid.as_deref()?;
    let members = &topology.status.as_ref()?.members;
    let all = members.iter().filter(|member| member.topology_uid == uid);
    all.flat_map(|member| &member.shards)
        .filter(|shard| shard.id == id)
        .filter_map(|shard| shard.served)
        .max()
}

/// The report of `pod` about this very topology.
#[must_use]
pub fn report<'a>(topology: &'a DatabaseTopology, pod: &str) -> Option<&'a MemberReport> {
    let uid = topology.metadata.uid.as_deref()?;
    let members = &topology.status.as_ref()?.members;
    members
        .iter()
        .find(|member| member.node == pod && member.topology_uid == uid)
}

/// What `pod` reports about the one shard of this very topology.
#[must_use]
pub fn own_shard<'a>(topology: &'a DatabaseTopology, pod: &str) -> Option<&'a ShardReport> {
    let id = topology.spec.shards.first()?.id;
    let shards = &report(topology, pod)?.shards;
    shards.iter().find(|shard| shard.id == id)
}

/// Whether `pod` says that it follows the live stream in the present epoch.
#[must_use]
pub fn follows(topology: &DatabaseTopology, pod: &str) -> bool {
    acting(topology, pod, &ShardRole::Replica)
        .is_some_and(|own| own.ready && own.following == Some(FollowingState::Up))
}

/// [`own_shard`], if the pod obeys the present epoch in this role.
#[must_use]
pub fn acting<'a>(
    topology: &'a DatabaseTopology,
    pod: &str,
    role: &ShardRole,
) -> Option<&'a ShardReport> {
    report(topology, pod).filter(|report| report.epoch == topology.spec.epoch)?;
    own_shard(topology, pod).filter(|own| own.role == *role)
}
