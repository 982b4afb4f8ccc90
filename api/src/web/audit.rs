//! The audit log as the web interface lists it.

use serde::{Deserialize, Serialize};

use super::ListMeta;
use crate::audit::{Place, Record};

/// Records of the audit log, the newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditList {
    /// `group/version`.
    pub api_version: String,
    /// `AuditRecordList`.
    pub kind: String,
    /// Number of the newest record, and how to go on to older ones.
    pub metadata: ListMeta,
    /// The log begins after this place: older records are kept no more.
    pub after: Place,
    /// The newest record.
    pub head: Place,
    /// The records.
    pub items: Vec<Record>,
}
