//! What the public documentation of the product has as examples, in words of our own, applied as it stands where everything is
//! checked: what is said is what `api/tests/known/warnings.txt` says, and what has no effect yet hinders nobody.

use anyhow::{Context as _, Result, ensure};
use meridian_integration::{
    shell::Output,
    stack::{Cluster, DATABASE_UP, NAMESPACE, Paths, REC_RUNNING},
    wait::{Look, until},
};
use serde_json::{Value, json};

use super::support::{SOON, cluster, condition, gone, object, state};

const FILES: [&str; 3] = ["clusters.yaml", "databases.yaml", "active-active.yaml"];
/// Objects that the examples name and do not contain.
const NAMED: [(&str, &str); 3] = [
    ("guarded-login", "password"),
    ("tram-login", "password"),
    ("client-certificate", "cert"),
];
/// Databases that are waited for: the plainest, and those with a field that has no effect yet.
const WAITED: [&str; 5] = ["quick", "smallest", "searching", "saved", "sharded"];

fn folder() -> Result<std::path::PathBuf> {
    Ok(Paths::from_environment()?.root.join("api/tests/known"))
}

fn documents() -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for file in FILES {
        let text = std::fs::read_to_string(folder()?.join(file))?;
        let read: Vec<Value> = serde_saphyr::from_multiple(&text)?;
        all.extend(read);
    }
    Ok(all)
}

/// The bundle of the webhook, for the namespace of these scenarios.
fn webhook() -> Result<String> {
    let path = Paths::from_environment()?
        .root
        .join("deploy/bundle/admission.yaml");
    Ok(std::fs::read_to_string(path)?.replace("NAMESPACE", NAMESPACE))
}

async fn in_force(cluster: &Cluster) -> Result<()> {
    let illegal = json!({
        "apiVersion": "app.redislabs.com/v1alpha1", "kind": "RedisEnterpriseDatabase",
        "metadata": {"name": "probe"}, "spec": {"evictionPolicy": "illegal"},
    });
    until("the webhook is in force", SOON, || async {
        let dry = ["apply", "--dry-run=server", "-f", "-"];
        let out = cluster.kubectl(&dry, &illegal.to_string())?;
        Ok(if out.stderr.contains("denied the request") {
            Look::Holds(())
        } else {
            Look::NotYet(format!("{}{}", out.stdout, out.stderr))
        })
    })
    .await
}

/// Whether the object is stored, and not only judged: other clusters, and databases that need a hub, would only take room.
fn is_stored(document: &Value) -> bool {
    match document["kind"].as_str() {
        Some("RedisEnterpriseCluster") => document["metadata"]["name"] == "rec-quick",
        Some("RedisEnterpriseActiveActiveDatabase") => false,
        Some(_) | None => true,
    }
}

fn applied(cluster: &Cluster, document: &Value) -> Result<Output> {
    let namespace = document["metadata"]["namespace"].as_str();
    let mut words = vec!["apply", "-f", "-"];
    if !is_stored(document) {
        words.push("--dry-run=server");
    }
    // The last flag wins.
    words.extend(["--namespace", namespace.unwrap_or(NAMESPACE)]);
    cluster.kubectl(&words, &document.to_string())
}

/// What the API server itself says of a version that the definition calls old.
fn of_an_older_version(document: &Value, warning: &str) -> bool {
    let version = document["apiVersion"].as_str().unwrap_or_default();
    warning.starts_with(version) && warning.contains("is deprecated; use")
}

/// Applies every example; gives what was said, as the list of what is known has it.
fn warnings(cluster: &Cluster) -> Result<Vec<String>> {
    let mut said = Vec::new();
    for document in documents()? {
        let name = document["metadata"]["name"].as_str().context("no name")?;
        let out = applied(cluster, &document)?;
        ensure!(out.code == 0, "{name}: {}{}", out.stdout, out.stderr);
        for line in out.stderr.lines() {
            if let Some(warning) = line.strip_prefix("Warning: ")
                && !of_an_older_version(&document, warning)
            {
                said.push(format!("{name}: {warning}"));
            }
        }
    }
    Ok(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentations_examples_apply_as_they_stand_and_serve() {
    let cluster = cluster().await;
    for (name, key) in NAMED {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {key: "x"},
        });
        cluster.apply(&secret.to_string()).unwrap();
    }
    cluster
        .apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: ns-west}\n")
        .unwrap();
    cluster.apply(&webhook().unwrap()).unwrap();
    in_force(cluster).await.unwrap();

    let mut said = warnings(cluster).unwrap();
    let text = std::fs::read_to_string(folder().unwrap().join("warnings.txt")).unwrap();
    let mut known: Vec<&str> = text.lines().collect();
    said.sort();
    known.sort_unstable();
    assert_eq!(said, known);

    let runs = |rec: &Value| state(rec) == "Running" && condition(rec, "Ready").starts_with("True");
    object(cluster, "rec", "rec-quick", "Running", REC_RUNNING, runs)
        .await
        .unwrap();
    for name in WAITED {
        let active = |redb: &Value| redb["status"]["status"] == "active";
        object(cluster, "redb", name, "active", DATABASE_UP, active)
            .await
            .unwrap();
    }
    cluster
        .must(&["delete", "--timeout=60s", "-f", "-"], &webhook().unwrap())
        .unwrap();
    cluster
        .must(&["delete", "redb,rerc", "--all", "--timeout=120s"], "")
        .unwrap();
    gone(cluster, "rec-quick").await.unwrap();
}
