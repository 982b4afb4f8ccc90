//! `RedisEnterpriseCluster` (REC): nodes that serve databases in one Kubernetes cluster.
//!
//! The whole public field set is accepted and kept; which fields take effect is told by `validate::warnings`.
//!
//! Parts of pods have the schema of Kubernetes, so that the API server checks and completes them, and are free form in
//! Rust: an object that was written in the version without these schemas stays readable, and the reconciler says what
//! is wrong with it.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crds::shared::{FreeForm, ImageSpec, ResourceRequirements};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, HostAlias, PodAntiAffinity, PodSpec, Toleration, Volume, VolumeMount,
};

mod metrics;
mod network;
mod operation;
mod security;
mod status;

pub use metrics::*;
pub use network::*;
pub use operation::*;
pub use security::*;
pub use status::*;

/// Spec of `RedisEnterpriseCluster`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "app.redislabs.com",
    version = "v1",
    kind = "RedisEnterpriseCluster",
    plural = "redisenterpriseclusters",
    shortname = "rec",
    namespaced,
    status = "RedisEnterpriseClusterStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "A cluster of nodes that serves databases.",
    printcolumn = r#"{"name":"Nodes","type":"integer","jsonPath":".spec.nodes"}"#,
    printcolumn = r#"{"name":"Shards","type":"string","jsonPath":".status.licenseStatus.shardsUsage"}"#,
    printcolumn = r#"{"name":"Version","type":"string","jsonPath":".spec.redisEnterpriseImageSpec.versionTag"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#,
    printcolumn = r#"{"name":"Spec Status","type":"string","jsonPath":".status.specStatus"}"#,
    printcolumn = r#"{"name":"License State","type":"string","jsonPath":".status.licenseStatus.licenseState"}"#,
    printcolumn = r#"{"name":"License Expiration Date","type":"string","jsonPath":".status.licenseStatus.expirationDate"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct RedisEnterpriseClusterSpec {
    /// Who may be given access, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_control: Option<AccessControl>,
    /// Addresses for Active-Active databases made by hand (older way; exclusive with `ingressOrRouteSpec`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_active: Option<LegacyActiveActive>,
    /// Further topology keys that keep pods apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub anti_affinity_additional_topology_keys: Vec<String>,
    /// Auditing of database connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auditing: Option<Auditing>,
    /// Image of the bootstrapper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrapper_image_spec: Option<ImageSpec>,
    /// Resources of the bootstrapper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrapper_resources: Option<ResourceRequirements>,
    /// Secret with the administrator's `username` and `password`; the cluster's name if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_credential_secret_name: Option<String>,
    /// Role for reading the credentials from Vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_credential_secret_role: Option<String>,
    /// Where the credentials are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_credential_secret_type: Option<CredentialStore>,
    /// Starts the recovery of a cluster that lost its quorum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_recovery: Option<bool>,
    /// Address family of pods and Services.
    #[serde(
        rename = "redisEnterpriseIPFamily",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub redis_enterprise_ip_family: Option<IpFamily>,
    /// Time zone of the containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_timezone: Option<ContainerTimezone>,
    /// Whether the service account is made by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_service_account: Option<bool>,
    /// Certificates alone identify clients to databases.
    #[serde(
        rename = "dmcExternalCBAAuthentication",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub dmc_external_cba_authentication: Option<bool>,
    /// Databases encrypt traffic between nodes unless they say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_internode_encryption: Option<bool>,
    /// Private keys are encrypted on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypt_pkeys: Option<bool>,
    /// How much the usage report contains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_report_fields: Option<UsageReportFields>,
    /// Secrets with certificates that replace the self-signed ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<Certificates>,
    /// Only IPv4 addresses are used.
    #[serde(
        rename = "enforceIPv4",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub enforce_ipv4: Option<bool>,
    /// Further environment variables of the nodes' containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<EnvVar>")]
    pub extra_env_vars: Vec<FreeForm>,
    /// Labels put on every object made for the cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_labels: BTreeMap<String, String>,
    /// Further lines of the pods' hosts file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<HostAlias>")]
    pub host_aliases: Vec<FreeForm>,
    /// How other clusters reach the API and the databases (exclusive with `activeActive`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_or_route_spec: Option<IngressOrRoute>,
    /// Settings of the cluster's Services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Services>,
    /// Access for clients that speak the cluster protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oss_cluster_settings: Option<OssClusterSettings>,
    /// Sign-in through LDAP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ldap: Option<Ldap>,
    /// Single sign-on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sso: Option<Sso>,
    /// Licence text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Secret with the licence under `license`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_secret_name: Option<String>,
    /// What the metrics of the nodes show, and to how many at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_config: Option<MetricsConfig>,
    /// Labels of the hosts that pods may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Checking of certificates by OCSP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocsp_configuration: Option<OcspConfiguration>,
    /// Number of nodes (pods): odd, 3 or more, never fewer than before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<i32>,
    /// Storage of the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_spec: Option<PersistentSpec>,
    /// Annotations of all pods of the cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_annotations: BTreeMap<String, String>,
    /// Annotations of the nodes' pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub redis_enterprise_pod_annotations: BTreeMap<String, String>,
    /// Replaces the rule of one pod per host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_anti_affinity: Option<PodAntiAffinity>,
    /// What happens to a pod that hangs while starting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_starting_policy: Option<PodStartingPolicy>,
    /// Taints that pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Toleration>")]
    pub pod_tolerations: Vec<FreeForm>,
    /// Priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Secrets for pulling images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pull_secrets: Vec<PullSecret>,
    /// Label of hosts that names their rack or zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack_awareness_node_label: Option<String>,
    /// Part of a pod spec that is merged into that of the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<PodSpec>")]
    pub redis_enterprise_additional_pod_spec_attributes: Option<FreeForm>,
    /// Image of the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis_enterprise_image_spec: Option<ImageSpec>,
    /// Resources of each node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis_enterprise_node_resources: Option<ResourceRequirements>,
    /// Inner services of the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis_enterprise_services_configuration: Option<ServicesConfiguration>,
    /// Image of the services rigger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis_enterprise_services_rigger_image_spec: Option<ImageSpec>,
    /// Resources of the services rigger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis_enterprise_services_rigger_resources: Option<ResourceRequirements>,
    /// Seconds that a node may take to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis_enterprise_termination_grace_period_seconds: Option<i64>,
    /// Further mounts of the nodes' containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<VolumeMount>")]
    pub redis_enterprise_volume_mounts: Vec<FreeForm>,
    /// Which database version is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis_upgrade_policy: Option<UpgradePolicy>,
    /// Databases speak RESP3 unless they say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resp3_default: Option<bool>,
    /// Hardening of the containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,
    /// Where backups of databases may go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<ClusterBackup>,
    /// Service account of the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// How Services of databases are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services_rigger_spec: Option<ServicesRigger>,
    /// Further containers of the nodes' pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Container>")]
    pub side_containers_spec: Vec<FreeForm>,
    /// When a lost replica is made elsewhere.
    #[serde(rename = "slaveHA", default, skip_serializing_if = "Option::is_none")]
    pub slave_ha: Option<SlaveHa>,
    /// Annotations of the Service of the management interface.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ui_annotations: BTreeMap<String, String>,
    /// Type of the Service of the management interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ui_service_type: Option<UiServiceType>,
    /// Databases larger than memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis_on_flash_spec: Option<RedisOnFlash>,
    /// Upgrades.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade_spec: Option<ClusterUpgrade>,
    /// Usage reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_meter: Option<UsageMeter>,
    /// Modules to load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_defined_modules: Vec<UserDefinedModule>,
    /// Name of the administrator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Secret with the authority of Vault.
    #[serde(
        rename = "vaultCASecret",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub vault_ca_secret: Option<String>,
    /// Further volumes of the nodes' pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Volume>")]
    pub volumes: Vec<FreeForm>,
}
