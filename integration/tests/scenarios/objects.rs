//! Objects that people apply: examples, full objects, unreadable ones, and those of somebody else.

use std::{fs, process::id};

use meridian_integration::stack::Cluster;
use serde_json::{Value, json};

use crate::support::{condition, object, stack};

/// A namespace that no agent watches.
fn quiet_namespace(cluster: &Cluster, purpose: &str) -> String {
    let name = format!("{purpose}-{}", id());
    cluster
        .apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"
        ))
        .unwrap();
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_accepted_by_a_real_api_server() {
    let stack = stack().await;
    let cluster = &stack.clusters[0];
    let namespace = quiet_namespace(cluster, "examples");
    let mut applied = 0;
    for entry in fs::read_dir(stack.paths.root.join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let out = cluster
            .kubectl(
                &["apply", "-n", &namespace, "-f", &path.to_string_lossy()],
                "",
            )
            .unwrap();
        assert_eq!(
            out.code,
            0,
            "{}: {}{}",
            path.display(),
            out.stdout,
            out.stderr
        );
        applied += 1;
    }
    assert!(applied >= 4, "only {applied} examples found");
    cluster
        .must(&["delete", "namespace", &namespace, "--wait=false"], "")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_object_of_each_kind_comes_back_as_it_was_applied() {
    let stack = stack().await;
    let cluster = &stack.clusters[0];
    let namespace = quiet_namespace(cluster, "full");
    let mut compared = 0;
    for entry in fs::read_dir(stack.paths.root.join("api/tests/full")).unwrap() {
        let path = entry.unwrap().path();
        cluster
            .must(
                &["apply", "-n", &namespace, "-f", &path.to_string_lossy()],
                "",
            )
            .unwrap();
        let sent = cluster.must(
            &[
                "create",
                "--dry-run=client",
                "-o",
                "json",
                "-n",
                &namespace,
                "-f",
                &path.to_string_lossy(),
            ],
            "",
        );
        let sent: Value = serde_json::from_str(&sent.unwrap()).unwrap();
        let (kind, name) = (
            sent["kind"].as_str().unwrap(),
            sent["metadata"]["name"].as_str().unwrap(),
        );
        let kept = cluster
            .must(&["get", kind, name, "-n", &namespace, "-o", "json"], "")
            .unwrap();
        let kept: Value = serde_json::from_str(&kept).unwrap();
        assert_eq!(
            lost(&sent["spec"], &kept["spec"], "spec"),
            Vec::<String>::new(),
            "{}",
            path.display()
        );
        compared += 1;
    }
    assert_eq!(compared, 4, "one full object for each of the four kinds");
    cluster
        .must(&["delete", "namespace", &namespace, "--wait=false"], "")
        .unwrap();
}

/// Paths of `sent` that `kept` lacks or holds with another value. Defaults that the server adds are not lost.
fn lost(sent: &Value, kept: &Value, path: &str) -> Vec<String> {
    match sent {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| lost(value, &kept[name], &format!("{path}.{name}")))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(i, value)| lost(value, &kept[i], &format!("{path}[{i}]")))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) if sent == kept => {
            vec![]
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            vec![format!("{path}: {sent} → {kept}")]
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_object_does_not_blind_the_agent_for_a_good_one() {
    let stack = stack().await;
    let cluster = &stack.clusters[0];
    let crd = "redisenterprisedatabases.app.redislabs.com";
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/memorySize";
    let loosen = json!([{"op": "replace", "path": path, "value": {"x-kubernetes-preserve-unknown-fields": true}}]);
    cluster
        .must(
            &[
                "patch",
                "crd",
                crd,
                "--type=json",
                "-p",
                &loosen.to_string(),
            ],
            "",
        )
        .unwrap();
    let redb = |name: &str, size: &str| {
        format!(
            "apiVersion: app.redislabs.com/v1alpha1\nkind: RedisEnterpriseDatabase\n\
             metadata: {{name: {name}}}\nspec: {{memorySize: {size}}}\n"
        )
    };
    let bad = meridian_integration::wait::until_true(
        "the loosened schema is in force",
        crate::support::SOON,
        || async {
            Ok(cluster
                .kubectl(&["apply", "-f", "-"], &redb("unreadable", "[1, 2]"))?
                .code
                == 0)
        },
    );
    bad.await.unwrap();
    let crds = stack.paths.root.join("deploy/crds");
    cluster
        .must(&["apply", "-f", &crds.to_string_lossy()], "")
        .unwrap();

    cluster.apply(&redb("readable", "100MB")).unwrap();
    object(cluster, "redb", "readable", "status active", |o| {
        o["status"]["status"] == "active"
    })
    .await
    .unwrap();
    object(cluster, "redb", "unreadable", "specStatus Invalid", |o| {
        o["status"]["specStatus"] == "Invalid"
    })
    .await
    .unwrap();

    cluster
        .must(
            &["delete", "redb", "readable", "unreadable", "--timeout=60s"],
            "",
        )
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_set_of_another_manager_is_not_changed_by_a_byte() {
    let stack = stack().await;
    let cluster = &stack.clusters[0];
    let foreign = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: theirs}\nspec:\n  replicas: 0\n  \
                   serviceName: theirs\n  selector: {matchLabels: {app: theirs}}\n  template:\n    \
                   metadata: {labels: {app: theirs}}\n    spec: {containers: [{name: c, image: localhost/pause:1}]}\n";
    cluster.apply(foreign).unwrap();
    let settled = |o: &Value| o["status"]["observedGeneration"] == o["metadata"]["generation"];
    let before = object(
        cluster,
        "statefulset",
        "theirs",
        "seen by its controller",
        settled,
    )
    .await
    .unwrap();

    let rec = "apiVersion: app.redislabs.com/v1\nkind: RedisEnterpriseCluster\nmetadata: {name: theirs}\nspec: {nodes: 3}\n";
    cluster.apply(rec).unwrap();
    object(cluster, "rec", "theirs", "condition ForeignObject", |o| {
        condition(o, "ForeignObject", "True")
    })
    .await
    .unwrap();
    let events = cluster.must(&["get", "events", "-o", "json"], "").unwrap();
    assert!(
        events.contains("ForeignObject"),
        "an Event tells the person: {events}"
    );

    let after = cluster
        .get("statefulset", "theirs")
        .unwrap()
        .expect("it is still there");
    assert_eq!(before, after, "not a byte of it may change");
    cluster
        .must(&["delete", "rec", "theirs", "--timeout=60s"], "")
        .unwrap();
    let kept = cluster
        .get("statefulset", "theirs")
        .unwrap()
        .expect("deleting the REC leaves it");
    assert_eq!(before, kept);
    cluster
        .must(&["delete", "statefulset", "theirs"], "")
        .unwrap();
}
