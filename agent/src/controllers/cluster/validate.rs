//! From the REC as written to what is built: only checked values, every default in its place. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{EnvVar, HostAlias, PodAntiAffinity, Toleration, Volume, VolumeMount},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::ResourceExt as _;
use meridian_api::{
    crds::{
        FreeForm, RedisEnterpriseCluster, RedisEnterpriseClusterSpec,
        shared::{ImageSpec, ResourceRequirements},
    },
    validate as api,
};
use serde::de::DeserializeOwned;

use crate::k8s::quantity;

/// Nodes where the field is left out.
const NODES: i32 = 3;
/// Resources of a node where the field is left out (the product's default).
const RESOURCES: [(&str, &str); 2] = [("cpu", "2"), ("memory", "4Gi")];
/// A volume is this many times the memory request where its size is left out (the product's rule).
const VOLUME_PER_MEMORY: i64 = 5;
/// Seconds that a node may take to save its data and stop, where the field is left out.
const GRACE_SECONDS: i64 = 300;
/// Name of the administrator where the field is left out (the product's default).
const USERNAME: &str = "demo@redis.com";

/// A checked REC.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cluster {
    /// Name of the REC.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Uid of the REC.
    pub uid: String,
    /// Number of pods.
    pub nodes: i32,
    /// Image of the pods.
    pub image: String,
    /// When the image is pulled; Kubernetes' own rule where absent.
    pub pull_policy: Option<String>,
    /// Secrets for pulling it.
    pub pull_secrets: Vec<String>,
    /// Limits of a pod.
    pub limits: BTreeMap<String, Quantity>,
    /// Requests of a pod.
    pub requests: BTreeMap<String, Quantity>,
    /// The volume of a pod; `None`: the data does not outlive the pod.
    pub storage: Option<Storage>,
    /// Labels for everything that is made.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pods.
    pub pod_annotations: BTreeMap<String, String>,
    /// Annotations of every Service.
    pub service_annotations: BTreeMap<String, String>,
    /// Where pods may run.
    pub scheduling: Scheduling,
    /// Additions of the user to the pods.
    pub extra: Extra,
    /// Seconds that a pod may take to stop.
    pub grace_seconds: i64,
    /// Service account of the pods, and whether we make it.
    pub service_account: (String, bool),
    /// The administrator's Secret.
    pub credentials: Credentials,
    /// Whether a load balancer in front of the sync endpoints is made.
    pub sync_service: bool,
}

/// The volume of a pod.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Storage {
    /// Storage class; the cluster's default where absent.
    pub class: Option<String>,
    /// Size.
    pub size: Quantity,
}

/// Where pods may run.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Scheduling {
    /// Labels of hosts.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    pub tolerations: Vec<Toleration>,
    /// Replaces the rule of one pod per host.
    pub anti_affinity: Option<PodAntiAffinity>,
    /// Further topology keys that keep pods apart.
    pub topology_keys: Vec<String>,
    /// Priority class.
    pub priority_class: Option<String>,
}

/// Additions of the user to the pods.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Extra {
    /// Environment.
    pub env: Vec<EnvVar>,
    /// Lines of the hosts file.
    pub host_aliases: Vec<HostAlias>,
    /// Volumes.
    pub volumes: Vec<Volume>,
    /// Mounts.
    pub mounts: Vec<VolumeMount>,
}

/// The administrator's Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    /// Its name.
    pub secret: String,
    /// The name was written by a person: an existing Secret of that name is used as it is.
    pub named: bool,
    /// Name of the administrator in a Secret that we make.
    pub username: String,
}

