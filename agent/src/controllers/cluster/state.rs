//! The state word of a REC, from what is observed. Pure: a table.

use meridian_api::crds::cluster::ClusterState;

use super::{recovery, rollout::Progress};

/// What the word depends on, once the spec is valid and everything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    /// Pods that there shall be.
    pub nodes: i32,
    /// Pods that exist.
    pub existing: i32,
    /// Pods that serve.
    pub ready: i32,
    /// All nodes served at once, at some time.
    pub bootstrapped: bool,
    /// How far the present template has come.
    pub progress: Progress,
    /// A recovery in progress.
    pub recovery: Option<recovery::Phase>,
}

impl View {
    /// More than half of the nodes serve.
    pub(super) fn majority(&self) -> bool {
        self.ready.saturating_mul(2) > self.nodes
    }

    /// The word.
    pub(super) fn word(&self) -> ClusterState {
        match self.recovery {
            Some(recovery::Phase::Reset) => return ClusterState::RecoveryReset,
            Some(recovery::Phase::FirstPod) => return ClusterState::RecoveringFirstPod,
            Some(recovery::Phase::Majority) => return ClusterState::ClusterRecreating,
            Some(recovery::Phase::Rest) => return ClusterState::Initializing,
            None => {}
        }
        if self.bootstrapped {
            return match self.progress {
                Progress::Upgrade { .. } => ClusterState::Upgrade,
                Progress::Update { .. } => ClusterState::RunningRollingUpdate,
                // The databases on the nodes that serve are served; the conditions tell what is missing.
                Progress::Current if self.ready > 0 => ClusterState::Running,
                Progress::Current => ClusterState::Error,
            };
        }
        match (self.existing, self.ready) {
            (0, _) => ClusterState::PendingCreation,
            (_, 0) => ClusterState::BootstrappingFirstPod,
            (_, ready) if ready < self.nodes => ClusterState::Initializing,
            _ => ClusterState::Running,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_states() {
        use ClusterState as S;
        use Progress::{Current, Update, Upgrade};
        let update = Update { left: 1 };
        let upgrade = Upgrade { left: 1 };
        // (existing, ready, bootstrapped, progress, recovery) of 3 nodes
        let cases = [
            (0, 0, false, Current, None, S::PendingCreation),
            (1, 0, false, Current, None, S::BootstrappingFirstPod),
            (3, 0, false, Current, None, S::BootstrappingFirstPod),
            (3, 1, false, Current, None, S::Initializing),
            (3, 2, false, Current, None, S::Initializing),
            (3, 3, false, Current, None, S::Running),
            // A change of the spec before the cluster ever ran does not make it a running one.
            (3, 0, false, update, None, S::BootstrappingFirstPod),
            (3, 2, false, upgrade, None, S::Initializing),
            (3, 3, true, Current, None, S::Running),
            (3, 1, true, Current, None, S::Running),
            (3, 0, true, Current, None, S::Error),
            (0, 0, true, Current, None, S::Error),
            (3, 3, true, update, None, S::RunningRollingUpdate),
            (2, 2, true, update, None, S::RunningRollingUpdate),
            (3, 3, true, upgrade, None, S::Upgrade),
            (3, 0, true, upgrade, None, S::Upgrade),
            (
                3,
                1,
                true,
                Current,
                Some(recovery::Phase::Reset),
                S::RecoveryReset,
            ),
            (
                3,
                0,
                true,
                Current,
                Some(recovery::Phase::FirstPod),
                S::RecoveringFirstPod,
            ),
            (
                3,
                1,
                true,
                Current,
                Some(recovery::Phase::Majority),
                S::ClusterRecreating,
            ),
            (
                3,
                2,
                true,
                update,
                Some(recovery::Phase::Rest),
                S::Initializing,
            ),
        ];
        for (existing, ready, bootstrapped, progress, recovery, expected) in cases {
            let view = View {
                nodes: 3,
                existing,
                ready,
                bootstrapped,
                progress,
                recovery,
            };
            assert_eq!(view.word(), expected, "{view:?}");
        }
    }

    #[test]
    fn a_majority_is_more_than_half() {
        let view = |ready| View {
            nodes: 5,
            existing: 5,
            ready,
            bootstrapped: true,
            progress: Progress::Current,
            recovery: None,
        };
        assert_eq!([2, 3].map(|ready| view(ready).majority()), [false, true]);
    }
}
