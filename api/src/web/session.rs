//! Sessions of people who have signed in through an OpenID provider.

use std::{collections::BTreeSet, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ApiRole;

/// Who has signed in, and what that gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Public part of the session, by which it is listed and deleted among the API tokens.
    pub id: String,
    /// Who, according to whom.
    #[serde(flatten)]
    pub person: SessionPerson,
    /// What the person may do now, by its groups.
    pub roles: Vec<SessionRole>,
    /// End of the session, RFC 3339.
    pub expires_at: String,
}

/// A person, as its OpenID provider named it when the session began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionPerson {
    /// The provider.
    pub issuer: String,
    /// The provider's own name of the person.
    pub subject: String,
    /// For people.
    pub name: String,
    /// Groups that the provider counts the person to.
    pub groups: BTreeSet<String>,
}

/// A role that a group gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionRole {
    /// The role.
    pub role: ApiRole,
    /// The projects that it is for; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projects: Option<BTreeSet<String>>,
}

/// What a program shows to get the session of its person.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CodeExchange {
    /// The code that it was called back with.
    pub code: String,
    /// What it proves to be the same program by (RFC 7636).
    pub code_verifier: String,
}

/// A session that begins. Holds its secret: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionGrant {
    /// The session as a bearer token; shown now and never again.
    pub token: String,
    /// Who, and what that gives.
    pub session: Session,
}

impl fmt::Debug for CodeExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeExchange(…)")
    }
}

impl fmt::Debug for SessionGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionGrant")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
