//! What a step writes. Pure: the object that was judged in, the object to swap in out.

use meridian_api::crds::topology::{DatabaseTopology, Fence, ShardAssignment};

use super::{
    decide::{ACCEPT_LOSS, LEAVE, Step},
    versions,
};

/// The topology after `step`; `None`: the step writes nothing.
#[must_use]
pub fn next(topology: &DatabaseTopology, step: &Step) -> Option<DatabaseTopology> {
    let mut next = topology.clone();
    let accepted = topology.metadata.annotations.as_ref();
    let accepted = accepted.and_then(|all| all.get(ACCEPT_LOSS)).cloned();
    let ordered = topology.spec.epoch;
    let spec = &mut next.spec;
    let shard = spec.shards.first_mut()?;
    let newest = spec.fence.as_ref().map_or(0, |fence| fence.epoch);
    let newest = newest.max(spec.epoch);
    match step {
        Step::Nothing | Step::NeedsPerson { .. } => return None,
        Step::Fence {
            candidate, planned, ..
        } => {
            spec.fence = Some(Fence {
                epoch: newest + 1,
                candidate: candidate.clone(),
                planned: *planned,
            });
        }
        Step::Promote => {
            let fence = spec.fence.take()?;
            spec.epoch = fence.epoch;
            if shard.primary.as_ref() == Some(&fence.candidate) {
                // A topology that was made again: the set that it remembers follows the same primary as before.
                shard.joining.clear();
                return Some(next);
            }
            let by_person = accepted.as_deref() == Some(&format!("{}@{ordered}", fence.candidate));
            shard.as_is = by_person.then_some(fence.epoch);
            shard.replicas.retain(|pod| *pod != fence.candidate);
            shard.replicas.extend(shard.primary.take());
            shard.primary = Some(fence.candidate);
            // Nobody is in sync with the new primary before it has said so: a member of the old set may have more than
            // the candidate had, or less, until it has followed the candidate.
            shard.in_sync.clear();
            shard.joining.clear();
            let leader = shard.primary.clone().unwrap_or_default();
            versions::follow_suit(topology, shard, &leader);
            done(&mut next);
        }
        Step::AbandonFence { .. } => {
            let fence = spec.fence.take()?;
            // It stopped following when it was asked to.
            shard.in_sync.retain(|pod| *pod != fence.candidate);
            shard.joining.clear();
            spec.epoch = fence.epoch;
        }
        Step::Reinstate { .. } => {
            spec.fence = None;
            shard.in_sync.clear();
            shard.joining.clear();
            spec.epoch = newest + 1;
            shard.as_is = Some(spec.epoch);
            done(&mut next);
        }
        Step::Shrink { .. }
        | Step::Leave { .. }
        | Step::Join { .. }
        | Step::Admit { .. }
        | Step::AddReplica { .. }
        | Step::Raise { .. }
        | Step::RemoveReplica { .. } => regroup(topology, shard, step),
    }
    Some(next)
}

/// A step that changes who follows and who of them counts.
fn regroup(topology: &DatabaseTopology, shard: &mut ShardAssignment, step: &Step) {
    match step {
        Step::Shrink { pod } => shard.in_sync.retain(|member| member != pod),
        Step::Leave { pod } => shard.joining.retain(|member| member != pod),
        Step::Join { pod } => {
            shard.joining.push(pod.clone());
            // It led, and somebody has what it has: from here on it must not lead with less.
            shard.as_is = None;
        }
        Step::Admit { pod } => {
            shard.joining.retain(|member| member != pod);
            shard.in_sync.push(pod.clone());
        }
        Step::AddReplica { pod } => {
            shard.replicas.push(pod.clone());
            if let Some(floor) = versions::floor(topology) {
                shard.versions.insert(pod.clone(), floor.to_string());
            }
        }
        Step::Raise { pod, version } => {
            shard.in_sync.retain(|member| member != pod);
            shard.joining.retain(|member| member != pod);
            shard.versions.insert(pod.clone(), version.clone());
        }
        Step::RemoveReplica { pod } => {
            shard.versions.remove(pod);
            shard.replicas.retain(|replica| replica != pod);
            shard.in_sync.retain(|member| member != pod);
            shard.joining.retain(|member| member != pod);
        }
        Step::Nothing
        | Step::Fence { .. }
        | Step::Promote
        | Step::AbandonFence { .. }
        | Step::Reinstate { .. }
        | Step::NeedsPerson { .. } => {}
    }
}

/// What was asked for has happened; the same words must not ask for it again.
fn done(topology: &mut DatabaseTopology) {
    if let Some(all) = &mut topology.metadata.annotations {
        all.remove(LEAVE);
        all.remove(ACCEPT_LOSS);
    }
}
