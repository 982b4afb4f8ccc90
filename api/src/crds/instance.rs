//! `ActiveActiveInstance`: what the hub tells one cluster about one Active-Active database.
//!
//! Named as the database, in the namespace of the cluster resource (REC) that serves it. It has no owner: when someone deletes
//! the database on a member, this object is what it is made from again.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::Condition;

/// What the hub decided.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[kube(
    group = "meridian.dev",
    version = "v1alpha1",
    kind = "ActiveActiveInstance",
    plural = "activeactiveinstances",
    shortname = "aai",
    namespaced,
    status = "ActiveActiveInstanceStatus",
    derive = "PartialEq",
    doc = "What the hub tells this cluster about one Active-Active database.",
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".spec.cluster"}"#,
    printcolumn = r#"{"name":"Instance","type":"integer","jsonPath":".spec.instanceId"}"#,
    printcolumn = r#"{"name":"Config","type":"integer","jsonPath":".spec.configVersion"}"#,
    printcolumn = r#"{"name":"Observed","type":"integer","jsonPath":".status.observedConfigVersion"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ActiveActiveInstanceSpec {
    /// Identity of the Active-Active database, the same in every cluster.
    pub guid: String,
    /// The hub's identity of the database object.
    pub object_id: String,
    /// This cluster's instance id, never used twice in one database.
    #[schemars(range(min = 1))]
    pub instance_id: i64,
    /// Number of the membership; rises with every change of members or ghosts.
    #[schemars(range(min = 1))]
    pub config_version: i64,
    /// Plan that decided this.
    #[schemars(range(min = 0))]
    pub plan_number: i64,
    /// Term of the hub that decided this.
    #[schemars(range(min = 0))]
    pub hub_term: i64,
    /// Store of the hub that decided this.
    pub store_id: String,
    /// The database object in this cluster.
    pub database: NamespacedName,
    /// Name of the REC that serves it.
    pub cluster: String,
    /// All members, this cluster included.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["instanceId"]))]
    pub members: Vec<InstanceMember>,
    /// Instance ids that were members once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ghosts: Vec<i64>,
}

/// Name of an object in a namespace.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct NamespacedName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// One member of an Active-Active database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceMember {
    /// Instance id of the member.
    #[schemars(range(min = 1))]
    pub instance_id: i64,
    /// Name of its RERC.
    pub name: String,
    /// UID of its cluster's namespace `kube-system`.
    pub cluster_uid: String,
    /// `host:port` of its sync endpoint; empty while the hub does not know it.
    #[serde(default)]
    pub endpoint: String,
    /// Server name (SNI) that routes to the database there.
    #[serde(default)]
    pub server_name: String,
    /// Identity that its certificate must carry exactly.
    #[serde(default)]
    pub spiffe_id: String,
}

/// What the agent made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveActiveInstanceStatus {
    /// Membership that every local shard has acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_config_version: Option<i64>,
    /// `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
