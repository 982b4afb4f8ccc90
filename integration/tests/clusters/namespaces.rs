//! Databases outside the agent's own namespace: by list, by label, and with another agent beside; and what a pod may
//! report.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use meridian_integration::{
    shell::Output,
    stack::{Cluster, DATABASE_UP, NAMESPACE, Paths, Region},
    wait::{Look, until},
};
use serde_json::Value;

use super::support::{SOON, base64_of, cluster, condition, events, gone, running};

/// How long a namespace may take until it is deleted with the databases in it.
const DELETED: Duration = Duration::from_secs(90);

fn bundle(file: &str, namespace: &str) -> Result<String> {
    let path = Paths::from_environment()?
        .root
        .join("deploy/bundle")
        .join(file);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(text.replace("NAMESPACE", namespace))
}

/// The whole bundle as kustomize writes it for `namespace`.
fn kustomized(cluster: &Cluster, namespace: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let from = Paths::from_environment()?.root.join("deploy/bundle");
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let mut text = std::fs::read_to_string(&path)?;
        let name = path.file_name().context("no name")?;
        if name == "kustomization.yaml" {
            ensure!(text.contains("\nnamespace: redis\n"), "the line is gone");
            text = text.replace(
                "\nnamespace: redis\n",
                &format!("\nnamespace: {namespace}\n"),
            );
        }
        std::fs::write(folder.path().join(name), text)?;
    }
    cluster.must(&["kustomize", &folder.path().to_string_lossy()], "")
}

/// A namespace that the agent of `agent` has rights in; `labels` as in YAML.
fn consumer(cluster: &Cluster, agent: &str, name: &str, labels: &str) -> Result<()> {
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n"
    ))?;
    let rights = bundle("consumer-namespace.yaml", agent)?;
    cluster
        .must(&["-n", name, "apply", "-f", "-"], &rights)
        .map(drop)
}

/// The settings of the agent of `agent`; `data` as in YAML.
fn settings(cluster: &Cluster, agent: &str, data: &str) -> Result<()> {
    let config = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: operator-environment-config}}\ndata: {{{data}}}\n"
    );
    cluster
        .must(&["-n", agent, "apply", "-f", "-"], &config)
        .map(drop)
}

fn get(cluster: &Cluster, namespace: &str, kind: &str, name: &str) -> Result<Option<Value>> {
    let args = [
        "-n",
        namespace,
        "get",
        kind,
        name,
        "-o",
        "json",
        "--ignore-not-found",
    ];
    let text = cluster.must(&args, "")?;
    Ok(if text.trim().is_empty() {
        None
    } else {
        Some(serde_json::from_str(&text)?)
    })
}

fn redb(cluster: &Cluster, namespace: &str, rec: &str, name: &str) -> Result<()> {
    let yaml = format!(
        "apiVersion: app.redislabs.com/v1alpha1\nkind: RedisEnterpriseDatabase\nmetadata: {{name: {name}}}\nspec:\n  \
         redisEnterpriseCluster: {{name: {rec}}}\n  memorySize: 100MB\n"
    );
    cluster
        .must(&["-n", namespace, "apply", "-f", "-"], &yaml)
        .map(drop)
}

/// Waits until an object of a namespace satisfies `wanted`.
async fn seen(
    cluster: &Cluster,
    (namespace, kind, name): (&str, &str, &str),
    what: &str,
    within: Duration,
    wanted: impl Fn(Option<&Value>) -> bool,
) -> Result<Option<Value>> {
    let about = format!("{kind} {namespace}/{name}: {what}");
    let waited = until(&about, within, || async {
        let found = get(cluster, namespace, kind, name)?;
        Ok(if wanted(found.as_ref()) {
            Look::Holds(found)
        } else {
            Look::NotYet(found.map_or("absent".to_owned(), |found| found["status"].to_string()))
        })
    });
    waited
        .await
        .map_err(|error| error.context(cluster.evidence()))
}

async fn active(cluster: &Cluster, namespace: &str, name: &str) -> Result<Value> {
    let is_active =
        |redb: Option<&Value>| redb.is_some_and(|redb| redb["status"]["status"] == "active");
    let found = seen(
        cluster,
        (namespace, "redb", name),
        "active",
        DATABASE_UP,
        is_active,
    )
    .await?;
    found.context("it was there a moment ago")
}

fn password(cluster: &Cluster, namespace: &str, secret: &str) -> Result<String> {
    let secret = get(cluster, namespace, "secret", secret)?.context("no Secret")?;
    let text = secret["data"]["password"].as_str().context("no password")?;
    Ok(String::from_utf8(base64_of(text)?)?)
}

