//! Failover inside the cluster: who is primary of a shard, who follows it, and who may take over.
//!
//! Parts: [`decide`], [`watch`], `growth`, `recover`, [`renew`] and [`write`] are pure (a model checks them together with the nodes' own rules);
//! `shell` reads, writes by compare-and-swap and tells; `probe` asks PID 1 of each pod once a second; `show` words what
//! people read. Everything runs on the leader only, and a new leader begins every wait anew.
//!
//! **For other controllers**, which never write a topology themselves:
//! - [`request_move`] asks every primary to leave a pod, without losing a write, before the pod is replaced or deleted. It
//!   is called again and again until it answers [`Leaving::Done`]; each call only records the wish (annotation
//!   [`decide::LEAVE`] on the topology), so a crash of the agent in between loses nothing.
//! - A pod that is marked for deletion (a drain, a person) needs no call: the mark itself asks for the move, as long as the
//!   node delays its end.
//! - A pod that its StatefulSet does not make any more gives its roles away in the same way; its replicas are placed anew.

pub mod decide;
mod growth;
mod hand_over;
mod moves;
pub(super) mod probe;
mod recover;
pub mod renew;
mod shell;
mod show;
mod versions;
pub mod watch;
pub mod write;

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use meridian_api::crds::DatabaseTopology;

pub use self::moves::Moves;
use self::{
    decide::LEAVE,
    watch::{acting, own_shard},
};
pub(super) use self::{
    shell::run,
    show::findings,
    versions::{finding as version, is_under_way as is_being_raised},
    watch::follows,
};
use crate::k8s::apply::{ApplyError, Objects};

/// How far the primaries have left a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// No primary that could go elsewhere is on the pod, and whoever took over takes writes.
    Done {
        /// Databases without replication whose only shard is on the pod: they are away while it is.
        stay: Vec<String>,
    },
    /// These databases are on their way: by name, what is waited for. Ask again in a second or two.
    Moving(BTreeMap<String, String>),
}

/// Asks every primary of the REC `rec` to leave `pod`, and says how far that is.
///
/// # Errors
/// The API server refused or could not be reached. [`crate::k8s::fault::Fault::Conflict`]: somebody wrote in between; ask
/// again.
pub async fn request_move(objects: &Objects, rec: &str, pod: &str) -> Result<Leaving, ApplyError> {
    let (mut stay, mut moving) = (Vec::new(), BTreeMap::new());
    for topology in objects.list::<DatabaseTopology>("").await? {
        if topology.spec.cluster != rec {
            continue;
        }
        match wish(&topology, pod) {
            Wish::Elsewhere => {}
            Wish::Stays => stay.push(topology.name_any()),
            Wish::Waits(why) => {
                moving.insert(topology.name_any(), why);
            }
            Wish::Ask(asked) => {
                objects.swap(asked.as_ref()).await?;
                moving.insert(topology.name_any(), "it has just been asked".to_owned());
            }
        }
    }
    Ok(if moving.is_empty() {
        Leaving::Done { stay }
    } else {
        Leaving::Moving(moving)
    })
}

#[derive(Debug, PartialEq)]
enum Wish {
    Elsewhere,
    Stays,
    Waits(String),
    Ask(Box<DatabaseTopology>),
}

/// What asking `topology` to leave `pod` comes to. Pure.
fn wish(topology: &DatabaseTopology, pod: &str) -> Wish {
    use meridian_api::crds::topology::ShardRole::Primary;
    let Some(shard) = topology.spec.shards.first() else {
        return Wish::Elsewhere;
    };
    let Some(primary) = shard.primary.as_deref() else {
        return Wish::Elsewhere;
    };
    if primary != pod {
        let takes = acting(topology, primary, &Primary).is_some_and(|own| own.writable);
        let involved = shard.replicas.iter().any(|replica| replica == pod);
        return if takes || !involved {
            Wish::Elsewhere
        } else {
            Wish::Waits(format!(
                "`{primary}` takes over and does not take writes yet"
            ))
        };
    }
    if !topology.spec.replication && shard.replicas.is_empty() {
        return Wish::Stays;
    }
    if topology.annotations().get(LEAVE).map(String::as_str) != Some(pod) {
        let mut asked = topology.clone();
        asked
            .annotations_mut()
            .insert(LEAVE.to_owned(), pod.to_owned());
        return Wish::Ask(Box::new(asked));
    }
    Wish::Waits(match &topology.spec.fence {
        Some(fence) => format!("`{}` takes over", fence.candidate),
        None if shard.in_sync.is_empty() => "no replica has everything yet".to_owned(),
        None => match shard
            .in_sync
            .iter()
            .find(|pod| own_shard(topology, pod).is_some())
        {
            Some(next) => format!("`{next}` is about to take over"),
            None => "the replica does not report".to_owned(),
        },
    })
}

#[cfg(test)]
mod tests;
