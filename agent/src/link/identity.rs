//! Who this agent is: its keys, its certificate, and the roots it trusts, as kept in one Secret. Pure.
//!
//! The *device key* (Ed25519) never ends and proves the cluster to the hub when everything else has expired. The
//! *session key* (P-256) is the one in the agent's certificate; it changes with each renewal. Both are made here and
//! leave this cluster in no form. They are stored **before** the first call to the hub, so that a lost reply is
//! repeated with the same keys and answered with the same membership.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
pub use meridian_api::renewal::Life;
use meridian_api::{link::proto, trust};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};
use thiserror::Error;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::join::{HubAddress, parse_addresses, roots};

mod chain;

pub use chain::{certificate_pem, certificate_request, check_chain, life_of, new_session_key};

/// Name of the Secret with the identity.
pub const SECRET: &str = "meridian-identity";

/// Why an identity cannot be made or read.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// A stored part cannot be read.
    #[error(
        "Secret `{SECRET}`, key `{key}`: {found}, expected {expected}; to join anew, delete the Secret and apply \
         fresh join material"
    )]
    Stored {
        /// The key.
        key: &'static str,
        /// What is wrong.
        found: String,
        /// What should be there.
        expected: &'static str,
    },
    /// The crypto library failed.
    #[error("{what}: {source}")]
    Crypto {
        /// What was tried.
        what: &'static str,
        /// What the library said.
        source: rcgen::Error,
    },
    /// The hub's answer cannot be used.
    #[error(
        "the hub's answer has {found}, expected {expected}: check that hub and agent are of supported versions"
    )]
    Answer {
        /// What is wrong.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
}

/// The identity as stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    device_pem: String,
    session_pem: String,
    /// Present once the hub has signed the session key.
    pub membership: Option<Membership>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("membership", &self.membership)
            .finish_non_exhaustive()
    }
}

/// What the hub gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The agent's certificate chain, PEM.
    pub chain_pem: String,
    /// Life of the certificate, milliseconds since 1970.
    pub life: Life,
    /// Roots, trust domain and their version.
    pub trust: Trust,
    /// Name of the cluster at the hub.
    pub cluster_name: String,
    /// Link addresses that the hub gave; empty means those of the join material.
    pub addresses: Vec<HubAddress>,
    /// Opaque state for a recovery.
    pub join_state: Vec<u8>,
    /// [`super::join::JoinMaterial::fingerprint`] of the material that made us a member.
    pub joined_with: String,
}

/// The roots that a member trusts.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Trust {
    /// Root certificates, PEM.
    pub roots_pem: String,
    /// Rises with each change.
    pub version: u64,
    /// Trust domain of all identities.
    pub domain: String,
}

impl Trust {
    /// Reads a bundle of the hub.
    ///
    /// # Errors
    /// [`IdentityError::Answer`]: no root, a root that is no certificate, or no trust domain.
    pub fn of(bundle: &proto::TrustBundle) -> Result<Self, IdentityError> {
        let answer = |found: &str, expected| IdentityError::Answer {
            found: found.to_owned(),
            expected,
        };
        if bundle.roots.is_empty() {
            return Err(answer("no root in its trust bundle", "at least one"));
        }
        if bundle.trust_domain.is_empty() {
            return Err(answer("no trust domain", "a name such as meridian.local"));
        }
        for root in &bundle.roots {
            X509Certificate::from_der(root).map_err(|error| IdentityError::Answer {
                found: format!("a root that cannot be read ({error})"),
                expected: "an X.509 certificate",
            })?;
        }
        let roots_pem = bundle
            .roots
            .iter()
            .map(|root| certificate_pem(root))
            .collect();
        Ok(Self {
            roots_pem,
            version: bundle.version,
            domain: bundle.trust_domain.clone(),
        })
    }

    /// Its roots, DER, the one that signs first.
    #[must_use]
    pub fn roots(&self) -> Vec<Vec<u8>> {
        roots(&self.roots_pem).unwrap_or_default()
    }

    /// What the hub knows these roots by, see [`trust::digest`].
    #[must_use]
    pub fn digest(&self) -> Vec<u8> {
        trust::digest(self.roots().iter().map(Vec::as_slice))
    }

    /// The root that signed a certificate, DER, if it is one of these.
    #[must_use]
    pub fn signer_of(&self, certificate: &[u8]) -> Option<String> {
        trust::signer(certificate, self.roots().iter().map(Vec::as_slice))
    }

