//! Who a presented certificate speaks for.

use std::fmt;

use meridian_api::identity::{SpiffeId, TrustDomain};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

use super::CaError;

pub(super) fn of_certificate(
    certificate: &CertificateDer<'_>,
    domain: &TrustDomain,
) -> Result<SpiffeId, CaError> {
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
        [uri] => in_domain(uri, domain),
        uris => Err(CaError::Identity(format!(
            "carries {} URIs, expected exactly one identity",
            uris.len()
        ))),
    }
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
