//! The StatefulSet of a REC and its disruption budget.
//!
//! Pods start in parallel and are replaced only on order of the agent (`OnDelete`), because a restart moves roles. The
//! volumes outlive the StatefulSet.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{
            StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
            StatefulSetUpdateStrategy,
        },
        core::v1::{
            Affinity, Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
            EnvVarSource, HTTPGetAction, LocalObjectReference, ObjectFieldSelector,
            PersistentVolumeClaim, PersistentVolumeClaimSpec, PodAffinityTerm, PodAntiAffinity,
            PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
            SeccompProfile, SecretVolumeSource, SecurityContext, TopologySpreadConstraint, Volume,
            VolumeMount, VolumeResourceRequirements, WeightedPodAffinityTerm,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{
        api::resource::Quantity, apis::meta::v1::LabelSelector, util::intstr::IntOrString,
    },
};
use kube::api::ObjectMeta;
use serde_json::Value;

use super::{
    BuildError, merge,
    network::{API, INTERNAL, METRICS, PROBES, SYNC, UI},
    owned,
};
use crate::{
    controllers::{
        cluster::validate::{Cluster, Storage},
        secrets::password_hash,
    },
    k8s::{
        names::ClusterNames,
        own::{APP, CLUSTER, Owner, RELEASE, REPLACE_AFTER, ROLE_NODE, TEMPLATE},
    },
};
use meridian_api::validate::NODE_CONTAINER;

/// Name of the claim template; the claims are `<this>-<rec>-<ordinal>`.
pub(in crate::controllers::cluster) const STORAGE: &str = "redis-enterprise-storage";
/// Seconds that a container gets to stop after its liveness probe failed.
const LIVENESS_GRACE_SECONDS: i64 = 60;
/// User and group of the processes.
const USER: i64 = 1001;
/// Where the data is mounted.
const DATA_DIR: &str = "/var/lib/meridian";
/// Where the peer certificate is mounted.
const PEER_TLS_DIR: &str = "/etc/meridian/peer-tls";

/// Sockets, keys and passwords of a node take less than this.
const RUN_SIZE: &str = "16Mi";
/// Where the material is mounted by which nodes trust each other.
const INTERNAL_DIR: &str = "/etc/meridian/internal";

/// Labels that select the pods of a REC. Never changed: a StatefulSet's selector is immutable.
pub(super) fn selector(cluster: &Cluster) -> BTreeMap<String, String> {
    [APP, (CLUSTER, cluster.name.as_str()), ROLE_NODE]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn label_selector(cluster: &Cluster) -> LabelSelector {
    LabelSelector {
        match_labels: Some(selector(cluster)),
        ..LabelSelector::default()
    }
}

pub(super) fn disruption_budget(cluster: &Cluster) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: owned(cluster, ClusterNames(&cluster.name).main()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(label_selector(cluster)),
            // A pod that does not serve may always go: what it lacks is not lost by that.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

/// # Errors
/// What the user merges into the pods makes them unreadable.
pub(super) fn stateful_set(cluster: &Cluster) -> Result<StatefulSet, BuildError> {
    let names = ClusterNames(&cluster.name);
    let template = template(cluster)?;
    let retain = || Some("Retain".to_owned());
    let mut metadata = owned(cluster, names.main());
    let mut annotations = BTreeMap::from([(RELEASE.to_owned(), cluster.release.clone())]);
    if let Some(seconds) = cluster.replace_after {
        annotations.insert(REPLACE_AFTER.to_owned(), seconds.to_string());
    }
    metadata.annotations = Some(annotations);
    Ok(StatefulSet {
        metadata,
        spec: StatefulSetSpec {
            replicas: Some(cluster.nodes),
            service_name: Some(names.main()),
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                ..StatefulSetUpdateStrategy::default()
            }),
            persistent_volume_claim_retention_policy: Some(
                StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: retain(),
                    when_scaled: retain(),
                },
            ),
            selector: label_selector(cluster),
            template,
            volume_claim_templates: cluster
                .storage
                .as_ref()
                .map(|storage| vec![claim(cluster, storage)]),
            ..StatefulSetSpec::default()
        },
        status: None,
    })
}

/// A claim template carries only labels that never change: Kubernetes refuses any change of it.
fn claim(cluster: &Cluster, storage: &Storage) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(STORAGE.to_owned()),
            labels: Some(Owner::cluster(&cluster.name).labels()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: storage.class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([(
                    "storage".to_owned(),
                    storage.template.clone(),
                )])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn template(cluster: &Cluster) -> Result<PodTemplateSpec, BuildError> {
    let mut labels = cluster.labels.clone();
    labels.extend(Owner::cluster(&cluster.name).labels());
    labels.extend(selector(cluster));
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(cluster.pod_annotations.clone()),
            ..ObjectMeta::default()
        }),
        spec: Some(merged(pod(cluster), cluster)?),
    };
    let hash = hash(&template)?;
    let annotations = template
        .metadata
        .get_or_insert_default()
        .annotations
        .get_or_insert_default();
    annotations.insert(TEMPLATE.to_owned(), hash);
    Ok(template)
}

/// By this a pod tells the template it was made from. An own hash, because that of Kubernetes changes with its version.
fn hash(template: &PodTemplateSpec) -> Result<String, BuildError> {
    let bytes = serde_json::to_vec(template).map_err(BuildError::Encode)?;
    let mut hash = password_hash(&bytes);
    hash.truncate(16);
    Ok(hash)
}

