//! Active-Active databases: what a person wants, and what was allocated for it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use meridian_api::ids::{ClusterUid, ObjectId, PlanNumber, StoreId, Term};
use meridian_api::trace::TraceId;
use meridian_api::web::{DEFAULT_PROJECT, PROJECT_LABEL};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A participant as the spec names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Participant {
    /// Name of its remote cluster (RERC).
    pub name: String,
    /// Port of its replication address, if it is not that of the REC.
    #[serde(default)]
    pub external_replication_port: Option<i64>,
}

/// The project of an object with these labels.
#[must_use]
pub fn project(labels: &BTreeMap<String, String>) -> &str {
    labels
        .get(PROJECT_LABEL)
        .map_or(DEFAULT_PROJECT, String::as_str)
}

impl Database {
    /// The project that it belongs to.
    #[must_use]
    pub fn project(&self) -> &str {
        project(&self.labels)
    }

    /// The participants in the order of the spec. A stored spec was valid when it was stored, so one that cannot be
    /// read has none.
    #[must_use]
    pub fn participants(&self) -> Vec<Participant> {
        let list = self
            .spec
            .get("participatingClusters")
            .cloned()
            .unwrap_or_default();
        serde_json::from_value(list).unwrap_or_default()
    }
}

/// An Active-Active database as a person wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Database {
    /// Name, the same on every member.
    pub name: String,
    /// The hub's identity of the REAADB object.
    pub object_id: ObjectId,
    /// The hub's identity of its `ActiveActiveInstance` objects.
    pub instance_object_id: ObjectId,
    /// Identity of the database among its instances; drawn at creation.
    pub guid: String,
    /// The REAADB's spec as it was given, complete.
    pub spec: Value,
    /// Labels of the REAADB.
    pub labels: BTreeMap<String, String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// Rises with each change of the spec.
    pub generation: i64,
    /// Set once a person confirmed its deletion; there is no way back.
    pub deletion: Option<Deletion>,
    /// Members on which a person confirmed that its data goes, because they take part no more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub removals: BTreeMap<ClusterUid, Deletion>,
    /// Trace of the request that wrote it last; `None` if it was written before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
}

/// What the planner waits for, or leaves out, for a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waits {
    /// For people, a line each; never empty.
    pub lines: Vec<String>,
    /// Since when it is these.
    pub since: Timestamp,
    /// Nothing is planned for it, and a person has to look why.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held_back: bool,
}

/// A confirmed deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// Who confirmed it.
    pub approval: String,
    /// When.
    pub at: Timestamp,
}

/// What was allocated for a database, and the plan that did it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    /// Number of the membership; rises with every change of instances or ghosts.
    pub config_version: u64,
    /// Remote cluster → its instance id.
    pub instances: BTreeMap<String, u64>,
    /// Highest instance id ever given; none up to it is given again.
    pub highest_instance_id: u64,
    /// Instance ids that were members once.
    pub ghosts: Vec<u64>,
    /// Remote cluster → the member on which its instance was made. One that is missing was made before this was kept, on the
    /// member that has the remote cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub homes: BTreeMap<String, ClusterUid>,
    /// Plan that last changed anything for this database.
    pub plan_number: PlanNumber,
    /// Term of the hub that made that plan.
    pub hub_term: Term,
    /// Store of the hub that made that plan.
    pub store_id: StoreId,
}
