//! `RedisEnterpriseActiveActiveDatabase` (REAADB): a database that takes writes in every participating cluster.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crds::open_enum::open_enum;
use crate::crds::shared::{ClusterReference, Condition, SpecStatus};
use schemars::Schema;
use serde_json::{Value, json};

use crate::crds::database::RedisEnterpriseDatabaseSpec;

/// Spec of `RedisEnterpriseActiveActiveDatabase`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "app.redislabs.com",
    version = "v1alpha1",
    kind = "RedisEnterpriseActiveActiveDatabase",
    plural = "redisenterpriseactiveactivedatabases",
    shortname = "reaadb",
    namespaced,
    status = "RedisEnterpriseActiveActiveDatabaseStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "A database that takes writes in every participating cluster and converges.",
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.status"}"#,
    printcolumn = r#"{"name":"Spec Status","type":"string","jsonPath":".status.specStatus"}"#,
    printcolumn = r#"{"name":"Linked REDBs","type":"string","jsonPath":".status.linkedRedbs[*]"}"#,
    printcolumn = r#"{"name":"Replication Status","type":"string","jsonPath":".status.replicationStatus"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct RedisEnterpriseActiveActiveDatabaseSpec {
    /// The cluster resource (REC) that serves this cluster's instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis_enterprise_cluster: Option<ClusterReference>,
    /// The participants.
    pub participating_clusters: Vec<ParticipatingCluster>,
    /// Settings of every participant's instance.
    #[schemars(transform = global_configurations_schema)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_configurations: Option<RedisEnterpriseDatabaseSpec>,
}

/// A participant of an Active-Active database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParticipatingCluster {
    /// Name of the participant's RERC.
    pub name: String,
    /// Port of its replication address, if it is not 443.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_replication_port: Option<i64>,
    /// Namespace of the database there; that of the REC if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// State of `RedisEnterpriseActiveActiveDatabase`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisEnterpriseActiveActiveDatabaseStatus {
    /// Where the database stands in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ActiveActiveStatus>,
    /// Whether the spec is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec_status: Option<SpecStatus>,
    /// Databases of this cluster that are instances of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub linked_redbs: Vec<String>,
    /// The participants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub participating_clusters: Vec<ParticipantStatus>,
    /// Identity of the Active-Active database, the same in every cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guid: Option<String>,
    /// Identity of the last task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_task_uid: Option<String>,
    /// Name of the cluster resource (REC) that serves this cluster's instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis_enterprise_cluster: Option<String>,
    /// Whether all participants replicate; absent while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_status: Option<ReplicationStatus>,
    /// Generation of the certificates in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_certificates_generation: Option<i64>,
    /// Secrets that the database needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets_status: Vec<SecretStatus>,
    /// Conditions in the form of Kubernetes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// State of a participant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParticipantStatus {
    /// Name of the participant's RERC.
    pub name: String,
    /// Its instance id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// Whether it replicates; absent while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_status: Option<ReplicationStatus>,
}

/// State of a Secret that the database needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretStatus {
    /// Name of the Secret.
    pub name: String,
    /// Whether it exists with the keys it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<SecretState>,
}

open_enum! {
    /// Whether replication works.
    pub closed enum ReplicationStatus {
        Up = "up",
        Down = "down",
    }
}

open_enum! {
    /// Whether a Secret can be used.
    pub closed enum SecretState {
        Valid = "Valid",
        Invalid = "Invalid",
    }
}

open_enum! {
    /// Where an Active-Active database stands in its life.
    pub open enum ActiveActiveStatus {
        /// Not looked at yet.
        Unset = "",
        /// Being made.
        Pending = "pending",
        /// Serves.
        Active = "active",
        /// A change is being made.
        ActiveChangePending = "active-change-pending",
        /// Being deleted.
        DeletePending = "delete-pending",
        /// Could not be made; the conditions say why.
        CreationFailed = "creation-failed",
        /// Something fails; the conditions say what.
        Error = "error",
    }
}

/// Turns the schema of a database's spec into that of `globalConfigurations`.
///
/// The public definitions differ in a few places: a threshold is a string there and nothing else is kept beside it, and
/// three addresses and the placement of shards are not checked.
fn global_configurations_schema(schema: &mut Schema) {
    let Some(properties) = schema.get_mut("properties") else {
        return;
    };
    if let Some(alerts) = properties
        .pointer_mut("/alertSettings/properties")
        .and_then(Value::as_object_mut)
    {
        for alert in alerts.values_mut().filter_map(Value::as_object_mut) {
            alert.remove("additionalProperties");
            alert.remove("x-kubernetes-preserve-unknown-fields");
            if let Some(fields) = alert.get_mut("properties").and_then(Value::as_object_mut) {
                fields.insert(
                    "threshold".to_owned(),
                    json!({ "type": "string", "description": "When the alert is raised." }),
                );
            }
        }
    }
    for address in [
        "ftp/properties/url",
        "sftp/properties/sftp_url",
        "swift/properties/auth_url",
    ] {
        let path = format!("/backup/properties/{address}");
        if let Some(field) = properties.pointer_mut(&path).and_then(Value::as_object_mut) {
            field.remove("pattern");
        }
    }
    if let Some(placement) = properties
        .pointer_mut("/shardsPlacement")
        .and_then(Value::as_object_mut)
    {
        placement.remove("enum");
    }
}
