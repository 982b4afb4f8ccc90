use std::net::Ipv4Addr;
use std::time::Duration;

use meridian_api::crds::topology::{
    DatabaseReference, DatabaseTopologySpec, Fence, ShardAssignment,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What every condition must hold within.
const SOON: Duration = Duration::from_secs(20);

fn topology(primary: Option<&str>, entry: Option<i32>, fence: Option<i64>) -> Topology {
    let shard = ShardAssignment {
        primary: primary.map(str::to_owned),
        ..ShardAssignment::default()
    };
    let fence = fence.map(|epoch| Fence {
        epoch,
        ..Fence::default()
    });
    Topology {
        name: "db".to_owned(),
        uid: "u".to_owned(),
        generation: 1,
        spec: DatabaseTopologySpec {
            database: DatabaseReference::default(),
            cluster: "rec".to_owned(),
            epoch: 4,
            fence,
            port: 12_000,
            entry_port: entry,
            memory_bytes: 0,
            eviction_policy: String::new(),
            persistence: meridian_api::crds::Persistence::Disabled,
            version: None,
            tls: None,
            placement: None,
            metric_labels: BTreeMap::new(),
            replication: true,
            shards: vec![shard],
            active_active: None,
        },
    }
}

#[test]
fn clients_are_passed_to_whom_the_topology_names_and_to_nobody_under_a_fence() {
    let told = |topology: Topology| {
        let host = |name: &str| format!("{name}.rec.ns.svc");
        let all = wanted([&topology].into_iter(), &host);
        all.get("db").map(|wanted| {
            assert_eq!((wanted.uid.as_str(), wanted.port), ("u", 32_000));
            let to = wanted.to.as_ref();
            to.map(|to| format!("{}:{} in {}", to.host, to.port, to.epoch))
        })
    };
    let entry = Some(32_000);
    let leads = Some(Some("rec-1.rec.ns.svc:12000 in 4".to_owned()));
    assert_eq!(told(topology(Some("rec-1"), entry, None)), leads);
    assert_eq!(told(topology(Some("rec-1"), entry, Some(4))), leads, "done");
    assert_eq!(told(topology(Some("rec-1"), entry, Some(5))), Some(None));
    assert_eq!(told(topology(None, entry, None)), Some(None));
    assert_eq!(told(topology(Some("rec-1"), None, None)), None);
    let mut ends = topology(Some("rec-1"), entry, None);
    ends.spec.shards.clear();
    assert_eq!(told(ends), None, "a database that is stopped has no entry");
}

/// A primary that says its name and then repeats what it hears, until its client has said everything.
async fn primary(name: &'static str) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            drop(tokio::spawn(async move {
                client.write_all(name.as_bytes()).await.unwrap();
                let (mut hears, mut says) = client.split();
                let _ended = tokio::io::copy(&mut hears, &mut says).await;
                let _ended = says.write_all(b"!").await;
            }));
        }
    }));
    port
}

/// A port that was free a moment ago.
async fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}

struct Node {
    entries: Entries,
    port: u16,
    stop: CancellationToken,
}

impl Node {
    async fn new() -> Self {
        let stop = CancellationToken::new();
        Self {
            entries: Entries::new("n", "127.0.0.1", TaskTracker::new(), stop.clone()),
            port: free_port().await,
            stop,
        }
    }

    fn lead(&mut self, epoch: u64, port: Option<u16>) {
        let to = port.map(|port| Goal {
            epoch,
            host: "127.0.0.1".to_owned(),
            port,
        });
        let wanted = Wanted {
            uid: "u".to_owned(),
            port: self.port,
            to,
        };
        self.entries.follow([("db".to_owned(), wanted)].into());
    }

    async fn listens(&self) {
        let mut told = self.entries.told();
        let listening = told.wait_for(|told| told.get("db").is_some_and(Option::is_some));
        let told = tokio::time::timeout(SOON, listening)
            .await
            .unwrap()
            .unwrap();
        let port = told["db"].as_ref().unwrap().port;
        assert_eq!(port, i32::from(self.port));
    }

    async fn client(&self) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))
            .await
            .unwrap()
    }
}

