//! `RedisEnterpriseRemoteCluster` (RERC): how a cluster (REC) is reached from other Kubernetes clusters.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crds::open_enum::open_enum;
use crate::crds::shared::{Condition, SpecStatus};

/// Spec of `RedisEnterpriseRemoteCluster`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "app.redislabs.com",
    version = "v1alpha1",
    kind = "RedisEnterpriseRemoteCluster",
    plural = "redisenterpriseremoteclusters",
    shortname = "rerc",
    namespaced,
    status = "RedisEnterpriseRemoteClusterStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "How a cluster (REC) is reached from other Kubernetes clusters.",
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.status"}"#,
    printcolumn = r#"{"name":"Spec Status","type":"string","jsonPath":".status.specStatus"}"#,
    printcolumn = r#"{"name":"Local","type":"boolean","jsonPath":".status.local"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct RedisEnterpriseRemoteClusterSpec {
    /// Host of the REC's API as peers see it.
    pub api_fqdn_url: String,
    /// Suffix that turns a database's name into its replication host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_fqdn_suffix: Option<String>,
    /// Port of the REC's API; 443 if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_port: Option<i64>,
    /// Namespace of the REC.
    pub rec_namespace: String,
    /// Name of the REC.
    pub rec_name: String,
    /// Secret with the REC's credentials; must be `redis-enterprise-<name of this object>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
}

/// State of `RedisEnterpriseRemoteCluster`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisEnterpriseRemoteClusterStatus {
    /// The REC is this cluster's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<bool>,
    /// Whether the spec is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec_status: Option<SpecStatus>,
    /// Whether the REC can be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RemoteClusterStatus>,
    /// `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Version of the Secret that was checked last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_observed_secret_resource_version: Option<String>,
    /// Conditions in the form of Kubernetes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

open_enum! {
    /// Whether a remote cluster can be reached.
    pub open enum RemoteClusterStatus {
        /// It can.
        Active = "Active",
        /// It cannot; the conditions say why.
        Error = "Error",
    }
}
