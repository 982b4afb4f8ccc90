//! What the shards of this node should be. Pure: the child proposes it, PID 1 decides with [`obey()`] and keeps what it accepted.

mod obey;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use obey::{Refusal, RefusalReason, Verdict, obey};

/// The version of the file format.
pub const FORMAT: u8 = 1;

/// All databases that have, or had, a place on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DesiredState {
    /// [`FORMAT`].
    pub format: u8,
    /// By database name.
    pub databases: BTreeMap<String, DesiredDatabase>,
}

impl Default for DesiredState {
    fn default() -> Self {
        Self {
            format: FORMAT,
            databases: BTreeMap::new(),
        }
    }
}

impl DesiredState {
    /// Every shard with its process name.
    pub fn shards(&self) -> impl Iterator<Item = (ShardName, &DesiredDatabase, &DesiredShard)> {
        self.databases.iter().flat_map(|(database, desired)| {
            desired
                .shards
                .iter()
                .map(move |(id, shard)| (ShardName::new(database, *id), desired, shard))
        })
    }
}

/// One database's place on this node, and the order that gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DesiredDatabase {
    /// The UID of the topology object that gave the order.
    pub topology_uid: String,
    /// Its epoch: rises with every change of roles.
    pub epoch: u64,
    /// Its generation: rises with every change of the object.
    pub generation: u64,
    /// Whose data this is. Data of another owner is never served.
    pub owner: String,
    /// The shards that run here, by id. Empty: an order to run none.
    pub shards: BTreeMap<u32, DesiredShard>,
}

/// One Valkey process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DesiredShard {
    /// What the shard is to its clients.
    pub role: Role,
    /// The address it listens on.
    pub bind: String,
    /// The port clients use.
    pub port: u16,
    /// Bytes the data may take; 0: no limit.
    pub max_memory_bytes: u64,
    /// Valkey's name of the eviction policy.
    pub eviction_policy: String,
    /// What is written to disk.
    pub persistence: Persistence,
    /// Which data types it serves.
    pub engine: Engine,
    /// Who may log in as the default user.
    pub password: Password,
}

impl DesiredShard {
    /// `true` if a running shard must be started again to become `wanted`; everything else is changed while it runs.
    #[must_use]
    pub fn needs_restart(&self, wanted: &Self) -> bool {
        let Self {
            role: _,
            bind,
            port,
            max_memory_bytes: _,
            eviction_policy: _,
            persistence: _,
            engine,
            password: _,
        } = self;
        (bind, port, engine) != (&wanted.bind, &wanted.port, &wanted.engine)
    }
}

/// What a shard is to its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It takes writes.
    Primary,
}

/// Which data types a shard serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Engine {
    /// Plain Valkey.
    Plain,
    /// The merging data types of Active-Active databases (needs the module).
    ActiveActive,
}

/// What a shard writes to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Persistence {
    /// Nothing.
    Disabled,
    /// Every write; fsync once a second.
    AofEverySecond,
    /// Every write; fsync before the reply.
    AofAlways,
    /// A snapshot every so many hours, if anything changed.
    SnapshotEveryHours(u8),
}

/// Who may log in as the default user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Password {
    /// Whoever knows the password with this SHA-256.
    Sha256(String),
    /// Everybody: the owner of the database said so.
    None,
    /// Everybody on this machine: nobody said anything.
    NoneOnLoopback,
}

/// The name of a shard's process and directory: `<database>-<shard id>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShardName(String);

impl ShardName {
    /// The name of shard `id` of `database`.
    #[must_use]
    pub fn new(database: &str, id: u32) -> Self {
        Self(format!("{database}-{id}"))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ShardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
pub(crate) mod tests;