    /// Whether the root that signs now signed this certificate, DER: one of another root is renewed early.
    #[must_use]
    pub fn is_of_the_signing_root(&self, certificate: &[u8]) -> bool {
        let roots = self.roots();
        let first = roots.first().map(Vec::as_slice);
        trust::signer(certificate, first).is_some()
    }

    /// The bundle to keep of two of one hub: a lower version is a replayed one, and another of the same version is not that hub's.
    #[must_use]
    pub fn newer(self, offered: Self) -> Self {
        if offered.version > self.version {
            return offered;
        }
        if offered != self {
            tracing::warn!(
                offered = offered.version,
                known = self.version,
                "roots of a version that is not higher were not taken"
            );
        }
        self
    }
}

impl Identity {
    /// Makes fresh keys.
    ///
    /// # Errors
    /// [`IdentityError::Crypto`]: the crypto library has no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        let device =
            KeyPair::generate_for(&PKCS_ED25519).map_err(|source| IdentityError::Crypto {
                what: "making the device key",
                source,
            })?;
        Ok(Self {
            device_pem: device.serialize_pem(),
            session_pem: new_session_key()?,
            membership: None,
        })
    }

    /// Reads what [`Identity::data`] wrote.
    ///
    /// # Errors
    /// [`IdentityError::Stored`] names the key that cannot be read.
    pub fn read(data: &BTreeMap<String, ByteString>) -> Result<Self, IdentityError> {
        let device_pem = required(data, "device.key")?;
        let session_pem = required(data, "tls.key")?;
        for (key, pem) in [("device.key", &device_pem), ("tls.key", &session_pem)] {
            KeyPair::from_pem(pem).map_err(|error| IdentityError::Stored {
                key,
                found: error.to_string(),
                expected: "a private key in PEM",
            })?;
        }
        let membership = if data.contains_key("tls.crt") {
            Some(Membership::read(data)?)
        } else {
            None
        };
        Ok(Self {
            device_pem,
            session_pem,
            membership,
        })
    }

    /// The data of the Secret.
    #[must_use]
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let mut data = BTreeMap::from([
            ("device.key".to_owned(), bytes(&self.device_pem)),
            ("tls.key".to_owned(), bytes(&self.session_pem)),
        ]);
        if let Some(membership) = &self.membership {
            membership.write(&mut data);
        }
        data
    }

    /// Raw public half of the device key, 32 bytes.
    ///
    /// # Errors
    /// [`IdentityError::Stored`]: the key cannot be read.
    pub fn device_public_key(&self) -> Result<Vec<u8>, IdentityError> {
        Ok(self.device()?.der_bytes().to_vec())
    }

    /// Ed25519 signature of `message` by the device key.
    ///
    /// # Errors
    /// [`IdentityError`]: the key cannot be read or used.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, IdentityError> {
        let signed = self.device()?.sign(message);
        signed.map_err(|source| IdentityError::Crypto {
            what: "signing with the device key",
            source,
        })
    }

    /// A certificate request (PKCS #10, DER) for the session key.
    ///
    /// # Errors
    /// [`IdentityError`]: the key cannot be read or used.
    pub fn request(&self) -> Result<Vec<u8>, IdentityError> {
        certificate_request(&self.session_pem, &[])
    }

    /// The session key, PEM. Goes to the TLS library and to the Secret, nowhere else.
    #[must_use]
    pub fn session_key_pem(&self) -> &str {
        &self.session_pem
    }

    /// The same device with a new session key that the hub has not signed yet.
    ///
    /// # Errors
    /// [`IdentityError::Crypto`]: the crypto library has no randomness.
    pub fn with_new_session_key(&self) -> Result<Self, IdentityError> {
        Ok(Self {
            session_pem: new_session_key()?,
            ..self.clone()
        })
    }

    /// Takes the hub's answer to the request for the present session key. Of the hub that made us a member no older roots are taken
    /// than those that are known; join material that a person brings may name any.
    ///
    /// # Errors
    /// [`IdentityError::Answer`]: the certificate is not for our key, or a part is missing.
    pub fn accept(
        &mut self,
        result: &proto::EnrollResult,
        joined_with: &str,
    ) -> Result<(), IdentityError> {
        let answer = |found: String, expected| IdentityError::Answer { found, expected };
        let key = KeyPair::from_pem(&self.session_pem).map_err(|error| IdentityError::Stored {
            key: "tls.key",
            found: error.to_string(),
            expected: "a private key in PEM",
        })?;
        let life = check_chain(&result.certificate_chain, &key)?;
        let trust = result
            .trust
            .as_ref()
            .ok_or_else(|| answer("no trust bundle".to_owned(), "the roots to trust"))?;
        let addresses = match result.hub_addresses.join(",") {
            none if none.is_empty() => Vec::new(),
            some => parse_addresses(&some)
                .map_err(|error| answer(error.to_string(), "link addresses"))?,
        };
        let trust = Trust::of(trust)?;
        let known = self.membership.take();
        let known = known.filter(|known| known.joined_with == joined_with);
        self.membership = Some(Membership {
            chain_pem: result
                .certificate_chain
                .iter()
                .map(|der| certificate_pem(der))
                .collect(),
            life,
            trust: match known {
                Some(known) => known.trust.newer(trust),
                None => trust,
            },
            cluster_name: result.cluster_name.clone(),
            addresses,
            join_state: result.join_state.to_vec(),
            joined_with: joined_with.to_owned(),
        });
        Ok(())
    }

    fn device(&self) -> Result<KeyPair, IdentityError> {
        KeyPair::from_pem(&self.device_pem).map_err(|error| IdentityError::Stored {
            key: "device.key",
            found: error.to_string(),
            expected: "an Ed25519 private key in PEM",
        })
    }
}

