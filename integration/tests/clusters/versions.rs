//! Upgrades of a cluster and of the agent.

use std::time::Instant;

use meridian_integration::stack::{Cluster, Region};
use serde_json::Value;

use super::{
    load::Load,
    support::{
        ROLLED_OUT, SOON, cluster, condition, gone, lab, object, pods, rec, replicated, running,
        state,
    },
    watched::Watched,
};

/// The pods of a REC: name → (uid, ready).
type Pods = std::collections::BTreeMap<String, (String, bool)>;

/// The release of everything that was built here.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

fn versioned(tag: &str) -> String {
    format!(
        "  redisEnterpriseImageSpec: {{repository: localhost/meridian-node, versionTag: '{tag}', imagePullPolicy: Never}}\n"
    )
}

/// Puts the node image on every host under other tags.
fn tag(tags: &[String]) {
    let paths = meridian_integration::stack::Paths::from_environment().unwrap();
    let archive = paths.root.join("target/images/meridian-node.tar");
    let folder = tempfile::tempdir().unwrap();
    for tag in tags {
        let copy = folder.path().join(format!("{tag}.tar"));
        retag(&archive, &copy, &format!("localhost/meridian-node:{tag}"));
        lab(&["load", &copy.to_string_lossy()]).unwrap();
    }
}

