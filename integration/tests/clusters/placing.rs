//! Where a REC's pods may stand: the words of its state while they find their hosts one after the other, and racks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::{
    Api,
    runtime::watcher::{self, Event},
};
use meridian_api::crds::RedisEnterpriseCluster;
use meridian_integration::stack::{Cluster, NAMESPACE, Paths, REC_RUNNING};
use serde_json::Value;

use super::{
    support::{SOON, cluster, condition, gone, object, rec, replicated, state},
    watched::client,
};

/// Label of the hosts that may carry the pods of these scenarios.
const PLACE: &str = "example.com/place";
/// Label of their rack.
const RACK: &str = "example.com/rack";

/// The names of the cluster's hosts that take pods.
fn hosts(cluster: &Cluster) -> Result<Vec<String>> {
    let all = cluster.list("nodes")?;
    let open = all
        .iter()
        .filter(|host| host["spec"]["taints"].is_null() && host["spec"]["unschedulable"] != true);
    let names = open.filter_map(|host| host["metadata"]["name"].as_str().map(str::to_owned));
    Ok(names.collect())
}

fn label(cluster: &Cluster, host: &str, label: &str) -> Result<()> {
    cluster
        .must(&["label", "node", host, "--overwrite", label], "")
        .map(drop)
}

/// Takes the labels of these scenarios off every host.
fn unlabel(cluster: &Cluster) -> Result<()> {
    let (place, rack) = (format!("{PLACE}-"), format!("{RACK}-"));
    cluster
        .must(&["label", "nodes", "--all", &place, &rack], "")
        .map(drop)
}

/// Collects the words of a REC's state, each change once.
async fn words(cluster: &Cluster, name: &str) -> Result<Arc<Mutex<Vec<String>>>> {
    let all: Api<RedisEnterpriseCluster> = Api::namespaced(client(cluster).await?, NAMESPACE);
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let words = Arc::clone(&seen);
    tokio::spawn(async move {
        let mut told = watcher::watcher(all, only).boxed();
        while let Ok(Some(event)) = told.try_next().await {
            let (Event::Apply(rec) | Event::InitApply(rec)) = event else {
                continue;
            };
            let status = serde_json::to_value(&rec.status).unwrap_or_default();
            let word = status["state"].as_str().unwrap_or_default().to_owned();
            let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
            if !word.is_empty() && words.last() != Some(&word) {
                words.push(word);
            }
        }
    });
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_goes_through_its_states_in_their_order() {
    let cluster = cluster().await;
    unlabel(cluster).unwrap();
    let seen = words(cluster, "born").await.unwrap();
    cluster
        .apply(&rec(
            "born",
            &format!("  nodeSelector: {{{PLACE}: here}}\n"),
        ))
        .unwrap();
    let becomes = async |word: &str, within| {
        let is = |rec: &Value| state(rec) == word;
        object(cluster, "rec", "born", word, within, is)
            .await
            .unwrap();
    };
    // No host takes a pod, then one does, then as many as are needed.
    becomes("BootstrappingFirstPod", SOON).await;
    let hosts = hosts(cluster).unwrap();
    label(cluster, &hosts[0], &format!("{PLACE}=here")).unwrap();
    becomes("Initializing", REC_RUNNING).await;
    for host in &hosts[1..3] {
        label(cluster, host, &format!("{PLACE}=here")).unwrap();
    }
    becomes("Running", REC_RUNNING).await;
    let words = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(
        words,
        [
            "PendingCreation",
            "BootstrappingFirstPod",
            "Initializing",
            "Running"
        ]
    );
    gone(cluster, "born").await.unwrap();
    unlabel(cluster).unwrap();
}

/// Two hosts are in one rack and one is in another: of each database one copy stands in the other rack, wherever the first is.
#[tokio::test(flavor = "multi_thread")]
async fn copies_stand_in_different_racks() {
    let cluster = cluster().await;
    unlabel(cluster).unwrap();
    let racks = racks_of_three_hosts(cluster).unwrap();
    let may_read = Paths::from_environment()
        .unwrap()
        .root
        .join("deploy/bundle/racks.yaml");
    let more = format!("  nodeSelector: {{{PLACE}: here}}\n  rackAwarenessNodeLabel: {RACK}\n");
    cluster.apply(&rec("racked", &more)).unwrap();
    let refused = |rec: &Value| {
        let told = rec["status"]["conditions"].to_string();
        state(rec) != "Running" && told.contains("deploy/bundle/racks.yaml")
    };
    object(
        cluster,
        "rec",
        "racked",
        "the right is missing",
        SOON,
        refused,
    )
    .await
    .unwrap();
    cluster
        .must(&["apply", "-f", &may_read.to_string_lossy()], "")
        .unwrap();
    let account = format!("--serviceaccount={NAMESPACE}:meridian-agent");
    let role = "--clusterrole=meridian-racks";
    let binding = [
        "create",
        "clusterrolebinding",
        "meridian-racks-test",
        role,
        &account,
    ];
    cluster.must(&binding, "").unwrap();
    let runs = |rec: &Value| state(rec) == "Running" && condition(rec, "Ready").starts_with("True");
    object(cluster, "rec", "racked", "Running", REC_RUNNING, runs)
        .await
        .unwrap();

    let mut rack_of_pod = BTreeMap::new();
    for n in 0..3 {
        let name = format!("racked-{n}");
        let pod = cluster.get("pod", &name).unwrap().unwrap();
        let host = pod["spec"]["nodeName"].as_str().unwrap();
        let told = pod["metadata"]["annotations"]["meridian.dev/rack"].as_str();
        assert_eq!(told, racks.get(host).map(String::as_str), "{name}");
        rack_of_pod.insert(name, racks[host].clone());
    }
    let names = ["rack-a", "rack-b", "rack-c"];
    for name in names {
        replicated(cluster, "racked", name, "").await.unwrap();
        let topology = cluster.get("dbtopo", name).unwrap().unwrap();
        let shard = &topology["spec"]["shards"][0];
        let copies = [&shard["primary"], &shard["replicas"][0]];
        let found: BTreeSet<&String> = copies
            .iter()
            .map(|pod| &rack_of_pod[pod.as_str().unwrap()])
            .collect();
        assert_eq!(found.len(), 2, "{name}: {shard} {rack_of_pod:?}");
    }
    for name in names {
        cluster
            .must(&["delete", "redb", name, "--timeout=60s"], "")
            .unwrap();
    }
    gone(cluster, "racked").await.unwrap();
    let binding = ["delete", "clusterrolebinding", "meridian-racks-test"];
    cluster.must(&binding, "").unwrap();
    unlabel(cluster).unwrap();
}

/// Opens three hosts to the pods, two of them in one rack.
fn racks_of_three_hosts(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let mut racks = BTreeMap::new();
    for (host, rack) in hosts(cluster)?.iter().zip(["r1", "r1", "r2"]) {
        label(cluster, host, &format!("{PLACE}=here"))?;
        label(cluster, host, &format!("{RACK}={rack}"))?;
        racks.insert(host.clone(), rack.to_owned());
    }
    (racks.len() == 3)
        .then_some(racks)
        .context("fewer than three hosts take pods")
}
