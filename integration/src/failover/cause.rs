//! The table of faults.

use std::time::Duration;

/// What is done to the pod or node of the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The pod is deleted with its grace period.
    DeletePod,
    /// The pod is deleted without one.
    ForceDeletePod,
    /// Valkey is killed.
    KillValkey,
    /// The first process of the pod's container is killed.
    KillFirst,
    /// The node loses its power.
    PowerOff,
    /// So does a node that also carries the agent's leader.
    PowerOffLeader,
    /// The primary is asked to leave its pod.
    Move,
    /// Every node is drained in turn.
    DrainAll,
    /// Valkey is stopped, and later continued.
    StopValkey,
    /// The first process of the container is stopped, and later continued.
    StopFirst,
    /// Every process of the pod is stopped, and later continued.
    StopPod,
    /// The data volume is filled to the last byte, and later emptied.
    FillVolume,
    /// The container gets less memory than the shard asks for.
    OutOfMemory,
    /// The node does not reach the control plane, but its replica.
    CutFromApi,
    /// The node reaches nobody.
    Unplug,
    /// So does a node that also carries the agent's leader.
    UnplugLeader,
    /// The API server is away.
    ApiAway,
    /// The store of the cluster goes back to before the last move of the primary.
    RestoreStore,
}

/// What may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    None,
    /// The last writes that had not reached the replica.
    Tail,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Cause {
    /// Short name, for command lines.
    pub name: &'static str,
    /// What is done, for people.
    pub what: &'static str,
    /// What is done, for the program.
    pub fault: Fault,
    /// Whether another pod must take over. The fault lasts until one has.
    pub moves: bool,
    /// Whether it lasts for as long as [`crate::failover::Waits`] says.
    pub outage: bool,
    /// What may be lost.
    pub loss: Loss,
    /// How soon writes must be possible again, if that is promised.
    pub bar: Option<Duration>,
}

const fn cause(name: &'static str, what: &'static str, fault: Fault) -> Cause {
    Cause {
        name,
        what,
        fault,
        moves: true,
        outage: false,
        loss: Loss::Tail,
        bar: None,
    }
}

impl Cause {
    const fn within(self, seconds: u64) -> Self {
        Self {
            bar: Some(Duration::from_secs(seconds)),
            ..self
        }
    }

    const fn loses_nothing(self) -> Self {
        Self {
            loss: Loss::None,
            ..self
        }
    }

    /// For the length of an outage, which moves nobody.
    const fn for_an_outage(self) -> Self {
        Self {
            moves: false,
            outage: true,
            loss: Loss::None,
            ..self
        }
    }

    /// The primary stays where it is, and nothing is lost.
    const fn stays(self) -> Self {
        Self {
            moves: false,
            loss: Loss::None,
            ..self
        }
    }

    /// The cause of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        CAUSES.iter().find(|cause| cause.name == name)
    }
}

/// Every fault, the gentle ones first.
pub const CAUSES: &[Cause] = &[
    cause(
        "planned-move",
        "the primary is asked to leave its pod",
        Fault::Move,
    )
    .loses_nothing()
    .within(3),
    cause("pod-deleted", "kubectl delete pod", Fault::DeletePod)
        .loses_nothing()
        .within(10),
    cause(
        "drain",
        "kubectl drain of every node in turn",
        Fault::DrainAll,
    )
    .loses_nothing()
    .within(3),
    cause(
        "pod-force-deleted",
        "kubectl delete pod --grace-period=0 --force",
        Fault::ForceDeletePod,
    )
    .within(10),
    cause(
        "pod-killed",
        "SIGKILL of the container's PID 1",
        Fault::KillFirst,
    )
    .within(10),
    cause("valkey-killed", "SIGKILL of Valkey", Fault::KillValkey).within(10),
    cause("node-off", "power off", Fault::PowerOff).within(15),
    cause(
        "node-off-leader",
        "power off of the node that also carries the agent's leader",
        Fault::PowerOffLeader,
    )
    .within(30),
    cause(
        "valkey-stopped",
        "SIGSTOP of Valkey until another leads, then SIGCONT",
        Fault::StopValkey,
    ),
    cause(
        "pid1-stopped",
        "SIGSTOP of the container's PID 1, then SIGCONT",
        Fault::StopFirst,
    )
    .for_an_outage(),
    cause(
        "pod-stopped",
        "SIGSTOP of the whole pod until another leads, then SIGCONT",
        Fault::StopPod,
    ),
    cause(
        "node-cut-off",
        "the node's cable is pulled until another leads",
        Fault::Unplug,
    )
    .within(15),
    cause(
        "node-cut-off-leader",
        "the same for the node that also carries the agent's leader",
        Fault::UnplugLeader,
    )
    .within(30),
    cause(
        "node-without-api",
        "the node reaches its replica and not the API server",
        Fault::CutFromApi,
    )
    .for_an_outage(),
    cause("api-away", "the API server is stopped", Fault::ApiAway).for_an_outage(),
    cause(
        "store-restored",
        "etcd is put back to before the last move of the primary",
        Fault::RestoreStore,
    )
    .stays(),
    cause(
        "out-of-memory",
        "the container's memory ends while Valkey grows",
        Fault::OutOfMemory,
    ),
    cause(
        "disk-full",
        "the data volume is full until another leads",
        Fault::FillVolume,
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_cause_has_a_name_of_its_own_and_is_found_by_it() {
        let names: BTreeSet<&str> = CAUSES.iter().map(|cause| cause.name).collect();
        assert_eq!(names.len(), CAUSES.len());
        let found = Cause::named("node-off").map(|cause| cause.fault);
        assert_eq!(found, Some(Fault::PowerOff));
        assert!(Cause::named("no-such-cause").is_none());
    }
}