/// Writes `archive` (docker-archive) anew under another name: only its manifest tells the name.
fn retag(archive: &std::path::Path, copy: &std::path::Path, name: &str) {
    use meridian_integration::shell::succeed;
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_string_lossy().into_owned();
    succeed(
        "tar",
        &["-C", &at, "-xf", &archive.to_string_lossy()],
        &[],
        "",
    )
    .unwrap();
    let manifest = folder.path().join("manifest.json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    value[0]["RepoTags"] = serde_json::json!([name]);
    std::fs::write(&manifest, value.to_string()).unwrap();
    succeed(
        "tar",
        &["-C", &at, "-cf", &copy.to_string_lossy(), "."],
        &[],
        "",
    )
    .unwrap();
}

/// Gives the agent another node image, as an upgrade of its release does.
fn agent_with(cluster: &Cluster, image: &str) {
    let variable = format!("MERIDIAN_NODE_IMAGE={image}");
    cluster
        .must(&["set", "env", "deployment/meridian-agent", &variable], "")
        .unwrap();
    cluster
        .must(
            &[
                "rollout",
                "status",
                "deployment/meridian-agent",
                "--timeout=120s",
            ],
            "",
        )
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_raised_and_never_lowered_and_a_newer_agent_changes_nothing() {
    let cluster = cluster().await;
    let build = |n: u32| format!("{RELEASE}-{n}");
    tag(&[build(1), build(2)]);
    running(cluster, "ver", &versioned(&build(1)))
        .await
        .unwrap();

    let region = replicated(cluster, "ver", "ver-db", "").await.unwrap();
    upgraded(cluster, &versioned(&build(2)), &region).await;

    let before = pods(cluster, "ver").unwrap();
    cluster.apply(&rec("ver", &versioned(&build(1)))).unwrap();
    let refused = |rec: &Value| {
        state(rec) == "InvalidUpgrade" && condition(rec, "Ready").starts_with("False Downgrade")
    };
    object(cluster, "rec", "ver", "InvalidUpgrade", SOON, refused)
        .await
        .unwrap();
    cluster.apply(&rec("ver", &versioned("99.0.0"))).unwrap();
    let refused = |rec: &Value| {
        state(rec) == "InvalidUpgrade"
            && condition(rec, "Ready").starts_with("False UnknownVersion")
    };
    object(cluster, "rec", "ver", "InvalidUpgrade", SOON, refused)
        .await
        .unwrap();
    cluster.apply(&rec("ver", &versioned(&build(2)))).unwrap();
    object(cluster, "rec", "ver", "Running again", SOON, |rec| {
        state(rec) == "Running"
    })
    .await
    .unwrap();

    a_newer_agent_changes_nothing(cluster, &before, &region).await;
    cluster
        .must(&["delete", "redb", "ver-db", "--timeout=60s"], "")
        .unwrap();
    gone(cluster, "ver").await.unwrap();
}

/// Brings the cluster to another image, one pod after the other, each without the primary when it goes.
#[expect(clippy::print_stdout, reason = "the figures of a test that passes")]
async fn upgraded(cluster: &Cluster, version: &str, region: &Region) {
    let watched = Watched::start(cluster, "ver", 3).await.unwrap();
    let writer = Load::start(region);
    let started = Instant::now();
    cluster.apply(&rec("ver", version)).unwrap();
    object(cluster, "rec", "ver", "Upgrade", SOON, |rec| {
        state(rec) == "Upgrade"
    })
    .await
    .unwrap();
    let done =
        |rec: &Value| state(rec) == "Running" && condition(rec, "UpToDate").starts_with("True");
    object(cluster, "rec", "ver", "Running again", ROLLED_OUT, done)
        .await
        .unwrap();
    let took = started.elapsed().as_secs_f64();
    let (seen, written) = (watched.finish().unwrap(), writer.finish().await);
    println!(
        "upgrade of 3 pods: {took:.1} s, {} moves, {written}",
        seen.moves("ver-db")
    );
    written.moved_at_most("an upgrade");
    assert_eq!(seen.deleted_under_a_primary(), Vec::<String>::new());
    assert_eq!((seen.fewest(), seen.went()), (2, 3), "{seen:?}");
}

/// What the REC's pods are made from.
fn template(cluster: &Cluster) -> Value {
    let set = cluster.get("statefulset", "ver").unwrap().unwrap();
    set["spec"]["template"].clone()
}

#[expect(clippy::print_stdout, reason = "the figures of a test that passes")]
async fn a_newer_agent_changes_nothing(cluster: &Cluster, before: &Pods, region: &Region) {
    let (made_from, watched) = (
        template(cluster),
        Watched::start(cluster, "ver", 3).await.unwrap(),
    );
    let writer = Load::start(region);
    agent_with(cluster, "localhost/meridian-node:99.0.0");
    let suspended = |rec: &Value| condition(rec, "Suspended").starts_with("True VersionsDiffer");
    object(cluster, "rec", "ver", "Suspended", SOON, suspended)
        .await
        .unwrap();
    let change = r#"{"spec": {"podAnnotations": {"changed": "yes"}}}"#;
    let patched = cluster
        .must(
            &[
                "patch",
                "rec",
                "ver",
                "--type=merge",
                "-p",
                change,
                "-o",
                "json",
            ],
            "",
        )
        .unwrap();
    let patched: Value = serde_json::from_str(&patched).unwrap();
    let generation = patched["metadata"]["generation"].clone();
    looked_at(cluster, &generation).await;
    let same =
        |pods: &Pods| -> Vec<String> { pods.values().map(|(uid, _ready)| uid.clone()).collect() };
    let now = pods(cluster, "ver").unwrap();
    assert_eq!(same(&now), same(before), "a pod was changed");
    assert_eq!(template(cluster), made_from, "the template was changed");
    let (seen, written) = (watched.finish().unwrap(), writer.finish().await);
    println!("a database while the agent was replaced: {written}");
    written.moved_at_most("a newer agent");
    assert_eq!(
        (seen.fewest(), seen.went(), seen.moves("ver-db")),
        (3, 0, 0),
        "{seen:?}"
    );

    agent_with(cluster, "localhost/meridian-node:dev");
    let done = |rec: &Value| {
        condition(rec, "Suspended").starts_with("False")
            && condition(rec, "UpToDate").starts_with("True")
    };
    object(
        cluster,
        "rec",
        "ver",
        "the change is made now",
        ROLLED_OUT,
        done,
    )
    .await
    .unwrap();
    assert_ne!(&pods(cluster, "ver").unwrap(), before);
}

/// Waits until the agent has looked at this generation and says that it waits.
async fn looked_at(cluster: &Cluster, generation: &Value) {
    let looked = |rec: &Value| {
        let conditions = rec["status"]["conditions"].as_array();
        let mut all = conditions.into_iter().flatten();
        all.any(|c| c["type"] == "Suspended" && c["observedGeneration"] == *generation)
    };
    let what = "the change was looked at";
    object(cluster, "rec", "ver", what, SOON, looked)
        .await
        .unwrap();
}
