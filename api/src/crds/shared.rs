//! Parts that several kinds use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;

open_enum! {
    /// How a database is kept on disk.
    pub enum Persistence {
        /// Not at all.
        Disabled = "disabled",
        /// Append-only file, synced every second.
        AofEverySecond = "aofEverySecond",
        /// Append-only file, synced before each acknowledgement.
        AofAlways = "aofAlways",
        /// A snapshot every hour.
        SnapshotEvery1Hour = "snapshotEvery1Hour",
        /// A snapshot every six hours.
        SnapshotEvery6Hour = "snapshotEvery6Hour",
        /// A snapshot every twelve hours.
        SnapshotEvery12Hour = "snapshotEvery12Hour",
    }
}

/// A condition of an object, in the form that `kubectl wait --for=condition=…` reads.
///
/// An own type because that of Kubernetes demands a time stamp that this crate, which has no clock, could only invent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition is about, such as `Ready`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word for machines that says why.
    pub reason: String,
    /// A sentence for people: what was found, what was expected, the next step.
    #[serde(default)]
    pub message: String,
    /// When `status` changed last, RFC 3339.
    #[serde(default)]
    pub last_transition_time: String,
    /// The `metadata.generation` that the condition speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
