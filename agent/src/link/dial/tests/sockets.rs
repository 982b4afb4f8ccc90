//! Over sockets, against a hub that refuses.

use meridian_api::link::proto::{RenewRequest, link_client::LinkClient};
use rustls::{ServerConfig, server::WebPkiClientVerifier, time_provider::TimeProvider};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::link::testing::Authority;

const SOON: Duration = Duration::from_secs(30);

/// A time at which the certificates of [`Authority`] are good.
#[derive(Debug)]
struct InMay;

impl TimeProvider for InMay {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(
            1_778_000_000,
        )))
    }
}

/// Shows a certificate of `shown`, and lets in whom `trusted` signed.
pub(super) fn server(shown: &Authority, trusted: &Authority) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(trusted.root_pem().as_bytes());
    roots.add(root.unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .unwrap();
    let (certificate, key) = shown.server();
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(InMay))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![opening::HTTP_2.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

pub(super) fn member(authority: &Authority) -> Identity {
    let mut identity = Identity::generate().unwrap();
    let result = authority.result(&identity.request().unwrap());
    identity.accept(&result, "f").unwrap();
    identity
}

fn dialer(tcp: &TcpListener, authority: &Authority) -> Dialer {
    Dialer {
        addresses: vec![tcp.local_addr().unwrap().to_string().parse().unwrap()],
        roots_pem: authority.root_pem(),
        ..Dialer::default()
    }
}

#[tokio::test]
async fn a_refusal_that_comes_before_the_first_call_is_no_silence() {
    let (hub, other) = (Authority::new(), Authority::new());
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialer = dialer(&tcp, &hub);
    let acceptor = server(&hub, &other);
    // One connection is refused; whoever tries again finds nobody, so that only the first alert can tell.
    let refusing = tokio::spawn(async move {
        let (stream, _) = tcp.accept().await.unwrap();
        drop(tcp);
        let (_, mut stream) = acceptor.accept(stream).into_fallible().await.unwrap_err();
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut Vec::new()).await
    });
    let identity = member(&hub);
    let connection = dialer.connect(Some(&identity), || 0.5).await.unwrap();
    let died = async {
        while connection.noted.error().is_none() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SOON, died).await.expect("the alert arrives");
    let mut link = LinkClient::new(connection.channel.clone());
    let status = link.renew(RenewRequest::default()).await.unwrap_err();
    let error = connection.explain(&status);
    assert!(matches!(error, DialError::Unwelcome { .. }), "{error}");
    timeout(SOON, refusing).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_port_that_is_open_but_silent_is_given_up() {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialer = dialer(&tcp, &Authority::new());
    let silent = tokio::spawn(async move {
        let (mut stream, _) = tcp.accept().await.unwrap();
        stream.read_to_end(&mut Vec::new()).await
    });
    let error = dialer.connect(None, || 0.5).await.unwrap_err().to_string();
    assert!(error.contains("no TLS handshake within 5 s"), "{error}");
    timeout(SOON, silent).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_speaks_no_http_2_is_no_hub() {
    let hub = Authority::new();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialer = dialer(&tcp, &hub);
    let (certificate, key) = hub.server();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let serving = tokio::spawn(async move {
        let (stream, _) = tcp.accept().await.unwrap();
        TlsAcceptor::from(Arc::new(config)).accept(stream).await
    });
    let error = dialer.connect(None, || 0.5).await.unwrap_err().to_string();
    assert!(error.contains("HTTP/2 was not"), "{error}");
    serving.await.unwrap().unwrap();
}
