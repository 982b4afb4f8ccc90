//! Deletions that wait for a person.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{ObjectId, Revision};

/// A member, or the fleet, of which no data is deleted until a person has looked: `GET /api/v1/freezes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Freeze {
    /// Name of exactly this list of deletions, by which it is released.
    pub list: String,
    /// The member; absent for the fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Since when, RFC 3339.
    pub since: String,
    /// Why, for people.
    pub reason: String,
    /// Databases that were to go within an hour.
    pub databases: usize,
    /// As many are let through.
    pub limit: usize,
    /// Databases that there were.
    pub managed: usize,
    /// What waits.
    pub deletions: Vec<FrozenDeletion>,
}

/// One deletion that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FrozenDeletion {
    /// The member.
    pub cluster: String,
    /// Kind of the object.
    pub kind: String,
    /// Its namespace there.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The hub's identity of it.
    pub object_id: ObjectId,
    /// Revision of the deletion.
    pub revision: Revision,
    /// Who confirmed the deletion of its database.
    pub approved_by: String,
    /// The member was told before the freeze, and was then told to stop.
    pub told: bool,
}
