//! What the scenarios share: the lab, the agent, RECs and databases.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use meridian_integration::{
    lab::Lab,
    shell,
    stack::{Cluster, DATABASE_UP, NAMESPACE, Paths, REC_RUNNING, Region},
    wait::{Look, until},
};
use serde_json::Value;
use tokio::sync::OnceCell;

/// How long an ordinary change may take to be seen.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// How long a rollout over three nodes may take.
pub(crate) const ROLLED_OUT: Duration = Duration::from_secs(240);

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

/// A cluster of five hosts with the agent, brought up by the first scenario that asks.
pub(crate) async fn cluster() -> &'static Cluster {
    CLUSTER
        .get_or_init(|| async { bring_up().await.expect("the cluster comes up") })
        .await
}

async fn bring_up() -> Result<Cluster> {
    let paths = Paths::from_environment()?;
    let mut running = Cluster::start_lab(&paths, 1, 5)?;
    let cluster = running.pop().context("no cluster")?;
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n"
    ))?;
    for folder in ["deploy/crds", "deploy/bundle/agent.yaml"] {
        let path = paths.root.join(folder);
        cluster.must(&["apply", "-f", &path.to_string_lossy()], "")?;
    }
    cluster.must(
        &[
            "rollout",
            "status",
            "deployment/meridian-agent",
            "--timeout=90s",
        ],
        "",
    )?;
    Ok(cluster)
}

/// Runs the command `lab` for the lab that the environment names.
pub(crate) fn lab(args: &[&str]) -> Result<String> {
    Lab::refuse_others("what is done to hosts and their images")?;
    let program = Paths::from_environment()?.program("lab")?;
    shell::succeed(&program, args, &[], "")
}

/// A REC of three small nodes; `more` are further lines of its spec.
pub(crate) fn rec(name: &str, more: &str) -> String {
    format!(
        "apiVersion: app.redislabs.com/v1\nkind: RedisEnterpriseCluster\nmetadata: {{name: {name}}}\nspec:\n  \
         persistentSpec: {{enabled: true, volumeSize: 1Gi, enablePersistentVolumeResize: true}}\n  \
         servicesRiggerSpec: {{databaseServiceType: 'cluster_ip,load_balancer'}}\n  \
         redisEnterpriseNodeResources:\n    limits: {{cpu: 500m, memory: 512Mi}}\n    requests: {{cpu: 50m, memory: 256Mi}}\n{more}"
    )
}

/// Applies a REC and waits until it runs.
pub(crate) async fn running(cluster: &Cluster, name: &str, more: &str) -> Result<()> {
    cluster.apply(&rec(name, more))?;
    let ready =
        |rec: &Value| state(rec) == "Running" && condition(rec, "Ready").starts_with("True");
    object(cluster, "rec", name, "Running", REC_RUNNING, ready)
        .await
        .map(drop)
}

/// A database of the REC, and a client of it.
pub(crate) async fn database(cluster: &Cluster, rec: &str, name: &str) -> Result<Region> {
    database_with(cluster, rec, name, "").await
}

/// The same with further lines of the spec.
pub(crate) async fn database_with(
    cluster: &Cluster,
    rec: &str,
    name: &str,
    further: &str,
) -> Result<Region> {
    cluster.apply(&format!(
        "apiVersion: app.redislabs.com/v1alpha1\nkind: RedisEnterpriseDatabase\nmetadata: {{name: {name}}}\nspec:\n  \
         redisEnterpriseCluster: {{name: {rec}}}\n  memorySize: 100MB\n  persistence: aofAlways\n{further}"
    ))?;
    let active = |redb: &Value| redb["status"]["status"] == "active";
    object(cluster, "redb", name, "active", DATABASE_UP, active).await?;
    let secret = cluster
        .get("secret", &format!("redb-{name}"))?
        .context("no Secret")?;
    let password = secret["data"]["password"].as_str().context("no password")?;
    let password = String::from_utf8(base64_of(password)?)?;
    cluster.region(name, &password, DATABASE_UP).await
}

/// A database whose replica can take over; `further` are lines of its spec.
pub(crate) async fn replicated(
    cluster: &Cluster,
    rec: &str,
    name: &str,
    further: &str,
) -> Result<Region> {
    let lines = format!("  replication: true\n{further}");
    let region = database_with(cluster, rec, name, &lines).await?;
    let can = |redb: &Value| condition(redb, "InSync").starts_with("True");
    object(cluster, "redb", name, "a replica", DATABASE_UP, can).await?;
    Ok(region)
}

/// The bytes of one value of a Secret as the API writes it.
pub(crate) fn base64_of(text: &str) -> Result<Vec<u8>> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    Ok(STANDARD.decode(text)?)
}

/// Waits until an object satisfies `wanted`.
pub(crate) async fn object(
    cluster: &Cluster,
    kind: &str,
    name: &str,
    what: &str,
    within: Duration,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let waited = until(&format!("{kind} {name}: {what}"), within, || async {
        let Some(found) = cluster.get(kind, name)? else {
            return Ok(Look::NotYet("it does not exist".into()));
        };
        Ok(if wanted(&found) {
            Look::Holds(found)
        } else {
            Look::NotYet(found["status"].to_string())
        })
    })
    .await;
    waited.map_err(|error| error.context(cluster.evidence()))
}

/// The state word of a REC.
pub(crate) fn state(rec: &Value) -> &str {
    rec["status"]["state"].as_str().unwrap_or_default()
}

/// Status, reason and message of a condition in one line.
pub(crate) fn condition(object: &Value, type_: &str) -> String {
    let all = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let found = all.iter().find(|condition| condition["type"] == type_);
    let part = |name: &str| found.map_or("", |found| found[name].as_str().unwrap_or_default());
    format!("{} {}: {}", part("status"), part("reason"), part("message"))
}

/// The pods of a REC: name → (uid, ready).
pub(crate) fn pods(cluster: &Cluster, rec: &str) -> Result<BTreeMap<String, (String, bool)>> {
    let text = cluster.must(
        &[
            "get",
            "pods",
            "-l",
            &format!("redis.io/cluster={rec},redis.io/role=node"),
            "-o",
            "json",
        ],
        "",
    )?;
    let list: Value = serde_json::from_str(&text)?;
    let pods = list["items"].as_array().cloned().unwrap_or_default();
    Ok(pods
        .iter()
        .map(|pod| {
            let conditions = pod["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let ready = conditions
                .iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True");
            let going = !pod["metadata"]["deletionTimestamp"].is_null();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (
                text(&pod["metadata"]["name"]),
                (text(&pod["metadata"]["uid"]), ready && !going),
            )
        })
        .collect())
}

/// The texts of an object's Events with this reason.
pub(crate) fn events(cluster: &Cluster, name: &str, reason: &str) -> Result<Vec<String>> {
    let all = cluster.list("events.v1.events.k8s.io")?;
    let ours = all
        .iter()
        .filter(|event| event["regarding"]["name"] == name && event["reason"] == reason);
    Ok(ours
        .map(|event| event["note"].as_str().unwrap_or_default().to_owned())
        .collect())
}

/// Deletes a REC that serves nothing, and waits until its pods are gone.
pub(crate) async fn gone(cluster: &Cluster, name: &str) -> Result<()> {
    cluster.must(&["delete", "rec", name, "--timeout=60s"], "")?;
    until(&format!("the pods of {name} are gone"), SOON, || async {
        let left = pods(cluster, name)?;
        Ok(if left.is_empty() {
            Look::Holds(())
        } else {
            Look::NotYet(format!("{left:?}"))
        })
    })
    .await
}
