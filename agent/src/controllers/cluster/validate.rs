//! From the REC as written to what is built: only checked values, every default in its place. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Container, EnvVar, HostAlias, PodAntiAffinity, Toleration, Volume, VolumeMount,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::ResourceExt as _;
use meridian_api::{
    certificates::Role,
    crds::{
        FreeForm, RedisEnterpriseCluster, RedisEnterpriseClusterSpec, shared::ResourceRequirements,
    },
    validate as api,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    certificates::{self, Idle},
    observe::Set,
    version::Choice,
};
use crate::k8s::quantity;

/// Nodes where the field is left out.
const NODES: i32 = 3;
/// Resources of a node where the field is left out (the product's default).
const RESOURCES: [(&str, &str); 2] = [("cpu", "2"), ("memory", "4Gi")];
/// A volume is this many times the memory request where its size is left out (the product's rule).
const VOLUME_PER_MEMORY: i64 = 5;
/// Seconds that a node may take to save its data and stop, where the field is left out: a year (the product's default).
const GRACE_SECONDS: i64 = 31_536_000;
/// What it was in earlier releases: a template that has it keeps it, because another one would restart every pod.
const FORMER_GRACE_SECONDS: i64 = 300;
/// Type of Services where the field is left out.
const CLUSTER_IP: &str = "ClusterIP";
/// Name of the administrator where the field is left out (the product's default).
const USERNAME: &str = "demo@redis.com";

/// Annotation by which a REC asks for a NetworkPolicy of its pods, with the value `true`.
const NETWORK_POLICY: &str = "meridian.dev/network-policy";

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
    /// Release for which their template is made.
    pub release: String,
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
    /// Seconds that a replica's pod may be away before another node holds the replica, if the spec says.
    pub replace_after: Option<u32>,
    /// Service account of the pods, and whether we make it.
    pub service_account: (String, bool),
    /// The administrator's Secret.
    pub credentials: Credentials,
    /// Whether the sync endpoints are reached through a load balancer of their own; otherwise by SNI through what
    /// `ingressOrRouteSpec` asks for.
    pub sync_balanced: bool,
    /// Secrets with certificates that replace self-signed ones.
    pub certificates: BTreeMap<Role, String>,
    /// Secrets with certificates that nobody is shown yet.
    pub idle_certificates: BTreeMap<Idle, String>,
    /// When the REC was created, RFC 3339.
    pub created: String,
    /// Scrapes that each node answers at once; `None`: any number.
    pub scrapes: Option<u32>,
    /// Type of the Service of the API.
    pub api_service: String,
    /// Type and further annotations of the Service of the status page.
    pub ui_service: (String, BTreeMap<String, String>),
    /// Host of the API and suffix of the hosts of databases outside of the cluster.
    pub outside: Option<(String, String)>,
    /// Whether a policy says who may reach the pods.
    pub network_policy: bool,
}

/// The volume of a pod.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Storage {
    /// Storage class; the cluster's default where absent.
    pub class: Option<String>,
    /// Size.
    pub size: Quantity,
    /// Size in the claim template, which lags behind while volumes grow.
    pub template: Quantity,
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
    /// Label of hosts that names their rack.
    pub rack_label: Option<String>,
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
    /// Containers beside that of the node.
    pub containers: Vec<Container>,
    /// Part of a pod spec that is merged over everything else.
    pub pod_spec: Option<Map<String, Value>>,
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

/// Checks `rec`, whose pods run what `choice` says.
///
/// # Errors
/// Every problem that was found.
pub(super) fn validate(
    rec: &RedisEnterpriseCluster,
    choice: &Choice,
) -> Result<Cluster, Vec<String>> {
    let problems: Vec<String> = api::cluster(rec).iter().map(ToString::to_string).collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let spec = &rec.spec;
    let name = rec.name_any();
    let (limits, requests) = resources(spec.redis_enterprise_node_resources.as_ref());
    let storage = storage(rec, &requests);
    let mut pod_annotations = spec.pod_annotations.clone();
    pod_annotations.extend(spec.redis_enterprise_pod_annotations.clone());
    let image = spec.redis_enterprise_image_spec.as_ref();
    Ok(Cluster {
        namespace: rec.namespace().unwrap_or_default(),
        uid: rec.uid().unwrap_or_default(),
        nodes: spec.nodes.unwrap_or(NODES),
        image: choice.image.clone(),
        release: choice.release.clone(),
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
        scheduling: scheduling(spec),
        extra: extra(spec),
        replace_after: spec
            .slave_ha
            .as_ref()
            .and_then(|slave_ha| u32::try_from(slave_ha.slave_ha_grace_period).ok()),
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
        sync_balanced: spec.ingress_or_route_spec.is_none(),
        certificates: certificates::named(spec.certificates.as_ref()),
        idle_certificates: certificates::idle(spec.certificates.as_ref()),
        outside: outside(spec),
        network_policy: rec.annotations().get(NETWORK_POLICY).map(String::as_str) == Some("true"),
        created: created(rec),
        scrapes: spec.metrics_config.clone().unwrap_or_default().scrapes(),
        api_service: api_service(spec),
        ui_service: ui_service(spec),
        name,
    })
}

