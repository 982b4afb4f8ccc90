//! Join tokens and the material that makes a cluster join.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{API_VERSION, Metadata, Object, TokenApproval};

/// Name of the Secret that an agent joins with.
const JOIN_SECRET: &str = "meridian-join";

/// A join token. Its secret is part of the answer to its creation and of no other.
pub type Token = Object<TokenSpec, TokenStatus>;

/// What is wanted of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenSpec {
    /// Name that the cluster will be known by.
    pub cluster_name: String,
    /// Life of the token in seconds; the hub's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u32>,
    /// Whether a person must compare words and approve before the cluster gets a certificate.
    #[serde(default)]
    pub require_approval: bool,
}

/// What became of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenStatus {
    /// End of its life, RFC 3339.
    pub expires_at: String,
    /// UID of the cluster that joined with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<String>,
    /// The approval that it demands; absent if it demands none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<TokenApproval>,
    /// Material for joining, present only in the answer to the creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<JoinMaterial>,
}

impl Token {
    /// A request for a token.
    pub fn request(cluster_name: &str, ttl_seconds: Option<u32>, require_approval: bool) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: "Token".to_owned(),
            metadata: Metadata::default(),
            spec: TokenSpec {
                cluster_name: cluster_name.to_owned(),
                ttl_seconds,
                require_approval,
            },
            status: None,
        }
    }
}

/// What a cluster needs to join. Holds the token: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JoinMaterial {
    /// Link addresses of the hub, `host:port`.
    pub hub: Vec<String>,
    /// The hub's root, PEM; the agent trusts nothing else.
    pub ca_pem: String,
    /// The token.
    pub token: String,
    /// Name that the cluster will be known by.
    pub name: String,
}

impl fmt::Debug for JoinMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinMaterial")
            .field("hub", &self.hub)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl JoinMaterial {
    /// The Secret that the agent reads, as YAML for `kubectl apply --namespace <agent's> -f -`.
    ///
    /// Every value is written as a JSON string, which every YAML reader reads as the same text.
    pub fn secret_yaml(&self) -> String {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {JOIN_SECRET}\ntype: Opaque\nstringData:\n  \
             hub: {}\n  ca.crt: {}\n  token: {}\n  name: {}\n",
            text(&self.hub.join(",")),
            text(&self.ca_pem),
            text(&self.token),
            text(&self.name),
        )
    }
}
