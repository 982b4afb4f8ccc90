//! A member that reaches its hub only through a proxy: it joins, holds a session and renews through it, and comes back after the
//! proxy was away.

#![expect(clippy::unwrap_used, reason = "a test ends where its ground gives way")]

#[path = "link_enrollment/hub.rs"]
#[expect(
    dead_code,
    reason = "only a hub and its join material are needed of it"
)]
mod hub;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use hub::{Hub, facts};
use meridian_agent::link::{
    dial::{Connection, DialError, Dialer, ProxySettings},
    enroll::{self, HubRegistrar},
    identity::Identity,
    join::JoinMaterial,
};
use meridian_api::link::proto::{
    self, agent_frame::Frame as Say, hub_frame::Frame as Heard, link_client::LinkClient,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

const EU: &str = "0e0e0e0e-0000-4000-8000-000000000001";
const SOON: Duration = Duration::from_secs(30);
/// `eu-1:s3cr3t`
const CREDENTIALS: &str = "proxy-authorization: Basic ZXUtMTpzM2NyM3Q=";

/// A proxy for CONNECT with one user. It knows the hub under the name `hub.invalid`, as nobody else does.
struct Proxy {
    address: SocketAddr,
    /// Heads of the requests, and the first byte behind each.
    asked: Arc<Mutex<Vec<(String, u8)>>>,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

impl Proxy {
    async fn at(address: &str, hub: &str) -> Self {
        let tcp = TcpListener::bind(address).await.unwrap();
        let address = tcp.local_addr().unwrap();
        let (asked, stop) = (Arc::<Mutex<Vec<_>>>::default(), CancellationToken::new());
        let (log, stopped, hub) = (Arc::clone(&asked), stop.clone(), hub.to_owned());
        let served = tokio::spawn(async move {
            let mut tunnels = JoinSet::new();
            loop {
                let accepted = tokio::select! {
                    () = stopped.cancelled() => break,
                    accepted = tcp.accept() => accepted,
                };
                let (log, hub) = (Arc::clone(&log), hub.clone());
                tunnels.spawn(async move { carry(accepted.unwrap().0, &hub, &log).await });
            }
            tunnels.shutdown().await;
        });
        Self {
            address,
            asked,
            stop,
            served,
        }
    }

    fn settings(&self, user: &str) -> ProxySettings {
        ProxySettings {
            url: Some(format!("http://{user}@{}", self.address)),
            ..ProxySettings::default()
        }
    }

    /// Ends it and every tunnel.
    async fn end(self) -> SocketAddr {
        self.stop.cancel();
        self.served.await.unwrap();
        self.address
    }
}

async fn carry(mut stream: TcpStream, hub: &str, log: &Mutex<Vec<(String, u8)>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let known = head
        .lines()
        .any(|line| line.eq_ignore_ascii_case(CREDENTIALS));
    let refused: &[u8] = if !known {
        b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"egress\"\r\n\r\n"
    } else if !head.starts_with("CONNECT hub.invalid:8444 ") {
        b"HTTP/1.1 403 Not On The List\r\n\r\n"
    } else {
        b""
    };
    if !refused.is_empty() {
        stream.write_all(refused).await.unwrap();
        return;
    }
    let mut onward = TcpStream::connect(hub).await.unwrap();
    stream
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0];
    stream.read_exact(&mut first).await.unwrap();
    onward.write_all(&first).await.unwrap();
    log.lock().unwrap().push((head, first[0]));
    // Whoever ends first ends the tunnel.
    drop(copy_bidirectional(&mut stream, &mut onward).await);
}

/// Dials the hub at `address` as `proxy` says.
fn through(proxy: ProxySettings, address: &str, roots_pem: &str) -> Dialer {
    Dialer {
        addresses: vec![address.parse().unwrap()],
        roots_pem: roots_pem.to_owned(),
        proxy,
    }
}

async fn refusal(dialer: &Dialer) -> String {
    let error = dialer.connect(None, || 0.5).await.unwrap_err();
    assert!(matches!(error, DialError::Proxy(_)), "{error}");
    let told = error.to_string();
    assert!(
        !told.contains("s3cr3t") && !told.contains("ZXUtMTpzM2NyM3Q"),
        "{told}"
    );
    told
}

async fn session(
    connection: &Connection,
) -> (
    tonic::Streaming<proto::HubFrame>,
    mpsc::Sender<proto::AgentFrame>,
) {
    let (say, frames) = mpsc::channel(8);
    let hello = proto::Hello {
        proto_min: 1,
        proto_max: 1,
        kube_system_uid: EU.to_owned(),
        instance_id: "0e0e0e0e-0000-4000-8000-0000000000aa".to_owned(),
        ..proto::Hello::default()
    };
    let frame = Some(Say::Hello(hello));
    say.send(proto::AgentFrame { frame }).await.unwrap();
    let opened = LinkClient::new(connection.channel.clone())
        .session(ReceiverStream::new(frames))
        .await;
    let mut heard = opened.unwrap().into_inner();
    let first = timeout(SOON, heard.message()).await.unwrap().unwrap();
    let first = first.unwrap().frame;
    assert!(matches!(first, Some(Heard::Welcome(_))), "{first:?}");
    (heard, say)
}

async fn joined(dialer: &Dialer, material: &JoinMaterial) -> Identity {
    let mut identity = Identity::generate().unwrap();
    let connection = dialer.connect(None, || 0.5).await.unwrap();
    let mut registrar = HubRegistrar::new(connection.channel);
    enroll::join(&mut registrar, &mut identity, material, &facts(EU))
        .await
        .unwrap();
    identity
}

#[tokio::test]
async fn a_member_joins_and_holds_its_session_through_a_proxy_and_comes_back_after_it() {
    let hub = Hub::start_as("hub.invalid").await;
    let proxy = Proxy::at("127.0.0.1:0", &hub.address).await;
    let material = hub.material("eu-1").await;
    let dialer = through(
        proxy.settings("eu-1:s3cr3t"),
        "hub.invalid:8444",
        &material.ca_pem,
    );
    let identity = joined(&dialer, &material).await;
    let connection = dialer.connect(Some(&identity), || 0.5).await.unwrap();
    let (mut heard, _say) = session(&connection).await;
    for (head, first) in proxy.asked.lock().unwrap().iter() {
        assert!(
            head.starts_with("CONNECT hub.invalid:8444 HTTP/1.1\r\n"),
            "{head}"
        );
        // What the hub gets begins with a record of a TLS handshake, and no word to the proxy is in it.
        assert_eq!(*first, 0x16);
    }
    assert_eq!(proxy.asked.lock().unwrap().len(), 2);

    // The proxy goes, and the session with it.
    let address = proxy.end().await;
    let broken = async { while let Ok(Some(_)) = heard.message().await {} };
    timeout(SOON, broken).await.expect("the session ends");
    let told = refusal(&dialer).await;
    assert!(
        told.contains(&address.to_string()) && told.contains("hub.invalid:8444"),
        "{told}"
    );

    // It comes back, and the same dialer finds it.
    let proxy = Proxy::at(&address.to_string(), &hub.address).await;
    let connection = dialer.connect(Some(&identity), || 0.5).await.unwrap();
    drop(session(&connection).await);
    proxy.end().await;
}

#[tokio::test]
async fn a_proxy_that_refuses_says_why_and_an_exception_passes_it_by() {
    let hub = Hub::start_as("hub.invalid").await;
    let proxy = Proxy::at("127.0.0.1:0", &hub.address).await;
    let roots = hub.material("eu-1").await.ca_pem;
    let told = refusal(&through(
        proxy.settings("eu-1:wrong"),
        "hub.invalid:8444",
        &roots,
    ))
    .await;
    for part in [
        "`407 Proxy Authentication Required`",
        "Basic realm=\"egress\"",
        "`username` and `password`",
    ] {
        assert!(told.contains(part), "{told}");
    }
    let told = refusal(&through(
        proxy.settings("eu-1:s3cr3t"),
        "other.invalid:8444",
        &roots,
    ))
    .await;
    assert!(told.contains("`403 Not On The List`"), "{told}");
    let except = ProxySettings {
        except: Some("127.0.0.0/8".to_owned()),
        ..proxy.settings("nobody:nothing")
    };
    let direct = through(except, &hub.address, &roots);
    direct.connect(None, || 0.5).await.unwrap();
    assert!(proxy.asked.lock().unwrap().is_empty());
    proxy.end().await;
}
