//! What the agent and the nodes hear of after an outage of the API. A cluster whose etcd was put back from a snapshot counts
//! its versions from an earlier number on: whoever watches from a version of the lost future is told nothing for a long
//! time. And after an API server was away, every watch has failed, and waits before it asks again.

use std::time::Duration;

use meridian_integration::{
    lab::{Lab, LabConfig},
    stack::Cluster,
    wait::{Look, until},
};
use serde_json::Value;

use super::support::{SOON, cluster, database, gone, running};

/// Versions that are lost: a quiet cluster needs minutes to count so far again.
const LOST: usize = 800;

/// An API server that is away so long lets every watch wait as long as it ever waits.
const AWAY: Duration = Duration::from_secs(60);

/// The lab itself, beyond what its command does.
fn attached() -> Lab {
    Lab::refuse_others("an API server that goes away").expect("a lab of our own");
    let config = LabConfig::from_environment().expect("a configuration");
    Lab::attach(&config)
        .expect("a lab")
        .expect("a lab that is up")
}

/// Moves the versions of the store on.
fn count_on(cluster: &Cluster) {
    let one = |number: usize| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: lost-{number}, labels: {{lost: 'yes'}}}}\n"
        )
    };
    let all: String = (0..LOST).map(one).collect();
    cluster.must(&["create", "-f", "-"], &all).unwrap();
}

#[tokio::test]
async fn what_is_applied_after_the_store_was_put_back_is_seen_at_once() {
    let cluster = cluster().await;
    running(cluster, "restored", "").await.unwrap();
    database(cluster, "restored", "before").await.unwrap();
    let attached = attached();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("store");
    attached.snapshot_store(&cluster.name, &copy).await.unwrap();
    count_on(cluster);
    attached.restore_store(&cluster.name, &copy).await.unwrap();
    assert!(cluster.get("configmap", "lost-1").unwrap().is_none());

    // The agent sees the database, the nodes see its topology, and the kubelets and Services go on.
    database(cluster, "restored", "after").await.unwrap();
    until("both replicas of the agent began anew", SOON, || async {
        let arguments = [
            "get",
            "pods",
            "-l",
            "app.kubernetes.io/name=meridian-agent",
            "-o",
            "json",
        ];
        let list: Value = serde_json::from_str(&cluster.must(&arguments, "")?)?;
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        let starts: Vec<_> = pods
            .iter()
            .map(|pod| pod["status"]["containerStatuses"][0]["restartCount"].clone())
            .collect();
        Ok(if starts.iter().all(|starts| starts.as_u64() > Some(0)) {
            Look::Holds(())
        } else {
            Look::NotYet(format!("{starts:?}"))
        })
    })
    .await
    .unwrap();
    for name in ["before", "after"] {
        cluster
            .must(&["delete", "redb", name, "--timeout=60s"], "")
            .unwrap();
    }
    gone(cluster, "restored").await.unwrap();
}

#[tokio::test]
async fn what_is_applied_after_the_api_server_was_away_is_seen_at_once() {
    let cluster = cluster().await;
    running(cluster, "away", "").await.unwrap();
    let control_plane = format!("{}-control-plane", cluster.name);
    let attached = attached();
    attached
        .stop_process(&control_plane, "kube-apiserver")
        .await
        .unwrap();
    tokio::time::sleep(AWAY).await;
    attached
        .start_process(&control_plane, "kube-apiserver")
        .await
        .unwrap();
    database(cluster, "away", "after").await.unwrap();
    cluster
        .must(&["delete", "redb", "after", "--timeout=60s"], "")
        .unwrap();
    gone(cluster, "away").await.unwrap();
}
