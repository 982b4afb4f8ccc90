//! `RedisEnterpriseDatabase` (REDB): a database of one cluster. Its spec is also the `globalConfigurations` of Active-Active databases.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crds::open_enum::open_enum;
use crate::crds::shared::{ClusterReference, Persistence};

mod alerts;
mod backup;
mod status;

pub use alerts::*;
pub use backup::*;
pub use status::*;

/// Spec of `RedisEnterpriseDatabase`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "app.redislabs.com",
    version = "v1alpha1",
    kind = "RedisEnterpriseDatabase",
    plural = "redisenterprisedatabases",
    shortname = "redb",
    namespaced,
    status = "RedisEnterpriseDatabaseStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "A database of one cluster.",
    printcolumn = r#"{"name":"Version","type":"string","jsonPath":".status.version"}"#,
    printcolumn = r#"{"name":"Port","type":"string","jsonPath":".status.internalEndpoints[*].port"}"#,
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".status.redisEnterpriseCluster"}"#,
    printcolumn = r#"{"name":"Shards","type":"string","jsonPath":".status.shardStatuses.active"}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.status"}"#,
    printcolumn = r#"{"name":"Spec Status","type":"string","jsonPath":".status.specStatus"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct RedisEnterpriseDatabaseSpec {
    /// Alerts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert_settings: Option<AlertSettings>,
    /// Regular backups; exactly one target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<DatabaseBackup>,
    /// Secrets with `cert`: certificates that clients may show.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_authentication_certificates: Vec<String>,
    /// Traffic between nodes is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_internode_encryption: Option<bool>,
    /// Port of the database, 10000–19999; cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_port: Option<i64>,
    /// Port of the database's Services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_service_port: Option<i64>,
    /// Auditing of connections and operations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auditing: Option<DatabaseAuditing>,
    /// Secret with `password`; `redb-<name>` if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_secret_name: Option<String>,
    /// Whether the default user exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_user: Option<bool>,
    /// What is evicted when memory is full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eviction_policy: Option<String>,
    /// The database is larger than memory (fixed at creation).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_rof: Option<bool>,
    /// Memory of the database with its replicas, such as `100MB` or `1Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_size: Option<String>,
    /// Modules to load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules_list: Vec<DatabaseModule>,
    /// Clients may speak the cluster protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oss_cluster: Option<bool>,
    /// Settings of the cluster protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oss_cluster_settings: Option<DatabaseOssCluster>,
    /// How the database is kept on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Persistence>,
    /// Which nodes accept clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_policy: Option<String>,
    /// Connections of the endpoints to the shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_settings: Option<ConnectionSettings>,
    /// A primary and its replica are in different racks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack_aware: Option<bool>,
    /// The cluster resource (REC) that serves the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis_enterprise_cluster: Option<ClusterReference>,
    /// Databases that this one follows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replica_sources: Vec<ReplicaSource>,
    /// Each shard has a replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<bool>,
    /// Roles that may use the database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles_permissions: Vec<RolePermission>,
    /// Keys are spread over shards (Active-Active only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharding_enabled: Option<bool>,
    /// Number of primary shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard_count: Option<i64>,
    /// Shards are packed on few nodes or spread over many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards_placement: Option<ShardsPlacement>,
    /// Words about the database for people and tools.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Which traffic uses TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_mode: Option<TlsMode>,
    /// Protocol of the database.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<DatabaseType>,
    /// Memory part of a database larger than memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rof_ram_size: Option<String>,
    /// Memory part of a database larger than memory, per cent.
    #[schemars(range(min = 0, max = 100))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rof_ram_ratio: Option<i64>,
    /// Search on a database larger than memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search_on_bigstore: Option<bool>,
    /// Version of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis_version: Option<String>,
    /// Upgrades.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade_spec: Option<DatabaseUpgrade>,
    /// The Active-Active database that this one is an instance of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_active: Option<ActiveActiveLink>,
    /// Secret with `username` and `password` for memcached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memcached_sasl_secret_name: Option<String>,
    /// Clients may speak RESP3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resp3: Option<bool>,
}

