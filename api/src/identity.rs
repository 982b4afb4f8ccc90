//! Identities in certificates: SPIFFE ids of agents and of the nodes of a cluster resource (REC).
//!
//! An agent is `spiffe://<trust domain>/cluster/<uid>`, the nodes of a REC are
//! `spiffe://<trust domain>/cluster/<uid>/rec/<namespace>/<name>`. Identities are compared whole; nothing is matched by prefix.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::ids::ClusterUid;

#[cfg(test)]
mod tests;

/// Trust domain of a hub that was given none.
pub const DEFAULT_TRUST_DOMAIN: &str = "meridian.local";

/// Longest SPIFFE id, bytes (SPIFFE-ID standard, section 2.3).
const MAX_ID: usize = 2048;
/// Longest trust domain, bytes (SPIFFE-ID standard, section 2.1).
const MAX_TRUST_DOMAIN: usize = 255;
/// Longest DNS label, which a namespace is.
const MAX_LABEL: usize = 63;
/// Longest DNS subdomain, which an object's name is.
const MAX_SUBDOMAIN: usize = 253;

/// A text that is not the identity it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a trust domain.
    #[error(
        "trust domain: found {found:?}, expected lower-case letters, digits, dots, dashes and underscores, at most 255 bytes"
    )]
    TrustDomain {
        /// The text.
        found: String,
    },
    /// Neither the identity of an agent nor that of a REC.
    #[error(
        "SPIFFE id: found {found:?}, expected spiffe://<trust domain>/cluster/<uid> or \
         spiffe://<trust domain>/cluster/<uid>/rec/<namespace>/<name>"
    )]
    Form {
        /// The text, shortened.
        found: String,
    },
}

/// The realm in which identities are given; one hub, one trust domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TrustDomain {
    fn default() -> Self {
        Self(DEFAULT_TRUST_DOMAIN.to_owned())
    }
}

impl FromStr for TrustDomain {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let fits =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        if text.is_empty() || text.len() > MAX_TRUST_DOMAIN || !text.bytes().all(fits) {
            return Err(IdentityError::TrustDomain {
                found: shortened(text),
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who shows a certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    /// Realm of the identity.
    pub trust_domain: TrustDomain,
    /// The member cluster.
    pub cluster: ClusterUid,
    /// Set for the nodes of a REC; unset for the cluster's agent.
    pub rec: Option<RecName>,
}

/// Namespace and name of a REC inside its cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecName {
    namespace: String,
    name: String,
}

impl RecName {
    /// Takes a namespace (a DNS label) and a name (a DNS subdomain); anything else could smuggle further path segments in.
    pub fn new(namespace: &str, name: &str) -> Result<Self, IdentityError> {
        let fits = is_dns_name(namespace, MAX_LABEL)
            && !namespace.contains('.')
            && is_dns_name(name, MAX_SUBDOMAIN);
        if !fits {
            return Err(IdentityError::Form {
                found: shortened(&format!("…/rec/{namespace}/{name}")),
            });
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl SpiffeId {
    /// Identity of a cluster's agent.
    pub fn agent(trust_domain: TrustDomain, cluster: ClusterUid) -> Self {
        Self {
            trust_domain,
            cluster,
            rec: None,
        }
    }

    /// Identity of the nodes of a REC.
    pub fn peer(trust_domain: TrustDomain, cluster: ClusterUid, rec: RecName) -> Self {
        Self {
            trust_domain,
            cluster,
            rec: Some(rec),
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/cluster/{}", self.trust_domain, self.cluster)?;
        match &self.rec {
            Some(rec) => write!(f, "/rec/{}/{}", rec.namespace, rec.name),
            None => Ok(()),
        }
    }
}

impl FromStr for SpiffeId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let form = || IdentityError::Form {
            found: shortened(text),
        };
        let rest = text
            .strip_prefix("spiffe://")
            .filter(|_| text.len() <= MAX_ID)
            .ok_or_else(form)?;
        let segments: Vec<&str> = rest.splitn(7, '/').collect();
        let rec = match segments[..] {
            [_, "cluster", _] => None,
            [_, "cluster", _, "rec", namespace, name] => {
                Some(RecName::new(namespace, name).map_err(|_| form())?)
            }
            _ => return Err(form()),
        };
        let [trust_domain, _, cluster, ..] = segments[..] else {
            return Err(form());
        };
        let id = Self {
            trust_domain: trust_domain.parse()?,
            cluster: cluster.parse().map_err(|_| form())?,
            rec,
        };
        // A UUID may be spelled in capitals; an identity has one spelling only.
        if id.to_string() != text {
            return Err(form());
        }
        Ok(id)
    }
}

impl Serialize for SpiffeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SpiffeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// A DNS subdomain as Kubernetes takes it (RFC 1123): labels of letters, digits and inner dashes, lower case.
pub(crate) fn is_dns_name(text: &str, longest: usize) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= MAX_LABEL
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    text.len() <= longest && text.split('.').all(label)
}

/// The beginning of a text that came from outside, for an error message.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 200;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
