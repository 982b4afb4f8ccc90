//! The hub's own certificate authority: the roots that members trust, of which the first signs. Their keys lie in files of mode 0600
//! outside of the store, so that a lost or restored store changes no identity. Replicas of one hub have copies of the same files,
//! or one mounted Secret. Which roots are in force, and in which order, the store says ([`crate::domain::trust`]); a directory
//! that belongs to this hub alone remembers it beside the keys, because there a store that went back in time is noticed.
//!
//! From a signing request nothing but the public key is taken: subject, names, purposes and life are the hub's to say.

mod force;
mod identity;
mod pairs;
pub(crate) mod root;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::{SignedDuration, Timestamp};
use meridian_api::identity::{SpiffeId, TrustDomain};
use meridian_api::ids::ClusterUid;
use meridian_api::renewal::Life;
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

pub use identity::must_be_a_hubs;

use crate::domain::denial::Speaker;
use force::InForce;
use pairs::Pairs;
use tokio::sync::watch;

pub use force::ends_at;
pub use pairs::next_root;
pub use root::Origin;

/// How far certificates are back-dated, so that a member whose clock is behind can use them at once.
pub const BACKDATE: SignedDuration = SignedDuration::from_mins(10);
/// Life of an agent's certificate.
pub const AGENT_LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Life of a peer certificate: how long regions replicate with the hub away, counted from the last renewal.
pub const PEER_LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Life of the hub's own server certificates; they are made again long before.
pub const SERVER_LIFE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Why the authority could not start or refused to sign.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file of the authority cannot be read or written.
    #[error("{path}: could not {operation}")]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A file of the authority has the wrong content.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The signing request is not one.
    #[error("certificate request: {0}; expected PKCS #10 in DER, signed by its own key")]
    Request(String),
    /// The key of the signing request is of a kind that the hub does not certify.
    #[error(
        "certificate request: key of algorithm {0}; expected Ed25519, ECDSA P-256 or ECDSA P-384"
    )]
    Algorithm(String),
    /// A name cannot stand in a certificate.
    #[error("name {name:?} cannot stand in a certificate: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        reason: String,
    },
    /// There is no key for a root.
    #[error(
        "{dir}: found no files root.key and root.crt, or root-NAME.key and root-NAME.crt, of the root {fingerprint}; expected them, \
         because the store says that it signs: copy them from a backup or from another replica"
    )]
    NoRoot {
        /// Where it was looked for.
        dir: PathBuf,
        /// The root.
        fingerprint: String,
    },
    /// A root cannot take over.
    #[error("{path}: {reason}")]
    Newcomer {
        /// Its certificate, or the directory where there should be one.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A presented certificate does not carry exactly one identity of this trust domain.
    #[error("presented certificate: {0}")]
    Identity(String),
    /// The signature could not be made.
    #[error("could not sign")]
    Sign(#[source] rcgen::Error),
}

/// A certificate that the authority signed.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate and what leads to the root, the certificate first, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Start of its life (back-dated).
    pub not_before: Timestamp,
    /// End of its life.
    pub not_after: Timestamp,
    /// Identity in it.
    pub identity: SpiffeId,
}

/// A server certificate with its private key.
#[derive(Debug)]
pub struct ServerIdentity {
    /// The certificate, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key, which is on no disk.
    pub key: PrivateKeyDer<'static>,
    /// Its life.
    pub life: Life,
    /// Fingerprint of the root that signed it.
    pub signer: String,
}

/// What a leaf certificate is for.
struct Leaf {
    names: Vec<SanType>,
    common_name: String,
    purposes: Vec<ExtendedKeyUsagePurpose>,
    life: SignedDuration,
}

/// The authority. What is in force is exchanged while it is used.
#[derive(Debug)]
pub struct Authority {
    trust_domain: TrustDomain,
    pairs: Pairs,
    force: ArcSwap<InForce>,
    changed: watch::Sender<u64>,
    /// Root that signed the certificate which this process shows.
    serving: ArcSwapOption<String>,
}

impl Authority {
    /// Trust domain of every identity that this authority signs.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// A server certificate for the hub itself with a new key. Names are DNS names or addresses.
    ///
    /// # Errors
    /// [`CaError::Name`] for a name that is neither, [`CaError::Sign`].
    pub fn issue_server(
        &self,
        names: &[String],
        now: Timestamp,
    ) -> Result<ServerIdentity, CaError> {
        let key = KeyPair::generate().map_err(CaError::Sign)?;
        let force = self.force.load();
        let leaf = Leaf {
            names: names
                .iter()
                .map(|name| host_name(name))
                .collect::<Result<_, _>>()?,
            common_name: "meridian-hub".to_owned(),
            purposes: vec![ExtendedKeyUsagePurpose::ServerAuth],
            life: SERVER_LIFE,
        };
        let (certificate, not_before, not_after) = sign(&force, leaf, &key, now)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(ServerIdentity {
            chain: vec![certificate],
            key,
            life: Life {
                not_before_ms: not_before.as_millisecond(),
                not_after_ms: not_after.as_millisecond(),
            },
            signer: force.bundle.signer().to_owned(),
        })
    }

