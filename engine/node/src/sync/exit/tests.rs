use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use super::*;
use crate::permission::Following as Link;
use crate::sync::certificates::Own;
use crate::sync::entry;
use crate::sync::tls::testing::{self as nodes, NAME};
use meridian_api::certificates::Role;

const SOON: Duration = Duration::from_secs(20);
const OUT: Ipv4Addr = Ipv4Addr::new(127, 77, 46, 224);

fn following(directory: &Path, chosen: &Arc<Own>) -> Following {
    Following {
        between: nodes::between(directory, chosen, Role::DpInternode),
        server_name: NAME.to_owned(),
    }
}

/// A primary's node on a loopback address of its own: its entry, and a shard that says everything back.
struct Primary {
    host: &'static str,
    port: u16,
    _stop: DropGuard,
}

impl Primary {
    async fn start(host: &'static str, directory: &Path, chosen: &Arc<Own>) -> Self {
        let socket = directory.join(format!("{host}.sock"));
        let shard = UnixListener::bind(&socket).unwrap();
        drop(tokio::spawn(async move {
            while let Ok((stream, _)) = shard.accept().await {
                drop(tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    tokio::io::copy(&mut read, &mut write).await
                }));
            }
        }));
        let free = TcpListener::bind((host, 0)).await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let stop = CancellationToken::new();
        let between = nodes::between(directory, chosen, Role::DpInternode);
        drop(tokio::spawn(entry::serve(
            address,
            socket,
            between,
            stop.clone(),
        )));
        Self {
            host,
            port: address.port(),
            _stop: stop.drop_guard(),
        }
    }
}

/// A word that goes to the shard and comes back.
async fn comes_back(exit: &Exit) -> io::Result<()> {
    let mut replica = TcpStream::connect(exit.address()).await?;
    replica.write_all(b"word").await?;
    let mut back = [0; 4];
    timeout(SOON, replica.read_exact(&mut back)).await??;
    assert_eq!(&back, b"word");
    Ok(())
}

/// The entry is opened beside; until it is, connections are refused.
async fn gets_through(exit: &Exit) {
    let tried = timeout(SOON, async {
        while let Err(error) = comes_back(exit).await {
            tracing::info!(%error, "not yet");
            tokio::task::yield_now().await;
        }
    });
    tried.await.expect("the replica reaches its primary");
}

#[tokio::test]
async fn replicas_and_primaries_never_lose_each_other_over_a_chosen_certificate() {
    let dir = tempfile::tempdir().unwrap();
    nodes::secret(dir.path(), NAME);
    let (first, second) = (nodes::foreign(), nodes::foreign());
    let states = [None, Some(&first), Some(&second)];
    for (index, listens) in states.into_iter().enumerate() {
        let shows = nodes::nothing();
        nodes::read(&shows, Role::DpInternode, listens);
        let host = ["127.7.1.1", "127.7.1.2", "127.7.1.3"][index];
        let primary = Primary::start(host, dir.path(), &shows).await;
        for dials in states {
            let knows = nodes::nothing();
            nodes::read(&knows, Role::DpInternode, dials);
            let way = following(dir.path(), &knows);
            let exit = Exit::open(OUT, host, primary.port, way).await.unwrap();
            gets_through(&exit).await;
        }
        // Strangers see the one that was chosen.
        let shared = std::fs::read_to_string(dir.path().join("tls.crt")).unwrap();
        let expected = listens.map_or(&shared, |(certificate, _)| certificate);
        let shown = nodes::shown_to((host, primary.port), dir.path(), "rec").await;
        let expected = CertificateDer::from_pem_slice(expected.as_bytes()).unwrap();
        assert_eq!(shown, expected);
    }
}

#[tokio::test]
async fn a_replica_believes_its_own_nodes_only_and_is_believed_by_them_only() {
    let dir = tempfile::tempdir().unwrap();
    let (own, other) = (dir.path().join("own"), dir.path().join("other"));
    nodes::secret(&own, NAME);
    nodes::secret(&other, NAME);
    let nothing = nodes::nothing();
    let ours = Primary::start("127.7.2.1", &own, &nothing).await;
    let theirs = Primary::start("127.7.2.2", &other, &nothing).await;
    let open = async |primary: &Primary, directory: &Path| {
        let way = following(directory, &nothing);
        Exit::open(OUT, primary.host, primary.port, way)
            .await
            .unwrap()
    };
    gets_through(&open(&ours, &own).await).await;
    gets_through(&open(&theirs, &other).await).await;
    for (primary, directory) in [(&ours, &other), (&theirs, &own)] {
        let refused = comes_back(&open(primary, directory).await).await;
        assert!(refused.is_err(), "{refused:?}");
    }
}

#[tokio::test]
async fn a_way_that_is_shut_ends_what_went_by_it() {
    let dir = tempfile::tempdir().unwrap();
    nodes::secret(dir.path(), NAME);
    let primary = Primary::start("127.7.3.1", dir.path(), &nodes::nothing()).await;
    let way = following(dir.path(), &nodes::nothing());
    let exit = Exit::open(OUT, primary.host, primary.port, way)
        .await
        .unwrap();
    gets_through(&exit).await;
    let mut replica = TcpStream::connect(exit.address()).await.unwrap();
    replica.write_all(b"word").await.unwrap();
    let mut back = [0; 4];
    replica.read_exact(&mut back).await.unwrap();
    let address = exit.address();
    // No other pod comes in by it.
    assert!(
        TcpStream::connect(("127.7.3.2", address.port()))
            .await
            .is_err()
    );
    drop(exit);
    let end = timeout(SOON, replica.read(&mut back)).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    let again = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(SOON, again).await.expect("nobody listens any more");
}

#[tokio::test]
async fn a_shard_is_seen_to_follow_whom_its_way_leads_to() {
    let dir = tempfile::tempdir().unwrap();
    nodes::secret(dir.path(), NAME);
    let way = following(dir.path(), &nodes::nothing());
    let exit = Exit::open(OUT, "rec-1.rec", 22_000, way).await.unwrap();
    assert!(exit.leads_to("rec-1.rec", 22_000));
    assert!(!exit.leads_to("rec-2.rec", 22_000) && !exit.leads_to("rec-1.rec", 12_000));
    let info = |host: &str, port: u16| {
        let info = format!(
            "role:slave\r\nmaster_host:{host}\r\nmaster_port:{port}\r\nmaster_link_status:up\r\n"
        );
        Replicated::parse(&info).unwrap()
    };
    let seen = |host: &str, port: u16| {
        let seen = exit.seen_through(info(host, port));
        let Position::Follows { host, state } = seen.position else {
            panic!("{seen:?}");
        };
        assert_eq!(state, Link::Up);
        (host, seen.port)
    };
    let own = exit.address().port();
    let out = OUT.to_string();
    assert_eq!(seen(&out, own), ("rec-1.rec".to_owned(), 22_000));
    // The way to the primary before, and somebody else.
    let before = own.wrapping_add(1);
    assert_eq!(seen(&out, before), (out.clone(), before));
    // That of another database.
    let other = "127.77.46.225".to_owned();
    assert_eq!(seen(&other, own), (other.clone(), own));
    assert_eq!(seen("rec-2.rec", own), ("rec-2.rec".to_owned(), own));
}
