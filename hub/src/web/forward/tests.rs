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

/// A server on localhost that says what it was told, and nothing where it was told nothing.
async fn serve(identity: ServerIdentity) -> String {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = tcp.local_addr().unwrap().port();
    let config = web_config(LiveCertificate::new(identity).unwrap()).unwrap();
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let listener = listen(tcp, config, &tracker, stop);
    let router = axum::Router::new().fallback(async |headers: HeaderMap| {
        let Some(token) = headers.get(header::AUTHORIZATION) else {
            return std::future::pending().await;
        };
        token.to_str().unwrap().to_owned()
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

/// An authority, a client that trusts it, and a hub on localhost.
async fn authority(dir: &tempfile::TempDir) -> (Authority, Client, String) {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let now = jiff::Timestamp::now();
    let (ca, _) = Authority::open(dir.path(), TrustDomain::default(), now).unwrap();
    let client = Client::new(&ca.roots()).unwrap();
    let names = ["localhost".to_owned()];
    let hub = serve(ca.issue_server(&names, now).unwrap()).await;
    (ca, client, hub)
}

fn untold() -> Request {
    Request::new(Body::empty())
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_waited_for_only_so_long() {
    let dir = tempfile::tempdir().unwrap();
    let (_ca, mut client, hub) = authority(&dir).await;
    client.within = Duration::from_millis(50);
    let sent = timeout(Duration::from_secs(10), client.send(&hub, untold()));
    let told = sent.await.expect("it is waited for no longer").unwrap_err();
    assert!(matches!(told, SendError::Late { .. }), "{told:?}");
    assert!(told.to_string().contains(&hub), "{told}");
}

#[tokio::test]
async fn no_more_requests_wait_for_the_leader_than_have_a_place() {
    let dir = tempfile::tempdir().unwrap();
    let (_ca, mut client, hub) = authority(&dir).await;
    client.places = Arc::new(tokio::sync::Semaphore::new(1));
    let waiting = client.send(&hub, untold());
    tokio::pin!(waiting);
    assert!(futures::poll!(&mut waiting).is_pending());
    let told = client.send(&hub, untold()).await.unwrap_err();
    assert!(matches!(told, SendError::Busy { .. }), "{told:?}");
    // Who gives up leaves its place to the next.
    waiting.set(client.send(&hub, untold()));
    assert_eq!(tell(&client, &hub).await.unwrap(), "Bearer secret");
}

#[test]
fn what_a_sender_calls_a_matter_of_its_connection_is_not_handed_on() {
    let mut headers = HeaderMap::new();
    headers.append(header::CONNECTION, "close, X-Of-This-Hop".parse().unwrap());
    headers.append(header::CONNECTION, "x-other".parse().unwrap());
    headers.insert("x-of-this-hop", "1".parse().unwrap());
    headers.insert("x-other", "1".parse().unwrap());
    headers.insert(header::ACCEPT, "*/*".parse().unwrap());
    remove_hops(&mut headers);
    let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(left, ["accept"]);
}

#[tokio::test]
async fn a_token_is_handed_to_a_hub_and_never_to_a_member_that_bears_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, client, hub) = authority(&dir).await;
    let (now, names) = (jiff::Timestamp::now(), ["localhost".to_owned()]);
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
        signer: ca.fingerprint(),
        life: meridian_api::renewal::Life {
            not_before_ms: issued.not_before.as_millisecond(),
            not_after_ms: issued.not_after.as_millisecond(),
        },
    })
    .await;
    let told = tell(&client, &member).await.unwrap_err();
    for part in [member, identity.to_string()] {
        assert!(told.contains(&part), "{told}");
    }
}
