//! A database is brought to another version of Valkey.

use std::time::{Duration, Instant};

use meridian_integration::stack::{Cluster, Region};
use serde_json::Value;

use super::{
    load::{Load, Written},
    support::{SOON, cluster, condition, database_with, events, gone, object, replicated, running},
};

/// All copies of a small database are started anew, one after the other.
const RAISED: Duration = Duration::from_secs(180);

fn version(redb: &Value) -> &str {
    redb["status"]["version"].as_str().unwrap_or_default()
}

/// Waits until every copy of `name` is served by `series`.
async fn served_by(cluster: &Cluster, name: &str, series: &str) {
    let one = |redb: &Value| {
        version(redb).starts_with(series)
            && !version(redb).contains(',')
            && redb["status"]["status"] == "active"
            && condition(redb, "VersionCurrent").starts_with("True")
    };
    object(cluster, "redb", name, series, RAISED, one)
        .await
        .unwrap();
}

fn asks(cluster: &Cluster, name: &str, version: &str) -> anyhow::Result<String> {
    let patch = format!("{{\"spec\": {{\"redisVersion\": \"{version}\"}}}}");
    cluster.must(&["patch", "redb", name, "--type=merge", "-p", &patch], "")
}

/// Raises `name` while somebody writes; what was acknowledged is there.
#[expect(clippy::print_stdout, reason = "the figures of a test that passes")]
async fn raised_under_load(cluster: &Cluster, name: &str, region: &Region) -> Written {
    let writer = Load::start(region);
    let started = Instant::now();
    asks(cluster, name, "8.2").unwrap();
    let changing = |redb: &Value| {
        redb["status"]["status"] == "active-change-pending"
            || condition(redb, "VersionCurrent").starts_with("False Raising")
            || version(redb).starts_with("9.1")
    };
    object(cluster, "redb", name, "on its way", SOON, changing)
        .await
        .unwrap();
    served_by(cluster, name, "9.1").await;
    let took = started.elapsed();
    let written = writer.finish().await;
    written.kept(name);
    println!(
        "{name} from 8.1 to 9.1: {:.1} s, {written}",
        took.as_secs_f64()
    );
    written
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_raised_to_another_version_under_load_and_loses_nothing() {
    let cluster = cluster().await;
    running(cluster, "vk", "").await.unwrap();
    let brings = |rec: &Value| {
        let all = rec["status"]["bundledDatabaseVersions"].as_array();
        let all: Vec<&str> = all
            .into_iter()
            .flatten()
            .filter_map(|one| one["version"].as_str())
            .collect();
        all == ["8.1", "9.1"]
    };
    object(cluster, "rec", "vk", "what its nodes bring", SOON, brings)
        .await
        .unwrap();

    let pair = replicated(cluster, "vk", "vk-pair", "  redisVersion: '7.4'\n")
        .await
        .unwrap();
    let alone = database_with(cluster, "vk", "vk-alone", "").await.unwrap();
    for name in ["vk-pair", "vk-alone"] {
        served_by(cluster, name, "8.1").await;
    }
    // There is no webhook here: what nobody brings is told by the status, and the database goes on.
    asks(cluster, "vk-pair", "99.0").unwrap();
    let refused = |redb: &Value| {
        condition(redb, "Ready").contains("8.1, 9.1") && version(redb).starts_with("8.1")
    };
    object(cluster, "redb", "vk-pair", "99.0 is refused", SOON, refused)
        .await
        .unwrap();

    let written = raised_under_load(cluster, "vk-pair", &pair).await;
    written.moved_at_most("vk-pair");
    let moved = events(cluster, "vk-pair", "VersionRaised").unwrap();
    assert!(moved.len() >= 2, "{moved:?}");
    raised_under_load(cluster, "vk-alone", &alone).await;
    // Nothing goes back.
    asks(cluster, "vk-pair", "8.1").unwrap();
    let generation =
        cluster.get("redb", "vk-pair").unwrap().unwrap()["metadata"]["generation"].clone();
    let looked = |redb: &Value| redb["status"]["observedGeneration"] == generation;
    object(cluster, "redb", "vk-pair", "it was looked at", SOON, looked)
        .await
        .unwrap();
    served_by(cluster, "vk-pair", "9.1").await;
    for name in ["vk-pair", "vk-alone"] {
        cluster
            .must(&["delete", "redb", name, "--timeout=60s"], "")
            .unwrap();
    }
    gone(cluster, "vk").await.unwrap();
}
