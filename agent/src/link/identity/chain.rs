//! Keys, requests and certificates in the forms that Secrets and the wire want.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{IdentityError, Life};

/// A new P-256 key, PEM.
///
/// # Errors
/// [`IdentityError::Crypto`]: the crypto library has no randomness.
pub fn new_session_key() -> Result<String, IdentityError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .map(|key| key.serialize_pem())
        .map_err(|source| IdentityError::Crypto {
            what: "making a session key",
            source,
        })
}

/// A certificate request (PKCS #10, DER) for the key `key_pem`. The signer takes nothing but the public key.
///
/// # Errors
/// [`IdentityError::Crypto`]: the key cannot be read or used.
pub fn certificate_request(key_pem: &str, dns_names: &[String]) -> Result<Vec<u8>, IdentityError> {
    let failed = |source| IdentityError::Crypto {
        what: "making a certificate request",
        source,
    };
    let key = KeyPair::from_pem(key_pem).map_err(failed)?;
    let params = CertificateParams::new(dns_names.to_vec()).map_err(failed)?;
    Ok(params
        .serialize_request(&key)
        .map_err(failed)?
        .der()
        .as_ref()
        .to_vec())
}

/// Checks that the first certificate of `chain` is for `key`, and returns its life.
///
/// # Errors
/// [`IdentityError::Answer`]: empty, unreadable, or for another key.
pub fn check_chain<C: AsRef<[u8]>>(chain: &[C], key: &KeyPair) -> Result<Life, IdentityError> {
    let answer = |found: String, expected| IdentityError::Answer { found, expected };
    let first = chain
        .first()
        .ok_or_else(|| answer("no certificate".to_owned(), "one for our key"))?;
    let life = life_of(first.as_ref()).map_err(|found| answer(found, "an X.509 certificate"))?;
    let (_, parsed) = X509Certificate::from_der(first.as_ref()).map_err(|error| {
        answer(
            format!("a certificate that cannot be read ({error})"),
            "an X.509 certificate",
        )
    })?;
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(answer(
            "a certificate for another key".to_owned(),
            "one for the key of our request",
        ));
    }
    Ok(life)
}

/// The life of a certificate.
///
/// # Errors
/// A sentence saying what is wrong with it.
pub fn life_of(der: &[u8]) -> Result<Life, String> {
    let (_, parsed) = X509Certificate::from_der(der)
        .map_err(|error| format!("a certificate that cannot be read ({error})"))?;
    let validity = parsed.validity();
    Ok(Life {
        not_before_ms: validity.not_before.timestamp().saturating_mul(1000),
        not_after_ms: validity.not_after.timestamp().saturating_mul(1000),
    })
}

/// A certificate in PEM.
#[must_use]
pub fn certificate_pem(der: &[u8]) -> String {
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let text = STANDARD.encode(der);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
