//! TLS of a database: real Valkey, real certificates, switched and exchanged while clients are connected.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use meridian_api::access::Entry;
use meridian_api::crds::topology::{DatabaseTls, FollowingState};
use meridian_api::internal;
use meridian_node::atomic_file;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::client::Client;
use crate::cluster::{Cluster, PORT};
use crate::node::{Node, SOON, until};

/// A certificate that has signed itself, and its key.
struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec!["db.example".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self {
            certificate: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// What the nodes show each other.
    fn of_the_nodes(node: &Node) -> Self {
        let text = |name: &str| std::fs::read_to_string(node.internal_dir().join(name)).unwrap();
        Self {
            certificate: text(internal::CERTIFICATE),
            key: text(internal::KEY),
        }
    }

    /// As the certificate that clients of the node see.
    fn install(&self, node: &Path) {
        let directory = node.join("run/tls/proxy");
        atomic_file::make_dir(&directory).unwrap();
        atomic_file::write(&directory.join("tls.key"), self.key.as_bytes()).unwrap();
        atomic_file::write(&directory.join("tls.crt"), self.certificate.as_bytes()).unwrap();
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }
}

/// A connection by TLS.
struct Secure(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl Secure {
    /// Connects, believing `server` only and showing `own`; an error if anything on the way fails.
    fn connect(host: &str, server: &Pair, own: Option<&Pair>) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(server.der()).unwrap();
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            None => config.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![own.der()], key).unwrap()
            }
        };
        let name = ServerName::try_from("db.example").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect((host, PORT)).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut connected = Self(BufReader::new(StreamOwned::new(session, stream)));
        match connected.ask("PING")?.as_str() {
            "+PONG" => Ok(connected),
            other => Err(other.to_owned()),
        }
    }

    fn ask(&mut self, line: &str) -> Result<String, String> {
        let error = |e: std::io::Error| e.to_string();
        write!(self.0.get_mut(), "{line}\r\n").map_err(error)?;
        let mut reply = String::new();
        match self.0.read_line(&mut reply).map_err(error)? {
            0 => Err("closed".to_owned()),
            _ => Ok(reply.trim_end().to_owned()),
        }
    }
}

async fn enters(host: &str, server: &Pair, own: Option<&Pair>) -> Secure {
    until(&format!("{host} takes clients by TLS"), SOON, async || {
        Secure::connect(host, server, own)
    })
    .await
}

fn encrypt(cluster: &mut Cluster, clients: bool, client_certificates: bool, replicas: bool) {
    cluster.topology.spec.tls = replicas.then_some(DatabaseTls {
        clients,
        client_certificates,
        replicas,
    });
    cluster.publish();
}

async fn setting(node: &Node, name: &str) -> String {
    let found = node.internal(&["CONFIG", "GET", name]).await.unwrap();
    let found: Vec<String> = redis::from_redis_value(found).unwrap();
    found[1].clone()
}

async fn follows(cluster: &Cluster, name: &str) {
    let epoch = cluster.epoch();
    cluster
        .node(name)
        .reports(epoch, "that it follows", |shard| {
            shard.following == Some(FollowingState::Up)
        })
        .await;
}

