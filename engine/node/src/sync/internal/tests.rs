use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use meridian_api::certificates::Role;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::*;
use crate::atomic_file;
use crate::sync::certificates::Own;
use crate::sync::settings::{Host, Internal};
use crate::sync::tls::Certificates;

const NAME: &str = "nodes.rec.ns.meridian.internal";

/// Grants whatever it is asked, and says who asked.
struct Yes;

impl Grants for Yes {
    fn grant(&self, request: &GrantRequest) -> GrantReply {
        GrantReply {
            granted: true,
            reason: request.requester.clone(),
            ..GrantReply::default()
        }
    }
}

/// An authority of its own with one certificate for `name` in `directory`.
fn secret(directory: &Path, name: &str) {
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

fn certificates(directory: &Path) -> Arc<Certificates> {
    let certificates = Certificates::new(directory);
    certificates.reload().unwrap();
    Arc::new(certificates)
}

/// What the nodes share in `directory`, with a certificate that a person chose.
fn between(directory: &Path, chosen: &Arc<Own>) -> Between {
    let shared = certificates(directory);
    Between::new(shared, Arc::clone(chosen), Role::CpInternode)
}

/// Nothing is chosen.
fn nothing() -> Arc<Own> {
    Own::new(PathBuf::new())
}

/// A node that dials `port` with the Secret in `directory`.
fn members(directory: &Path, port: u16) -> Arc<Members> {
    knowing(directory, port, &nothing())
}

fn knowing(directory: &Path, port: u16, chosen: &Arc<Own>) -> Arc<Members> {
    let internal = Internal {
        listen: ([127, 0, 0, 1], port).into(),
        port,
        directory: directory.to_owned(),
        server_name: NAME.to_owned(),
        certificates: certificates(directory),
    };
    let host: Host = Arc::new(|_| "127.0.0.1".to_owned());
    Members::new(internal, between(directory, chosen), host)
}

fn question() -> GrantRequest {
    GrantRequest {
        requester: "p".to_owned(),
        ..GrantRequest::default()
    }
}

async fn serving(directory: &Path, stop: &CancellationToken) -> u16 {
    showing(directory, &nothing(), stop).await
}

async fn showing(directory: &Path, chosen: &Arc<Own>, stop: &CancellationToken) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = serve(
        listener,
        between(directory, chosen),
        Arc::new(Yes),
        stop.clone(),
    );
    drop(tokio::spawn(served));
    port
}

#[tokio::test]
async fn only_nodes_of_this_cluster_are_answered_and_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (own, foreign, misnamed) = (
        dir.path().join("own"),
        dir.path().join("foreign"),
        dir.path().join("misnamed"),
    );
    secret(&own, NAME);
    secret(&foreign, NAME);
    secret(&misnamed, "nodes.other.ns.meridian.internal");
    let stop = CancellationToken::new();
    let port = serving(&own, &stop).await;
    let answer = members(&own, port).grant("m", question()).await.unwrap();
    assert!(answer.granted && answer.reason == "p", "{answer:?}");
    let refused = members(&foreign, port).grant("m", question()).await;
    assert!(refused.is_err(), "{refused:?}");
    let misnaming = serving(&misnamed, &stop).await;
    let refused = members(&misnamed, misnaming).grant("m", question()).await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test]
async fn a_process_that_ends_grants_nothing_over_connections_that_outlive_it() {
    let stop = CancellationToken::new();
    let service = Service {
        grants: Arc::new(Yes),
        stop: stop.clone(),
    };
    let asked = || service.grant(Request::new(question()));
    assert!(asked().await.unwrap().into_inner().granted);
    stop.cancel();
    assert_eq!(asked().await.unwrap_err().code(), tonic::Code::Unavailable);
}

/// A certificate that nobody of the cluster signed, and its key.
fn foreign() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["chosen.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    (certificate, key.serialize_pem())
}

/// What a node knows that has read `pair` as the chosen one; none: the Secret names none any more.
fn read(own: &Own, pair: Option<&(String, String)>) {
    let entries = pair.map(|(certificate, key)| {
        [("cp-internode.crt", certificate), ("cp-internode.key", key)]
            .map(|(name, text)| (name.to_owned(), ByteString(text.as_bytes().to_vec())))
            .into()
    });
    own.apply(&Secret {
        data: entries,
        ..Secret::default()
    });
}

/// The certificate that a listener shows to whoever asks by `name` and has nothing against it.
async fn shown_to(port: u16, directory: &Path, name: &str) -> CertificateDer<'static> {
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
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anybody))
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(&pem("tls.crt")).unwrap()],
            PrivateKeyDer::from_pem_slice(&pem("tls.key")).unwrap(),
        )
        .unwrap();
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, tcp.unwrap())
        .await
        .unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

#[tokio::test]
async fn a_chosen_certificate_is_shown_and_changes_without_nodes_losing_each_other() {
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), NAME);
    let stop = CancellationToken::new();
    let (first, second) = (foreign(), foreign());
    // What the listener has read, and what the one who dials has: every step of a change, in either order.
    let states = [None, Some(&first), Some(&second)];
    for listens in states {
        let own = nothing();
        read(&own, listens);
        let port = showing(dir.path(), &own, &stop).await;
        for dials in states {
            let knows = nothing();
            read(&knows, dials);
            let members = knowing(dir.path(), port, &knows);
            let answer = members.grant("m", question()).await.unwrap();
            assert!(answer.granted, "{listens:?} {dials:?}");
        }
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let shared = std::fs::read_to_string(dir.path().join("tls.crt")).unwrap();
        let expected = der(listens.map_or(&shared, |(certificate, _)| certificate));
        for stranger in ["rec-0.rec.ns.svc", "chosen.example"] {
            assert_eq!(shown_to(port, dir.path(), stranger).await, expected);
        }
        // A node of an older release asks by this name.
        assert_eq!(shown_to(port, dir.path(), NAME).await, der(&shared));
        // The listener hears of the next one, and of none, without another process.
        read(&own, Some(&second));
        let newest = shown_to(port, dir.path(), "rec").await;
        assert_eq!(newest, der(&second.0));
        read(&own, None);
        assert_eq!(shown_to(port, dir.path(), "rec").await, der(&shared));
    }
}

#[tokio::test]
async fn a_chosen_certificate_is_believed_for_its_bytes_only() {
    let dir = tempfile::tempdir().unwrap();
    let (own, other) = (dir.path().join("own"), dir.path().join("other"));
    secret(&own, NAME);
    secret(&other, NAME);
    let stop = CancellationToken::new();
    let (chosen, twin) = (foreign(), foreign());
    let (knows, shows) = (nothing(), nothing());
    read(&knows, Some(&chosen));
    read(&shows, Some(&twin));
    // It has the same names and is of another key; and what it shares is of another authority.
    let port = showing(&other, &shows, &stop).await;
    let refused = knowing(&own, port, &knows).grant("m", question()).await;
    assert!(refused.is_err(), "{refused:?}");
}
