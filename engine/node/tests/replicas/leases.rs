//! What a permission is made of: grants of replicas, reads of the topology, and time.

use std::time::{Duration, Instant};

use meridian_node::permission::LEASE_MS;
use rustix::process::Signal;

use crate::client::Writer;
use crate::cluster::Cluster;
use crate::node::{Frozen, SOON, until};

const LEASE: Duration = Duration::from_millis(LEASE_MS);

/// Lets the writer go on for `time`; its log then tells whether it could.
async fn for_a_while(writer: &Writer, time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        writer.advances(1).await;
    }
}

fn frozen_child(cluster: &Cluster, name: &str) -> Frozen {
    let pid = cluster.node(name).pid("sync").unwrap();
    cluster.node(name).signal("sync", Signal::STOP);
    Frozen(vec![pid])
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_go_on_by_grants_or_by_reads_and_end_without_both() {
    let cluster = Cluster::start(&["b"]).await;
    let host = cluster.node("a").host.clone();

    cluster.api_away(true);
    let writer = Writer::start(vec![host.clone()]);
    for_a_while(&writer, LEASE * 2).await;
    cluster.api_away(false);
    let log = writer.finish().await;
    assert_eq!(log.failures, [], "without the API server");

    let frozen = frozen_child(&cluster, "b");
    let writer = Writer::start(vec![host.clone()]);
    for_a_while(&writer, LEASE * 2).await;
    let log = writer.finish().await;
    assert_eq!(log.failures, [], "without the replica");

    cluster.api_away(true);
    let away = Instant::now();
    let mut client = cluster.client("a").await;
    let refusal = until("writes are refused", SOON, async || {
        match client.ask::<String>(&["SET", "k", "v"]).await {
            Ok(_) => Err("it was acknowledged".to_owned()),
            // Whoever wrote while the permission ended was sent away, because the reply could have been late.
            Err(error) if error.is_unrecoverable_error() => {
                client = cluster.client("a").await;
                Err(error.to_string())
            }
            Err(error) => Ok(error.to_string()),
        }
    })
    .await;
    // One look more than the lease, on a loaded machine.
    assert!(
        away.elapsed() < LEASE + Duration::from_secs(1),
        "{:?}",
        away.elapsed()
    );
    assert!(refusal.contains("may not take writes"), "{refusal}");
    eprintln!("refused {:?} after both were away", away.elapsed());

    cluster.api_away(false);
    let mut client = cluster.client("a").await;
    let acknowledged = async |client: &mut crate::client::Client| {
        client
            .ask::<String>(&["SET", "k", "v"])
            .await
            .map_err(|e| e.to_string())
    };
    until("writes go on by reads", SOON, async || {
        acknowledged(&mut client).await
    })
    .await;

    cluster.api_away(true);
    until(
        "writes are refused again",
        SOON,
        async || match acknowledged(&mut client).await {
            Ok(_) => Err("it was acknowledged".to_owned()),
            Err(_refused) => Ok(()),
        },
    )
    .await;
    drop(frozen);
    // Whoever waited for a reply when the permission ended may have been disconnected.
    let mut client = cluster.client("a").await;
    until("writes go on by grants", SOON, async || {
        acknowledged(&mut client).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_restarted_costs_no_write() {
    let cluster = Cluster::start(&["b"]).await;
    // Only grants: each of the two children is needed.
    cluster.api_away(true);
    let writer = Writer::start(vec![cluster.node("a").host.clone()]);
    for name in ["a", "b"] {
        let before = cluster.node(name).pid("sync").unwrap();
        cluster.node(name).signal("sync", Signal::KILL);
        until("the child is back", SOON, async || {
            match cluster.node(name).pid("sync")? {
                pid if pid != before => Ok(()),
                _ => Err("not yet".to_owned()),
            }
        })
        .await;
        for_a_while(&writer, LEASE * 2).await;
    }
    let log = writer.finish().await;
    assert_eq!(log.failures, []);
}
