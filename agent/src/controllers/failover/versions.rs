//! By which Valkey each copy of a database is served, and how it is brought to a newer one: a replica is started anew by it and
//! follows, then the primary moves there, and in that very write the copy that led is ordered to the newer one as well. One step at a
//! time. A database without copies is started anew in place. Pure.
//!
//! Valkey follows an older primary and reads its files; it reads nothing of a newer one. So a copy that is served by an older Valkey
//! than the primary never takes over, and is never left to follow it.

use meridian_api::{
    crds::topology::{DatabaseTopology, ShardAssignment, ShardReport},
    version::Series,
};

use super::{
    decide::{PLANNED_AGAIN_MS, Step, View},
    watch::own_shard,
};
use crate::k8s::conditions::Finding;

/// By which series `pod` serves its copy: what it says, or what it was ordered where it says nothing. `None`: not known, and hence
/// older than everything.
#[must_use]
pub(super) fn serves(topology: &DatabaseTopology, pod: &str) -> Option<Series> {
    let told = own_shard(topology, pod).and_then(|own| own.version.as_deref()?.parse().ok());
    told.or_else(|| ordered(topology.spec.shards.first()?, pod))
}

fn ordered(shard: &ShardAssignment, pod: &str) -> Option<Series> {
    shard.versions.get(pod)?.parse().ok()
}

/// What the database is to run.
fn target(topology: &DatabaseTopology) -> Option<Series> {
    topology.spec.version.as_deref()?.parse().ok()
}

/// The least by which a copy may be served beside this primary.
#[must_use]
pub(super) fn floor(topology: &DatabaseTopology) -> Option<Series> {
    let primary = topology.spec.shards.first()?.primary.as_deref();
    let leads = primary.and_then(|pod| serves(topology, pod));
    leads.max(target(topology))
}

/// Whether the copy on `pod` may take over from the primary.
#[must_use]
pub(super) fn may_lead(topology: &DatabaseTopology, pod: &str) -> bool {
    let shard = topology.spec.shards.first();
    let primary = shard.and_then(|shard| shard.primary.as_deref());
    primary.is_none_or(|primary| serves(topology, pod) >= serves(topology, primary))
}

/// The next copy that is to be started anew by a newer Valkey, while the primary, which says `own`, is well.
pub(super) fn raise(view: &View<'_>, shard: &ShardAssignment, own: &ShardReport) -> Option<Step> {
    let topology = view.topology;
    let floor = floor(topology)?;
    let is_behind = |pod: &str| serves(topology, pod) < Some(floor);
    let unordered = |pod: &&String| is_behind(pod) && ordered(shard, pod) < Some(floor);
    // Whoever was ordered is waited for: two that start anew at once leave nobody.
    let under_way = shard
        .replicas
        .iter()
        .any(|pod| is_behind(pod) && !unordered(&pod));
    let next = shard.replicas.iter().find(unordered);
    next.filter(|_| own.writable && !under_way)
        .map(|pod| order(pod, floor))
}

/// The only copy of a database without replication, which is started anew where it is: it says `own`.
pub(super) fn raise_alone(
    view: &View<'_>,
    shard: &ShardAssignment,
    primary: &str,
    own: &ShardReport,
) -> Option<Step> {
    let target = target(view.topology)?;
    let alone = shard.replicas.is_empty() && !view.topology.spec.replication;
    let stays = view
        .pods
        .get(primary)
        .is_some_and(|facts| !facts.going && !facts.stopped && facts.expected);
    let due = serves(view.topology, primary) < Some(target)
        && ordered(shard, primary) < Some(target)
        && own.ready;
    (alone && stays && due).then(|| order(primary, target))
}

fn order(pod: &str, series: Series) -> Step {
    Step::Raise {
        pod: pod.to_owned(),
        version: series.to_string(),
    }
}

/// Who takes over from a primary that is served by an older Valkey than the database is to run, once somebody can.
pub(super) fn hand_over(view: &View<'_>, shard: &ShardAssignment, primary: &str) -> Option<Step> {
    let target = target(view.topology)?;
    let rests = view.watch.since_given_up(view.now);
    if serves(view.topology, primary) >= Some(target)
        || rests.is_some_and(|rest| rest < PLANNED_AGAIN_MS)
    {
        return None;
    }
    let mut newer = shard.clone();
    newer
        .in_sync
        .retain(|pod| serves(view.topology, pod) >= Some(target));
    let candidate = view.candidate(&newer, true)?;
    Some(Step::Fence {
        why: format!("the database is brought to Valkey {target}, by which `{candidate}` serves"),
        candidate,
        planned: true,
    })
}

/// Orders every copy of `shard` that is served by an older Valkey than `leader` to its series.
pub(super) fn follow_suit(topology: &DatabaseTopology, shard: &mut ShardAssignment, leader: &str) {
    let Some(leads) = serves(topology, leader) else {
        return;
    };
    let behind: Vec<String> = shard
        .replicas
        .iter()
        .filter(|pod| serves(topology, pod) < Some(leads))
        .cloned()
        .collect();
    for pod in behind {
        shard.versions.insert(pod, leads.to_string());
    }
}

/// Whether a copy of the database still says that it is served by an older Valkey than it is to be.
#[must_use]
pub(crate) fn is_under_way(topology: &DatabaseTopology) -> bool {
    let Some(target) = target(topology) else {
        return false;
    };
    copies(topology).any(|pod| {
        let told = meridian_api::version::reported(topology, pod);
        let told = told.and_then(|text| text.parse::<Series>().ok());
        told.is_some_and(|told| told < target)
    })
}

fn has_replicas(topology: &DatabaseTopology) -> bool {
    let mut shards = topology.spec.shards.iter();
    shards.all(|shard| !shard.replicas.is_empty())
}

fn copies(topology: &DatabaseTopology) -> impl Iterator<Item = &str> {
    let shards = topology.spec.shards.iter();
    shards
        .flat_map(|shard| shard.primary.iter().chain(&shard.replicas))
        .map(String::as_str)
}

/// What people read of it; `None` where nothing is known yet.
#[must_use]
pub(crate) fn finding(topology: &DatabaseTopology) -> Option<Finding> {
    const TYPE: &str = "VersionCurrent";
    let running = meridian_api::version::running(topology)?;
    let Some(target) = target(topology).filter(|_| is_under_way(topology)) else {
        return Some(Finding::yes(
            TYPE,
            "AsOrdered",
            format!("served by Valkey {running}"),
        ));
    };
    let one = |pod| {
        let told = meridian_api::version::reported(topology, pod);
        format!("`{pod}` {}", told.unwrap_or("does not say"))
    };
    let all: Vec<String> = copies(topology).map(one).collect();
    if topology.spec.replication && !has_replicas(topology) {
        return Some(Finding::no(
            TYPE,
            "WaitsForReplica",
            format!(
                "is brought to Valkey {target} once another pod holds a copy, so that clients are not kept waiting: {}; the \
                 condition `InSync` says what keeps the copy away",
                all.join(", ")
            ),
        ));
    }
    Some(Finding::no(
        TYPE,
        "Raising",
        format!(
            "is brought to Valkey {target}, copy by copy: {}",
            all.join(", ")
        ),
    ))
}

#[cfg(test)]
mod tests;
