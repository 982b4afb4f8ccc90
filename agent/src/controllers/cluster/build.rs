//! Everything that is made for a REC. Pure: no client, no clock, no randomness.

mod access;
mod merge;
mod network;
mod pods;
mod policy;
mod secrets;

pub(super) use pods::STORAGE;

use std::{collections::BTreeSet, marker::PhantomData};

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{Secret, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{Role, RoleBinding},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::api::ObjectMeta;

use super::{certificates::Certificates, internal::Internal, login::ApiSecret, validate::Cluster};
use crate::{controllers::stage::Built, k8s::own::Owner};

/// The objects of a REC, at a stage: built, or applied.
#[derive(Debug, Clone)]
pub(super) struct Desired<Stage> {
    /// Service account of the pods, unless the user brings it.
    pub service_account: Option<ServiceAccount>,
    /// What the pods may do.
    pub role: Role,
    /// Gives it to them.
    pub role_binding: RoleBinding,
    /// The administrator's credentials, unless the user brings them.
    pub credentials: Option<Secret>,
    /// Hashes of the databases' passwords.
    pub users: Secret,
    /// By which the nodes trust each other.
    pub internal: Secret,
    /// What the nodes show to people and clients.
    pub certificates: Secret,
    /// Whom they let in, and what they know of the cluster.
    pub api: Secret,
    /// Governing, sync and metrics Services.
    pub services: Vec<Service>,
    /// Keeps voluntary evictions to one pod at a time.
    pub disruption_budget: PodDisruptionBudget,
    /// Who may reach the pods, where the REC asks for it.
    pub network_policy: Option<NetworkPolicy>,
    /// The pods.
    pub stateful_set: StatefulSet,
    /// The stage.
    pub stage: PhantomData<Stage>,
}

/// Why the pods cannot be built.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    /// Something has no JSON form: a defect of the agent.
    #[error("write a pod template or Secret as JSON: {0}")]
    Encode(serde_json::Error),
    /// What is merged into the pods makes them unreadable.
    #[error(
        "spec.redisEnterpriseAdditionalPodSpecAttributes: merged into the pods of the nodes it gives a pod that cannot \
         be read ({0}); correct or remove it"
    )]
    Merge(serde_json::Error),
}

/// What Secrets are made of.
#[derive(Debug)]
pub(super) struct Material {
    /// The administrator's password, if we make the Secret.
    pub password: Option<String>,
    /// What the nodes trust each other by.
    pub internal: Internal,
    /// What they show to people and clients.
    pub certificates: Certificates,
    /// Whom they let in, and what they know of the cluster.
    pub api: ApiSecret,
    /// Ports at which peers look for the databases of this REC, besides the usual one.
    pub peer_ports: BTreeSet<u16>,
}

/// Builds everything.
///
/// # Errors
/// [`BuildError`]: the pods cannot be built.
pub(super) fn build(cluster: &Cluster, material: &Material) -> Result<Desired<Built>, BuildError> {
    let password = material.password.as_deref();
    Ok(Desired {
        service_account: access::service_account(cluster),
        role: access::role(cluster),
        role_binding: access::role_binding(cluster),
        credentials: password.map(|password| secrets::credentials(cluster, password)),
        users: secrets::users(cluster),
        internal: secrets::internal(cluster, &material.internal),
        certificates: secrets::certificates(cluster, &material.certificates),
        api: secrets::api(cluster, &material.api).map_err(BuildError::Encode)?,
        services: network::services(cluster, &material.peer_ports),
        disruption_budget: pods::disruption_budget(cluster),
        network_policy: policy::policy(cluster),
        stateful_set: pods::stateful_set(cluster)?,
        stage: PhantomData,
    })
}

/// Metadata of an object that goes with the REC.
fn owned(cluster: &Cluster, name: String) -> ObjectMeta {
    let owner = OwnerReference {
        api_version: "app.redislabs.com/v1".to_owned(),
        kind: "RedisEnterpriseCluster".to_owned(),
        name: cluster.name.clone(),
        uid: cluster.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(false),
    };
    ObjectMeta {
        owner_references: Some(vec![owner]),
        ..data(cluster, name)
    }
}

/// Metadata of an object that holds data: it has no owner, so nothing but the agent's last step deletes it.
fn data(cluster: &Cluster, name: String) -> ObjectMeta {
    let mut labels = cluster.labels.clone();
    labels.extend(Owner::cluster(&cluster.name).labels());
    ObjectMeta {
        name: Some(name),
        namespace: Some(cluster.namespace.clone()),
        labels: Some(labels),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests;
