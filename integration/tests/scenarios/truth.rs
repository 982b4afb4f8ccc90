//! Where truth lies: a hub that lost its store and a deleted topology cost no data.

use std::{fs, path::Path, time::Duration};

use meridian_integration::{demo::DATABASE, stack::Stack};

use crate::support::{Database, database, object, stack};

/// What must not change on any member: its Active-Active objects, its topologies and the pods' processes.
fn fingerprint(stack: &Stack) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for cluster in &stack.clusters {
        for kind in ["reaadb", "aai", "dbtopo", "pod"] {
            for object in cluster.list(kind).unwrap() {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                if kind == "pod" && !name.starts_with("rec-") {
                    continue;
                }
                let started = object["status"]["containerStatuses"][0]["containerID"]
                    .as_str()
                    .unwrap_or_default();
                all.push((
                    format!("{}/{kind}/{name}", cluster.name),
                    format!("{}{started}", object["metadata"]["uid"]),
                ));
            }
        }
    }
    all.sort();
    all
}

async fn write_and_read(database: &Database, key: &str) {
    let get = format!("GET {key}");
    let before: Option<i64> = database.regions[0].run(&get).await.unwrap();
    for region in &database.regions {
        region.run::<i64>(&format!("INCR {key}")).await.unwrap();
    }
    let sum = (before.unwrap_or(0) + 3).to_string();
    for region in &database.regions {
        meridian_integration::demo::equal(region, &get, &sum, Duration::from_secs(30))
            .await
            .unwrap();
    }
}

async fn restart(stack: &Stack, change: impl FnOnce(&Path)) {
    stack.hub.kill().await.unwrap();
    change(stack.hub.data());
    stack.hub.spawn().unwrap();
    stack.hub.ready().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_lost_its_store_touches_nothing() {
    let stack = stack().await;
    let database = database(stack, DATABASE).await.unwrap();
    let aside = stack.paths.state.join("store-aside");
    let before = fingerprint(stack);
    restart(stack, |data| fs::rename(store(data), &aside).unwrap()).await;
    write_and_read(&database, "truth:empty-store").await;
    assert_eq!(before, fingerprint(stack));
    restart(stack, |data| fs::rename(&aside, store(data)).unwrap()).await;
    for cluster in &stack.clusters {
        stack
            .hub
            .connected(&cluster.name, Duration::from_secs(90))
            .await
            .unwrap();
    }
    assert_eq!(before, fingerprint(stack));
}

fn store(data: &Path) -> std::path::PathBuf {
    data.join("hub.redb")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topology_is_made_again_and_no_shard_stops() {
    let stack = stack().await;
    let database = database(stack, DATABASE).await.unwrap();
    let cluster = &stack.clusters[0];
    let before = cluster
        .get("dbtopo", DATABASE)
        .unwrap()
        .expect("the topology");
    database.regions[0]
        .run::<String>("SET truth:topology kept")
        .await
        .unwrap();
    cluster.must(&["delete", "dbtopo", DATABASE], "").unwrap();
    object(
        cluster,
        "dbtopo",
        DATABASE,
        "made again with a higher epoch and the same primary",
        |now| {
            now["metadata"]["uid"] != before["metadata"]["uid"]
                && now["spec"]["epoch"].as_i64() > before["spec"]["epoch"].as_i64()
                && now["spec"]["shards"][0]["primary"] == before["spec"]["shards"][0]["primary"]
        },
    )
    .await
    .unwrap();
    assert_eq!(
        database.regions[0]
            .run::<String>("GET truth:topology")
            .await
            .unwrap(),
        "kept"
    );
    write_and_read(&database, "truth:topology-writes").await;
}
