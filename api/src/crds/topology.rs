//! `DatabaseTopology`: who serves which part of a database, in which epoch.
//!
//! One per database, named as it, in the namespace of its cluster resource (REC). The spec is written only by the agent, each
//! time with the `resourceVersion` that it read; `status.members` only by the nodes, each its own entry by server-side
//! apply on the status subresource with its pod name as field manager. A topology that is missing, older than one that a node
//! obeyed, or of another `metadata.uid` is *unknown* to the node, not an order.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    open_enum::open_enum,
    shared::{Condition, Persistence},
};

/// What the agent orders.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "meridian.dev",
    version = "v1alpha1",
    kind = "DatabaseTopology",
    plural = "databasetopologies",
    shortname = "dbtopo",
    namespaced,
    status = "DatabaseTopologyStatus",
    derive = "PartialEq",
    doc = "Who serves which part of a database, in which epoch. Written by the agent; obeyed by the nodes.",
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".spec.cluster"}"#,
    printcolumn = r#"{"name":"Epoch","type":"integer","jsonPath":".spec.epoch"}"#,
    printcolumn = r#"{"name":"Port","type":"integer","jsonPath":".spec.port"}"#,
    printcolumn = r#"{"name":"Primary","type":"string","jsonPath":".spec.shards[*].primary"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseTopologySpec {
    /// The database that this topology serves.
    pub database: DatabaseReference,
    /// Name of the REC whose pods serve it.
    pub cluster: String,
    /// Number of the present distribution of roles; every change of a primary raises it.
    #[schemars(range(min = 1))]
    pub epoch: i64,
    /// A failover in progress: the candidate must stop granting permission to the present primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// Client port of the database, 10000–19999.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Port on which every node of the cluster takes clients and passes them on to the primary; absent: none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub entry_port: Option<i32>,
    /// Memory limit of one shard's dataset, bytes.
    #[schemars(range(min = 0))]
    pub memory_bytes: i64,
    /// What happens when the limit is reached, as Valkey spells it.
    pub eviction_policy: String,
    /// How shards are kept on disk.
    pub persistence: Persistence,
    /// Series of Valkey that the database is to run, such as `8.1` ([`crate::version::Series`]); absent: the lowest that its nodes
    /// bring. Copies are brought to it one by one, see [`ShardAssignment::versions`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What is encrypted between the database and others of its cluster; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<DatabaseTls>,
    /// Each shard has a replica.
    pub replication: bool,
    /// What the database says of the places of its copies; absent: nothing. Copies that have a place keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Labels of the metric `db_tags` of the database: its tags, as far as the cluster shows them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metric_labels: BTreeMap<String, String>,
    /// The shards.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub shards: Vec<ShardAssignment>,
    /// Set for an instance of an Active-Active database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_active: Option<ActiveActiveMembership>,
}

/// Where copies of a database are placed, as far as they are on different hosts and have room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// On the nodes that carry most already; absent: on those that carry least.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dense: bool,
    /// Copies may be in one rack; absent: they are in different ones where the cluster knows racks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_rack: bool,
}

/// The database that a topology serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseReference {
    /// `RedisEnterpriseDatabase` or `RedisEnterpriseActiveActiveDatabase`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its `metadata.uid`, or the database's GUID for an Active-Active one.
    pub uid: String,
}

/// A failover in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fence {
    /// The epoch that the candidate will serve in.
    #[schemars(range(min = 1))]
    pub epoch: i64,
    /// Pod that becomes primary.
    pub candidate: String,
    /// The present primary is asked to hand over: it stops taking writes at once and says when the candidate has all of them.
    /// Absent after a failure: nobody waits for an answer that may never come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub planned: bool,
}

/// How long a permission to acknowledge writes lasts, counted from the start of the request that obtained it, milliseconds.
/// Primary, replicas and agent rely on the same number, so it is part of the contract and no setting.
///
/// Source: Lin et al., "PacificA: Replication in Log-Based Distributed Storage Systems", Microsoft Research 2008, §2.3 (leases).
pub const LEASE_MS: u64 = 3_000;

/// What is added to [`LEASE_MS`] when somebody waits for another's permission to end, milliseconds: how far two monotonic
/// clocks may drift apart within one lease, and the time a request takes to be answered, generously.
pub const LEASE_MARGIN_MS: u64 = 500;

/// A replica joins the in-sync set when it is less than this behind, and a member that is further behind what its primary last
/// reported is promoted by a person only, bytes of the replication stream.
pub const JOIN_LAG_BYTES: i64 = 1 << 20;