/// The pod with what the user merges over it.
fn merged(pod: PodSpec, cluster: &Cluster) -> Result<PodSpec, BuildError> {
    let Some(patch) = &cluster.extra.pod_spec else {
        return Ok(pod);
    };
    let Value::Object(mut fields) = serde_json::to_value(pod).map_err(BuildError::Encode)? else {
        return Ok(PodSpec::default());
    };
    merge::merge(&mut fields, patch);
    serde_json::from_value(Value::Object(fields)).map_err(BuildError::Merge)
}

fn pod(cluster: &Cluster) -> PodSpec {
    let scheduling = &cluster.scheduling;
    let pull = cluster
        .pull_secrets
        .iter()
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect::<Vec<_>>();
    PodSpec {
        service_account_name: Some(cluster.service_account.0.clone()),
        termination_grace_period_seconds: Some(cluster.grace_seconds),
        image_pull_secrets: some(pull),
        node_selector: (!scheduling.node_selector.is_empty())
            .then(|| scheduling.node_selector.clone()),
        tolerations: some(scheduling.tolerations.clone()),
        priority_class_name: scheduling.priority_class.clone(),
        host_aliases: some(cluster.extra.host_aliases.clone()),
        affinity: Some(Affinity {
            pod_anti_affinity: Some(anti_affinity(cluster)),
            ..Affinity::default()
        }),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        topology_spread_constraints: scheduling
            .rack_label
            .as_deref()
            .map(|label| vec![rack_spread(cluster, label)]),
        containers: std::iter::once(container(cluster))
            .chain(cluster.extra.containers.iter().cloned())
            .collect(),
        volumes: Some(volumes(cluster)),
        ..PodSpec::default()
    }
}

/// One pod per host and, as far as there are racks enough, one per rack, unless the user wrote a rule of their own.
fn anti_affinity(cluster: &Cluster) -> PodAntiAffinity {
    if let Some(own) = &cluster.scheduling.anti_affinity {
        return own.clone();
    }
    let term = |key: &str| PodAffinityTerm {
        label_selector: Some(label_selector(cluster)),
        topology_key: key.to_owned(),
        ..PodAffinityTerm::default()
    };
    let keys = cluster.scheduling.topology_keys.iter().map(String::as_str);
    let rack = cluster.scheduling.rack_label.as_deref();
    PodAntiAffinity {
        required_during_scheduling_ignored_during_execution: Some(
            std::iter::once("kubernetes.io/hostname")
                .chain(keys)
                .map(term)
                .collect(),
        ),
        preferred_during_scheduling_ignored_during_execution: rack.map(|label| {
            vec![WeightedPodAffinityTerm {
                weight: 100,
                pod_affinity_term: term(label),
            }]
        }),
    }
}

/// Racks differ by at most one pod. A required anti-affinity by rack would leave the fourth pod of three racks without a
/// place.
fn rack_spread(cluster: &Cluster, label: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: label.to_owned(),
        when_unsatisfiable: "DoNotSchedule".to_owned(),
        label_selector: Some(label_selector(cluster)),
        ..TopologySpreadConstraint::default()
    }
}

fn container(cluster: &Cluster) -> Container {
    let port = |name: &str, port: i32| ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    Container {
        name: NODE_CONTAINER.to_owned(),
        image: Some(cluster.image.clone()),
        image_pull_policy: cluster.pull_policy.clone(),
        env: Some(env(cluster)),
        ports: Some(vec![
            port("probes", PROBES),
            port("prometheus", METRICS),
            port("sync", SYNC),
            port("internal", INTERNAL),
            port("api", API),
            port("ui", UI),
        ]),
        resources: Some(ResourceRequirements {
            limits: Some(cluster.limits.clone()),
            requests: Some(cluster.requests.clone()),
            ..ResourceRequirements::default()
        }),
        liveness_probe: Some(Probe {
            failure_threshold: Some(6),
            // A node that hangs does not answer SIGTERM either; the grace period of the pod may be a year.
            termination_grace_period_seconds: Some(LIVENESS_GRACE_SECONDS),
            ..probe("/livez")
        }),
        readiness_probe: Some(Probe {
            period_seconds: Some(2),
            ..probe("/readyz")
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts(cluster)),
        ..Container::default()
    }
}

fn probe(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(PROBES),
            ..HTTPGetAction::default()
        }),
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}

fn env(cluster: &Cluster) -> Vec<EnvVar> {
    let field = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let mut all = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_IP", "status.podIP"),
        EnvVar {
            name: "REC_NAME".to_owned(),
            value: Some(cluster.name.clone()),
            ..EnvVar::default()
        },
    ];
    all.extend(cluster.extra.env.iter().cloned());
    all
}

fn volumes(cluster: &Cluster) -> Vec<Volume> {
    let empty = |name: &str| Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    };
    // Optional, because a pod without them still serves what needs neither another region nor another node.
    let secret = |name: &str, secret: String| Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            optional: Some(true),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    let names = ClusterNames(&cluster.name);
    let mut all = vec![
        in_memory("run"),
        empty("tmp"),
        secret("peer-tls", names.peer_tls()),
        secret("internal", names.internal()),
    ];
    if cluster.storage.is_none() {
        all.push(empty(STORAGE));
    }
    all.extend(cluster.extra.volumes.iter().cloned());
    all
}

/// Private keys and passwords are written there: never to a disk of the host.
fn in_memory(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: Some(Quantity(RUN_SIZE.to_owned())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn mounts(cluster: &Cluster) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let mut all = vec![
        mount(STORAGE, DATA_DIR, false),
        mount("run", "/run/meridian", false),
        mount("tmp", "/tmp", false),
        mount("peer-tls", PEER_TLS_DIR, true),
        mount("internal", INTERNAL_DIR, true),
    ];
    all.extend(cluster.extra.mounts.iter().cloned());
    all
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
