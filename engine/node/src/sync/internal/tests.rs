use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use super::*;
use crate::atomic_file;
use crate::sync::settings::{Host, Internal};

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

/// A node that dials `port` with the Secret in `directory`.
fn members(directory: &Path, port: u16) -> Arc<Members> {
    let internal = Internal {
        listen: ([127, 0, 0, 1], port).into(),
        port,
        directory: directory.to_owned(),
        server_name: NAME.to_owned(),
        certificates: certificates(directory),
    };
    let host: Host = Arc::new(|_| "127.0.0.1".to_owned());
    Members::new(internal, host)
}

fn question() -> GrantRequest {
    GrantRequest {
        requester: "p".to_owned(),
        ..GrantRequest::default()
    }
}

async fn serving(directory: &Path, stop: &CancellationToken) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = serve(
        listener,
        certificates(directory),
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
