//! What a person decides about a cluster.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Approves a join: `POST /api/v1/clusters/{name}/approve`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// The words that the agent shows; see `meridian_api::words`.
    pub words: String,
}

/// Lets somebody in no more: `POST /api/v1/clusters/{name}/deny`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Denial {
    /// Why, for people.
    pub reason: String,
    /// Serial number of the one certificate that is meant; without it the cluster with all that it has or gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Whether the certificate is denied also if the hub knows none of this number.
    #[serde(default)]
    pub even_if_unknown: bool,
}

/// The approval that a join token demands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenApproval {
    /// Words of the device that used the token and waits; absent before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
    /// Who approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
}
