//! Making and judging what the Secret holds.

use std::{sync::Arc, time::SystemTime};

use aws_lc_rs::rand;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::{RootCertStore, server::ParsedCertificate, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Place;
use crate::controllers::secrets::NoRandomness;

/// Random bytes of the password.
const PASSWORD_BYTES: usize = 32;
/// How long the certificates last.
const LIFE: SignedDuration = SignedDuration::from_hours(2 * 365 * 24);
/// How far they are back-dated, because clocks differ a little.
const BACKDATE: SignedDuration = SignedDuration::from_hours(24);
/// How a certificate ends in PEM.
const END: &str = "-----END CERTIFICATE-----";

/// Why there is no material.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InternalError {
    /// The system gave no random bytes.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// A certificate could not be made.
    #[error("make the certificate by which the nodes of a cluster trust each other")]
    Certificate(#[from] rcgen::Error),
}

/// An authority's certificate, the one certificate that it signed, and the key of that, PEM.
pub(super) struct Made {
    pub(super) authority: String,
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Made {
    /// A new authority and certificate.
    ///
    /// # Errors
    /// [`InternalError::Certificate`].
    pub(super) fn new(place: Place<'_>, now: Timestamp) -> Result<Self, InternalError> {
        let ca_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut ca = lasting(CertificateParams::default(), now);
        // OpenSSL finds an issuer by its name, and looks no further if that one did not sign: no two authorities of a
        // cluster may have one name.
        let name = format!("nodes of {}/{}, {now}", place.namespace, place.name);
        ca.distinguished_name.push(DnType::CommonName, name);
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = ca.self_signed(&ca_key)?.pem();

        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut node = lasting(CertificateParams::new(vec![server_name(place)])?, now);
        node.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        node.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = node.signed_by(&key, &Issuer::new(ca, ca_key))?;
        Ok(Self {
            authority,
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn lasting(mut params: CertificateParams, now: Timestamp) -> CertificateParams {
    params.not_before = SystemTime::from(now - BACKDATE).into();
    params.not_after = SystemTime::from(now + LIFE).into();
    params
}

/// The name in the certificate, which every node of the REC asks for.
fn server_name(place: Place<'_>) -> String {
    format!("nodes.{}.{}.meridian.internal", place.name, place.namespace)
}

/// A new password of 64 hexadecimal digits.
///
/// # Errors
/// [`NoRandomness`].
pub(super) fn password() -> Result<String, NoRandomness> {
    let mut password = [0_u8; PASSWORD_BYTES];
    rand::fill(&mut password).map_err(|_| NoRandomness)?;
    let digits = password.iter();
    Ok(digits.fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
}

/// The certificates in `text` that can be read, each PEM of its own, each once.
#[must_use]
pub(super) fn authorities(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for part in text.split_inclusive(END) {
        let one = format!("{}\n", part.trim());
        if CertificateDer::from_pem_slice(one.as_bytes()).is_ok() && !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

/// Whether the pair (certificate and key, PEM) fits together, carries the name of `place`, and is signed by `authority`, now.
#[must_use]
pub(super) fn is_good(
    authority: &str,
    (certificate, key): (&str, &str),
    place: Place<'_>,
    now: Timestamp,
) -> bool {
    check(authority, certificate, key, place, now).is_some()
}

fn check(
    authority: &str,
    certificate: &str,
    key: &str,
    place: Place<'_>,
    now: Timestamp,
) -> Option<()> {
    let leaf = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
    let private = PrivateKeyDer::from_pem_slice(key.as_bytes()).ok()?;
    let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&private).ok()?;
    let certified = CertifiedKey::new(vec![leaf.clone()], signing);
    certified.keys_match().ok()?;
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(authority.as_bytes()).ok()?;
    roots.add(authority).ok()?;
    let parsed = ParsedCertificate::try_from(&leaf).ok()?;
    let name = rustls_pki_types::ServerName::try_from(server_name(place)).ok()?;
    rustls::client::verify_server_name(&parsed, &name).ok()?;
    let since = u64::try_from(now.as_second()).ok()?;
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(since));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms.all;
    rustls::client::verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], at, algorithms)
        .ok()
}

/// When half of the life of `certificate` (PEM) has passed; `None`: it cannot be read.
#[must_use]
pub(super) fn half_life(certificate: &str) -> Option<Timestamp> {
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
    let (_, parsed) = X509Certificate::from_der(&der).ok()?;
    let validity = parsed.validity();
    let (starts, ends) = (
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    );
    Timestamp::from_second(starts + (ends - starts) / 2).ok()
}
