//! Members that were declared lost for good.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::ClusterUid;

/// A member that a person declared lost, and what nobody cleans up there: `GET /api/v1/lostclusters`, and the answer to
/// `POST /api/v1/clusters/{name}/lose`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LostCluster {
    /// Name that it had.
    pub name: String,
    /// UID of its namespace `kube-system`.
    pub uid: ClusterUid,
    /// When it was declared lost, RFC 3339.
    pub declared_at: String,
    /// Who declared it.
    pub declared_by: String,
    /// Since when it had no session, RFC 3339; absent if it never had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away_since: Option<String>,
    /// Databases that took part there and go on without it.
    #[serde(default)]
    pub databases: Vec<String>,
    /// What may still be there.
    #[serde(default)]
    pub residue: Vec<LostResidue>,
}

/// Something that may be left on a lost member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LostResidue {
    /// Namespace there.
    pub namespace: String,
    /// Kind of what is left; several with commas between them.
    pub kind: String,
    /// Name, or what its names begin with.
    pub name: String,
    /// What it holds.
    pub holds: String,
    /// How it is removed there by kubectl, after the agent.
    pub remove: String,
}
