//! What is handed on, and to whom.

use meridian_api::identity::{RecName, SpiffeId, TrustDomain};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::app::testing::{LAB_1, uid};
use crate::ca::{Authority, ServerIdentity};
use crate::tls::{LiveCertificate, PeerAddress, listen, web_config};

/// A server on localhost that says what it was told.
async fn serve(identity: ServerIdentity) -> String {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = tcp.local_addr().unwrap().port();
    let config = web_config(LiveCertificate::new(identity).unwrap()).unwrap();
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let listener = listen(tcp, config, &tracker, stop);
    let router = axum::Router::new().fallback(async |headers: HeaderMap| {
        let token = headers.get(header::AUTHORIZATION);
        token.map_or(String::new(), |token| token.to_str().unwrap().to_owned())
    });
    let service = router.into_make_service_with_connect_info::<PeerAddress>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    format!("localhost:{port}")
}

async fn tell(client: &Client, address: &str) -> Result<String, String> {
    let request = Request::builder()
        .header(header::AUTHORIZATION, "Bearer secret")
        .body(Body::empty())
        .unwrap();
    let sent = client.send(address, request).await;
    let answer = sent.map_err(|e| e.to_string())?;
    let bytes = body::to_bytes(answer.into_body(), 1 << 10).await.unwrap();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn a_token_is_handed_to_a_hub_and_never_to_a_member_that_bears_its_name() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let dir = tempfile::tempdir().unwrap();
    let now = jiff::Timestamp::now();
    let (ca, _) = Authority::open(dir.path(), TrustDomain::default(), now).unwrap();
    let client = Client::new(ca.root()).unwrap();
    let names = ["localhost".to_owned()];

    let hub = serve(ca.issue_server(&names, now).unwrap()).await;
    assert_eq!(tell(&client, &hub).await.unwrap(), "Bearer secret");

    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    let rec = RecName::new("db", "rec").unwrap();
    let identity = SpiffeId::peer(TrustDomain::default(), uid(LAB_1), rec);
    let issued = ca
        .issue_peer(identity.clone(), &names, csr.der(), now)
        .unwrap();
    let member = serve(ServerIdentity {
        chain: issued.chain,
        key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
    })
    .await;
    let told = tell(&client, &member).await.unwrap_err();
    for part in [member, identity.to_string()] {
        assert!(told.contains(&part), "{told}");
    }
}
