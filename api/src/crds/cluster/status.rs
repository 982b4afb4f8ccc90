//! What is observed of a cluster (REC).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crds::open_enum::open_enum;
use crate::crds::shared::{Condition, SpecStatus};

/// State of `RedisEnterpriseCluster`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisEnterpriseClusterStatus {
    /// Whether the spec is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec_status: Option<SpecStatus>,
    /// Where the cluster stands in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ClusterState>,
    /// Modules that databases may load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<ModuleStatus>,
    /// Last answer about the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocsp_status: Option<OcspStatus>,
    /// The licence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_status: Option<LicenseStatus>,
    /// Database versions that the nodes contain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bundled_database_versions: Vec<BundledDatabaseVersion>,
    /// Interfaces that the operator manages.
    #[serde(
        rename = "managedAPIs",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub managed_apis: Option<ManagedApis>,
    /// Certificates of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates_status: Option<CertificatesStatus>,
    /// Secret with the administrator's credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_credential_secret_name: Option<String>,
    /// How traffic enters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_or_route_method_status: Option<String>,
    /// Volumes of the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence_status: Option<PersistenceStatus>,
    /// Address family in use.
    #[serde(
        rename = "redisEnterpriseIPFamily",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub redis_enterprise_ip_family: Option<String>,
    /// Conditions in the form of Kubernetes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A module that databases may load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModuleStatus {
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
}

/// Last answer about the certificate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OcspStatus {
    /// Status of the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_status: Option<String>,
    /// When the answer ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_update: Option<String>,
    /// When the answer was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub produced_at: Option<String>,
    /// Who answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub responder_url: Option<String>,
    /// When the certificate was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_time: Option<String>,
    /// When the status was true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub this_update: Option<String>,
}

/// The licence.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LicenseStatus {
    /// Whether it is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_state: Option<String>,
    /// When it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation_date: Option<String>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_date: Option<String>,
    /// Shards used and allowed, `used/limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards_usage: Option<String>,
    /// What it allows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Whom it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Shards on flash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flash_shards: Option<i32>,
    /// Shards allowed on flash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flash_shards_limit: Option<i32>,
    /// Shards in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram_shards: Option<i32>,
    /// Shards allowed in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram_shards_limit: Option<i32>,
    /// Shards allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards_limit: Option<i64>,
}

/// A database version that the nodes contain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundledDatabaseVersion {
    /// Type of database.
    pub db_type: String,
    /// What the version supports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature_support: Option<FeatureSupport>,
    /// Whether it is a major version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub major: Option<bool>,
    /// The version.
    pub version: String,
}

/// What a database version supports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeatureSupport {
    /// Active-Active databases.
    pub active_active: bool,
    /// Databases larger than memory.
    pub flex: bool,
}

/// Interfaces that the operator manages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedApis {
    /// Whether LDAP is managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ldap: Option<bool>,
}

/// Certificates of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificatesStatus {
    /// Rises with each change of proxy or syncer certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Whether a change is in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_status: Option<String>,
}

/// Volumes of the nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersistenceStatus {
    /// What happens to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// How many are ready, `ready/all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<String>,
}

open_enum! {
    /// Where a cluster (REC) stands in its life.
    pub open enum ClusterState {
        /// Accepted; nothing is made yet.
        PendingCreation = "PendingCreation",
        /// The first pod forms the cluster.
        BootstrappingFirstPod = "BootstrappingFirstPod",
        /// The other pods join.
        Initializing = "Initializing",
        /// All nodes serve.
        Running = "Running",
        /// Something fails; the conditions say what.
        Error = "Error",
        /// The spec is invalid.
        Invalid = "Invalid",
        /// The upgrade that the spec asks for is not possible.
        InvalidUpgrade = "InvalidUpgrade",
        /// Nodes get a new version.
        Upgrade = "Upgrade",
        /// Nodes restart one by one for a change of the spec.
        RunningRollingUpdate = "RunningRollingUpdate",
        /// Recovery removes the pods.
        RecoveryReset = "RecoveryReset",
        /// Recovery starts the first pod from its volume.
        RecoveringFirstPod = "RecoveringFirstPod",
        /// Recovery makes the cluster again.
        ClusterRecreating = "ClusterRecreating",
        /// The cluster is being deleted.
        Deleting = "Deleting",
    }
}
