//! More nodes, and larger volumes.

use std::time::Instant;

use meridian_integration::stack::Cluster;
use serde_json::Value;

use super::{
    load::Load,
    support::{
        ROLLED_OUT, SOON, cluster, condition, gone, object, pods, replicated, running, state,
    },
    watched::Watched,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_grows_from_three_to_five_and_its_volumes_grow_without_a_restart() {
    let cluster = cluster().await;
    running(cluster, "grow", "").await.unwrap();
    let before = pods(cluster, "grow").unwrap();
    let region = replicated(cluster, "grow", "grow-db", "").await.unwrap();
    let watched = Watched::start(cluster, "grow", 3).await.unwrap();
    let writer = Load::start(&region);
    let patch = |spec: &str| {
        let patch = format!("{{\"spec\": {spec}}}");
        cluster
            .must(&["patch", "rec", "grow", "--type=merge", "-p", &patch], "")
            .unwrap();
    };

    let started = Instant::now();
    patch(r#"{"nodes": 5}"#);
    let all_serve = |rec: &Value| {
        condition(rec, "Ready").starts_with("True") && condition(rec, "Ready").contains("5 of 5")
    };
    object(
        cluster,
        "rec",
        "grow",
        "5 of 5 nodes are ready",
        ROLLED_OUT,
        all_serve,
    )
    .await
    .unwrap();
    println!("3 to 5 nodes: {:.1} s", started.elapsed().as_secs_f64());
    let grown = pods(cluster, "grow").unwrap();
    for (name, (uid, _)) in &before {
        assert_eq!(&grown[name].0, uid, "{name} was made anew");
    }

    patch(r#"{"nodes": 3}"#);
    let refused = |rec: &Value| {
        state(rec) == "Invalid" && condition(rec, "Ready").contains("a cluster cannot shrink")
    };
    object(cluster, "rec", "grow", "Invalid", SOON, refused)
        .await
        .unwrap();
    assert_eq!(pods(cluster, "grow").unwrap(), grown);

    println!(
        "5 volumes from 1 to 2 GiB: {:.1} s",
        volumes_grow(cluster).await
    );
    assert_eq!(pods(cluster, "grow").unwrap(), grown, "a pod was restarted");
    let (seen, written) = (watched.finish().unwrap(), writer.finish().await);
    println!("a database while its cluster grew: {written}");
    written.moved_at_most("grow-db");
    assert_eq!(
        (seen.fewest(), seen.went(), seen.moves("grow-db")),
        (3, 0, 0),
        "{seen:?}"
    );
    cluster
        .must(&["delete", "redb", "grow-db", "--timeout=60s"], "")
        .unwrap();
    gone(cluster, "grow").await.unwrap();
}

/// Seconds until all volumes have grown.
async fn volumes_grow(cluster: &Cluster) -> f64 {
    let started = Instant::now();
    let patch = format!(
        "{{\"spec\": {}}}",
        r#"{"nodes": 5, "persistentSpec": {"volumeSize": "2Gi"}}"#
    );
    cluster
        .must(&["patch", "rec", "grow", "--type=merge", "-p", &patch], "")
        .unwrap();
    let provisioned = |rec: &Value| {
        let status = &rec["status"]["persistenceStatus"];
        status["status"] == "Provisioned"
            && status["succeeded"] == "5/5"
            && condition(rec, "VolumesReady").starts_with("True")
    };
    let claim = |claim: &Value| claim["status"]["capacity"]["storage"] == "2Gi";
    for n in 0..5 {
        let name = format!("redis-enterprise-storage-grow-{n}");
        object(cluster, "pvc", &name, "2Gi", SOON, claim)
            .await
            .unwrap();
    }
    object(
        cluster,
        "rec",
        "grow",
        "volumes Provisioned",
        SOON,
        provisioned,
    )
    .await
    .unwrap();
    let set = |set: &Value| {
        set["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "2Gi"
    };
    object(
        cluster,
        "statefulset",
        "grow",
        "a claim template of 2Gi",
        SOON,
        set,
    )
    .await
    .unwrap();
    started.elapsed().as_secs_f64()
}