/// A member of the in-sync set that is this far behind for [`APART_MS`] leaves it, bytes of the replication stream: more than
/// [`JOIN_LAG_BYTES`], so that a burst of writes makes nobody leave and join again.
pub const LEAVE_LAG_BYTES: i64 = 16 << 20;

/// A replica that has not followed its primary's live stream for this long grants it no permission and leaves the in-sync set,
/// milliseconds: what it misses if it is promoted is bounded by this.
pub const APART_MS: u64 = 5_000;

/// Roles of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShardAssignment {
    /// Number of the shard within the database.
    #[schemars(range(min = 0))]
    pub id: i32,
    /// Hash slots, ranges with commas, such as `0-16383`.
    pub slots: String,
    /// Pod that takes writes; none if nobody may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// Pods that hold a replica.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<String>,
    /// Replicas that follow closely; only they may be promoted, and the primary acknowledges writes only with a permission from
    /// every one of them, or from the API server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_sync: Vec<String>,
    /// Replicas that are about to join the in-sync set. The primary needs their permission as if they were in it, says so in
    /// [`ShardReport::counts`], and only then does the agent move them to [`Self::in_sync`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joining: Vec<String>,
    /// The epoch in which the primary leads with whatever its files hold: the database is new, or a person accepted a loss, or
    /// nothing more is left anywhere. In every other epoch a primary whose process began anew must have led in that very epoch
    /// before, and alone. The primary alone is meant; copies are taken from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_is: Option<i64>,
    /// Series of Valkey by which each pod that is listed serves its copy, at least; others serve by the lowest that they bring. A
    /// process that has been started by a newer one never goes back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, String>,
}

/// Membership of this cluster in an Active-Active database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveActiveMembership {
    /// Identity of the Active-Active database.
    pub guid: String,
    /// This cluster's instance id, never used twice in one database.
    #[schemars(range(min = 1))]
    pub instance_id: i64,
    /// Number of the membership; rises with every change of members or ghosts.
    #[schemars(range(min = 1))]
    pub config_version: i64,
    /// All members, this cluster included.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["instanceId"]))]
    pub members: Vec<TopologyMember>,
    /// Instance ids that were members once; their writes are known, new ones are not taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ghosts: Vec<i64>,
}

/// One member of an Active-Active database, as a node reaches it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopologyMember {
    /// Instance id of the member.
    #[schemars(range(min = 1))]
    pub instance_id: i64,
    /// Name of its RERC.
    pub name: String,
    /// `host:port` of its sync endpoint; may be empty for the local member.
    #[serde(default)]
    pub endpoint: String,
    /// Server name (SNI) that routes to the database there.
    #[serde(default)]
    pub server_name: String,
    /// Identity that its certificate must carry exactly.
    #[serde(default)]
    pub spiffe_id: String,
    /// This cluster itself.
    #[serde(default)]
    pub local: bool,
}

/// What is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseTls {
    /// Clients enter the client port by TLS only.
    pub clients: bool,
    /// Clients show a certificate that those in the users Secret vouch for.
    #[serde(default)]
    pub client_certificates: bool,
    /// Replicas follow by TLS.
    pub replicas: bool,
}

/// What the nodes report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseTopologyStatus {
    /// One entry per node that serves the database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["node"]))]
    pub members: Vec<MemberReport>,
    /// One entry per node that takes clients and passes them on to the primary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["node"]))]
    pub entries: Vec<EntryReport>,
    /// Conditions, written by the agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A node that takes clients of the database and passes them on to its primary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryReport {
    /// Name of the pod.
    pub node: String,
    /// `metadata.uid` of the topology that it follows.
    pub topology_uid: String,
    /// Port on which it listens.
    pub port: i32,
}

/// What one node reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberReport {
    /// Name of the pod.
    pub node: String,
    /// `metadata.uid` of the topology that it obeys.
    pub topology_uid: String,
    /// Highest epoch that it obeyed.
    pub epoch: i64,
    /// `metadata.generation` of the topology that it obeyed last.
    pub generation: i64,
    /// Its shards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub shards: Vec<ShardReport>,
    /// Its replication links from other members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["instanceId"]))]
    pub links: Vec<LinkReport>,
    /// Why the present topology is not obeyed: `TopologyRegressed`, with what was found and what would be obeyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Names the certificate with which it meets other regions and the roots by which it believes them, see
    /// [`crate::trust::peer_files`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_files: Option<String>,
    /// When it observed this, RFC 3339.
    pub as_of: String,
}