/// A kubeconfig that speaks with this token instead of the administrator's certificate.
fn with_token(cluster: &Cluster, token: &str) -> Result<tempfile::NamedTempFile> {
    let text = cluster.must(&["config", "view", "--raw", "--minify", "-o", "json"], "")?;
    let mut config: Value = serde_json::from_str(&text)?;
    config["users"][0]["user"] = serde_json::json!({ "token": token });
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), config.to_string())?;
    Ok(file)
}

/// The agent that holds a namespace.
fn holder(cluster: &Cluster, namespace: &str) -> Result<String> {
    let lease = get(cluster, namespace, "lease", "meridian-namespace")?;
    let holder = lease.map(|lease| lease["spec"]["holderIdentity"].clone());
    Ok(holder
        .and_then(|h| h.as_str().map(str::to_owned))
        .unwrap_or_default())
}

async fn told(cluster: &Cluster, rec: &str, reason: &str, part: &str) -> Result<()> {
    until(&format!("Event {reason} with {part:?}"), SOON, || async {
        let all = events(cluster, rec, reason)?;
        Ok(if all.iter().any(|text| text.contains(part)) {
            Look::Holds(())
        } else {
            Look::NotYet(format!("{all:?}"))
        })
    })
    .await
}

/// Deletes a namespace, which must go with all that was made for its databases.
async fn deleted(cluster: &Cluster, namespace: &str, databases: &[&str]) -> Result<()> {
    cluster.must(&["delete", "namespace", namespace, "--wait=false"], "")?;
    let is_gone = |found: Option<&Value>| found.is_none();
    seen(
        cluster,
        ("", "namespace", namespace),
        "gone",
        DELETED,
        is_gone,
    )
    .await?;
    for name in databases {
        for kind in ["dbtopo", "service"] {
            ensure!(
                get(cluster, NAMESPACE, kind, name)?.is_none(),
                "{kind} {name} is left"
            );
        }
    }
    Ok(())
}

/// Deletes a database and waits until it is gone.
fn delete_redb(cluster: &Cluster, namespace: &str, name: &str) -> Result<()> {
    let args = ["-n", namespace, "delete", "redb", name, "--timeout=60s"];
    cluster.must(&args, "").map(drop)
}

/// The database `list-db` of `list-a`: its Service and Secret are there, and a client of it writes.
async fn served_where_it_stands(cluster: &Cluster) -> Result<Region> {
    redb(cluster, "list-a", "list", "list-db")?;
    let served = active(cluster, "list-a", "list-db").await?;
    ensure!(served["status"]["redisEnterpriseCluster"] == "list");
    ensure!(get(cluster, NAMESPACE, "secret", "redb-list-db")?.is_none());
    let service = ("list-a", "service", "list-db");
    let made = seen(cluster, service, "made", SOON, |found| found.is_some()).await?;
    let made = made.context("it was there a moment ago")?;
    ensure!(made["spec"]["type"] == "ExternalName", "{made}");
    let home = format!("list-db.{NAMESPACE}.svc.cluster.local");
    ensure!(made["spec"]["externalName"] == home, "{made}");
    let secret = password(cluster, "list-a", "redb-list-db")?;
    let client = cluster.region("list-db", &secret, SOON).await?;
    client.run::<String>("SET owner a").await?;
    Ok(client)
}

