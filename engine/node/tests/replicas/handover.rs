//! Planned: nothing is lost, nobody is left behind.

use std::time::Duration;

use meridian_api::crds::topology::{FollowingState, ShardRole};

use crate::client::Writer;
use crate::cluster::Cluster;
use crate::node::{Raw, SOON, until};

/// Fences for `candidate`, waits until it has everything, promotes it, and waits until it takes writes.
pub(crate) async fn hand_over(cluster: &mut Cluster, candidate: &str) {
    let primary = cluster.shard().primary.clone().unwrap();
    let (epoch, next) = (cluster.epoch(), cluster.epoch() + 1);
    cluster.fence(candidate, true);
    let last = cluster
        .node(&primary)
        .reports(epoch, "its fence", |shard| shard.fenced == Some(next))
        .await;
    assert!(!last.writable, "{last:?}");
    cluster
        .node(candidate)
        .reports(epoch, "the fence, and everything", |shard| {
            shard.fenced == Some(next) && shard.offset >= last.offset
        })
        .await;
    cluster.promote();
    let wanted = |shard: &meridian_api::crds::topology::ShardReport| {
        shard.role == ShardRole::Primary && shard.writable
    };
    cluster
        .node(candidate)
        .reports(next, "that it takes writes", wanted)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_hand_over_loses_no_acknowledged_write() {
    let mut cluster = Cluster::start(&["b", "c"]).await;
    let hosts = cluster.nodes.iter().map(|n| n.host.clone()).collect();
    let writer = Writer::start(hosts);
    writer.advances(200).await;
    for (candidate, before) in [("b", "a"), ("c", "b")] {
        hand_over(&mut cluster, candidate).await;
        writer.advances(200).await;
        let epoch = cluster.epoch();
        cluster
            .node(before)
            .reports(epoch, "that it follows", |shard| {
                shard.role == ShardRole::Replica && shard.following == Some(FollowingState::Up)
            })
            .await;
        cluster.grow(before).await;
    }
    let log = writer.finish().await;
    let mut client = cluster.client("c").await;
    for key in &log.acknowledged {
        assert!(
            client.ask::<bool>(&["EXISTS", key]).await.unwrap(),
            "{key} is lost"
        );
    }
    let count = client.ask::<u64>(&["DBSIZE"]).await.unwrap();
    eprintln!(
        "{} acknowledged, {} failed, longest pause {:?}",
        log.acknowledged.len(),
        log.failures.len(),
        log.longest_pause
    );
    cluster.holds("a", count).await;
    cluster.holds("b", count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_asked_to_stop_lets_another_lead_first() {
    let mut cluster = Cluster::start(&["b"]).await;
    let hosts = cluster.nodes.iter().map(|n| n.host.clone()).collect();
    let writer = Writer::start(hosts);
    writer.advances(50).await;
    assert_eq!(cluster.node("a").get("/shards").unwrap()["stopping"], false);
    cluster.node("a").terminate();
    let wish = cluster
        .node("a")
        .reports(1, "that another should lead", |s| {
            s.wants_failover.is_some()
        })
        .await;
    assert!(wish.writable && wish.wants_failover.unwrap().contains("asked to stop"));
    let shards = cluster.node("a").get("/shards").unwrap();
    assert_eq!(shards["stopping"], true);
    assert_eq!(shards["shards"]["db-0"]["state"], "running");
    assert_eq!(shards["shards"]["db-0"]["ready"], true);
    hand_over(&mut cluster, "b").await;
    cluster.node_mut("a").ends(SOON).await;
    writer.advances(50).await;
    let log = writer.finish().await;
    let mut client = cluster.client("b").await;
    for key in &log.acknowledged {
        assert!(
            client.ask::<bool>(&["EXISTS", key]).await.unwrap(),
            "{key} is lost"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_nobody_relieves_stops_all_the_same() {
    let mut cluster = Cluster::start(&["b"]).await;
    cluster.node("a").terminate();
    // 30 s of waiting and an orderly stop: below what an eviction grants.
    cluster.node_mut("a").ends(Duration::from_secs(60)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_was_begun_before_the_fence_is_not_applied_after_it() {
    let mut cluster = Cluster::start(&["b"]).await;
    let host = cluster.node("a").host.clone();
    let mut raw = Raw::connect(&host);
    assert_eq!(raw.ask("MULTI"), "+OK");
    assert_eq!(raw.ask("SET in-transaction 1"), "+QUEUED");
    // Revoked, but this connection is made to live on: a primary that learned of the fence, and a client that it has not closed yet.
    let epoch = cluster.epoch();
    let epoch = epoch.to_string();
    let revoke = ["CRDT.FENCE", "REVOKE", &epoch];
    cluster.node("a").internal(&revoke).await.unwrap();
    let answer = raw.ask("EXEC");
    assert!(answer.starts_with("-"), "{answer}");
    let mut client = cluster.client("a").await;
    assert!(
        !client
            .ask::<bool>(&["EXISTS", "in-transaction"])
            .await
            .unwrap()
    );
    // And by the fence itself: the connection is closed, so that the client looks for the primary again.
    cluster.fence("b", true);
    until("the client is sent away", SOON, async || {
        match client.ask::<String>(&["PING"]).await {
            Ok(_) => Err("it is connected".to_owned()),
            Err(_closed) => Ok(()),
        }
    })
    .await;
}
