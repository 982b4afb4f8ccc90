//! What a shard keeps when it is started again, and when somebody changes its settings behind the cluster's back.

use std::time::Duration;

use rustix::process::Signal;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::node::{SOON, until};

/// A database without replicas whose shard is `a`'s alone.
async fn alone() -> Cluster {
    let mut cluster = Cluster::start(&[]).await;
    set_replication(&mut cluster, false).await;
    cluster
}

/// Switches replication, which makes the shard start again, and waits until it serves.
async fn set_replication(cluster: &mut Cluster, on: bool) {
    let before = cluster.node("a").pid("db-0").unwrap();
    cluster.topology.spec.replication = on;
    let replicas: &[&str] = if on { &["b", "c"] } else { &[] };
    cluster.shard().replicas = replicas.iter().map(|r| (*r).to_owned()).collect();
    cluster.publish();
    until(
        "the shard was started again",
        SOON,
        async || match cluster.node("a").pid("db-0")? {
            now if now != before => Ok(()),
            _ => Err("not yet".to_owned()),
        },
    )
    .await;
    serves(cluster).await;
}

async fn serves(cluster: &Cluster) {
    let generation = i64::try_from(cluster.topology.generation).unwrap();
    until("a serves", SOON, async || {
        let report = cluster.node("a").report()?;
        let serves = report.shards.first().is_some_and(|s| s.writable);
        if serves && report.generation >= generation {
            Ok(())
        } else {
            Err(format!("{report:?}"))
        }
    })
    .await;
}

async fn write(cluster: &Cluster, keys: u64) {
    let mut client = cluster.client("a").await;
    for key in 0..keys {
        let key = format!("k{key}");
        client.ask::<String>(&["SET", &key, "v"]).await.unwrap();
    }
}

async fn count(cluster: &Cluster) -> u64 {
    cluster.client("a").await.ask(&["DBSIZE"]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn switching_replication_off_and_on_loses_nothing_though_nothing_is_kept_on_disk() {
    let mut cluster = alone().await;
    write(&cluster, 500).await;
    for on in [true, false, true] {
        set_replication(&mut cluster, on).await;
        assert_eq!(count(&cluster).await, 500, "replication {on}");
    }
    cluster.holds("b", 500).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_saved_for_one_start_does_not_come_back_after_a_later_crash() {
    let mut cluster = alone().await;
    write(&cluster, 10).await;
    set_replication(&mut cluster, true).await;
    set_replication(&mut cluster, false).await;
    assert_eq!(count(&cluster).await, 10);
    let note = cluster.node("a").dir().join("shards/db-0/saved");
    until("the note of the orderly stop is gone", SOON, async || {
        if note.exists() {
            Err(note.display().to_string())
        } else {
            Ok(())
        }
    })
    .await;
    let before = cluster.node("a").pid("db-0").unwrap();
    cluster.node("a").signal("db-0", Signal::KILL);
    until("it runs again", SOON, async || {
        match cluster.node("a").pid("db-0")? {
            now if now != before => Ok(()),
            _ => Err("not yet".to_owned()),
        }
    })
    .await;
    serves(&cluster).await;
    assert_eq!(count(&cluster).await, 0, "it keeps nothing on disk");
}

#[tokio::test(flavor = "multi_thread")]
async fn managed_settings_are_put_back_and_others_are_left_alone() {
    let cluster = Cluster::start(&["b"]).await;
    let node = cluster.node("a");
    let changed = [
        ("maxmemory", "12345678", "0"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
        ("appendonly", "yes", "no"),
        ("save", "60 1", ""),
    ];
    for (name, value, _) in changed {
        node.internal(&["CONFIG", "SET", name, value])
            .await
            .unwrap();
    }
    node.internal(&["CONFIG", "SET", "slowlog-max-len", "7"])
        .await
        .unwrap();
    let get = async |name: &str| -> Vec<String> {
        let found = node.internal(&["CONFIG", "GET", name]).await.unwrap();
        redis::from_redis_value(found).unwrap()
    };
    for (name, _, wanted) in changed {
        until(
            &format!("{name} is put back"),
            Duration::from_secs(15),
            async || {
                let found = get(name).await;
                if found[1] == wanted {
                    Ok(())
                } else {
                    Err(format!("{found:?}"))
                }
            },
        )
        .await;
    }
    assert_eq!(get("slowlog-max-len").await[1], "7");
    let mut client = Client::connect(&node.host).await;
    client.ask::<String>(&["SET", "k", "v"]).await.unwrap();
}
