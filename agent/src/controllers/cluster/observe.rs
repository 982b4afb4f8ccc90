//! What stands in the API about a REC, reduced to what decisions need. Reading is in `fetch`; this is pure.

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::ResourceExt as _;
use meridian_api::crds::DatabaseTopology;
use meridian_api::validate::NODE_CONTAINER;

use super::version::Running;
use crate::k8s::{
    names::ordinal,
    own::{RACK, RELEASE, TEMPLATE},
};

/// The StatefulSet as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    /// Number of pods that it was last asked for.
    pub replicas: i32,
    /// The image and release of its template.
    pub running: Option<Running>,
    /// Seconds that its pods may take to stop.
    pub grace_seconds: Option<i64>,
    /// Its controller has seen the newest spec, so a new pod gets the newest template.
    pub settled: bool,
    /// Size and class of its claim template; `None`: its pods have no volume.
    pub claim: Option<(String, Option<String>)>,
}

impl Set {
    pub(super) fn of(set: &StatefulSet) -> Self {
        let spec = &set.spec;
        let container = spec.template.spec.as_ref().and_then(|pod| {
            pod.containers
                .iter()
                .find(|container| container.name == NODE_CONTAINER)
        });
        let claim = spec.volume_claim_templates.iter().flatten().next();
        let claim = claim.and_then(|claim| claim.spec.as_ref()).map(|claim| {
            let requests = claim
                .resources
                .as_ref()
                .and_then(|all| all.requests.as_ref());
            let size = requests.and_then(|all| all.get("storage"));
            (
                size.map(|size| size.0.clone()).unwrap_or_default(),
                claim.storage_class_name.clone(),
            )
        });
        let seen = set
            .status
            .as_ref()
            .and_then(|status| status.observed_generation);
        Self {
            replicas: spec.replicas.unwrap_or(0),
            running: container.and_then(|container| {
                Some(Running {
                    image: container.image.clone()?,
                    release: set.annotations().get(RELEASE).cloned(),
                })
            }),
            grace_seconds: spec
                .template
                .spec
                .as_ref()
                .and_then(|pod| pod.termination_grace_period_seconds),
            settled: seen.is_some() && seen >= set.metadata.generation,
            claim,
        }
    }
}

/// A pod of the REC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// Name.
    pub name: String,
    /// Number within the StatefulSet.
    pub ordinal: u32,
    /// Uid.
    pub uid: String,
    /// Hash of the template it was made from; `None`: made before there were hashes.
    pub template: Option<String>,
    /// Image of its node container.
    pub image: Option<String>,
    /// It serves.
    pub ready: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// The host that it runs on.
    pub host: Option<String>,
    /// The rack that is written on it.
    pub rack: Option<String>,
    /// What keeps it from serving, as Kubernetes tells it.
    pub trouble: Option<String>,
}

impl Node {
    /// The node in a pod, or `None` for a pod that is not of the StatefulSet.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let name = pod.name_any();
        let status = pod.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_ref());
        let ready = conditions
            .is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
        let containers = pod.spec.as_ref().map(|spec| &spec.containers);
        let image = containers.and_then(|all| {
            all.iter()
                .find(|container| container.name == NODE_CONTAINER)
                .and_then(|container| container.image.clone())
        });
        Some(Self {
            ordinal: ordinal(&name)?,
            uid: pod.uid().unwrap_or_default(),
            template: pod.annotations().get(TEMPLATE).cloned(),
            image,
            ready: ready && pod.metadata.deletion_timestamp.is_none(),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            host: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            rack: pod.annotations().get(RACK).cloned(),
            trouble: trouble(pod),
            name,
        })
    }
}

/// The first thing that Kubernetes says against a pod: a container that waits, or an unmet condition.
fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let waits = status
        .container_statuses
        .iter()
        .flatten()
        .find_map(|container| {
            let waiting = container.state.as_ref()?.waiting.as_ref()?;
            let reason = waiting.reason.clone()?;
            let message = waiting.message.clone().unwrap_or_default();
            Some(
                format!("{}: {reason} {message}", container.name)
                    .trim()
                    .to_owned(),
            )
        });
    let unmet = || {
        let conditions = status.conditions.as_ref()?;
        let unmet = conditions.iter().find(|c| {
            c.status == "False" && c.message.as_ref().is_some_and(|text| !text.is_empty())
        })?;
        unmet.message.clone()
    };
    waits.or_else(unmet)
}

/// One shard, as its topology orders it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shard {
    /// Name of the database.
    pub database: String,
    /// Pod that takes writes.
    pub primary: Option<String>,
    /// Pods that hold a replica.
    pub replicas: Vec<String>,
}

/// The shards of a topology.
pub(super) fn shards(topology: &DatabaseTopology) -> Vec<Shard> {
    let shard = |shard: &meridian_api::crds::topology::ShardAssignment| Shard {
        database: topology.name_any(),
        primary: shard.primary.clone(),
        replicas: shard.replicas.clone(),
    };
    topology.spec.shards.iter().map(shard).collect()
}

/// A claim of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    /// Name.
    pub name: String,
    /// Bytes that it asks for.
    pub requested: i64,
    /// Bytes that it has; 0 while it is not bound.
    pub capacity: i64,
    /// It carries the labels of this REC.
    pub ours: bool,
    /// Why it could not grow, as Kubernetes tells it.
    pub failed: Option<String>,
}

impl Claim {
    pub(super) fn of(claim: &PersistentVolumeClaim, ours: bool) -> Self {
        let bytes = |amount: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity>| {
            amount
                .and_then(|amount| crate::k8s::quantity::bytes(&amount.0))
                .unwrap_or(0)
        };
        let requests = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
        let status = claim.status.as_ref();
        let refused = status.and_then(|status| {
            let states = status.allocated_resource_statuses.as_ref()?;
            let state = states.get("storage")?;
            state.ends_with("Infeasible").then(|| state.clone())
        });
        let error = status.and_then(|status| {
            let failed = status
                .conditions
                .iter()
                .flatten()
                .find(|c| c.status == "True" && c.type_.ends_with("ResizeError"))?;
            Some(format!(
                "{} {}",
                failed.type_,
                failed.message.clone().unwrap_or_default()
            ))
        });
        Self {
            name: claim.name_any(),
            requested: bytes(requests.and_then(|all| all.get("storage"))),
            capacity: bytes(
                status
                    .and_then(|status| status.capacity.as_ref())
                    .and_then(|all| all.get("storage")),
            ),
            ours,
            failed: error.or(refused),
        }
    }
}