/// A database of a name that another namespace's has already gets nothing of it.
async fn a_taken_name_is_refused(cluster: &Cluster) -> Result<()> {
    redb(cluster, "list-b", "list", "list-db")?;
    let refused = |redb: Option<&Value>| {
        redb.is_some_and(|redb| {
            condition(redb, "Ready").contains("the RedisEnterpriseDatabase `list-a/list-db` has it")
        })
    };
    let asked = ("list-b", "redb", "list-db");
    seen(cluster, asked, "refused", SOON, refused).await?;
    ensure!(get(cluster, "list-b", "secret", "redb-list-db")?.is_none());
    delete_redb(cluster, "list-b", "list-db")
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_of_listed_namespaces_are_served_each_under_a_name_of_its_own() {
    let cluster = cluster().await;
    running(cluster, "list", "").await.unwrap();
    consumer(cluster, NAMESPACE, "list-a", "").unwrap();
    settings(cluster, NAMESPACE, "REDB_NAMESPACES: 'list-a, list-b'").unwrap();
    let missing = "namespace `list-b` is not operated: the namespace does not exist";
    told(cluster, "list", "NamespaceNotOperated", missing)
        .await
        .unwrap();
    let client = served_where_it_stands(cluster).await.unwrap();

    // The one that was missing is picked up, and a name stands for one database whoever asks.
    consumer(cluster, NAMESPACE, "list-b", "").unwrap();
    told(cluster, "list", "NamespaceOperated", "`list-b`")
        .await
        .unwrap();
    redb(cluster, "list-b", "list", "list-other").unwrap();
    active(cluster, "list-b", "list-other").await.unwrap();
    a_taken_name_is_refused(cluster).await.unwrap();
    assert_eq!(
        client.run::<String>("GET owner").await.unwrap(),
        "a",
        "the intruder's end is not the holder's"
    );

    deleted(cluster, "list-a", &["list-db"]).await.unwrap();
    assert_eq!(holder(cluster, "list-b").unwrap(), NAMESPACE);
    active(cluster, "list-b", "list-other").await.unwrap();
    delete_redb(cluster, "list-b", "list-other").unwrap();
    settings(cluster, NAMESPACE, "").unwrap();
    deleted(cluster, "list-b", &["list-other"]).await.unwrap();
    gone(cluster, "list").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_operated_while_it_has_the_label_and_loses_nothing_with_it() {
    let cluster = cluster().await;
    running(cluster, "label", "").await.unwrap();
    cluster
        .apply(&bundle("namespaces-by-label.yaml", NAMESPACE).unwrap())
        .unwrap();
    settings(cluster, NAMESPACE, "REDB_NAMESPACES_LABEL: team-databases").unwrap();
    consumer(cluster, NAMESPACE, "label-a", "team-databases: ''").unwrap();
    redb(cluster, "label-a", "label", "label-db").unwrap();
    active(cluster, "label-a", "label-db").await.unwrap();
    let secret = password(cluster, "label-a", "redb-label-db").unwrap();
    let client = cluster.region("label-db", &secret, SOON).await.unwrap();
    client.run::<String>("SET kept yes").await.unwrap();

    cluster
        .must(&["label", "namespace", "label-a", "team-databases-"], "")
        .unwrap();
    let left = "the settings do not name it any more; these databases of it are served and not managed: label-db";
    told(cluster, "label", "NamespaceNotOperated", left)
        .await
        .unwrap();
    assert_eq!(client.run::<String>("GET kept").await.unwrap(), "yes");
    assert_eq!(
        holder(cluster, "label-a").unwrap(),
        NAMESPACE,
        "no other agent may take it over"
    );

    cluster
        .must(&["label", "namespace", "label-a", "team-databases="], "")
        .unwrap();
    told(cluster, "label", "NamespaceOperated", "`label-a`")
        .await
        .unwrap();
    deleted(cluster, "label-a", &["label-db"]).await.unwrap();
    settings(cluster, NAMESPACE, "").unwrap();
    gone(cluster, "label").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_agents_the_first_operates_a_namespace_until_it_leaves_it() {
    let cluster = cluster().await;
    consumer(cluster, NAMESPACE, "both", "").unwrap();
    settings(cluster, NAMESPACE, "REDB_NAMESPACES: both").unwrap();
    let held_by = async |agent: &str| {
        until(&format!("held by {agent}"), SOON, || async {
            let found = holder(cluster, "both")?;
            Ok(if found == agent {
                Look::Holds(())
            } else {
                Look::NotYet(found)
            })
        })
        .await
    };
    held_by(NAMESPACE).await.unwrap();

    let second = "redis-2";
    cluster
        .apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {second}}}\n"
        ))
        .unwrap();
    settings(cluster, second, "REDB_NAMESPACES: both").unwrap();
    let agent = kustomized(cluster, second).unwrap();
    cluster
        .must(&["-n", second, "apply", "-f", "-"], &agent)
        .unwrap();
    consumer(cluster, second, "both", "").unwrap();
    let refused = format!("the agent of the namespace `{NAMESPACE}` operates it");
    until("the second agent says so", SOON, || async {
        let args = [
            "-n",
            second,
            "logs",
            "-l",
            "app.kubernetes.io/name=meridian-agent",
            "--tail=-1",
        ];
        let log = cluster.kubectl(&args, "")?.stdout;
        Ok(if log.contains(&refused) {
            Look::Holds(())
        } else {
            Look::NotYet(log)
        })
    })
    .await
    .unwrap();
    assert_eq!(holder(cluster, "both").unwrap(), NAMESPACE);

    settings(cluster, NAMESPACE, "").unwrap();
    held_by(second).await.unwrap();
    // Its agent goes last: it is the one that ends what it made in the other.
    deleted(cluster, "both", &[]).await.unwrap();
    deleted(cluster, second, &[]).await.unwrap();
    // What stands outside of its namespace; the right to see the cluster's identity is the other agent's as well.
    let left = [
        "validatingwebhookconfiguration/redis-enterprise-admission",
        "validatingadmissionpolicy/meridian-node-reports",
        "validatingadmissionpolicybinding/meridian-node-reports",
        "clusterrole/meridian-admission",
        "clusterrolebinding/meridian-admission",
    ];
    for name in left.map(|name| format!("{name}-{second}")) {
        cluster.must(&["delete", &name], "").unwrap();
    }
}

