//! Who a presented certificate speaks for.

use std::fmt;

use jiff::Timestamp;
use meridian_api::identity::{SpiffeId, TrustDomain};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

use super::CaError;
use super::force::InForce;
use crate::domain::denial::{Serial, Speaker};

pub(super) fn of_certificate(
    certificate: &CertificateDer<'_>,
    domain: &TrustDomain,
) -> Result<SpiffeId, CaError> {
    let uris = uris(certificate)?;
    match uris.as_slice() {
        [uri] => in_domain(uri, domain),
        uris => Err(CaError::Identity(format!(
            "carries {} URIs, expected exactly one identity",
            uris.len()
        ))),
    }
}

/// Who a member's certificate speaks for, and what else of it counts.
pub(super) fn speaker(
    certificate: &CertificateDer<'_>,
    domain: &TrustDomain,
    force: &InForce,
) -> Result<Speaker, CaError> {
    let SpiffeId { cluster, rec, .. } = of_certificate(certificate, domain)?;
    if rec.is_some() {
        return Err(CaError::Identity(
            "is a peer certificate; the link is for agents".to_owned(),
        ));
    }
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|e| CaError::Identity(format!("cannot be read: {e}")))?;
    let ends = parsed.validity().not_after.timestamp();
    let ends_at = Timestamp::from_second(ends)
        .map_err(|e| CaError::Identity(format!("ends at no moment: {e}")))?;
    let root = force.signer_of(certificate).ok_or_else(|| {
        let trusted = force.fingerprints().join(", ");
        CaError::Identity(format!(
            "was signed by no root that the hub trusts now, expected one of {trusted}; the device key gets another"
        ))
    })?;
    Ok(Speaker {
        root,
        cluster,
        serial: Serial::of(parsed.raw_serial()),
        ends_at,
    })
}

/// Refuses a certificate that carries an identity: an agent's or a peer's, which speaks for a member and never for the hub,
/// whatever other names are in it.
///
/// # Errors
/// [`CaError::Identity`].
pub fn must_be_a_hubs(certificate: &CertificateDer<'_>) -> Result<(), CaError> {
    match uris(certificate)?.first() {
        None => Ok(()),
        Some(uri) => Err(CaError::Identity(format!(
            "is that of the member {uri}, expected one of a hub"
        ))),
    }
}

fn uris(certificate: &CertificateDer<'_>) -> Result<Vec<String>, CaError> {
    let unreadable = |e: &dyn fmt::Display| CaError::Identity(format!("cannot be read: {e}"));
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|e| unreadable(&e))?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|e| unreadable(&e))?;
    let uris = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| {
            if let GeneralName::URI(uri) = name {
                Some((*uri).to_owned())
            } else {
                None
            }
        });
    Ok(uris.collect())
}

fn in_domain(uri: &str, domain: &TrustDomain) -> Result<SpiffeId, CaError> {
    let id: SpiffeId = uri
        .parse()
        .map_err(|e: meridian_api::identity::IdentityError| CaError::Identity(e.to_string()))?;
    if id.trust_domain != *domain {
        return Err(CaError::Identity(format!(
            "identity {uri:?} is not of the trust domain {domain}"
        )));
    }
    Ok(id)
}
