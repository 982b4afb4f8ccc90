//! A database with a replica stays writable when what carries its primary goes away. A client's own log of acknowledged
//! writes is the judge.

use meridian_integration::{
    demo,
    stack::{Cluster, REC, Region},
};
use serde_json::Value;

use crate::{
    ledger::{Ledger, Verdict},
    support::{SOON, object, stack},
};

/// A database of one cluster, with a replica.
const NAME: &str = "with-replica";

/// Makes the database unless it is there, and waits until its replica may take over.
async fn ready(cluster: &Cluster) -> Region {
    cluster
        .apply(&format!(
            "apiVersion: app.redislabs.com/v1alpha1\nkind: RedisEnterpriseDatabase\nmetadata: {{name: {NAME}}}\n\
             spec: {{memorySize: 100MB, replication: true, persistence: aofEverySecond}}\n"
        ))
        .unwrap();
    in_sync(cluster).await;
    let password = cluster.must(
        &[
            "get",
            "secret",
            &format!("redb-{NAME}"),
            "-o",
            "go-template={{.data.password | base64decode}}",
        ],
        "",
    );
    let region = cluster.region(NAME, &password.unwrap(), SOON).await;
    let region = region.unwrap();
    demo::answers(std::slice::from_ref(&region)).await.unwrap();
    region
}

/// Waits until somebody may take over, and says who leads now.
async fn in_sync(cluster: &Cluster) -> String {
    let topology = object(cluster, "dbtopo", NAME, "a replica is in sync", |o| {
        o["spec"]["shards"][0]["inSync"][0].is_string()
    });
    primary(&topology.await.unwrap())
}

fn primary(topology: &Value) -> String {
    let primary = topology["spec"]["shards"][0]["primary"].as_str();
    primary.expect("a primary").to_owned()
}

/// Runs `fault` against the pod of the primary while a client writes; another pod leads afterwards.
async fn survives(fault: impl AsyncFnOnce(&Cluster, &str)) -> Verdict {
    let cluster = &stack().await.clusters[1];
    let region = ready(cluster).await;
    let before = in_sync(cluster).await;
    let run = region.run::<i64>("INCR runs").await.unwrap();
    let client = Ledger::start(&region, &format!("run-{run}"));
    client.progress(200).await.unwrap();
    fault(cluster, &before).await;
    let moved = object(cluster, "dbtopo", NAME, "another pod leads", |o| {
        primary(o) != before
    });
    moved.await.unwrap();
    client.progress(200).await.unwrap();
    let verdict = client.judge().await.unwrap();
    assert!(verdict.acknowledged >= 400, "{verdict:?}");
    // The pod comes back and follows: the next failure is survived as well.
    in_sync(cluster).await;
    verdict
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_asked_to_go_hands_its_primary_over_and_loses_nothing() {
    let verdict = survives(async |cluster, pod| {
        cluster
            .must(&["delete", "pod", pod, "--wait=false"], "")
            .unwrap();
    });
    assert_eq!(verdict.await.lost, Vec::<u64>::new());
}

/// Replication is asynchronous, so a crash may lose a tail; it is the last of what was acknowledged, and short.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_primary_is_replaced_and_at_most_its_last_writes_are_lost() {
    let verdict = survives(async |cluster, pod| {
        assert!(pod.starts_with(REC), "{pod}");
        cluster
            .must(&["delete", "pod", pod, "--grace-period=0", "--force"], "")
            .unwrap();
    });
    let Verdict { lost, acknowledged } = verdict.await;
    let whole = lost.windows(2).all(|two| two[0] + 1 == two[1]);
    assert!(
        whole && lost.len() <= 50,
        "of {acknowledged} acknowledged writes these are lost: {lost:?}"
    );
}
