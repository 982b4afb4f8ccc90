//! Copies of one database by different Valkeys. These tests need the servers of all series.

use meridian_api::crds::shared::Persistence;
use meridian_api::crds::topology::{FollowingState, ShardReport, ShardRole};

use crate::client::Writer;
use crate::cluster::{Cluster, first_topology};
use crate::handover::hand_over;

/// The series of the servers that the nodes bring, the lowest first.
const SERIES: [&str; 2] = ["8.1", "9.1"];

fn runs(shard: &ShardReport, series: &str) -> bool {
    let version = shard.version.as_deref();
    version.is_some_and(|version| version.starts_with(&format!("{series}.")))
}

/// Orders `node` to serve its copy by `series`, and waits until it says that it does.
async fn raise(cluster: &mut Cluster, node: &str, series: &str) {
    let shard = cluster.shard();
    // As the agent does it: nobody counts on a copy that is started anew.
    shard.in_sync.retain(|pod| pod != node);
    shard.joining.retain(|pod| pod != node);
    shard.versions.insert(node.to_owned(), series.to_owned());
    cluster.publish();
    served_by(cluster, node, series).await;
}

async fn served_by(cluster: &Cluster, node: &str, series: &str) -> ShardReport {
    let condition = format!("that it serves by {series}");
    let wanted = |shard: &ShardReport| shard.ready && runs(shard, series);
    let epoch = cluster.epoch();
    cluster.node(node).reports(epoch, &condition, wanted).await
}

async fn follows(cluster: &Cluster, node: &str) {
    let wanted = |shard: &ShardReport| {
        shard.role == ShardRole::Replica && shard.following == Some(FollowingState::Up)
    };
    let epoch = cluster.epoch();
    cluster
        .node(node)
        .reports(epoch, "that it follows", wanted)
        .await;
}

/// Fails where the run is about one series alone.
fn needs_all_series() {
    let only = std::env::var_os("MERIDIAN_VALKEY_SERVER");
    assert_eq!(
        only, None,
        "MERIDIAN_VALKEY_SERVER names one server and these tests need all: unset it, or add `--skip versions::`"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_what_it_brings_and_serves_by_what_is_ordered() {
    needs_all_series();
    let mut cluster = Cluster::start(&[]).await;
    let told = cluster.node("a").get("/shards").unwrap();
    let brings: Vec<&str> = told["bundled"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["version"].as_str().unwrap())
        .collect();
    assert_eq!(brings.len(), SERIES.len());
    for (version, series) in brings.iter().zip(SERIES) {
        assert!(version.starts_with(&format!("{series}.")), "{told}");
    }
    assert_eq!(told["bundled"][1]["activeActive"], true);
    served_by(&cluster, "a", SERIES[0]).await;
    // To say what runs anyway starts nothing anew.
    let before = cluster.node("a").pid("db-0").unwrap();
    raise(&mut cluster, "a", SERIES[0]).await;
    raise(&mut cluster, "b", SERIES[1]).await;
    follows(&cluster, "b").await;
    assert_eq!(cluster.node("a").pid("db-0"), Ok(before));
    // And nothing that is served by a newer one goes back.
    let newer = cluster.node("b").pid("db-0").unwrap();
    raise_back(&mut cluster, "b").await;
    assert_eq!(cluster.node("b").pid("db-0"), Ok(newer));
}

/// Orders less than runs, and waits until the node has heard of it.
async fn raise_back(cluster: &mut Cluster, node: &str) {
    cluster.shard().versions.remove(node);
    cluster.publish();
    let generation = i64::try_from(cluster.topology.generation).unwrap();
    crate::node::until("it obeys", crate::node::SOON, async || {
        let report = cluster.node(node).report()?;
        if report.generation >= generation {
            Ok(())
        } else {
            Err(format!("{report:?}"))
        }
    })
    .await;
    served_by(cluster, node, SERIES[1]).await;
}

/// The way of an upgrade: a replica is started by the newer server, takes over, and the copy that led is started by it as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_goes_to_a_newer_valkey_and_loses_no_acknowledged_write() {
    needs_all_series();
    for persistence in [Persistence::Disabled, Persistence::AofEverySecond] {
        let mut topology = first_topology();
        topology.spec.persistence = persistence;
        topology.spec.shards[0].replicas.pop();
        let mut cluster = Cluster::serving(topology, &["b"]).await;
        let hosts = cluster.nodes.iter().map(|n| n.host.clone()).collect();
        let writer = Writer::start(hosts);
        writer.advances(200).await;
        raise(&mut cluster, "b", SERIES[1]).await;
        follows(&cluster, "b").await;
        cluster.grow("b").await;
        writer.advances(200).await;
        cluster
            .shard()
            .versions
            .insert("a".to_owned(), SERIES[0].to_owned());
        hand_over(&mut cluster, "b").await;
        raise(&mut cluster, "a", SERIES[1]).await;
        follows(&cluster, "a").await;
        cluster.grow("a").await;
        writer.advances(200).await;
        let log = writer.finish().await;
        let mut client = cluster.client("b").await;
        for key in &log.acknowledged {
            assert!(
                client.ask::<bool>(&["EXISTS", key]).await.unwrap(),
                "{key} is lost"
            );
        }
        let count = client.ask::<u64>(&["DBSIZE"]).await.unwrap();
        cluster.holds("a", count).await;
        eprintln!(
            "{} acknowledged, {} failed, longest pause {:?}",
            log.acknowledged.len(),
            log.failures.len(),
            log.longest_pause
        );
    }
}

/// A database without copies goes to a newer server in place.
#[tokio::test(flavor = "multi_thread")]
async fn the_only_copy_is_started_by_a_newer_valkey_and_has_everything() {
    needs_all_series();
    for persistence in [Persistence::Disabled, Persistence::AofEverySecond] {
        let mut topology = first_topology();
        topology.spec.persistence = persistence;
        topology.spec.replication = false;
        topology.spec.shards[0].replicas.clear();
        let mut cluster = Cluster::serving(topology, &[]).await;
        let writer = Writer::start(vec![cluster.node("a").host.clone()]);
        writer.advances(200).await;
        raise(&mut cluster, "a", SERIES[1]).await;
        writer.advances(200).await;
        let log = writer.finish().await;
        let mut client = cluster.client("a").await;
        for key in &log.acknowledged {
            assert!(
                client.ask::<bool>(&["EXISTS", key]).await.unwrap(),
                "{key} is lost"
            );
        }
    }
}
