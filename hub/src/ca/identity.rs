//! SPIFFE identities: who a certificate speaks for. The only place that spells or reads them.

use std::fmt;

use meridian_api::ids::ClusterUid;
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

use super::CaError;

/// The first part of every identity, by default `meridian.local`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Takes a name of lower-case letters, digits, `.`, `-` and `_`, as SPIFFE demands.
    ///
    /// # Errors
    /// [`CaError::Name`].
    pub fn new(name: &str) -> Result<Self, CaError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        if name.is_empty() || name.len() > 255 || !name.chars().all(allowed) {
            return Err(CaError::Name {
                name: name.to_owned(),
                reason: "a trust domain has 1 to 255 lower-case letters, digits, '.', '-' or '_'"
                    .to_owned(),
            });
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whom a certificate speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The agent of a cluster: may open the session of that cluster.
    Agent {
        /// The cluster.
        cluster: ClusterUid,
    },
    /// The nodes of one REC: may speak to peers, never to the hub.
    Peer {
        /// The cluster.
        cluster: ClusterUid,
        /// Namespace of the REC.
        namespace: String,
        /// Name of the REC.
        name: String,
    },
}

impl Identity {
    /// The identity as URI.
    #[must_use]
    pub fn uri(&self, domain: &TrustDomain) -> String {
        match self {
            Self::Agent { cluster } => format!("spiffe://{domain}/cluster/{cluster}"),
            Self::Peer {
                cluster,
                namespace,
                name,
            } => {
                format!("spiffe://{domain}/cluster/{cluster}/rec/{namespace}/{name}")
            }
        }
    }

    fn parse(uri: &str, domain: &TrustDomain) -> Result<Self, CaError> {
        let foreign = || {
            CaError::Identity(format!(
                "identity {uri:?} is not spiffe://{domain}/cluster/<uid> or …/cluster/<uid>/rec/<namespace>/<name>"
            ))
        };
        let path = uri
            .strip_prefix(&format!("spiffe://{domain}/"))
            .ok_or_else(foreign)?;
        match path.split('/').collect::<Vec<_>>().as_slice() {
            ["cluster", uid] => Ok(Self::Agent {
                cluster: uid.parse()?,
            }),
            ["cluster", uid, "rec", namespace, name]
                if !namespace.is_empty() && !name.is_empty() =>
            {
                let (namespace, name) = ((*namespace).to_owned(), (*name).to_owned());
                Ok(Self::Peer {
                    cluster: uid.parse()?,
                    namespace,
                    name,
                })
            }
            _ => Err(foreign()),
        }
    }
}

pub(super) fn of_certificate(
    certificate: &CertificateDer<'_>,
    domain: &TrustDomain,
) -> Result<Identity, CaError> {
    let unreadable = |e: &dyn fmt::Display| CaError::Identity(format!("cannot be read: {e}"));
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|e| unreadable(&e))?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|e| unreadable(&e))?;
    let uris: Vec<_> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| {
            if let GeneralName::URI(uri) = name {
                Some(*uri)
            } else {
                None
            }
        })
        .collect();
    match uris.as_slice() {
        [uri] => Identity::parse(uri, domain),
        uris => Err(CaError::Identity(format!(
            "carries {} URIs, expected exactly one identity",
            uris.len()
        ))),
    }
}