/// Auditing of connections and operations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseAuditing {
    /// What is audited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_mode: Option<AuditMode>,
    /// Whether connections are audited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_conns_auditing: Option<bool>,
    /// Operations of which addresses are audited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ip_filter: Option<SourceIpFilter>,
    /// Operations of which users are audited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_filter: Option<UsernameFilter>,
}

/// Operations of which addresses are audited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceIpFilter {
    /// Whether the filter is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Those listed, or all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter_type: Option<AuditFilterType>,
    /// Addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_addresses: Vec<String>,
    /// Networks such as `10.0.1.0/24`, at most 512.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidr_ranges: Vec<String>,
}

/// Operations of which users are audited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsernameFilter {
    /// Whether the filter is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Those listed, or all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter_type: Option<AuditFilterType>,
    /// Names of users, at most 512.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usernames: Vec<String>,
}

/// A module to load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseModule {
    /// Arguments of the module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Name of the module.
    pub name: String,
    /// Version of the module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Settings of the cluster protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseOssCluster {
    /// Whether such clients enter from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_external_access: Option<bool>,
}

/// Connections of the endpoints to the shards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionSettings {
    /// Inner connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_connections: Option<i64>,
    /// How connections are chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_scheduling_policy: Option<ConnectionSchedulingPolicy>,
    /// Most dedicated connections of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_max_dedicated_connections: Option<i64>,
    /// Fewest dedicated connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_dedicated_connections: Option<i64>,
    /// What the limits count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_limit_type: Option<ConnectionLimitType>,
}

/// A database that this one follows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaSource {
    /// Secret with the client's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key_secret: Option<String>,
    /// Compression level, 0–6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<i64>,
    /// Name of the Secret or database.
    pub replica_source_name: String,
    /// `SECRET` or `REDB`.
    pub replica_source_type: String,
    /// Secret with the source's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_cert_secret: Option<String>,
    /// Server name of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_sni_name: Option<String>,
}

/// A role that may use the database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolePermission {
    /// Name of the access list.
    pub acl: String,
    /// Name of the role.
    pub role: String,
    /// Kind of role.
    #[serde(rename = "type", default = "default_role_permission_type")]
    pub type_: RolePermissionType,
}

/// Upgrades.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseUpgrade {
    /// Modules are upgraded with the database.
    pub upgrade_modules_to_latest: bool,
}

/// The Active-Active database that this one is an instance of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveActiveLink {
    /// Its name.
    pub name: String,
    /// Name of this participant.
    pub participating_cluster_name: String,
}

open_enum! {
    /// What is audited.
    pub closed enum AuditMode {
        /// Nothing.
        Disabled = "disabled",
        /// Connections and logins.
        Connection = "connection",
        /// The same and what is read and written.
        ConnectionAndCrud = "connection_and_crud",
    }
}

open_enum! {
    /// Whether a filter lists those that are audited or those that are not.
    pub closed enum AuditFilterType {
        /// Those listed.
        Inclusive = "inclusive",
        /// All others.
        Exclusive = "exclusive",
    }
}

open_enum! {
    /// How connections to shards are chosen.
    pub closed enum ConnectionSchedulingPolicy {
        Cmp = "cmp",
        Mru = "mru",
        Spread = "spread",
        Mnp = "mnp",
    }
}

open_enum! {
    /// What limits of connections count.
    pub closed enum ConnectionLimitType {
        PerThread = "per-thread",
        PerShard = "per-shard",
    }
}

open_enum! {
    /// Kind of role.
    pub closed enum RolePermissionType {
        RedisEnterprise = "redis-enterprise",
    }
}

open_enum! {
    /// How shards are placed.
    pub closed enum ShardsPlacement {
        Dense = "dense",
        Sparse = "sparse",
    }
}

open_enum! {
    /// Which traffic uses TLS.
    pub closed enum TlsMode {
        Disabled = "disabled",
        Enabled = "enabled",
        ReplicaSsl = "replica_ssl",
    }
}

open_enum! {
    /// Protocol of a database.
    pub closed enum DatabaseType {
        Redis = "redis",
        Memcached = "memcached",
    }
}

fn default_role_permission_type() -> RolePermissionType {
    RolePermissionType::RedisEnterprise
}
