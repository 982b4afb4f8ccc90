//! What the shards of this node should be. Pure: the child proposes it, PID 1 decides with [`obey()`] and keeps what it accepted.

mod mutual;
mod obey;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

use meridian_api::access::User;
use serde::{Deserialize, Serialize};

pub use mutual::{Earlier, Mutual};
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
    /// A failover in progress: whoever obeys it grants nothing to the primary of a lower epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// The shards that run here, by id. Empty: an order to run none.
    pub shards: BTreeMap<u32, DesiredShard>,
}

impl DesiredDatabase {
    /// The highest number of a distribution of roles that this order knows of: its own epoch, or that of its fence.
    #[must_use]
    pub fn highest_epoch(&self) -> u64 {
        self.fence
            .as_ref()
            .map_or(0, |fence| fence.epoch)
            .max(self.epoch)
    }

    /// What becomes of files of `shard`, one of this database's, that Valkey does not load.
    #[must_use]
    pub fn unreadable(&self, shard: &DesiredShard) -> Unreadable {
        match (&shard.role, &shard.replication) {
            (Role::Replica { .. }, Some(replication)) => {
                let moves = self.highest_epoch() > self.epoch;
                if moves || replication.counts_on_me() {
                    Unreadable::Wait
                } else {
                    Unreadable::CopyAnew
                }
            }
            (Role::Primary, _) | (Role::Replica { .. }, None) => Unreadable::Stay,
        }
    }
}

/// What becomes of files that Valkey does not load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Unreadable {
    /// They stay and the shard stays away: nobody else is known to have what they hold.
    Stay,
    /// They stay and the shard stays away until nobody counts on this copy any more: one that began anew with nothing would still
    /// pass for one that may take over.
    Wait,
    /// They are set aside, and everything is copied from the primary.
    CopyAnew,
}

/// A failover in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fence {
    /// The epoch that the candidate will serve in.
    pub epoch: u64,
    /// Who becomes primary.
    pub candidate: String,
    /// The present primary hands over by itself.
    pub planned: bool,
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
    /// The series of Valkey by which it runs at least; `None`: the lowest that the node brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Who may log in as the default user.
    pub password: Password,
    /// Who else may log in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// The hash of everything that says who may log in, by which the agent knows what the shard has taken over.
    #[serde(default)]
    pub access: String,
    /// By what it knows the other nodes.
    #[serde(default)]
    pub mutual: Mutual,
    /// What is encrypted; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The pods that share the shard; `None`: this one alone, for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<Replication>,
}

/// What of a shard is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Clients enter by TLS only.
    pub clients: bool,
    /// Clients must show a certificate that one of these vouches for, PEM; empty: none is asked for.
    pub certificates: String,
    /// Replicas follow by TLS.
    pub replicas: bool,
}

/// Where the replica of the shard that clients reach on `port` finds the way to its primary: an address of the loopback that no other
/// database of the node has, so that a shard that still follows a way of before never meets that of another.
#[must_use]
pub fn way_out(port: u16) -> Ipv4Addr {
    let [high, low] = port.to_be_bytes();
    Ipv4Addr::new(127, 77, high, low)
}

/// How far above the client port replicas enter that follow by TLS.
const ENCRYPTED_REPLICATION: u16 = 10_000;

/// The pods that share one shard. A shard that has this takes writes only with a permission ([`crate::permission`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replication {
    /// The name of this node, by which its primary knows it.
    pub me: String,
    /// Who takes writes.
    pub primary: Option<String>,
    /// Who holds a copy.
    pub replicas: BTreeSet<String>,
    /// Who may become primary.
    pub in_sync: BTreeSet<String>,
    /// Who is about to.
    pub joining: BTreeSet<String>,
    /// The primary leads in this epoch with whatever its files hold.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub as_is: bool,
}

impl Replication {
    /// This node may become primary, or is about to be able to.
    fn counts_on_me(&self) -> bool {
        self.in_sync.contains(&self.me) || self.joining.contains(&self.me)
    }
}

