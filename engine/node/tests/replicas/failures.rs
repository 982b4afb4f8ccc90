//! Unplanned: nobody hands its emptiness on, and nobody acknowledges who has been replaced.

use std::time::{Duration, Instant};

use meridian_api::crds::topology::{FollowingState, LEASE_MARGIN_MS, LEASE_MS, ShardRole};
use rustix::process::Signal;

use crate::cluster::Cluster;
use crate::node::{Node, Raw, SOON, until};

/// Steps 1 to 3 of a failover while the primary says nothing: waits as long as the agent does.
pub(crate) async fn replace(cluster: &mut Cluster, candidate: &str) {
    let (epoch, next) = (cluster.epoch(), cluster.epoch() + 1);
    cluster.fence(candidate, false);
    cluster
        .node(candidate)
        .reports(epoch, "the fence", |shard| shard.fenced == Some(next))
        .await;
    let confirmed = Instant::now();
    let wait = Duration::from_millis(LEASE_MS + LEASE_MARGIN_MS);
    until("every permission has ended", SOON, async || {
        if confirmed.elapsed() >= wait {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
    cluster.promote();
    cluster
        .node(candidate)
        .reports(next, "that it takes writes", |shard| {
            shard.role == ShardRole::Primary && shard.writable
        })
        .await;
}

/// Waits until the replica has asked for a copy again and again.
async fn tries_to_copy_in_vain(replica: &Node) {
    let log = replica.dir().join("shards/db-0/valkey.log");
    let tries = |text: &str| text.matches("Connecting to PRIMARY").count();
    let before = tries(&std::fs::read_to_string(&log).unwrap());
    until("the replica has tried again", SOON, async || {
        let now = tries(&std::fs::read_to_string(&log).unwrap());
        if now >= before + 3 {
            Ok(())
        } else {
            Err(format!("{now} of {before} + 3"))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_comes_back_empty_is_replaced_and_never_copied() {
    let mut cluster = Cluster::start(&["b"]).await;
    let mut client = cluster.client("a").await;
    for number in 0..100 {
        let key = format!("key-{number}");
        client.ask::<String>(&["SET", &key, "v"]).await.unwrap();
    }
    cluster.holds("b", 100).await;
    cluster.node("a").signal("db-0", Signal::KILL);
    let wish = cluster
        .node("a")
        .reports(1, "that another must lead", |s| {
            s.wants_failover.is_some() && s.ready
        })
        .await;
    assert!(!wish.writable, "{wish:?}");
    let mut client = cluster.client("a").await;
    assert_eq!(
        client.ask::<u64>(&["DBSIZE"]).await.unwrap(),
        0,
        "it has nothing"
    );
    let refusal = client.refused(&["SET", "k", "v"]).await;
    assert!(refusal.contains("may not take writes"), "{refusal}");
    tries_to_copy_in_vain(cluster.node("b")).await;
    cluster
        .node("b")
        .reports(1, "that it cannot follow", |s| {
            s.following == Some(FollowingState::Down)
        })
        .await;
    cluster.holds("b", 100).await;
    // Also after the set was emptied, and after a restart of the child: this epoch is over for this shard.
    cluster.shard().in_sync.clear();
    cluster.publish();
    cluster.node("a").signal("sync", Signal::KILL);
    let generation = i64::try_from(cluster.topology.generation).unwrap();
    until("the node obeys the empty set", SOON, async || {
        let report = cluster.node("a").report()?;
        let still = report.shards[0].wants_failover.is_some() && !report.shards[0].writable;
        if report.generation >= generation && still {
            Ok(())
        } else {
            Err(format!("{report:?}"))
        }
    })
    .await;
    assert!(
        client
            .refused(&["SET", "k", "v"])
            .await
            .contains("may not take writes")
    );
    cluster.shard().in_sync.push("b".to_owned());
    replace(&mut cluster, "b").await;
    cluster.holds("b", 100).await;
    cluster
        .node("a")
        .reports(2, "that it follows", |s| {
            s.following == Some(FollowingState::Up)
        })
        .await;
    cluster.holds("a", 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_sleeps_through_its_replacement_acknowledges_nothing_when_it_wakes() {
    let mut cluster = Cluster::start(&["b"]).await;
    let mut raw = Raw::connect(&cluster.node("a").host);
    assert_eq!(raw.ask("SET before 1"), "+OK");
    cluster.holds("b", 1).await;
    let frozen = cluster.node("a").freeze();
    // Written into the sleeping primary's connection: it will find it when it wakes.
    raw.send("SET while-asleep 1");
    replace(&mut cluster, "b").await;
    let mut client = cluster.client("b").await;
    client.ask::<String>(&["SET", "after", "1"]).await.unwrap();
    drop(frozen);
    let answer = raw.receive();
    assert!(!answer.starts_with('+'), "it was acknowledged: {answer}");
    cluster
        .node("a")
        .reports(2, "that it follows", |shard| {
            shard.role == ShardRole::Replica && shard.following == Some(FollowingState::Up)
        })
        .await;
    cluster.holds("a", 2).await;
    cluster.holds("b", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_is_offered_every_process_of_a_node_before_its_first() {
    let cluster = Cluster::start(&[]).await;
    let node = cluster.node("a");
    let first = node.sacrifice(None);
    assert!(first < 1000, "nobody could be offered before it");
    for unit in ["sync", "db-0"] {
        assert_eq!(
            node.sacrifice(Some(unit)),
            (first + 100).min(1000),
            "{unit}"
        );
    }
}
