//! Alerts of databases.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Alerts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertSettings {
    /// A backup is late; threshold in seconds.
    #[serde(
        rename = "bdb_backup_delayed",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub bdb_backup_delayed: Option<AlertSetting>,
    /// An Active-Active source lags; threshold in milliseconds.
    #[serde(
        rename = "bdb_crdt_src_high_syncer_lag",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub bdb_crdt_src_high_syncer_lag: Option<AlertSetting>,
    /// An Active-Active source cannot be reached.
    #[serde(
        rename = "bdb_crdt_src_syncer_connection_error",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub bdb_crdt_src_syncer_connection_error: Option<AlertSetting>,
    /// Replication from an Active-Active source fails.
    #[serde(
        rename = "bdb_crdt_src_syncer_general_error",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub bdb_crdt_src_syncer_general_error: Option<AlertSetting>,
    /// Requests are slow; threshold in microseconds.
    #[serde(
        rename = "bdb_high_latency",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub bdb_high_latency: Option<AlertSetting>,
    /// Many requests; threshold per second.
    #[serde(
        rename = "bdb_high_throughput",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub bdb_high_throughput: Option<AlertSetting>,
    /// An action takes long; threshold in seconds.
    #[serde(
        rename = "bdb_long_running_action",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub bdb_long_running_action: Option<AlertSetting>,
    /// Few requests; threshold per second.
    #[serde(
        rename = "bdb_low_throughput",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub bdb_low_throughput: Option<AlertSetting>,
    /// The certificate of the endpoint ends soon; threshold in days.
    #[serde(
        rename = "bdb_proxy_cert_expiring_soon",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub bdb_proxy_cert_expiring_soon: Option<AlertSetting>,
    /// Overhead of the dataset; threshold per cent.
    #[serde(
        rename = "bdb_ram_dataset_overhead",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub bdb_ram_dataset_overhead: Option<AlertSetting>,
    /// Values in memory; threshold per cent.
    #[serde(
        rename = "bdb_ram_values",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub bdb_ram_values: Option<AlertSetting>,
    /// A source lags; threshold in milliseconds.
    #[serde(
        rename = "bdb_replica_src_high_syncer_lag",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub bdb_replica_src_high_syncer_lag: Option<AlertSetting>,
    /// A source cannot be reached.
    #[serde(
        rename = "bdb_replica_src_syncer_connection_error",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub bdb_replica_src_syncer_connection_error: Option<AlertSetting>,
    /// Values in memory of one shard; threshold is their number.
    #[serde(
        rename = "bdb_shard_num_ram_values",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub bdb_shard_num_ram_values: Option<AlertSetting>,
    /// Size of the database; threshold per cent.
    #[serde(rename = "bdb_size", default, skip_serializing_if = "Option::is_none")]
    pub bdb_size: Option<AlertSetting>,
}

/// One alert. Databases (REDB) leave the form of the threshold open; Active-Active databases say that it is a string.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertSetting {
    /// Whether it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Everything else, `threshold` among it, as it was written.
    #[serde(flatten)]
    pub rest: BTreeMap<String, serde_json::Value>,
}