impl DesiredShard {
    /// The shard without what changes with roles: what its settings are made of.
    #[must_use]
    pub fn settings(&self) -> Self {
        Self {
            role: Role::Primary,
            replication: None,
            ..self.clone()
        }
    }

    /// Clients enter by TLS only.
    #[must_use]
    pub fn by_tls_only(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.clients)
    }

    /// The port by which clients enter in plain text; 0: none.
    ///
    /// TLS is switched on while the shard runs: without a certificate nobody gets in, and the shard is there all the same.
    #[must_use]
    pub fn plain_port(&self) -> u16 {
        if self.by_tls_only() { 0 } else { self.port }
    }

    /// The port by which replicas enter if they follow by TLS.
    #[must_use]
    pub fn encrypted_replication_port(&self) -> Option<u16> {
        let encrypted = self.tls.as_ref().is_some_and(|tls| tls.replicas);
        encrypted.then(|| self.port.saturating_add(ENCRYPTED_REPLICATION))
    }

    /// The port by which replicas enter.
    #[must_use]
    pub fn replication_port(&self) -> u16 {
        self.encrypted_replication_port().unwrap_or(self.port)
    }

    /// Whom the process of a replica of `host` follows before anybody has told it. Who follows by TLS goes by the node's own way
    /// ([`crate::sync`]), which is open only when the node has found the shard: until then it waits for a primary that is nowhere,
    /// and keeps its place in the stream.
    #[must_use]
    pub fn followed_at_start(&self, host: &str) -> (String, u16) {
        match self.encrypted_replication_port() {
            Some(port) => (way_out(self.port).to_string(), port),
            None => (host.to_owned(), self.port),
        }
    }

    /// This node takes writes, and another holds a copy or is to hold one: it can lead, at once or when it has everything.
    #[must_use]
    pub fn could_be_led_elsewhere(&self) -> bool {
        let shared = self.replication.as_ref();
        self.role == Role::Primary
            && shared.is_some_and(|r| !r.in_sync.is_empty() || !r.replicas.is_empty())
    }

    /// `true` if a running shard must be started again to become `wanted`; everything else is changed while it runs. Whether it needs
    /// another Valkey depends on those that the node brings.
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
            version: _,
            password: _,
            users: _,
            access: _,
            mutual: _,
            tls: _,
            replication,
        } = self;
        (bind, port, engine, replication.is_some())
            != (
                &wanted.bind,
                &wanted.port,
                &wanted.engine,
                wanted.replication.is_some(),
            )
    }
}

/// What a shard is to its clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// It takes writes.
    Primary,
    /// It follows another pod.
    Replica {
        /// The host of that pod; its port is the shard's own.
        host: String,
    },
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

impl Persistence {
    /// Every write goes to an append-only file.
    #[must_use]
    pub fn appends(self) -> bool {
        self.keeps() == Keeps::AppendOnly
    }

    /// By what a shard knows its data again.
    #[must_use]
    pub fn keeps(self) -> Keeps {
        match self {
            Self::Disabled => Keeps::Nothing,
            Self::SnapshotEveryHours(_) => Keeps::Snapshots,
            Self::AofEverySecond | Self::AofAlways => Keeps::AppendOnly,
        }
    }
}

/// By what a shard knows its data again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Keeps {
    /// By the snapshot of an orderly stop alone.
    Nothing,
    /// By the newest snapshot.
    Snapshots,
    /// By append-only files.
    AppendOnly,
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
    /// Nobody: the database has other users only.
    Off,
}

/// Who may log in to a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The default user.
    pub password: Password,
    /// Other users.
    pub users: Vec<User>,
    /// Certificates that clients may show, or of whoever signed them, in PEM.
    pub certificates: String,
    /// [`DesiredShard::access`].
    pub hash: String,
}

impl Access {
    /// Only the default user.
    #[must_use]
    pub fn only(password: Password) -> Self {
        Self {
            password,
            users: Vec::new(),
            certificates: String::new(),
            hash: String::new(),
        }
    }
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