/// Fits a checked REC to what stands already, and says what of it cannot be changed any more.
///
/// # Errors
/// Every field that asks for an impossible change.
pub(super) fn fit(
    mut cluster: Cluster,
    rec: &RedisEnterpriseCluster,
    set: &Set,
) -> Result<Cluster, Vec<String>> {
    let mut problems = Vec::new();
    let unsaid = rec
        .spec
        .redis_enterprise_termination_grace_period_seconds
        .is_none();
    if unsaid && set.grace_seconds == Some(FORMER_GRACE_SECONDS) {
        cluster.grace_seconds = FORMER_GRACE_SECONDS;
    }
    if cluster.nodes < set.replicas {
        problems.push(format!(
            "spec.nodes: found {}, expected {} or more, as before; a cluster cannot shrink: put the number back",
            cluster.nodes, set.replicas
        ));
    }
    match (&mut cluster.storage, &set.claim) {
        (Some(storage), Some((size, class))) => {
            if storage.class != *class {
                let shown = |class: &Option<String>| class.clone().unwrap_or_else(|| "the default".to_owned());
                problems.push(format!(
                    "spec.persistentSpec.storageClassName: found {}, expected {}, as before; it is fixed at creation: \
                     put it back",
                    shown(&storage.class),
                    shown(class)
                ));
            }
            fit_size(storage, size, rec, &mut problems);
        }
        (None, None) => {}
        (now, _) => problems.push(format!(
            "spec.persistentSpec.enabled: found {}, expected {}, as before; it is fixed at creation: put it back",
            now.is_some(),
            now.is_none()
        )),
    }
    if problems.is_empty() {
        Ok(cluster)
    } else {
        Err(problems)
    }
}

/// A volume keeps its size unless the spec names a larger one and lets it grow. A default never grows by itself.
fn fit_size(
    storage: &mut Storage,
    before: &str,
    rec: &RedisEnterpriseCluster,
    problems: &mut Vec<String>,
) {
    storage.template = Quantity(before.to_owned());
    let spec = rec.spec.persistent_spec.as_ref();
    let (now, then) = (quantity::bytes(&storage.size.0), quantity::bytes(before));
    if now == then || spec.is_none_or(|spec| spec.volume_size.is_none()) {
        storage.size = storage.template.clone();
        return;
    }
    let at = "spec.persistentSpec.volumeSize";
    if now < then {
        problems.push(format!(
            "{at}: found {}, expected {before} or more, as before; volumes cannot shrink: put the size back",
            storage.size.0
        ));
    } else if spec.and_then(|spec| spec.enable_persistent_volume_resize) != Some(true) {
        problems.push(format!(
            "{at}: found {}, expected {before}, as before; set spec.persistentSpec.enablePersistentVolumeResize to true \
             as well, if the volumes shall grow",
            storage.size.0
        ));
    }
}

fn api_service(spec: &RedisEnterpriseClusterSpec) -> String {
    let services = spec.services.as_ref();
    let type_ = services.and_then(|services| services.api_service.as_ref()?.type_.as_ref());
    type_.map_or(CLUSTER_IP, |type_| type_.as_str()).to_owned()
}

fn ui_service(spec: &RedisEnterpriseClusterSpec) -> (String, BTreeMap<String, String>) {
    let type_ = spec.ui_service_type.as_ref();
    let type_ = type_.map_or(CLUSTER_IP, |type_| type_.as_str());
    (type_.to_owned(), spec.ui_annotations.clone())
}

fn created(rec: &RedisEnterpriseCluster) -> String {
    let time = rec.metadata.creation_timestamp.as_ref();
    time.map(|time| time.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        .unwrap_or_default()
}

fn outside(spec: &RedisEnterpriseClusterSpec) -> Option<(String, String)> {
    let entry = spec.ingress_or_route_spec.as_ref();
    let entry = entry.map(|entry| (entry.api_fqdn_url.clone(), entry.db_fqdn_suffix.clone()));
    let older = spec.active_active.as_ref();
    entry.or_else(|| {
        older.map(|entry| {
            (
                entry.api_ingress_url.clone(),
                entry.db_ingress_suffix.clone(),
            )
        })
    })
}

fn scheduling(spec: &RedisEnterpriseClusterSpec) -> Scheduling {
    Scheduling {
        node_selector: spec.node_selector.clone(),
        tolerations: read_all(&spec.pod_tolerations),
        anti_affinity: spec.pod_anti_affinity.clone(),
        topology_keys: spec.anti_affinity_additional_topology_keys.clone(),
        priority_class: spec.priority_class_name.clone(),
        rack_label: spec
            .rack_awareness_node_label
            .clone()
            .filter(|label| !label.is_empty()),
    }
}

fn extra(spec: &RedisEnterpriseClusterSpec) -> Extra {
    let pod_spec = spec
        .redis_enterprise_additional_pod_spec_attributes
        .as_ref();
    Extra {
        env: read_all(&spec.extra_env_vars),
        host_aliases: read_all(&spec.host_aliases),
        volumes: read_all(&spec.volumes),
        mounts: read_all(&spec.redis_enterprise_volume_mounts),
        containers: read_all(&spec.side_containers_spec),
        pod_spec: pod_spec
            .map(|part| part.0.clone())
            .filter(|part| !part.is_empty()),
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
        template: Quantity(size.clone()),
        size: Quantity(size),
    })
}

/// Parts that the checks have read already, so none is left out here.
fn read_all<T: DeserializeOwned>(parts: &[FreeForm]) -> Vec<T> {
    parts.iter().filter_map(|part| part.read().ok()).collect()
}
