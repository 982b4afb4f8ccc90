//! Topologies that were lost, or that came out of a backup of the API server: where they begin again. Pure.
//!
//! What was lost with the object are the promises in it: who may take over, and that somebody was being promoted. A topology
//! that is made again, or raised above what the nodes obey, therefore begins fenced: nobody takes writes in its first epoch.
//! The primary goes on in the next, when it was the last to lead, or when every permission of before has ended.

use std::cmp::Ordering;

use kube::api::ObjectMeta;
use meridian_api::crds::topology::{
    DatabaseTopology, DatabaseTopologySpec, Fence, MemberReport, ShardAssignment, ShardRole,
};
use serde::{Deserialize, Serialize};

use crate::k8s::own::MEMORY;

/// Where a database stood last. It is written on the database before it is ordered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Highest epoch that was ordered.
    pub epoch: i64,
    /// Pod of the primary.
    pub primary: String,
    /// Client port.
    pub port: i32,
    /// The epoch of the fence that stood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<i64>,
    /// Pods that held a replica.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<String>,
    /// Those of them that could take over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_sync: Vec<String>,
    /// The series of Valkey that it was to run by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The topology that said so, or was to say so next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<Said>,
}

/// One generation of one topology.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    /// Uid of the topology.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
}

impl Memory {
    /// What the annotation of `meta` remembers; nothing if it is absent or was edited into something else.
    #[must_use]
    pub fn read(meta: &ObjectMeta) -> Option<Self> {
        let text = meta.annotations.as_ref()?.get(MEMORY)?;
        serde_json::from_str(text).ok()
    }

    /// What a topology says.
    #[must_use]
    pub fn of(spec: &DatabaseTopologySpec) -> Option<Self> {
        let shard = spec.shards.first()?;
        Some(Self {
            epoch: spec.epoch,
            primary: shard.primary.clone()?,
            port: spec.port,
            fence: spec.fence.as_ref().map(|fence| fence.epoch),
            replicas: shard.replicas.clone(),
            in_sync: shard.in_sync.clone(),
            version: spec.version.clone(),
            said: None,
        })
    }

    /// What `topology` says as it stands.
    #[must_use]
    pub fn standing(topology: &DatabaseTopology) -> Option<Self> {
        Self::said(topology, 0)
    }

    /// What `topology`, of which only the spec was changed since it was read, will say once it is written.
    #[must_use]
    pub fn ordered(topology: &DatabaseTopology) -> Option<Self> {
        Self::said(topology, 1)
    }

    fn said(topology: &DatabaseTopology, later: i64) -> Option<Self> {
        let metadata = &topology.metadata;
        let said = metadata.uid.clone().zip(metadata.generation);
        Some(Self {
            said: said.map(|(uid, generation)| Said {
                uid,
                generation: generation + later,
            }),
            ..Self::of(&topology.spec)?
        })
    }

    /// What is to be remembered from now on by a database that remembers `known`, of a topology that stands; `None`: that stays.
    ///
    /// What is of a later generation stays: a step is being taken, or failed after it was remembered. It is one that was allowed
    /// from what stands, so that to begin where it leads is never worse than where it came from.
    #[must_use]
    pub fn instead_of(self, known: Option<&Self>) -> Option<Self> {
        let newer = known
            .and_then(|known| known.later_than(&self))
            .is_some_and(|order| order == Ordering::Greater);
        (!newer && known != Some(&self)).then_some(self)
    }

    /// The same of a step that is about to be taken. Another step from the same topology may have been remembered, and whichever
    /// is written first is taken: nobody may take over of whom only one of them says so, and the later epoch tells where.
    #[must_use]
    pub fn beside(self, known: Option<&Self>) -> Option<Self> {
        let Some((other, order)) = known.and_then(|known| Some((known, known.later_than(&self)?)))
        else {
            return self.instead_of(known);
        };
        let both = match order {
            Ordering::Less => self,
            Ordering::Greater => return None,
            Ordering::Equal => {
                let fence = self.fence.max(other.fence);
                let (mut both, less) = if other.epoch > self.epoch {
                    (other.clone(), &self)
                } else {
                    (self, other)
                };
                both.in_sync.retain(|pod| less.in_sync.contains(pod));
                both.fence = fence;
                both
            }
        };
        (*other != both).then_some(both)
    }

    /// How its generation compares with that of `other`; `None`: they are not of the same topology.
    fn later_than(&self, other: &Self) -> Option<Ordering> {
        let (own, other) = (self.said.as_ref()?, other.said.as_ref()?);
        (own.uid == other.uid).then(|| own.generation.cmp(&other.generation))
    }

    /// The highest epoch that anybody can know of.
    #[must_use]
    pub fn highest(&self) -> i64 {
        self.fence.unwrap_or(0).max(self.epoch)
    }
}

