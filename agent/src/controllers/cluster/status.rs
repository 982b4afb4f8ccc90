//! What a REC shows: the classic words and conditions. Pure.

use k8s_openapi::api::apps::v1::StatefulSet;
use meridian_api::crds::{
    RedisEnterpriseCluster, RedisEnterpriseClusterStatus, SpecStatus, cluster::ClusterState,
};

use super::{build::Desired, validate::Cluster};
use crate::{
    controllers::{inert, stage::Applied},
    k8s::{
        apply::ApplyError,
        conditions::{Finding, conditions},
        fault::Fault,
    },
};

/// What a look ended with.
#[derive(Debug)]
pub(super) enum Outcome<'a> {
    /// The spec cannot be used; what was there stays as it is.
    Invalid(&'a [String]),
    /// It could not be written.
    Failed(&'a ApplyError),
    /// Everything is written.
    Applied(&'a Cluster, &'a Desired<Applied>),
    /// It goes, and waits for these databases.
    Deleting(&'a [String]),
}

/// The status of `rec` after `outcome`; `inert` are the fields that are accepted and have no effect.
#[must_use]
pub(super) fn status(
    rec: &RedisEnterpriseCluster,
    outcome: &Outcome<'_>,
    inert: &[String],
    now: &str,
) -> RedisEnterpriseClusterStatus {
    let before = rec.status.clone().unwrap_or_default();
    let mut findings = vec![inert::finding(inert)];
    let state = match outcome {
        Outcome::Invalid(problems) => {
            let text = format!("{}. What was there stays as it is", problems.join("; "));
            findings.push(Finding::no("Ready", "Invalid", text));
            ClusterState::Invalid
        }
        Outcome::Failed(error) => {
            findings.push(Finding::no(
                "Ready",
                error.fault().reason(),
                error.to_string(),
            ));
            if error.fault() == Fault::Foreign {
                findings.push(Finding::yes(
                    "ForeignObject",
                    "NameTaken",
                    error.to_string(),
                ));
            }
            match error.fault() {
                Fault::Foreign | Fault::Refused | Fault::Invalid => ClusterState::Error,
                Fault::Waiting | Fault::Conflict | Fault::Unavailable => before
                    .state
                    .clone()
                    .unwrap_or(ClusterState::PendingCreation),
            }
        }
        Outcome::Applied(cluster, applied) => {
            let pods = Pods::of(&applied.stateful_set);
            findings.extend(pods.findings(cluster.nodes));
            pods.state(cluster.nodes, before.state.as_ref())
        }
        Outcome::Deleting(databases) => {
            findings.push(deleting(databases));
            ClusterState::Deleting
        }
    };
    let invalid = matches!(outcome, Outcome::Invalid(_));
    let secret = match outcome {
        Outcome::Applied(cluster, _) => Some(cluster.credentials.secret.clone()),
        Outcome::Invalid(_) | Outcome::Failed(_) | Outcome::Deleting(_) => {
            before.cluster_credential_secret_name.clone()
        }
    };
    RedisEnterpriseClusterStatus {
        state: Some(state),
        spec_status: Some(if invalid {
            SpecStatus::Invalid
        } else {
            SpecStatus::Valid
        }),
        cluster_credential_secret_name: secret,
        conditions: conditions(&before.conditions, &findings, rec.metadata.generation, now),
        ..before
    }
}

fn deleting(databases: &[String]) -> Finding {
    if databases.is_empty() {
        return Finding::no(
            "Ready",
            "Deleting",
            "the objects of the cluster are being deleted; its volumes stay",
        );
    }
    let list = databases.join(", ");
    Finding::no(
        "Ready",
        "DatabasesExist",
        format!("the deletion waits until these databases are deleted: {list}"),
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pods {
    existing: i32,
    ready: i32,
    outdated: bool,
}

impl Pods {
    fn of(set: &StatefulSet) -> Self {
        let Some(status) = &set.status else {
            return Self {
                existing: 0,
                ready: 0,
                outdated: false,
            };
        };
        let outdated = status.update_revision.is_some()
            && status.update_revision != status.current_revision
            && status.updated_replicas.unwrap_or(0) < status.replicas;
        Self {
            existing: status.replicas,
            ready: status.ready_replicas.unwrap_or(0),
            outdated,
        }
    }

    /// A cluster that ran keeps the word while any node serves: its databases do. The condition tells the rest.
    fn state(self, nodes: i32, before: Option<&ClusterState>) -> ClusterState {
        let ran = before == Some(&ClusterState::Running);
        match self {
            Self { ready, .. } if ready >= nodes || (ran && ready > 0) => ClusterState::Running,
            Self { ready, .. } if ready > 0 => ClusterState::Initializing,
            Self { existing, .. } if existing > 0 => ClusterState::BootstrappingFirstPod,
            Self { .. } => ClusterState::PendingCreation,
        }
    }

    fn findings(self, nodes: i32) -> Vec<Finding> {
        let Self {
            ready, outdated, ..
        } = self;
        let text = format!("{ready} of {nodes} nodes are ready");
        let ready = if ready >= nodes {
            Finding::yes("Ready", "AllReady", text)
        } else {
            Finding::no("Ready", "NodesNotReady", text)
        };
        let current = if outdated {
            Finding::no(
                "UpToDate",
                "RestartNeeded",
                "some pods run with an older spec; they are not restarted by themselves yet: delete them one by one",
            )
        } else {
            Finding::yes(
                "UpToDate",
                "AllCurrent",
                "every pod runs with the present spec",
            )
        };
        vec![ready, current]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pods(existing: i32, ready: i32) -> Pods {
        Pods {
            existing,
            ready,
            outdated: false,
        }
    }

    #[test]
    fn the_state_follows_the_pods_and_a_running_cluster_stays_running_while_a_node_serves() {
        let running = ClusterState::Running;
        let cases = [
            (pods(0, 0), None, ClusterState::PendingCreation),
            (pods(3, 0), None, ClusterState::BootstrappingFirstPod),
            (pods(3, 1), None, ClusterState::Initializing),
            (pods(3, 3), None, ClusterState::Running),
            (pods(3, 1), Some(&running), ClusterState::Running),
            (
                pods(3, 0),
                Some(&running),
                ClusterState::BootstrappingFirstPod,
            ),
        ];
        for (pods, before, expected) in cases {
            assert_eq!(pods.state(3, before), expected, "{pods:?} after {before:?}");
        }
    }

    #[test]
    fn an_outdated_pod_is_told() {
        let set: StatefulSet = serde_json::from_value(json!({"status": {
            "replicas": 3, "readyReplicas": 3, "updatedReplicas": 1, "currentRevision": "a", "updateRevision": "b"}})).unwrap();
        let findings = Pods::of(&set).findings(3);
        assert!(
            findings
                .iter()
                .any(|f| f.type_ == "UpToDate" && f.status == Some(false)),
            "{findings:?}"
        );
    }

    #[test]
    fn a_deletion_that_waits_names_the_databases() {
        let mut rec = RedisEnterpriseCluster::new("rec", Default::default());
        rec.metadata.generation = Some(2);
        let shown = status(&rec, &Outcome::Deleting(&["redb/a".to_owned()]), &[], "now");
        assert_eq!(shown.state, Some(ClusterState::Deleting));
        let ready = shown
            .conditions
            .iter()
            .find(|c| c.type_ == "Ready")
            .unwrap();
        assert!(ready.message.contains("redb/a"), "{}", ready.message);
    }

    #[test]
    fn a_foreign_object_is_a_condition_of_its_own() {
        let rec = RedisEnterpriseCluster::new("rec", Default::default());
        let error = ApplyError::Foreign {
            kind: "StatefulSet".to_owned(),
            name: "rec".to_owned(),
            holder: "`x`".to_owned(),
        };
        let shown = status(&rec, &Outcome::Failed(&error), &[], "now");
        assert_eq!(shown.state, Some(ClusterState::Error));
        assert!(
            shown
                .conditions
                .iter()
                .any(|c| c.type_ == "ForeignObject" && c.status == "True")
        );
    }
}