impl MemberReport {
    /// The highest epoch that the node knows of: of the order that it obeys, or of a fence in it.
    #[must_use]
    pub fn highest_epoch(&self) -> i64 {
        let fenced = self.shards.iter().filter_map(|shard| shard.fenced);
        fenced.fold(self.epoch, i64::max)
    }
}

open_enum! {
    /// What a shard does.
    pub closed enum ShardRole {
        /// Takes writes.
        Primary = "primary",
        /// Follows the primary.
        Replica = "replica",
        /// Does not run.
        Stopped = "stopped",
    }
}

/// One shard on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShardReport {
    /// Number of the shard.
    pub id: i32,
    /// What it does.
    pub role: ShardRole,
    /// It answers commands.
    pub ready: bool,
    /// It acknowledges writes.
    pub writable: bool,
    /// Port that it listens on.
    pub port: i32,
    /// Its clock (Active-Active only), as JSON text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<String>,
    /// Primary: the pods whose permission it needs now, and that have everything it wrote before it needed theirs. Whoever is not
    /// listed must not enter the in-sync set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<String>,
    /// Primary: its replicas as it sees them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["node"]))]
    pub replicas: Vec<ReplicaReport>,
    /// Replica: how it follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub following: Option<FollowingState>,
    /// Position in the replication stream, bytes: what it has written (primary) or applied (replica).
    /// Absent on a replica whose process has not yet taken over or continued a copy from its primary: what it holds comes
    /// from its own files, may be less than it once had, and must not be promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Epoch of the newest fence that it obeys. From this report on a replica grants nothing to the primary of a lower epoch,
    /// and a primary of a lower epoch acknowledges nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fenced: Option<i64>,
    /// Primary: why another must take over, such as a process that came back with less than it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wants_failover: Option<String>,
    /// The epoch in which this node led last with everything that it should have had, of whatever topology of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<i64>,
    /// What a process that began anew found in its files. Absent if they say nothing that can be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldReport>,
    /// Version of the Valkey that answers here, such as `8.1.1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What keeps it from being what it should be, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Hash of the users (see [`crate::access::Entry::text`]) that it has taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
    /// Hash of what it has taken over of the cluster's internal Secret (see [`crate::internal::text`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal: Option<String>,
}

impl ShardReport {
    /// A shard in `role` on `port` that does not answer and of which nothing else is known.
    #[must_use]
    pub fn new(id: i32, role: ShardRole, port: i32) -> Self {
        Self {
            id,
            role,
            ready: false,
            writable: false,
            port,
            clock: None,
            counts: Vec::new(),
            replicas: Vec::new(),
            following: None,
            offset: None,
            fenced: None,
            wants_failover: None,
            served: None,
            held: None,
            version: None,
            problem: None,
            access: None,
            internal: None,
        }
    }
}

/// How much of a replication stream a copy had on disk before its process ended. Two copies of one stream can be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldReport {
    /// Identity of the stream: drawn anew by every process that leads.
    pub stream: String,
    /// Everything up to here was on disk, bytes of the stream; it may have more.
    #[schemars(range(min = 0))]
    pub offset: i64,
}

/// A replica as its primary sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaReport {
    /// Name of its pod.
    pub node: String,
    /// It follows the live stream (a full copy has been taken over).
    pub online: bool,
    /// How far it is behind, bytes of the replication stream, when the report was made.
    #[schemars(range(min = 0))]
    pub lag_bytes: i64,
}

open_enum! {
    /// How a replica follows its primary.
    pub closed enum FollowingState {
        /// No connection to the primary.
        Down = "down",
        /// It takes over a copy of everything.
        Copying = "copying",
        /// It follows the live stream.
        Up = "up",
    }
}

open_enum! {
    /// State of a replication link, seen from its receiving side.
    pub closed enum LinkState {
        /// No connection yet.
        Connecting = "connecting",
        /// Catching up.
        Syncing = "syncing",
        /// Live.
        Up = "up",
        /// Stopped by a person.
        Paused = "paused",
        /// Connected, but something must not be applied.
        Stalled = "stalled",
        /// Lost.
        Down = "down",
    }
}

/// One replication link of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkReport {
    /// Instance id of the source.
    pub instance_id: i64,
    /// Name of the source's RERC.
    pub name: String,
    /// Its state.
    pub state: LinkState,
    /// Last error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Lag in milliseconds; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_ms: Option<i64>,
    /// Since when the state holds, RFC 3339.
    pub since: String,
    /// When it was observed, RFC 3339.
    pub as_of: String,
}
