//! Certificates of nodes, for tests: what they share, and what a person chose.

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use meridian_api::certificates::Role;
use rustls::pki_types::ServerName;

use super::*;
use crate::atomic_file;
use crate::sync::certificates::Own;

/// The name in the certificate that nodes share.
pub(in crate::sync) const NAME: &str = "nodes.rec.ns.meridian.internal";

/// An authority of its own with one certificate for `name` in `directory`.
pub(in crate::sync) fn secret(directory: &Path, name: &str) {
    atomic_file::make_dir(directory).unwrap();
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let mut leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
    leaf.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate().unwrap();
    let certificate = leaf.signed_by(&key, &issuer).unwrap().pem();
    for (file, text) in [
        ("ca.crt", ca_pem),
        ("tls.crt", certificate),
        ("tls.key", key.serialize_pem()),
    ] {
        atomic_file::write(&directory.join(file), text.as_bytes()).unwrap();
    }
}

pub(in crate::sync) fn certificates(directory: &Path) -> Arc<Certificates> {
    let certificates = Certificates::new(directory);
    certificates.reload().unwrap();
    Arc::new(certificates)
}

/// What the nodes share in `directory`, with a certificate that a person chose for `role`.
pub(in crate::sync) fn between(directory: &Path, chosen: &Arc<Own>, role: Role) -> Between {
    let shared = certificates(directory);
    Between::new(shared, Arc::clone(chosen), role)
}

/// Nothing is chosen.
pub(in crate::sync) fn nothing() -> Arc<Own> {
    Own::new(PathBuf::new())
}

/// A certificate that nobody of the cluster signed, and its key.
pub(in crate::sync) fn foreign() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["chosen.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    (certificate, key.serialize_pem())
}

/// What a node knows that has read `pair` as the chosen one; none: the Secret names none any more.
pub(in crate::sync) fn read(own: &Own, role: Role, pair: Option<&(String, String)>) {
    let entries = pair.map(|(certificate, key)| {
        [
            (role.certificate_key(), certificate),
            (role.private_key(), key),
        ]
        .map(|(name, text)| (name, ByteString(text.as_bytes().to_vec())))
        .into()
    });
    own.apply(&Secret {
        data: entries,
        ..Secret::default()
    });
}

/// The certificate that a listener shows to whoever asks by `name` and has nothing against it.
pub(in crate::sync) async fn shown_to(
    address: (&str, u16),
    directory: &Path,
    name: &str,
) -> CertificateDer<'static> {
    #[derive(Debug)]
    struct Anybody(rustls::crypto::WebPkiSupportedAlgorithms);
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: rustls::pki_types::UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
        }
        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.0.supported_schemes()
        }
    }
    let pem = |file: &str| std::fs::read(directory.join(file)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let anybody = Anybody(provider.signature_verification_algorithms);
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anybody))
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(&pem("tls.crt")).unwrap()],
            PrivateKeyDer::from_pem_slice(&pem("tls.key")).unwrap(),
        )
        .unwrap();
    let tcp = tokio::net::TcpStream::connect(address).await;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, tcp.unwrap())
        .await
        .unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}