/// What comes next, at most `length` bytes; nothing at the end.
async fn next(client: &mut TcpStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    let read = tokio::time::timeout(SOON, client.read(&mut bytes)).await;
    // A connection that was reset has ended as well.
    let count = read
        .expect("no client waits for an answer that nobody gives")
        .unwrap_or(0);
    String::from_utf8(bytes[..count].to_vec()).unwrap()
}

#[tokio::test]
async fn a_client_is_passed_to_the_primary_and_sent_away_when_it_turns() {
    let (a, b) = (primary("a").await, primary("b").await);
    let mut node = Node::new().await;
    node.lead(1, Some(a));
    node.listens().await;
    let mut client = node.client().await;
    assert_eq!(next(&mut client, 1).await, "a");
    client.write_all(b"xy").await.unwrap();
    assert_eq!(next(&mut client, 2).await, "xy");
    // The same again turns nothing.
    node.lead(1, Some(a));
    client.write_all(b"z").await.unwrap();
    assert_eq!(next(&mut client, 1).await, "z");
    for (epoch, to, expected) in [
        (2, Some(b), "b"),
        (3, None, ""),
        (4, Some(a), "a"),
        (5, Some(a), "a"),
    ] {
        node.lead(epoch, to);
        assert_eq!(
            next(&mut client, 1).await,
            "",
            "the connection of before ends"
        );
        client = node.client().await;
        assert_eq!(next(&mut client, 1).await, expected, "epoch {epoch}");
    }
    let gone = free_port().await;
    node.lead(6, Some(gone));
    let mut refused = node.client().await;
    assert_eq!(
        next(&mut refused, 1).await,
        "",
        "a primary that is not there"
    );
}

#[tokio::test]
async fn who_has_said_everything_still_hears_the_rest() {
    let port = primary("p").await;
    let mut node = Node::new().await;
    node.lead(1, Some(port));
    node.listens().await;
    let mut client = node.client().await;
    client.write_all(b"last words").await.unwrap();
    client.shutdown().await.unwrap();
    let mut heard = String::new();
    let read = client.read_to_string(&mut heard);
    tokio::time::timeout(SOON, read).await.unwrap().unwrap();
    assert_eq!(heard, "plast words!");
}

#[tokio::test]
async fn clients_beyond_the_limit_are_sent_away_until_one_leaves() {
    let port = primary("p").await;
    let mut node = Node::new().await;
    node.entries.places = Arc::new(Semaphore::new(1));
    node.lead(1, Some(port));
    node.listens().await;
    let mut first = node.client().await;
    assert_eq!(next(&mut first, 1).await, "p");
    assert_eq!(next(&mut node.client().await, 1).await, "");
    drop(first);
    let places = Arc::clone(&node.entries.places);
    let free = tokio::time::timeout(SOON, places.acquire()).await;
    drop(free.unwrap().unwrap());
    assert_eq!(next(&mut node.client().await, 1).await, "p");
}

#[tokio::test]
async fn an_entry_that_ends_is_shut_told_of_no_more_and_opens_again() {
    let port = primary("p").await;
    let mut node = Node::new().await;
    for _ in 0..2 {
        node.lead(1, Some(port));
        node.listens().await;
        let mut client = node.client().await;
        assert_eq!(next(&mut client, 1).await, "p");
        node.entries.follow(BTreeMap::new());
        assert_eq!(next(&mut client, 1).await, "");
        assert!(node.entries.told().borrow().is_empty());
    }
    node.lead(1, Some(port));
    node.listens().await;
    let mut client = node.client().await;
    assert_eq!(next(&mut client, 1).await, "p");
    node.stop.cancel();
    assert_eq!(next(&mut client, 1).await, "", "the process ends");
}

#[tokio::test]
async fn a_port_that_is_taken_is_tried_again_and_not_told_meanwhile() {
    let port = primary("p").await;
    let mut node = Node::new().await;
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, node.port))
        .await
        .unwrap();
    node.lead(1, Some(port));
    let told = node.entries.told();
    assert_eq!(told.borrow().get("db"), Some(&None));
    drop(other);
    node.listens().await;
}
