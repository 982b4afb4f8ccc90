use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::certs::{make_group, region_spiffe_id};

fn group(dir: &Path) {
    make_group(dir, 2, 1, crate::clock::wall_ms()).unwrap();
}

fn material(dir: &Path) -> Arc<Material> {
    let certificates = Certificates::new(dir);
    assert!(certificates.reload().unwrap());
    certificates.current().unwrap()
}

/// One handshake; what the client and the server say about it.
async fn handshake(
    client: &Material,
    expected: &str,
    server: &Material,
) -> (std::io::Result<()>, std::io::Result<String>) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let connect = TlsConnector::from(client.client(expected).unwrap())
        .connect(ServerName::try_from("any.name.internal").unwrap(), near);
    let accept = async {
        let stream = TlsAcceptor::from(server.server()).accept(far).await?;
        Ok(spiffe_id(&stream.get_ref().1.peer_certificates().unwrap()[0]).unwrap())
    };
    let (connected, accepted) = tokio::join!(connect, accept);
    (connected.map(drop), accepted)
}

#[tokio::test]
async fn two_members_of_a_group_know_each_other() {
    let dir = tempfile::tempdir().unwrap();
    group(dir.path());
    let (one, two) = (
        material(&dir.path().join("region-1")),
        material(&dir.path().join("region-2")),
    );
    let (connected, accepted) = handshake(&one, &region_spiffe_id(2), &two).await;
    connected.unwrap();
    assert_eq!(accepted.unwrap(), region_spiffe_id(1));
}

#[tokio::test]
async fn a_server_of_the_right_authority_but_another_identity_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    group(dir.path());
    let (one, two) = (
        material(&dir.path().join("region-1")),
        material(&dir.path().join("region-2")),
    );
    let (connected, _) = handshake(&one, &region_spiffe_id(7), &two).await;
    let error = own_words(connected.unwrap_err()).to_string();
    assert!(
        error.contains("region/2") && error.contains("region/7"),
        "{error}"
    );
}

#[tokio::test]
async fn another_authority_is_refused_on_both_sides() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    group(ours.path());
    group(theirs.path());
    let (one, foreign) = (
        material(&ours.path().join("region-1")),
        material(&theirs.path().join("region-2")),
    );
    let (connected, accepted) = handshake(&one, &region_spiffe_id(2), &foreign).await;
    let error = own_words(connected.unwrap_err()).to_string();
    assert!(error.contains("not signed by the authority"), "{error}");
    assert!(accepted.is_err());
}

#[test]
fn changed_files_are_used_and_broken_ones_are_not() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    group(dir.path());
    group(other.path());
    let directory = dir.path().join("region-1");
    let certificates = Certificates::new(&directory);
    assert!(matches!(
        certificates.current(),
        Err(TlsError::Missing { .. })
    ));
    assert!(certificates.reload().unwrap());
    assert!(!certificates.reload().unwrap(), "nothing changed");
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        std::fs::copy(
            other.path().join("region-1").join(name),
            directory.join(name),
        )
        .unwrap();
    }
    let before = certificates.current().unwrap();
    assert!(certificates.reload().unwrap());
    let after = certificates.current().unwrap();
    assert!(!Arc::ptr_eq(&before, &after));
    std::fs::write(directory.join("tls.key"), "garbage").unwrap();
    let error = certificates.reload().unwrap_err();
    assert!(error.to_string().contains("tls.key"), "{error}");
    assert!(
        Arc::ptr_eq(&after, &certificates.current().unwrap()),
        "the earlier ones stay in use"
    );
}