/// Epoch, fence and roles of a shard that begins again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Renewed {
    /// Epoch.
    pub epoch: i64,
    /// The fence under which it begins; none where nobody else has a part.
    pub fence: Option<Fence>,
    /// Roles.
    pub shard: ShardAssignment,
}

/// The roles of a topology that is made again, above everything in `memories`; `None`: nobody remembers. `never_served`: no
/// client ever wrote to the database.
#[must_use]
pub fn rebuilt(
    memories: &[Memory],
    never_served: bool,
    mut shard: ShardAssignment,
) -> Option<Renewed> {
    let last = newest(memories)?;
    shard.primary = Some(last.primary.clone());
    shard.replicas.clone_from(&last.replicas);
    shard.in_sync.clone_from(&last.in_sync);
    let highest = memories.iter().map(Memory::highest).max()?;
    let mut renewed = above(highest, shard);
    if never_served {
        let leads_in = renewed.fence.as_ref().map(|fence| fence.epoch);
        renewed.shard.as_is = Some(leads_in.unwrap_or(renewed.epoch));
    }
    Some(renewed)
}

/// What `existing` must become if it is older than what its nodes obey or what is `remembered`; `None`: it is not.
#[must_use]
pub fn raised(existing: &DatabaseTopology, remembered: &[Memory]) -> Option<Renewed> {
    let spec = &existing.spec;
    let members = existing.status.iter().flat_map(|status| &status.members);
    let fence = spec.fence.as_ref().map(|fence| fence.epoch);
    let ordered = fence.unwrap_or(0).max(spec.epoch);
    // A fence may be remembered before it is ordered, and a promotion while its fence stands: neither is a newer order.
    let places: Vec<Memory> = remembered
        .iter()
        .cloned()
        .chain(
            members
                .clone()
                .filter_map(|member| led_by(member, spec.port)),
        )
        .collect();
    let newer = newest(&places).filter(|place| place.epoch > ordered);
    let refused = members.clone().any(|member| obeys_newer(existing, member));
    if newer.is_none() && !refused {
        return None;
    }
    let mut shard = spec.shards.first()?.clone();
    if let Some(primary) = newest(&places).filter(|place| place.epoch >= spec.epoch) {
        let old = shard.primary.replace(primary.primary.clone());
        shard.replicas.extend(old);
        shard.replicas.retain(|pod| *pod != primary.primary);
        shard.replicas.dedup();
    }
    // Who is in sync is not known: the set of an older order may hold one that fell behind since.
    shard.in_sync.clear();
    shard.joining.clear();
    let told = members.map(MemberReport::highest_epoch);
    let all = told.chain(remembered.iter().map(Memory::highest));
    Some(above(all.fold(ordered, i64::max), shard))
}

fn above(highest: i64, mut shard: ShardAssignment) -> Renewed {
    let candidate = shard.primary.clone().filter(|_| !shard.replicas.is_empty());
    shard.as_is = None;
    Renewed {
        epoch: highest + 1,
        fence: candidate.map(|candidate| Fence {
            epoch: highest + 2,
            candidate,
            planned: false,
        }),
        shard,
    }
}

/// The first of those with the highest epoch: what the database itself remembers says more than its slices.
fn newest(memories: &[Memory]) -> Option<&Memory> {
    let highest = memories.iter().map(|memory| memory.epoch).max()?;
    memories.iter().find(|memory| memory.epoch == highest)
}

/// Where a node that leads says that the database is.
fn led_by(member: &MemberReport, port: i32) -> Option<Memory> {
    let leads =
        |shard: &meridian_api::crds::topology::ShardReport| shard.role == ShardRole::Primary;
    member.shards.iter().any(leads).then(|| Memory {
        epoch: member.epoch,
        primary: member.node.clone(),
        port,
        ..Memory::default()
    })
}

/// Whether the node obeys, for good reason, a newer order than `topology` is: what it says it saw of this object is later than
/// the object itself.
fn obeys_newer(topology: &DatabaseTopology, member: &MemberReport) -> bool {
    let spec = &topology.spec;
    let highest = member.highest_epoch();
    let ordered = spec
        .fence
        .as_ref()
        .map_or(0, |fence| fence.epoch)
        .max(spec.epoch);
    if topology.metadata.uid.as_deref() != Some(member.topology_uid.as_str()) {
        return member.refused.is_some() && highest >= spec.epoch;
    }
    let later = member.epoch == spec.epoch
        && topology
            .metadata
            .generation
            .is_some_and(|generation| member.generation > generation);
    // While a fence stands its epoch is ordered, and obeyed by nobody before it ends.
    highest > ordered || member.epoch > spec.epoch || later
}

#[cfg(test)]
mod tests;