    /// The certificate with which the agent of a cluster opens its session.
    ///
    /// # Errors
    /// [`CaError::Request`], [`CaError::Algorithm`], [`CaError::Sign`].
    pub fn issue_agent(
        &self,
        cluster: ClusterUid,
        csr: &[u8],
        now: Timestamp,
    ) -> Result<Issued, CaError> {
        self.issue(
            SpiffeId::agent(self.trust_domain.clone(), cluster),
            &[],
            csr,
            now,
        )
    }

    /// The certificate with which the nodes of a REC meet their peers, as client and as server.
    ///
    /// # Errors
    /// As [`Authority::issue_agent`], and [`CaError::Name`] for a DNS name that is none.
    pub fn issue_peer(
        &self,
        identity: SpiffeId,
        dns_names: &[String],
        csr: &[u8],
        now: Timestamp,
    ) -> Result<Issued, CaError> {
        self.issue(identity, dns_names, csr, now)
    }

    /// The identity in a certificate that a TLS peer presented and whose chain TLS has verified.
    ///
    /// # Errors
    /// [`CaError::Identity`] unless it carries exactly one URI, which is of this trust domain.
    pub fn identify(&self, certificate: &CertificateDer<'_>) -> Result<SpiffeId, CaError> {
        identity::of_certificate(certificate, &self.trust_domain)
    }

    /// Who speaks with a certificate that a TLS peer presented and whose chain TLS has verified: the agent of a cluster. TLS looked
    /// when the connection began, and a root may be trusted no more since.
    ///
    /// # Errors
    /// [`CaError::Identity`] for every other certificate, those of the nodes of a REC and those of other roots among them.
    pub fn speaker(&self, certificate: &CertificateDer<'_>) -> Result<Speaker, CaError> {
        let force = self.force.load();
        identity::speaker(certificate, &self.trust_domain, &force)
    }

    fn issue(
        &self,
        identity: SpiffeId,
        dns_names: &[String],
        csr: &[u8],
        now: Timestamp,
    ) -> Result<Issued, CaError> {
        let key = public_key(csr)?;
        let uri = identity.to_string();
        let mut names = vec![SanType::URI(ia5(&uri)?)];
        for name in dns_names {
            names.push(SanType::DnsName(ia5(name)?));
        }
        let (purposes, life) = match &identity.rec {
            None => (vec![ExtendedKeyUsagePurpose::ClientAuth], AGENT_LIFE),
            Some(_) => {
                let both = [
                    ExtendedKeyUsagePurpose::ClientAuth,
                    ExtendedKeyUsagePurpose::ServerAuth,
                ];
                (both.to_vec(), PEER_LIFE)
            }
        };
        let leaf = Leaf {
            names,
            common_name: "meridian".to_owned(),
            purposes,
            life,
        };
        let (certificate, not_before, not_after) = sign(&self.force.load(), leaf, &key, now)?;
        Ok(Issued {
            chain: vec![certificate],
            not_before,
            not_after,
            identity,
        })
    }
}

fn sign(
    force: &InForce,
    leaf: Leaf,
    key: &impl PublicKeyData,
    now: Timestamp,
) -> Result<(CertificateDer<'static>, Timestamp, Timestamp), CaError> {
    let Leaf {
        names,
        common_name,
        purposes,
        life,
    } = leaf;
    let mut params = CertificateParams::default();
    let (not_before, not_after) = (now - BACKDATE, now + life);
    params.not_before = SystemTime::from(not_before).into();
    params.not_after = SystemTime::from(not_after).into();
    params.serial_number = Some(serial());
    params.distinguished_name = root::subject(&common_name);
    params.subject_alt_names = names;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = purposes;
    params.use_authority_key_identifier_extension = true;
    let certificate = params
        .signed_by(key, &force.issuer)
        .map_err(CaError::Sign)?;
    Ok((certificate.der().clone(), not_before, not_after))
}

/// 127 random bits: a positive number that nobody can guess or meet twice.
fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

fn ia5(name: &str) -> Result<rcgen::string::Ia5String, CaError> {
    name.try_into().map_err(|e: rcgen::Error| CaError::Name {
        name: name.to_owned(),
        reason: e.to_string(),
    })
}

fn host_name(name: &str) -> Result<SanType, CaError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let valid = rustls_pki_types::DnsName::try_from(name);
    valid.map_err(|e| CaError::Name {
        name: name.to_owned(),
        reason: e.to_string(),
    })?;
    Ok(SanType::DnsName(ia5(name)?))
}

/// The public key of a signing request, after its own signature has proved that the asker holds the private one.
fn public_key(csr: &[u8]) -> Result<SubjectPublicKeyInfo, CaError> {
    let (rest, request) =
        X509CertificationRequest::from_der(csr).map_err(|e| CaError::Request(e.to_string()))?;
    if !rest.is_empty() {
        return Err(CaError::Request(format!("{} bytes follow it", rest.len())));
    }
    request
        .verify_signature()
        .map_err(|e| CaError::Request(format!("its signature does not hold: {e}")))?;
    let info = &request.certification_request_info.subject_pki;
    let key = SubjectPublicKeyInfo::from_der(info.raw)
        .map_err(|_| CaError::Algorithm(info.algorithm.algorithm.to_string()))?;
    let certified = [
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
    ];
    if !certified.contains(&key.algorithm()) {
        return Err(CaError::Algorithm(info.algorithm.algorithm.to_string()));
    }
    Ok(key)
}
