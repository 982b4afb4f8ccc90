//! The internal Secret changes while the nodes run. Each sees the change at another time, and each connects anew in between.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use meridian_api::crds::topology::DatabaseTls;
use meridian_api::internal;
use meridian_node::permission::LEASE_MS;
use rustix::process::Signal;

use crate::client::Writer;
use crate::cluster::{Cluster, PASSWORD, Trust};
use crate::node::{SOON, until};

type Entries = BTreeMap<String, Vec<u8>>;

/// Longer than a permission lasts, whatever it was made of before.
const PERMISSION: Duration = Duration::from_millis(LEASE_MS + 1_000);

fn with(mut entries: Entries, key: &str, text: &str) -> Entries {
    entries.insert(key.to_owned(), text.as_bytes().to_vec());
    entries
}

/// Ends the connections of the replicas, and waits until both follow again.
async fn follow_anew(cluster: &Cluster) {
    let primary = cluster.node("a");
    let kill = ["CLIENT", "KILL", "TYPE", "replica"];
    primary.internal(&kill).await.unwrap();
    until("both follow again", SOON, async || {
        let info = primary.internal(&["INFO", "replication"]).await;
        let info: String =
            redis::from_redis_value(info.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
        if info.matches("state=online").count() == 2 {
            Ok(())
        } else {
            Err(info)
        }
    })
    .await;
}

/// Starts the child of `name` again, so that it is asked for its grants over a new connection, and makes grants the only thing
/// that a permission can be made of.
async fn grants_anew(cluster: &Cluster, name: &str, writer: &Writer) {
    let node = cluster.node(name);
    let before = node.pid("sync").unwrap();
    let report = node.report().unwrap().as_of;
    node.signal("sync", Signal::KILL);
    until("its child is there again", SOON, async || {
        let now = node.pid("sync")?;
        let told = node.report()?.as_of;
        if now != before && told != report {
            Ok(())
        } else {
            Err(format!("{now:?}, as of {told}"))
        }
    })
    .await;
    cluster.api_away(true);
    let start = Instant::now();
    while start.elapsed() < PERMISSION {
        writer.advances(1).await;
    }
    cluster.api_away(false);
}

async fn changes_node_by_node(encrypted: bool) {
    let mut cluster = Cluster::start(&["b"]).await;
    if encrypted {
        cluster.topology.spec.tls = Some(DatabaseTls {
            clients: false,
            client_certificates: false,
            replicas: true,
        });
        cluster.publish();
    }
    let (old, new) = (cluster.trust.clone(), Trust::new());
    let next = "a7".repeat(16);
    let stages = [
        with(
            old.entries(&new.authority, PASSWORD),
            internal::PASSWORD_NEXT,
            &next,
        ),
        with(
            new.entries(&old.authority, &next),
            internal::PASSWORD_BEFORE,
            PASSWORD,
        ),
        new.entries("", &next),
    ];
    let processes = |cluster: &Cluster| ["a", "b", "c"].map(|name| cluster.node(name).pid("db-0"));
    let before = processes(&cluster);
    let writer = Writer::start(vec![cluster.node("a").host.clone()]);
    for (entries, order) in stages
        .iter()
        .zip([["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]])
    {
        for name in order {
            cluster.give(name, entries);
            cluster.took_over(name, entries).await;
            follow_anew(&cluster).await;
        }
        grants_anew(&cluster, "b", &writer).await;
    }
    let log = writer.finish().await;
    assert_eq!(log.failures, []);
    assert_eq!(processes(&cluster), before, "no Valkey was started again");
    let written = u64::try_from(log.acknowledged.len()).unwrap();
    for name in ["a", "b", "c"] {
        cluster.holds(name, written).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn authority_certificate_and_password_change_node_by_node_under_load_without_a_restart() {
    changes_node_by_node(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_change_as_well_where_replicas_follow_by_tls() {
    changes_node_by_node(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_somebody_edits_or_removes_costs_no_replica() {
    let cluster = Cluster::start(&["b"]).await;
    let first = cluster.trust.entries("", PASSWORD);
    let edited = with(first.clone(), internal::PASSWORD, "a person wrote this");
    for name in ["a", "c", "b"] {
        cluster.give(name, &edited);
        cluster.took_over(name, &edited).await;
        follow_anew(&cluster).await;
    }
    let mut removed = edited.clone();
    removed.remove(internal::PASSWORD);
    for name in ["a", "b", "c"] {
        cluster.give(name, &removed);
    }
    // Longer than a node takes to see a change.
    let writer = Writer::start(vec![cluster.node("a").host.clone()]);
    let start = Instant::now();
    while start.elapsed() < PERMISSION {
        writer.advances(1).await;
    }
    follow_anew(&cluster).await;
    let third = with(removed, internal::PASSWORD, "the agent made this one");
    for name in ["a", "b", "c"] {
        cluster.give(name, &third);
        cluster.took_over(name, &third).await;
        follow_anew(&cluster).await;
    }
    assert_eq!(writer.finish().await.failures, []);
}
