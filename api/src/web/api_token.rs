//! Tokens of the web API: who may do what, in which projects, and until when.

use std::{collections::BTreeSet, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{API_VERSION, Metadata, Object, SessionPerson};

/// A token of the web API. Its secret is part of the answer to its creation and of no other.
pub type ApiToken = Object<ApiTokenSpec, ApiTokenStatus>;

/// What a token may do. Each role has all rights of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ApiRole {
    /// Reads what holds no secret.
    Viewer,
    /// Makes, changes and deletes databases.
    Operator,
    /// Decides who takes part: members, tokens, and the hub itself.
    Admin,
}

/// What is wanted of a token of the web API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiTokenSpec {
    /// Who holds it, for people.
    pub holder: String,
    /// What it may do.
    pub role: ApiRole,
    /// The projects that it is for; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projects: Option<BTreeSet<String>>,
    /// Life of the token in seconds; the hub's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
    /// It has no end; for administrators only, and instead of a life.
    #[serde(default, skip_serializing_if = "is_false")]
    pub never_expires: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// What is known of a token of the web API. Holds the token itself in the answer to its creation: `Debug` does not show it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiTokenStatus {
    /// End of its life, RFC 3339; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Its life is over.
    #[serde(default, skip_serializing_if = "is_false")]
    pub expired: bool,
    /// When it was used last, to the hour, RFC 3339; absent if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<String>,
    /// Who has signed in, where this is the session of a person. Its role and projects are then what the person's groups give now,
    /// taken together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionPerson>,
    /// The token, present only in the answer to its creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

impl fmt::Debug for ApiTokenStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiTokenStatus")
            .field("expires_at", &self.expires_at)
            .field("last_used_at", &self.last_used_at)
            .finish_non_exhaustive()
    }
}

impl ApiToken {
    /// A request for a token.
    pub fn wanted(spec: ApiTokenSpec) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: "ApiToken".to_owned(),
            metadata: Metadata::default(),
            spec,
            status: None,
        }
    }
}
