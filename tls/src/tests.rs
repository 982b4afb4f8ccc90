use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::*;

const NAME: &str = "hub.example";

fn pair() -> (Arc<ServerConfig>, TlsConnector) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    let certificate: CertificateDer<'static> = params.self_signed(&key).unwrap().der().clone();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], private)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), TlsConnector::from(Arc::new(client)))
}

struct Started {
    listener: TlsListener,
    tracker: TaskTracker,
    stop: CancellationToken,
}

async fn start(settings: impl Settings, limits: Limits) -> Started {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let listener = TlsListener::start(tcp, settings, limits, &tracker, stop.clone()).unwrap();
    Started {
        listener,
        tracker,
        stop,
    }
}

async fn call(connector: &TlsConnector, address: SocketAddr) -> io::Result<()> {
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from(NAME).unwrap();
    let mut stream = connector.connect(name, tcp).await?;
    stream.write_all(b"hello").await
}

fn limits(handshake: Duration, handshakes: usize) -> Limits {
    Limits {
        handshake,
        handshakes,
    }
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_peer_that_never_speaks_holds_up_nobody() {
    let (server, connector) = pair();
    let Started { mut listener, .. } = start(server, limits(LONG, 4)).await;
    let address = listener.local_addr().unwrap();
    let _silent = TcpStream::connect(address).await.unwrap();
    let calling = tokio::spawn(async move { call(&connector, address).await });
    let mut stream = listener.next().await.unwrap().unwrap();
    let mut text = [0; 5];
    stream.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"hello");
    calling.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_makes_room_for_the_next() {
    let (server, connector) = pair();
    let short = limits(Duration::from_millis(20), 1);
    let Started { mut listener, .. } = start(server, short).await;
    let address = listener.local_addr().unwrap();
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0, "it is cut off");
    // Its own handshake may take too long as well on a busy machine; then it calls again.
    let calling = tokio::spawn(async move { while call(&connector, address).await.is_err() {} });
    listener.next().await.unwrap().unwrap();
    drop(listener);
    calling.abort();
}

/// Has settings only when it is told to.
struct Late(Arc<AtomicBool>, Arc<ServerConfig>);

impl Settings for Late {
    fn current(&self) -> Result<Arc<ServerConfig>, Refusal> {
        let there = self.0.load(Ordering::SeqCst);
        there
            .then(|| Arc::clone(&self.1))
            .ok_or_else(|| "no certificate yet".into())
    }
}

#[tokio::test]
async fn each_handshake_is_made_with_the_settings_of_its_moment() {
    let (server, connector) = pair();
    let there = Arc::new(AtomicBool::new(false));
    let late = Late(Arc::clone(&there), server);
    let Started { mut listener, .. } = start(late, limits(LONG, 4)).await;
    let address = listener.local_addr().unwrap();
    call(&connector, address).await.unwrap_err();
    there.store(true, Ordering::SeqCst);
    let calling = tokio::spawn(async move { call(&connector, address).await });
    listener.next().await.unwrap().unwrap();
    calling.await.unwrap().unwrap();
}

#[tokio::test]
async fn its_tasks_end_when_it_is_told_to_stop_in_the_middle_of_a_handshake() {
    let (server, _) = pair();
    let started = start(server, limits(LONG, 4)).await;
    let address = started.listener.local_addr().unwrap();
    let mut silent = TcpStream::connect(address).await.unwrap();
    started.stop.cancel();
    started.tracker.close();
    started.tracker.wait().await;
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap_or(0), 0);
}