fn trusting(certificates: &[&Pair]) -> Entry {
    Entry {
        certificates: certificates
            .iter()
            .map(|pair| pair.certificate.as_str())
            .collect(),
        ..Entry::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_switched_on_and_off_without_losing_data_or_the_replica() {
    let mut cluster = Cluster::start(&["b"]).await;
    let host = cluster.node("a").host.clone();
    let mut plain = Client::connect(&host).await;
    plain.ask::<String>(&["SET", "k", "v"]).await.unwrap();
    let server = Pair::new("first");

    // Without a certificate nobody is served, least of all in plain text.
    encrypt(&mut cluster, true, false, true);
    until(
        "the plain client is sent away",
        SOON,
        async || match plain.ask::<String>(&["PING"]).await {
            Ok(_) => Err("it is connected".to_owned()),
            Err(_closed) => Ok(()),
        },
    )
    .await;
    assert!(Secure::connect(&host, &server, None).is_err());
    assert!(TcpStream::connect((host.as_str(), PORT)).is_err());

    for node in &cluster.nodes {
        server.install(node.dir());
    }
    let mut secure = enters(&host, &server, None).await;
    assert_eq!(secure.ask("STRLEN k").unwrap(), ":1");
    assert_eq!(secure.ask("SET by-tls 1").unwrap(), "+OK");
    let shut = setting(cluster.node("a"), "port").await;
    assert_eq!(shut, "0", "nobody enters in plain text");
    follows(&cluster, "b").await;
    let replica = cluster.node("b").host.clone();
    let mut there = enters(&replica, &server, None).await;
    until("the replica has it by TLS", SOON, async || {
        match there.ask("STRLEN by-tls")? {
            reply if reply == ":1" => Ok(()),
            other => Err(other),
        }
    })
    .await;

    encrypt(&mut cluster, false, false, false);
    let mut plain = Client::connect(&host).await;
    assert_eq!(plain.ask::<u64>(&["DBSIZE"]).await.unwrap(), 2);
    plain.ask::<String>(&["SET", "again", "1"]).await.unwrap();
    until("the replica follows in plain text", SOON, async || {
        let mut there = Client::connect(&replica).await;
        match there.ask::<u64>(&["DBSIZE"]).await {
            Ok(3) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // Whoever says hello there is not answered, and not sent away.
    let shut = setting(cluster.node("a"), "tls-port").await;
    assert_eq!(shut, "0", "nobody enters by TLS");

    // Only replicas by TLS: clients stay as they are.
    encrypt(&mut cluster, false, false, true);
    let entrance = format!("{host}:{}", PORT + 10_000);
    until("replicas have an entry of their own", SOON, async || {
        TcpStream::connect(&entrance)
            .map(drop)
            .map_err(|e| e.to_string())
    })
    .await;
    plain.ask::<String>(&["SET", "last", "1"]).await.unwrap();
    cluster.holds("b", 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificates_of_server_and_clients_change_under_an_open_connection() {
    let mut cluster = Cluster::start(&[]).await;
    let host = cluster.node("a").host.clone();
    let (server, client, stranger) = (
        Pair::new("server"),
        Pair::new("client"),
        Pair::new("stranger"),
    );
    server.install(cluster.node("a").dir());
    encrypt(&mut cluster, true, false, true);
    let mut anybody = enters(&host, &server, None).await;

    // mTLS: who has shown nothing is sent away.
    cluster.let_in("a", &trusting(&[&client])).await;
    encrypt(&mut cluster, true, true, true);
    until("who showed no certificate is sent away", SOON, async || {
        anybody.ask("PING").map_or(Ok(()), Err)
    })
    .await;
    let mut known = enters(&host, &server, Some(&client)).await;
    assert!(Secure::connect(&host, &server, None).is_err());
    assert!(Secure::connect(&host, &server, Some(&stranger)).is_err());
    // The authority of the nodes vouches for no client.
    let node = Pair::of_the_nodes(cluster.node("a"));
    assert!(Secure::connect(&host, &server, Some(&node)).is_err());

    // Another server certificate, then another client: the connection goes on, and who comes new sees the newest.
    let second = Pair::new("second");
    second.install(cluster.node("a").dir());
    let mut newer = enters(&host, &second, Some(&client)).await;
    assert!(Secure::connect(&host, &server, Some(&client)).is_err());
    cluster.let_in("a", &trusting(&[&stranger])).await;
    enters(&host, &second, Some(&stranger)).await;
    assert!(Secure::connect(&host, &second, Some(&client)).is_err());
    for connection in [&mut known, &mut newer] {
        assert_eq!(connection.ask("PING").unwrap(), "+PONG");
    }

    // A pair that does not fit together changes nothing.
    let broken = Pair {
        key: client.key.clone(),
        certificate: second.certificate.clone(),
    };
    broken.install(cluster.node("a").dir());
    let log = cluster.node("a");
    until("the wrong pair was looked at", SOON, async || {
        match log.logged("new certificates cannot be used") {
            true => Ok(()),
            false => Err("not yet".to_owned()),
        }
    })
    .await;
    assert_eq!(known.ask("PING").unwrap(), "+PONG");
    enters(&host, &second, Some(&stranger)).await;
}
