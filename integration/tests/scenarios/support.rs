//! What scenarios share: one stack, databases on it, and its end.

use std::{fmt::Write, time::Duration};

use anyhow::Result;
use meridian_integration::{
    demo,
    stack::{Cluster, DATABASE_UP, NAMESPACE, Paths, Region, Stack, hub::items},
    wait::{Look, until},
};
use serde_json::Value;
use tokio::sync::OnceCell;

/// How long an ordinary change may take to be seen.
pub(crate) const SOON: Duration = Duration::from_secs(45);

static STACK: OnceCell<Stack> = OnceCell::const_new();

/// The stack, brought up by the first scenario that asks.
pub(crate) async fn stack() -> &'static Stack {
    STACK
        .get_or_init(|| async {
            let paths = Paths::from_environment().expect("paths");
            let narrator = demo::Narrator::default();
            Stack::up(paths, &|line| narrator.say(line))
                .await
                .expect("the stack comes up")
        })
        .await
}

/// An Active-Active database over all clusters, and a client of each region.
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) regions: Vec<Region>,
}

/// Creates a database through the hub unless it is there, and waits until it is up everywhere.
pub(crate) async fn database(stack: &Stack, name: &str) -> Result<Database> {
    database_of(stack, name, &manifest(stack, name)).await
}

/// As [`database`], of this YAML.
pub(crate) async fn database_of(stack: &Stack, name: &str, yaml: &str) -> Result<Database> {
    let password = demo::ensure_password(&stack.clusters)?;
    stack.hub.must(&["apply", "-f", "-"], yaml)?;
    demo::up_everywhere(stack, name, &|_| ()).await?;
    let mut regions = Vec::new();
    for cluster in &stack.clusters {
        regions.push(cluster.region(name, &password, DATABASE_UP).await?);
    }
    demo::answers(&regions).await?;
    Ok(Database {
        name: name.into(),
        regions,
    })
}

/// YAML of an Active-Active database over all clusters.
pub(crate) fn manifest(stack: &Stack, name: &str) -> String {
    let mut participants = String::new();
    for cluster in &stack.clusters {
        writeln!(participants, "    - name: {}", cluster.name).expect("a String takes text");
    }
    format!(
        "apiVersion: app.redislabs.com/v1alpha1\nkind: RedisEnterpriseActiveActiveDatabase\n\
         metadata: {{name: {name}, namespace: {NAMESPACE}}}\nspec:\n  participatingClusters:\n{participants}  \
         globalConfigurations: {{memorySize: 100MB, databaseSecretName: {}-password}}\n",
        demo::DATABASE
    )
}

/// Waits until an object of a cluster satisfies `wanted`.
pub(crate) async fn object(
    cluster: &Cluster,
    kind: &str,
    name: &str,
    condition: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let what = format!("{}: {kind} {name}: {condition}", cluster.name);
    let found = until(&what, SOON, || async {
        let Some(found) = cluster.get(kind, name)? else {
            return Ok(Look::NotYet("not there".into()));
        };
        Ok(if wanted(&found) {
            Look::Holds(found)
        } else {
            Look::NotYet(found["status"].to_string())
        })
    })
    .await;
    found.map_err(|e| e.context(cluster.evidence()))
}

/// Waits until an object of a cluster is gone.
pub(crate) async fn gone(cluster: &Cluster, kind: &str, name: &str) -> Result<()> {
    let waited = until(
        &format!("{}: {kind} {name} is gone", cluster.name),
        SOON,
        || async {
            Ok(match cluster.get(kind, name)? {
                None => Look::Holds(()),
                Some(found) => Look::NotYet(format!("{} {}", found["metadata"], found["status"])),
            })
        },
    )
    .await;
    waited.map_err(|e| e.context(cluster.evidence()))
}

/// Whether `status.conditions` has the type with the status.
pub(crate) fn condition(object: &Value, kind: &str, status: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == kind && c["status"] == status)
}

/// Deletes a database through the hub and waits until no cluster has it any more, and the hub neither. The scenarios delete
/// more databases within an hour than the breaker lets through: what it freezes is released, as a person would.
pub(crate) async fn deleted(stack: &Stack, name: &str) -> Result<()> {
    stack
        .hub
        .must(&["delete", "activeactivedatabase", name, "--yes"], "")?;
    until(&format!("the hub has forgotten {name}"), SOON, || async {
        for freeze in items(&stack.hub.get(&["hub", "freezes"])?) {
            let list = freeze["list"].as_str().unwrap_or_default();
            // One that has grown since is released at the next look.
            stack.hub.cli(&["hub", "release", list])?;
        }
        let known = stack.hub.get(&["get", "activeactivedatabase"])?;
        let found = items(&known)
            .iter()
            .find(|one| one["metadata"]["name"] == name);
        Ok(found.map_or(Look::Holds(()), |one| {
            Look::NotYet(one["status"]["conditions"].to_string())
        }))
    })
    .await?;
    for cluster in &stack.clusters {
        gone(cluster, "reaadb", name).await?;
        gone(cluster, "dbtopo", name).await?;
    }
    Ok(())
}

/// How often the cluster's Events have said this reason; a repeated Event counts in its series.
pub(crate) fn times_said(cluster: &Cluster, reason: &str) -> Result<i64> {
    let events = cluster.list("events.events.k8s.io")?;
    let of_reason = events.iter().filter(|event| event["reason"] == reason);
    Ok(of_reason
        .map(|event| event["series"]["count"].as_i64().unwrap_or(1))
        .sum())
}

/// Waits until the cluster has said this reason more than `before` times.
pub(crate) async fn said_again(cluster: &Cluster, reason: &str, before: i64) -> Result<()> {
    let what = format!("{}: another Event {reason}", cluster.name);
    until(&what, SOON, || async {
        let times = times_said(cluster, reason)?;
        Ok(if times > before {
            Look::Holds(())
        } else {
            Look::NotYet(format!("said {times} times, {before} times before"))
        })
    })
    .await
}

/// Kinds whose objects must stay, and stay the same, whatever happens to the hub.
const LASTING: &[&str] = &[
    "rec", "redb", "reaadb", "aai", "dbtopo", "pvc", "pod", "secret",
];
/// Secrets that the link itself writes: what it was told, and with what it joined.
const OF_THE_LINK: &[&str] = &["meridian-link", "meridian-join", "meridian-identity"];

/// What must not change on any member: its databases' objects, volumes, keys and passwords, and the pods' processes.
pub(crate) fn fingerprint(stack: &Stack) -> Vec<(String, String)> {
    let mut all: Vec<_> = stack.clusters.iter().flat_map(fingerprint_of).collect();
    all.sort();
    all
}

fn fingerprint_of(cluster: &Cluster) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for kind in LASTING {
        for object in cluster.list(kind).expect("the API server lists") {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let of_an_agent = *kind == "pod" && !name.starts_with("rec-");
            if of_an_agent || OF_THE_LINK.contains(&name) {
                continue;
            }
            let process = &object["status"]["containerStatuses"][0]["containerID"];
            let what = format!("{} {process} {}", object["metadata"]["uid"], object["data"]);
            all.push((format!("{}/{kind}/{name}", cluster.name), what));
        }
    }
    all
}
