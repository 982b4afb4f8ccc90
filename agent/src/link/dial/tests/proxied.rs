//! Through a proxy: what it is asked, and what its refusals say.

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{
    sockets::{member, server},
    *,
};
use crate::link::testing::Authority;

/// Reads the head of a request.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A proxy that answers one request with `answer` and closes. Gives what it was asked.
async fn answering(answer: impl Into<String>) -> (ProxySettings, JoinHandle<String>) {
    let answer = answer.into();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = ProxySettings {
        url: Some(format!("http://user:s3cr3t@{}", tcp.local_addr().unwrap())),
        ..ProxySettings::default()
    };
    let asked = tokio::spawn(async move {
        let (mut stream, _) = tcp.accept().await.unwrap();
        let asked = head(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        // It may be reset by whoever has read enough.
        drop(stream.read_to_end(&mut Vec::new()).await);
        asked
    });
    (settings, asked)
}

fn dialer(proxy: ProxySettings, roots_pem: String) -> Dialer {
    Dialer {
        // Nobody resolves this name but a proxy.
        addresses: vec!["hub.invalid:8444".parse().unwrap()],
        roots_pem,
        proxy,
    }
}

async fn refusal(answer: impl Into<String>) -> String {
    let (proxy, asked) = answering(answer).await;
    let url = proxy.url.clone().unwrap().replace("user:s3cr3t@", "");
    let roots = Authority::new().root_pem();
    let error = dialer(proxy, roots)
        .connect(None, || 0.5)
        .await
        .unwrap_err();
    assert!(matches!(error, DialError::Proxy(_)), "{error}");
    let asked = asked.await.unwrap();
    assert!(
        asked.starts_with("CONNECT hub.invalid:8444 HTTP/1.1\r\n"),
        "{asked}"
    );
    let text = error.to_string();
    assert!(
        text.contains(&url) && text.contains("hub.invalid:8444"),
        "{text}"
    );
    assert!(
        !text.contains("s3cr3t") && !text.contains("dXNlcjpzM2NyM3Q"),
        "{text}"
    );
    text
}

#[tokio::test]
async fn what_a_proxy_answered_is_told_with_what_helps() {
    for (answer, expected) in [
        (
            "HTTP/1.1 407 Who Are You\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n",
            ["`407 Who Are You` and asks for Negotiate", "only Basic"],
        ),
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
            ["`403 Forbidden`", "`no-proxy`"],
        ),
        (
            "HTTP/1.0 502 Bad Gateway\r\n\r\n<html>",
            ["`502 Bad Gateway`", "could not reach the hub"],
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n",
            ["`302 Found`", "not how a proxy"],
        ),
        ("220 mail ESMTP\r\n", ["invalid", "not how a proxy"]),
        ("", ["closed", "not how a proxy"]),
    ] {
        let told = refusal(answer).await;
        for part in expected {
            assert!(told.contains(part), "{told}, expected {part}");
        }
    }
}

#[tokio::test]
async fn the_head_of_an_answer_has_a_bound() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    assert!(refusal(long).await.contains("too large"));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(99));
    assert!(refusal(many).await.contains("too large"));
}

#[tokio::test]
async fn a_proxy_that_says_yes_and_closes_is_no_hub_that_is_silent() {
    let (proxy, _asked) = answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let roots = Authority::new().root_pem();
    let error = dialer(proxy, roots)
        .connect(None, || 0.5)
        .await
        .unwrap_err();
    let told = error.to_string();
    assert!(
        told.contains("through the proxy http://127.0.0.1"),
        "{told}"
    );
}

#[tokio::test]
async fn a_proxy_that_never_answers_is_given_up() {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = ProxySettings {
        url: Some(tcp.local_addr().unwrap().to_string()),
        ..ProxySettings::default()
    };
    let silent = tokio::spawn(async move {
        let (mut stream, _) = tcp.accept().await.unwrap();
        stream.read_to_end(&mut Vec::new()).await
    });
    let roots = Authority::new().root_pem();
    let dialer = dialer(proxy, roots);
    let dialled = timeout(Duration::from_secs(20), dialer.connect(None, || 0.5)).await;
    let error = dialled.expect("it is given up").unwrap_err();
    assert!(
        error.to_string().contains("did not answer within 10 s"),
        "{error}"
    );
    silent.await.unwrap().unwrap();
}

/// Answers one CONNECT on `stream` and carries bytes to `hub`, with a greeting of the hub in the same packet if it has one.
async fn carry(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    hub: TcpListener,
    acceptor: TlsAcceptor,
) -> String {
    let asked = head(&mut stream).await;
    let serving = async {
        let (stream, _) = hub.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        // The preface of HTTP/2 arrives.
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.unwrap();
        preface
    };
    let carrying = async {
        let mut onward = TcpStream::connect(hub.local_addr().unwrap()).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
            .await
            .unwrap();
        drop(copy_bidirectional(&mut stream, &mut onward).await);
    };
    tokio::select! {
        preface = serving => assert!(preface.starts_with(b"PRI * HTTP/2.0")),
        () = carrying => panic!("the tunnel ended first"),
    }
    asked
}

#[tokio::test]
async fn a_hub_is_reached_through_a_proxy_by_tls_that_is_trusted_by_its_own_roots() {
    let (hub, gate) = (Authority::new(), Authority::new());
    let (certificate, key) = gate.server();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let gate_tls = TlsAcceptor::from(Arc::new(config));
    let folder = std::env::temp_dir().join(format!("meridian-tunnel-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let identity = member(&hub);
    let attempt = async |roots: &Authority| {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        write("url", &format!("https://{}", proxy.local_addr().unwrap()));
        write("ca.crt", &roots.root_pem());
        write("username", "Aladdin");
        write("password", "open sesame");
        let settings = ProxySettings {
            files: Some(folder.clone()),
            ..ProxySettings::default()
        };
        let (gate_tls, acceptor) = (gate_tls.clone(), server(&hub, &hub));
        let carried = tokio::spawn(async move {
            let (stream, _) = proxy.accept().await.unwrap();
            match gate_tls.accept(stream).await {
                Ok(stream) => Some(carry(stream, upstream, acceptor).await),
                Err(_) => None,
            }
        });
        let dialer = Dialer {
            // The name in the hub's certificate.
            addresses: vec!["127.0.0.1:8444".parse().unwrap()],
            ..dialer(settings, hub.root_pem())
        };
        let connected = dialer.connect(Some(&identity), || 0.5).await;
        (
            connected.map(|connection| connection.address),
            carried.await.unwrap(),
        )
    };
    let (connected, asked) = attempt(&gate).await;
    assert_eq!(connected, Ok("127.0.0.1:8444".to_owned()));
    let asked = asked.unwrap();
    for line in [
        "CONNECT 127.0.0.1:8444 HTTP/1.1",
        "host: 127.0.0.1:8444",
        "proxy-authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
    ] {
        assert!(
            asked.lines().any(|found| found.eq_ignore_ascii_case(line)),
            "{asked}"
        );
    }
    // The roots of the hub say nothing about the proxy.
    let (connected, asked) = attempt(&hub).await;
    let told = connected.unwrap_err().to_string();
    assert!(
        told.contains("invalid peer certificate") && told.contains("`ca.crt`"),
        "{told}"
    );
    assert_eq!(asked, None);
    std::fs::remove_dir_all(&folder).unwrap();
}