impl Membership {
    /// When the certificate is to be renewed, milliseconds since 1970.
    #[must_use]
    pub fn renewed_at(&self) -> i64 {
        self.life.renewed_at(&self.certificate())
    }

    /// Whether the certificate is of a root that is on its way out.
    #[must_use]
    pub fn is_of_an_old_root(&self) -> bool {
        !self.trust.is_of_the_signing_root(&self.certificate())
    }

    /// The agent's certificate, DER.
    fn certificate(&self) -> Vec<u8> {
        let chain = roots(&self.chain_pem).unwrap_or_default();
        chain.into_iter().next().unwrap_or_default()
    }

    fn read(data: &BTreeMap<String, ByteString>) -> Result<Self, IdentityError> {
        let chain_pem = required(data, "tls.crt")?;
        let unreadable = |found: String| IdentityError::Stored {
            key: "tls.crt",
            found,
            expected: "certificates in PEM",
        };
        let chain = roots(&chain_pem).ok_or_else(|| unreadable("it cannot be read".to_owned()))?;
        let first = chain
            .first()
            .ok_or_else(|| unreadable("it is empty".to_owned()))?;
        let life = life_of(first).map_err(unreadable)?;
        let addresses = match optional(data, "hub-addresses")? {
            Some(text) => parse_addresses(&text).map_err(|error| IdentityError::Stored {
                key: "hub-addresses",
                found: error.to_string(),
                expected: "host:port, several separated by commas",
            })?,
            None => Vec::new(),
        };
        let version = required(data, "trust-version")?;
        let version = version.parse().map_err(|_| IdentityError::Stored {
            key: "trust-version",
            found: format!("found `{version}`"),
            expected: "a number",
        })?;
        Ok(Self {
            chain_pem,
            life,
            trust: Trust {
                roots_pem: required(data, "ca.crt")?,
                version,
                domain: required(data, "trust-domain")?,
            },
            cluster_name: required(data, "cluster-name")?,
            addresses,
            join_state: data
                .get("join-state")
                .map(|bytes| bytes.0.clone())
                .unwrap_or_default(),
            joined_with: required(data, "joined-with")?,
        })
    }

    fn write(&self, data: &mut BTreeMap<String, ByteString>) {
        let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        let parts = [
            ("tls.crt", self.chain_pem.clone()),
            ("ca.crt", self.trust.roots_pem.clone()),
            ("trust-version", self.trust.version.to_string()),
            ("trust-domain", self.trust.domain.clone()),
            ("cluster-name", self.cluster_name.clone()),
            ("hub-addresses", addresses.join(",")),
            ("joined-with", self.joined_with.clone()),
        ];
        data.extend(parts.map(|(key, text)| (key.to_owned(), bytes(&text))));
        data.insert("join-state".to_owned(), ByteString(self.join_state.clone()));
    }
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

fn optional(
    data: &BTreeMap<String, ByteString>,
    key: &'static str,
) -> Result<Option<String>, IdentityError> {
    let Some(found) = data.get(key) else {
        return Ok(None);
    };
    let text = String::from_utf8(found.0.clone()).map_err(|_| IdentityError::Stored {
        key,
        found: "found bytes that are not UTF-8".to_owned(),
        expected: "text",
    })?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn required(
    data: &BTreeMap<String, ByteString>,
    key: &'static str,
) -> Result<String, IdentityError> {
    optional(data, key)?.ok_or(IdentityError::Stored {
        key,
        found: "nothing found".to_owned(),
        expected: "a value",
    })
}

#[cfg(test)]
mod tests;
