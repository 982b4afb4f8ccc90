//! Who holds a replica, and who of them is in the in-sync set. Pure; called only while the primary is well.

use meridian_api::crds::topology::{
    APART_MS, DatabaseTopology, JOIN_LAG_BYTES, ShardAssignment, ShardReport, ShardRole,
};

use super::{
    decide::{Step, View},
    hand_over, versions,
    watch::{Fact, acting, follows, report},
};

/// A replica whose pod is away for this long is replaced by one on another node where the REC does not say, milliseconds (the
/// product's default): longer than a host needs to start again, because a new copy is dear.
pub(super) const REPLACE_MS: u64 = 1_800_000;
/// Replicas of a shard with replication.
const REPLICAS: usize = 1;

/// Decides for a shard whose primary is in no trouble.
pub(super) fn decide(view: &View<'_>, shard: &ShardAssignment, primary: &str) -> Step {
    if let Some(step) = placed(view, shard) {
        return step;
    }
    let Some(own) = acting(view.topology, primary, &ShardRole::Primary) else {
        return Step::Nothing;
    };
    if let Some(step) = versions::raise_alone(view, shard, primary, own) {
        return step;
    }
    // One whose pod is being deleted needs somebody to hand over to.
    let serves = view.is_alive(primary)
        || (hand_over::is_going(view, primary) && hand_over::goes_on(view, primary));
    if !own.ready || !serves {
        return Step::Nothing;
    }
    shrink(view, shard)
        .or_else(|| versions::raise(view, shard, own))
        .or_else(|| admit(view, shard, primary, own))
        .or_else(|| join(view, shard, own))
        .or_else(|| remove(view, shard))
        .unwrap_or(Step::Nothing)
}

fn wanted(topology: &DatabaseTopology) -> usize {
    if topology.spec.replication {
        REPLICAS
    } else {
        0
    }
}

/// Whether the pod is gone for good, as far as replicas are concerned.
fn is_lost(view: &View<'_>, pod: &str) -> bool {
    let away = view.watch.lasted(pod, Fact::Away, view.now);
    let unexpected = view.pods.get(pod).is_some_and(|facts| !facts.expected);
    unexpected || away.is_some_and(|away| away >= view.replace_ms)
}

/// A replica is missing and there is a place for it.
fn placed(view: &View<'_>, shard: &ShardAssignment) -> Option<Step> {
    let lasting = shard.replicas.iter().filter(|pod| !is_lost(view, pod));
    let spare = view.spare?;
    let missing = lasting.count() < wanted(view.topology);
    let free =
        shard.primary.as_deref() != Some(spare) && !shard.replicas.iter().any(|r| r == spare);
    (missing && free).then(|| Step::AddReplica {
        pod: spare.to_owned(),
    })
}

/// A member that does not follow any more, or that is not wanted any more.
fn shrink(view: &View<'_>, shard: &ShardAssignment) -> Option<Step> {
    let behind = |pod: &&String| {
        [Fact::NotFollowing, Fact::Lagging].into_iter().any(|fact| {
            let lasted = view.watch.lasted(pod, fact, view.now);
            lasted.is_some_and(|lasted| lasted >= APART_MS)
        })
    };
    let unwanted = wanted(view.topology) == 0;
    if let Some(pod) = shard.joining.iter().find(|pod| unwanted || behind(pod)) {
        return Some(Step::Leave { pod: pod.clone() });
    }
    let pod = shard.in_sync.iter().find(|pod| unwanted || behind(pod))?;
    Some(Step::Shrink { pod: pod.clone() })
}

/// The primary needs the permission of one that joins, and has seen that it must; and the one is still close.
fn admit(
    view: &View<'_>,
    shard: &ShardAssignment,
    primary: &str,
    own: &ShardReport,
) -> Option<Step> {
    let seen = report(view.topology, primary)?.generation;
    let current = Some(seen) >= view.topology.metadata.generation;
    let pod = shard
        .joining
        .iter()
        .find(|pod| current && own.counts.contains(pod) && is_close(view, own, pod))?;
    Some(Step::Admit { pod: pod.clone() })
}

/// A replica that is close enough.
fn join(view: &View<'_>, shard: &ShardAssignment, own: &ShardReport) -> Option<Step> {
    if !own.writable || own.wants_failover.is_some() || wanted(view.topology) == 0 {
        return None;
    }
    let out = shard
        .replicas
        .iter()
        .filter(|pod| !shard.in_sync.contains(pod) && !shard.joining.contains(pod));
    let pod = out.into_iter().find(|pod| is_close(view, own, pod))?;
    Some(Step::Join { pod: pod.clone() })
}

/// Whether both the primary and the pod itself say that it follows closely.
fn is_close(view: &View<'_>, primary: &ShardReport, pod: &str) -> bool {
    let seen = primary.replicas.iter().find(|replica| replica.node == pod);
    let near = seen.is_some_and(|replica| replica.online && replica.lag_bytes < JOIN_LAG_BYTES);
    let whole =
        acting(view.topology, pod, &ShardRole::Replica).is_some_and(|own| own.offset.is_some());
    near && whole && follows(view.topology, pod) && view.is_alive(pod)
}

/// A replica too many: one that is lost or outside the set, once enough others are in it.
fn remove(view: &View<'_>, shard: &ShardAssignment) -> Option<Step> {
    let wanted = wanted(view.topology);
    if shard.replicas.len() <= wanted {
        return None;
    }
    let outside = |pod: &&String| !shard.in_sync.contains(pod) && !shard.joining.contains(pod);
    let lost = |pod: &&String| outside(pod) && is_lost(view, pod);
    let enough = shard.in_sync.len() >= wanted;
    let pod = shard
        .replicas
        .iter()
        .find(lost)
        .or_else(|| shard.replicas.iter().find(|pod| enough && outside(pod)))?;
    Some(Step::RemoveReplica { pod: pod.clone() })
}
