//! Who is at the other end.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use x509_parser::extensions::GeneralName;

/// Why a certificate names nobody, or the wrong one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// It cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// It has none or several SPIFFE ids.
    #[error("the certificate carries {0} SPIFFE ids, expected exactly one")]
    Count(usize),
    /// Our authority did not sign it.
    #[error(
        "the certificate is not signed by the authority in this region's ca.crt ({0:?}); both regions need certificates of one \
         authority"
    )]
    Authority(CertificateError),
    /// It belongs to somebody else.
    #[error("the certificate belongs to {found}, but the membership says {expected}")]
    Other {
        /// The certificate's SPIFFE id.
        found: String,
        /// The member's.
        expected: String,
    },
}

/// The one SPIFFE id that a certificate carries.
///
/// # Errors
/// [`IdentityError`] if it carries none or several.
pub(crate) fn spiffe_id(certificate: &CertificateDer<'_>) -> Result<String, IdentityError> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|_| IdentityError::Unreadable)?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| IdentityError::Unreadable)?;
    let ids: Vec<&str> = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| {
            if let GeneralName::URI(uri) = name {
                Some(*uri)
            } else {
                None
            }
        })
        .filter(|uri| uri.starts_with("spiffe://"))
        .collect();
    match ids.as_slice() {
        [id] => Ok((*id).to_owned()),
        other => Err(IdentityError::Count(other.len())),
    }
}

/// Accepts a server whose chain leads to our authority and whose SPIFFE id is the expected one.
#[derive(Debug)]
pub(super) struct MemberVerifier {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    expected: String,
}

impl MemberVerifier {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
        expected: String,
    ) -> Self {
        Self {
            roots,
            provider,
            expected,
        }
    }
}

fn refused(error: IdentityError) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

fn explained(error: rustls::Error) -> rustls::Error {
    if let rustls::Error::InvalidCertificate(
        cause @ (CertificateError::BadSignature | CertificateError::UnknownIssuer),
    ) = error
    {
        return refused(IdentityError::Authority(cause));
    }
    error
}

/// Our own words about a failed handshake, where there are some: TLS wraps them into its own debug form.
pub(crate) fn own_words(error: std::io::Error) -> std::io::Error {
    let reason = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match reason {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(words)))) => {
            std::io::Error::other(words.to_string())
        }
        Some(_) | None => error,
    }
}

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _routing_only: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )
        .map_err(explained)?;
        let found = spiffe_id(end_entity).map_err(refused)?;
        if found == self.expected {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(refused(IdentityError::Other {
                found,
                expected: self.expected.clone(),
            }))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
