//! A REC that lost the majority of its nodes: nothing is made anew before a person orders it by `clusterRecovery`, and then
//! every node comes back from its volume, with every acknowledged write.

use std::collections::BTreeSet;

use meridian_integration::{
    stack::{Cluster, Region},
    wait::{Look, until},
};
use serde_json::Value;

use super::support::{
    ROLLED_OUT, SOON, cluster, condition, database, events, gone, lab, object, pods, running, state,
};

/// Writes that must be there afterwards.
const WRITES: usize = 200;

/// Pod → host, of the pods that `selector` finds.
fn hosts(cluster: &Cluster, selector: &str) -> Vec<(String, String)> {
    let arguments = ["get", "pods", "-l", selector, "-o", "json"];
    let list: Value = serde_json::from_str(&cluster.must(&arguments, "").unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pods = list["items"].as_array().unwrap().iter();
    let mut all: Vec<_> = pods
        .map(|pod| {
            (
                text(&pod["metadata"]["name"]),
                text(&pod["spec"]["nodeName"]),
            )
        })
        .collect();
    all.sort();
    all
}

/// The two pods that are lost, with their hosts: the one with the database, and another whose loss leaves the agent a replica.
fn victims(cluster: &Cluster, rec: &str, primary: &str) -> Vec<(String, String)> {
    let nodes = hosts(
        cluster,
        &format!("redis.io/cluster={rec},redis.io/role=node"),
    );
    let agents: BTreeSet<String> = hosts(cluster, "app.kubernetes.io/name=meridian-agent")
        .into_iter()
        .map(|(_, host)| host)
        .collect();
    assert_eq!(
        agents.len(),
        2,
        "each replica of the agent on a host of its own"
    );
    let first = nodes.iter().find(|(pod, _)| pod == primary).unwrap();
    let second = nodes.iter().find(|(pod, host)| {
        let lost = BTreeSet::from([first.1.clone(), host.clone()]);
        pod != primary && lost != agents
    });
    vec![first.clone(), second.unwrap().clone()]
}

async fn ready(cluster: &Cluster, rec: &str, count: usize) {
    until(
        &format!("{count} pods of {rec} are ready"),
        ROLLED_OUT,
        || async {
            let found = pods(cluster, rec)?;
            Ok(
                if found.values().filter(|(_, ready)| *ready).count() == count {
                    Look::Holds(())
                } else {
                    Look::NotYet(format!("{found:?}"))
                },
            )
        },
    )
    .await
    .unwrap();
}

/// The order as a person gives it.
fn order(cluster: &Cluster) {
    let patch = r#"{"spec": {"clusterRecovery": true}}"#;
    let order = ["patch", "rec", "lost", "--type=merge", "-p", patch];
    cluster.must(&order, "").unwrap();
}

/// Waits for the word of a REC that its recovery is over, and for the order to be taken back.
async fn recovered(cluster: &Cluster) {
    let recovered = |rec: &Value| {
        state(rec) == "Running"
            && condition(rec, "Ready").starts_with("True")
            && rec["spec"]["clusterRecovery"] == false
            && rec["metadata"]["annotations"]["meridian.dev/recovery"].is_null()
    };
    object(cluster, "rec", "lost", "recovered", ROLLED_OUT, recovered)
        .await
        .unwrap();
    for reason in ["RecoveryBegins", "RecoveryCompleted"] {
        let told = events(cluster, "lost", reason).unwrap();
        assert!(!told.is_empty(), "{reason}");
    }
}

async fn every_write_is_there(region: &Region) {
    until("every acknowledged write is there", ROLLED_OUT, || async {
        for n in 0..WRITES {
            match region.run::<Option<usize>>(&format!("GET key-{n}")).await {
                Ok(Some(found)) => assert_eq!(found, n),
                other => return Ok(Look::NotYet(format!("key-{n}: {other:?}"))),
            }
        }
        Ok(Look::Holds(()))
    })
    .await
    .unwrap();
}

/// An order that nothing needs is taken back with a word.
async fn another_order_is_declined(cluster: &Cluster) {
    let before = pods(cluster, "lost").unwrap();
    order(cluster);
    let declined = |rec: &Value| rec["spec"]["clusterRecovery"] == false;
    object(cluster, "rec", "lost", "declined", SOON, declined)
        .await
        .unwrap();
    until("an Event says so", SOON, || async {
        let told = events(cluster, "lost", "RecoveryNotNeeded")?;
        Ok(if told.is_empty() {
            Look::NotYet("none".to_owned())
        } else {
            Look::Holds(())
        })
    })
    .await
    .unwrap();
    assert_eq!(pods(cluster, "lost").unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_its_majority_is_recovered_on_order_with_every_acknowledged_write() {
    let cluster = cluster().await;
    running(cluster, "lost", "").await.unwrap();
    let region = database(cluster, "lost", "lost-db").await.unwrap();
    for n in 0..WRITES {
        let taken: String = region.run(&format!("SET key-{n} {n}")).await.unwrap();
        assert_eq!(taken, "OK");
    }
    let topology = cluster.get("dbtopo", "lost-db").unwrap().unwrap();
    let primary = topology["spec"]["shards"][0]["primary"].as_str().unwrap();
    let victims = victims(cluster, "lost", primary);
    let before = pods(cluster, "lost").unwrap();

    for (_, host) in &victims {
        lab(&["kill-node", host]).unwrap();
    }
    ready(cluster, "lost", 1).await;
    order(cluster);
    let resets = |rec: &Value| state(rec) == "RecoveryReset";
    object(cluster, "rec", "lost", "RecoveryReset", SOON, resets)
        .await
        .unwrap();
    // A pod is never deleted by force: what hangs on a dead host is still there.
    let hanging = pods(cluster, "lost").unwrap();
    for (pod, _) in &victims {
        assert_eq!(hanging[pod].0, before[pod].0, "{pod}");
    }

    for (_, host) in &victims {
        lab(&["start-node", host]).unwrap();
    }
    recovered(cluster).await;
    let after = pods(cluster, "lost").unwrap();
    for (pod, (uid, _)) in &before {
        let lost = victims.iter().any(|(victim, _)| victim == pod);
        assert_eq!(
            after[pod].0 != *uid,
            lost,
            "{pod}: only what did not serve is made anew"
        );
    }
    every_write_is_there(&region).await;
    another_order_is_declined(cluster).await;
    let delete = ["delete", "redb", "lost-db", "--timeout=60s"];
    cluster.must(&delete, "").unwrap();
    gone(cluster, "lost").await.unwrap();
}
