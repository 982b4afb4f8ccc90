//! What is observed of a database (REDB).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ActiveActiveLink;
use crate::crds::open_enum::open_enum;
use crate::crds::shared::{Condition, SpecStatus};

/// State of `RedisEnterpriseDatabase`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisEnterpriseDatabaseStatus {
    /// When the database was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<String>,
    /// Identity of the database in its cluster.
    #[serde(
        rename = "databaseUID",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub database_uid: Option<String>,
    /// Addresses inside the Kubernetes cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub internal_endpoints: Vec<InternalEndpoint>,
    /// Outcome of the last action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_action_status: Option<String>,
    /// Identity of the last action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_action_uid: Option<String>,
    /// When the database changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<String>,
    /// `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Name of the cluster resource (REC) that serves the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis_enterprise_cluster: Option<String>,
    /// Databases that this one follows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replica_source_statuses: Vec<ReplicaSourceStatus>,
    /// Number of shards per status.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shard_statuses: BTreeMap<String, i64>,
    /// Backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_info: Option<BackupInfo>,
    /// Whether the spec is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec_status: Option<SpecStatus>,
    /// Where the database stands in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<DatabaseStatus>,
    /// Version of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The Active-Active database that this one is an instance of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_active: Option<ActiveActiveLink>,
    /// Version of the storage engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bigstore_version: Option<i64>,
    /// Conditions in the form of Kubernetes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// An address inside the Kubernetes cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InternalEndpoint {
    /// Host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i64>,
}

/// State of a database that this one follows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaSourceStatus {
    /// Host of the source.
    pub endpoint_host: String,
    /// Lag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// Last error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When the status was true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update: Option<String>,
    /// Bytes of the first copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdb_size: Option<i64>,
    /// Bytes of the first copy that have arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdb_transferred: Option<i64>,
    /// `out-of-sync`, `syncing` or `in-sync`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// Backups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupInfo {
    /// Why the last one failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_failure_reason: Option<String>,
    /// Backups that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_history: Option<i64>,
    /// Seconds between backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_interval: Option<i64>,
    /// Seconds after the full interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_interval_offset: Option<i64>,
    /// Progress of the present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_progress_percentage: Option<i64>,
    /// What the present one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_status: Option<String>,
    /// When the last one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup_time: Option<String>,
}

open_enum! {
    /// Where a database stands in its life.
    pub open enum DatabaseStatus {
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
        /// Data is being imported.
        ImportPending = "import-pending",
        /// Could not be made; the conditions say why.
        CreationFailed = "creation-failed",
        /// Being recovered.
        Recovery = "recovery",
    }
}