/// Checks `rec`. `default_image` is for a REC that names no image.
///
/// # Errors
/// Every problem that was found.
pub(super) fn validate(
    rec: &RedisEnterpriseCluster,
    default_image: &str,
) -> Result<Cluster, Vec<String>> {
    let mut problems: Vec<String> = api::cluster(rec).iter().map(ToString::to_string).collect();
    let spec = &rec.spec;
    let name = rec.name_any();
    let (limits, requests) = resources(spec.redis_enterprise_node_resources.as_ref());
    let storage = storage(rec, &requests);
    let mut pod_annotations = spec.pod_annotations.clone();
    pod_annotations.extend(spec.redis_enterprise_pod_annotations.clone());
    let image = spec.redis_enterprise_image_spec.as_ref();
    let cluster = Cluster {
        namespace: rec.namespace().unwrap_or_default(),
        uid: rec.uid().unwrap_or_default(),
        nodes: spec.nodes.unwrap_or(NODES),
        image: image_name(image, default_image),
        pull_policy: image.and_then(|image| image.image_pull_policy.clone()),
        pull_secrets: spec
            .pull_secrets
            .iter()
            .filter_map(|secret| secret.name.clone())
            .collect(),
        limits,
        requests,
        storage,
        labels: spec.extra_labels.clone(),
        pod_annotations,
        service_annotations: spec
            .services
            .as_ref()
            .map(|s| s.services_annotations.clone())
            .unwrap_or_default(),
        scheduling: scheduling(spec, &mut problems),
        extra: extra(spec, &mut problems),
        grace_seconds: spec
            .redis_enterprise_termination_grace_period_seconds
            .unwrap_or(GRACE_SECONDS),
        service_account: (
            spec.service_account_name
                .clone()
                .unwrap_or_else(|| name.clone()),
            spec.create_service_account.unwrap_or(true),
        ),
        credentials: Credentials {
            secret: spec
                .cluster_credential_secret_name
                .clone()
                .unwrap_or_else(|| name.clone()),
            named: spec.cluster_credential_secret_name.is_some(),
            username: spec.username.clone().unwrap_or_else(|| USERNAME.to_owned()),
        },
        sync_service: spec.ingress_or_route_spec.is_none(),
        name,
    };
    if problems.is_empty() {
        Ok(cluster)
    } else {
        Err(problems)
    }
}

fn scheduling(spec: &RedisEnterpriseClusterSpec, problems: &mut Vec<String>) -> Scheduling {
    Scheduling {
        node_selector: spec.node_selector.clone(),
        tolerations: read_all("spec.podTolerations", &spec.pod_tolerations, problems),
        anti_affinity: spec.pod_anti_affinity.clone(),
        topology_keys: spec.anti_affinity_additional_topology_keys.clone(),
        priority_class: spec.priority_class_name.clone(),
    }
}

fn extra(spec: &RedisEnterpriseClusterSpec, problems: &mut Vec<String>) -> Extra {
    Extra {
        env: read_all("spec.extraEnvVars", &spec.extra_env_vars, problems),
        host_aliases: read_all("spec.hostAliases", &spec.host_aliases, problems),
        volumes: read_all("spec.volumes", &spec.volumes, problems),
        mounts: read_all(
            "spec.redisEnterpriseVolumeMounts",
            &spec.redis_enterprise_volume_mounts,
            problems,
        ),
    }
}

fn image_name(image: Option<&ImageSpec>, default_image: &str) -> String {
    let Some(repository) = image.and_then(|image| image.repository.as_deref()) else {
        return default_image.to_owned();
    };
    let digest = image.and_then(|image| image.digest_hash.as_deref());
    let tag = image.and_then(|image| image.version_tag.as_deref());
    match (digest, tag) {
        (Some(digest), _) => format!("{repository}@{digest}"),
        (None, Some(tag)) => format!("{repository}:{tag}"),
        (None, None) => repository.to_owned(),
    }
}

type Amounts = BTreeMap<String, Quantity>;

fn resources(given: Option<&ResourceRequirements>) -> (Amounts, Amounts) {
    let default: Amounts = RESOURCES
        .iter()
        .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
        .collect();
    let Some(given) = given else {
        return (default.clone(), default);
    };
    let read = |amounts: &BTreeMap<String, meridian_api::crds::Quantity>| -> Amounts {
        amounts
            .iter()
            .map(|(name, amount)| (name.clone(), Quantity(amount.to_string())))
            .collect()
    };
    (read(&given.limits), read(&given.requests))
}

fn storage(rec: &RedisEnterpriseCluster, requests: &Amounts) -> Option<Storage> {
    let spec = rec.spec.persistent_spec.as_ref();
    if spec.and_then(|spec| spec.enabled) == Some(false) {
        return None;
    }
    let class = spec
        .and_then(|spec| spec.storage_class_name.clone())
        .filter(|class| !class.is_empty());
    let size = match spec.and_then(|spec| spec.volume_size.as_ref()) {
        Some(size) => size.to_string(),
        None => {
            let memory = requests
                .get("memory")
                .and_then(|memory| quantity::bytes(&memory.0));
            memory
                .unwrap_or(4 << 30)
                .saturating_mul(VOLUME_PER_MEMORY)
                .to_string()
        }
    };
    Some(Storage {
        class,
        size: Quantity(size),
    })
}

fn read_all<T: DeserializeOwned>(
    field: &str,
    parts: &[FreeForm],
    problems: &mut Vec<String>,
) -> Vec<T> {
    let mut all = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        match part.read() {
            Ok(value) => all.push(value),
            Err(error) => problems.push(format!("{field}[{index}]: {error}")),
        }
    }
    all
}