/// The status of a topology in which `node` says what it does.
fn member(node: &str) -> String {
    let shard = r#"{"id": 0, "role": "primary", "ready": true, "writable": true, "port": 10000}"#;
    format!(
        "{{members: [{{node: {node}, topologyUid: t, epoch: 9, generation: 9, asOf: '2026-01-01T00:00:00Z', \
         shards: [{shard}]}}]}}"
    )
}

/// The status of a topology in which `node` says that it takes clients.
fn entry(node: &str) -> String {
    format!("{{entries: [{{node: {node}, topologyUid: t, port: 30000}}]}}")
}

/// What the API server answers to who reports this status of `word-db` with this token.
fn reports(cluster: &Cluster, token: &str, status: &str) -> Result<Output> {
    let report = format!(
        "{{apiVersion: meridian.dev/v1alpha1, kind: DatabaseTopology, metadata: {{name: word-db}}, status: {status}}}"
    );
    let config = with_token(cluster, token)?;
    let config = format!("--kubeconfig={}", config.path().display());
    let args = [
        &config,
        "apply",
        "--server-side",
        "--subresource=status",
        "--field-manager=guest",
        "--force-conflicts",
        "--dry-run=server",
        "-f",
        "-",
    ];
    cluster.kubectl(&args, &report)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_may_report_for_itself_and_for_no_other() {
    let cluster = cluster().await;
    running(cluster, "word", "").await.unwrap();
    redb(cluster, NAMESPACE, "word", "word-db").unwrap();
    active(cluster, NAMESPACE, "word-db").await.unwrap();
    cluster
        .apply(&bundle("node-reports.yaml", NAMESPACE).unwrap())
        .unwrap();
    let topology = cluster.get("dbtopo", "word-db").unwrap().unwrap();
    let primary = topology["spec"]["shards"][0]["primary"]
        .as_str()
        .unwrap()
        .to_owned();
    let other = ["word-0", "word-1", "word-2"]
        .into_iter()
        .find(|pod| *pod != primary)
        .unwrap();
    let bound = [
        "create",
        "token",
        "word",
        "--bound-object-kind=Pod",
        "--bound-object-name",
        other,
    ];
    let bound = cluster.must(&bound, "").unwrap();
    let about_primary =
        format!("the pod {other} may change its own entry of status.members and no other");
    // Policies reach the API server a moment after they were made.
    until("the policy is in force", SOON, || async {
        let out = reports(cluster, bound.trim(), &member(&primary))?;
        Ok(if out.stderr.contains(&about_primary) {
            Look::Holds(())
        } else {
            Look::NotYet(out.stderr)
        })
    })
    .await
    .unwrap();
    for own in [member(other), entry(other)] {
        let own = reports(cluster, bound.trim(), &own).unwrap();
        assert_eq!(own.code, 0, "{}", own.stderr);
    }
    let out = reports(cluster, bound.trim(), &entry(&primary)).unwrap();
    let about_entries = "may change its own entry of status.entries and no other";
    assert!(out.stderr.contains(about_entries), "{}", out.stderr);
    let loose = cluster.must(&["create", "token", "word"], "").unwrap();
    let out = reports(cluster, loose.trim(), &member(other)).unwrap();
    assert!(out.stderr.contains("is bound to no pod"), "{}", out.stderr);

    // The nodes themselves still report, and the agent as well.
    cluster
        .must(&["delete", "pod", &primary, "--wait=false"], "")
        .unwrap();
    let away = |redb: Option<&Value>| redb.is_some_and(|redb| redb["status"]["status"] != "active");
    seen(cluster, (NAMESPACE, "redb", "word-db"), "away", SOON, away)
        .await
        .unwrap();
    active(cluster, NAMESPACE, "word-db").await.unwrap();
    delete_redb(cluster, NAMESPACE, "word-db").unwrap();
    gone(cluster, "word").await.unwrap();
}
