//! Objects that the hub serves.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    crds::{
        Condition, RedisEnterpriseActiveActiveDatabaseSpec,
        RedisEnterpriseActiveActiveDatabaseStatus, RedisEnterpriseRemoteClusterSpec,
    },
    ids::{ClusterUid, PlanNumber, Revision},
};

/// An object in the shape of Kubernetes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Object<Spec, Status> {
    /// `group/version`.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name and bookkeeping.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: Spec,
    /// What is so; ignored in requests.
    #[serde(
        default = "Option::<Status>::default",
        skip_serializing_if = "Option::is_none"
    )]
    pub status: Option<Status>,
}

/// Name and bookkeeping of an object. In requests only the name and labels count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Name, unique within the kind.
    #[serde(default)]
    pub name: String,
    /// Namespace in the members; the hub itself has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The hub's identity of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Changes with every change of what is wanted, so that a write can be bound to it (`If-Match`). What is observed
    /// changes without it: that is seen by the answer's `ETag` and by a watch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Rises with every change of the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// Since when it is being deleted, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Objects of one kind, as they were at one revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct List<T> {
    /// `group/version`.
    pub api_version: String,
    /// Kind of the list, such as `ClusterList`.
    pub kind: String,
    /// The revision.
    pub metadata: ListMeta,
    /// The objects, by name.
    pub items: Vec<T>,
}

/// The revision that a list shows, and how to go on where it was asked for in parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListMeta {
    /// The revision; a watch that begins here misses nothing.
    pub resource_version: String,
    /// Where to go on, as the parameter `continue` of the next request; absent at the end.
    #[serde(rename = "continue", default, skip_serializing_if = "Option::is_none")]
    pub continue_: Option<String>,
    /// Objects that follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_item_count: Option<u64>,
}

/// A member cluster.
pub type Cluster = Object<ClusterSpec, ClusterStatus>;

/// A member's spec: nothing is wanted of it but to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {}

/// What the hub knows of a member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// UID of its namespace `kube-system`.
    pub uid: ClusterUid,
    /// Whether its agent has a session.
    pub state: Connection,
    /// Since when, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Version of its agent.
    #[serde(default)]
    pub agent_version: String,
    /// Its cluster resources (REC); absent if it never reported any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recs: Option<Observed<Vec<Rec>>>,
    /// How far the clock of its agent's machine is from the hub's, as its heartbeats show: for people, nothing is decided by
    /// it. Absent in lists, because it changes every few seconds, and where the hub that answers has not measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Observed<ClockDifference>>,
    /// The newest certificates of its agent, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Certificate>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// How far two clocks are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClockDifference {
    /// By how many milliseconds the member's is ahead of the hub's; negative if it is behind.
    pub ahead_ms: i64,
    /// What this may be wrong by, milliseconds: half of the way there and back.
    pub uncertainty_ms: i64,
}

/// A certificate with which a member's agent speaks to the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Its end, RFC 3339.
    pub ends_at: String,
}

/// Whether a member's agent has a session with the hub. It says nothing about the databases there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Connection {
    /// It has.
    Connected,
    /// It had.
    Unreachable,
    /// It enrolled and had none yet.
    Never,
}

/// Something that was observed, and when. Shown together, always.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Observed<T> {
    /// What was observed.
    pub value: T,
    /// When, RFC 3339.
    pub as_of: String,
    /// The observer is not connected, or has not said it yet to the hub that answers: the value may have changed since.
    pub stale: bool,
}

/// A cluster resource (REC) of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rec {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `status.state` of the REC.
    pub state: String,
    /// `host:port` that peers connect to; empty while unknown.
    pub replication_address: String,
    /// Suffix that turns a database's name into its server name.
    pub suffix: String,
}

/// A remote cluster (RERC), derived by the hub from what members report.
pub type RemoteCluster = Object<RedisEnterpriseRemoteClusterSpec, RemoteClusterStatus>;

/// What the hub knows of a remote cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoteClusterStatus {
    /// Name of the member.
    pub cluster: String,
    /// UID of its namespace `kube-system`.
    pub cluster_uid: ClusterUid,
    /// Whether its agent has a session.
    pub state: Connection,
    /// The REC as it was reported last; absent if it is not among those reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rec: Option<Observed<Rec>>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// An Active-Active database (REAADB).
pub type ActiveActiveDatabase =
    Object<RedisEnterpriseActiveActiveDatabaseSpec, ActiveActiveDatabaseStatus>;

/// What the hub knows of an Active-Active database: the classic status, and what only a hub can know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveActiveDatabaseStatus {
    /// The status that members show, as the hub sees it.
    #[serde(flatten)]
    pub classic: RedisEnterpriseActiveActiveDatabaseStatus,
    /// Every participant.
    #[serde(default)]
    pub participants: Vec<Participant>,
    /// Number of the membership.
    #[serde(default)]
    pub config_version: u64,
    /// What the planner waits for, or what it goes on without, a line each; absent where there is nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
    /// Since when it is these, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_since: Option<String>,
    /// Plan that decided last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_number: Option<PlanNumber>,
    /// Generation of the spec that the plan decided for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// One participant of an Active-Active database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Participant {
    /// Name of its remote cluster (RERC).
    pub name: String,
    /// Name of the member; empty while the RERC is unknown.
    #[serde(default)]
    pub cluster: String,
    /// Its instance id; absent until one is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<u64>,
    /// Revision that the hub wants there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_revision: Option<Revision>,
    /// Revision that the member applied last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_revision: Option<Revision>,
    /// Why the member did not apply the desired revision; empty if it did or has not answered.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Status of the object there, as it was reported last; absent if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed<RedisEnterpriseActiveActiveDatabaseStatus>>,
    /// Its row of the matrix of links; absent if it never was reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<Observed<Vec<Link>>>,
}

/// One replication link, as its receiving side sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Remote cluster (RERC) that is the source.
    pub from: String,
    /// Instance id of the source.
    pub instance_id: u64,
    /// `connecting`, `syncing`, `up`, `paused`, `stalled` or `down`.
    pub state: String,
    /// Last error; empty if none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_error: String,
    /// Lag in milliseconds; absent if unknown, and until the hub that answers has heard it: it is not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_ms: Option<u64>,
    /// Since when the state holds, RFC 3339.
    pub since: String,
}
