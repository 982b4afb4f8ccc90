//! Where truth lies: a hub that lost its store or turned it back, and a deleted topology, cost no data.

use std::{fs, path::Path, process, time::Duration};

use meridian_integration::{
    demo::DATABASE,
    stack::{Hub, Stack},
    wait::{Look, until, until_true},
};

use crate::{
    load::Writer,
    support::{Database, database, deleted, fingerprint, object, said_again, stack, times_said},
};

/// Reason of the Event with which an agent says that it obeys nobody.
const OBSERVING: &str = "OnlyObserving";
/// How long a cluster may take to come back to a hub that was started again.
const BACK: Duration = Duration::from_secs(60);

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

async fn all_connected(stack: &Stack) {
    for cluster in &stack.clusters {
        stack.hub.connected(&cluster.name, BACK).await.unwrap();
    }
}

fn store(data: &Path) -> std::path::PathBuf {
    data.join("hub.redb")
}

/// The hub's data folder before and after a database was made, and that database under load in every region.
struct TwoPasts {
    old: std::path::PathBuf,
    newest: std::path::PathBuf,
    later: Database,
    writers: Vec<Writer>,
}

impl TwoPasts {
    /// `name` must be unused on this stack: what the old store does not know must have been obeyed since.
    async fn make(stack: &Stack, name: &str) -> Self {
        let database = database(stack, DATABASE).await.unwrap();
        let old = stack.paths.state.join(format!("hub-old-{name}"));
        let newest = stack.paths.state.join(format!("hub-newest-{name}"));
        restart(stack, |data| copy(data, &old)).await;
        let later = crate::support::database(stack, name).await.unwrap();
        let mut writers = Vec::new();
        for region in database.regions.iter().chain(&later.regions) {
            writers.push(Writer::start(region, "truth:load").await.unwrap());
        }
        Self {
            old,
            newest,
            later,
            writers,
        }
    }

    /// Puts the old store back and waits until the hub knows from every cluster that it is old, and the clusters say so.
    async fn go_back(&self, stack: &Stack) {
        let said: Vec<i64> = stack
            .clusters
            .iter()
            .map(|cluster| times_said(cluster, OBSERVING).unwrap())
            .collect();
        restart(stack, |data| {
            copy(data, &self.newest);
            replace(data, &self.old);
        })
        .await;
        observed(stack).await;
        for (cluster, before) in stack.clusters.iter().zip(said) {
            said_again(cluster, OBSERVING, before).await.unwrap();
        }
        self.still_served().await;
    }

    async fn go_forth(&self, stack: &Stack) {
        restart(stack, |data| replace(data, &self.newest)).await;
    }

    /// Both databases take writes in every region.
    async fn still_served(&self) {
        for writer in &self.writers {
            writer.progress(50).await.unwrap();
        }
    }

    /// No client noticed anything; then the database goes, on the hub's word, which proves that the hub is obeyed.
    async fn end(self, stack: &Stack) {
        for writer in self.writers {
            let log = writer.finish().await.unwrap();
            assert_eq!(log.errors, Vec::<String>::new(), "clients noticed");
        }
        deleted(stack, &self.later.name).await.unwrap();
        fs::remove_dir_all(self.old).unwrap();
        fs::remove_dir_all(self.newest).unwrap();
    }
}

fn replace(data: &Path, with: &Path) {
    fs::remove_dir_all(data).unwrap();
    copy(with, data);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Waits until the hub only observes, because every cluster has seen a later state than it holds.
async fn observed(stack: &Stack) {
    let what = "the hub observes, with a doubt of every cluster";
    until(what, BACK, || async {
        let hub = stack.hub.api("hub")?;
        let doubts = hub["doubts"].as_array().map_or(0, Vec::len);
        let holds = hub["mode"] == "observes" && doubts == stack.clusters.len();
        Ok(if holds {
            Look::Holds(())
        } else {
            Look::NotYet(hub.to_string())
        })
    })
    .await
    .unwrap();
}

async fn decides(hub: &Hub) {
    until_true("the hub decides", BACK, || async {
        Ok(hub.api("hub")?["mode"] == "decides")
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_whose_store_went_back_in_time_observes_until_the_newest_is_put_back() {
    let stack = stack().await;
    let pasts = TwoPasts::make(stack, &format!("later-{}", process::id())).await;
    let before = fingerprint(stack);
    pasts.go_back(stack).await;
    assert_eq!(
        before,
        fingerprint(stack),
        "what the old store does not know stays"
    );

    pasts.go_forth(stack).await;
    all_connected(stack).await;
    decides(&stack.hub).await;
    pasts.still_served().await;
    assert_eq!(before, fingerprint(stack));
    pasts.end(stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_whose_old_store_is_adopted_deletes_nothing_that_it_does_not_know() {
    let stack = stack().await;
    let pasts = TwoPasts::make(stack, &format!("unknown-{}", process::id())).await;
    let before = fingerprint(stack);
    pasts.go_back(stack).await;
    stack.hub.adopt().unwrap();
    decides(&stack.hub).await;
    // A database that is made now is obeyed everywhere: so every agent follows the store again.
    let after = format!("after-{}", process::id());
    database(stack, &after).await.unwrap();
    deleted(stack, &after).await.unwrap();
    pasts.still_served().await;
    assert_eq!(before, fingerprint(stack), "what is unknown stays");

    pasts.go_forth(stack).await;
    observed(stack).await;
    stack.hub.adopt().unwrap();
    decides(&stack.hub).await;
    all_connected(stack).await;
    pasts.still_served().await;
    assert_eq!(before, fingerprint(stack));
    pasts.end(stack).await;
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
    all_connected(stack).await;
    assert_eq!(before, fingerprint(stack));
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
