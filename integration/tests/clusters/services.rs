//! The Services of databases: names, annotations of others, and how fast they follow a primary.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use meridian_integration::{
    stack::{Cluster, NAMESPACE, kubectl},
    wait::{Look, until},
};
use serde_json::{Value, json};

use super::support::{SOON, cluster, condition, gone, object, running};

/// Moves of the primary that are timed.
const MOVES: usize = 12;
/// How long Services may take to follow, from the topology that names the new primary.
const FOLLOWS: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn services_are_named_as_asked_keep_what_others_wrote_and_follow_the_primary() {
    let cluster = cluster().await;
    running(cluster, "svc", "").await.unwrap();
    redb(cluster, "a", ", replication: true").await.unwrap();
    annotations_of_others_stay(cluster).await.unwrap();
    a_taken_name_takes_nothing(cluster).await.unwrap();
    another_naming_cleans_up(cluster).await.unwrap();
    let took = follows(cluster, "a").await.unwrap();
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "Services follow a primary: median {median:.0?}, worst {worst:.0?} of {}",
        took.len()
    );
    assert!(worst <= FOLLOWS, "{took:?}");
    cluster
        .must(&["delete", "redb", "a", "--timeout=60s"], "")
        .unwrap();
    services_of(cluster, "a", &[]).await.unwrap();
    gone(cluster, "svc").await.unwrap();
}

/// An annotation that somebody else sets over ours stays theirs; ours follow the spec.
async fn annotations_of_others_stay(cluster: &Cluster) -> Result<()> {
    patch(
        cluster,
        &json!({"services": {"servicesAnnotations": {"lb/zone": "ours", "lb/kind": "x"}}}),
    )?;
    annotation(cluster, "a", "lb/zone", "ours").await?;

    cluster.must(
        &[
            "annotate",
            "service",
            "a",
            "--overwrite",
            "lb/zone=theirs",
            "note=theirs",
        ],
        "",
    )?;
    patch(
        cluster,
        &json!({"services": {"servicesAnnotations": {"lb/zone": "ours again", "lb/kind": "y"}}}),
    )?;
    annotation(cluster, "a", "lb/kind", "y").await?;
    annotation(cluster, "a", "lb/zone", "theirs").await?;
    annotation(cluster, "a", "note", "theirs").await?;
    Ok(())
}

/// A database whose Service would have the name of another's gets none, and nothing of the other goes.
async fn a_taken_name_takes_nothing(cluster: &Cluster) -> Result<()> {
    let other = "a-load-balancer";
    let before = cluster.get("service", other)?.context("no Service")?["metadata"]["uid"].clone();
    redb(cluster, other, "").await?;
    let told = |redb: &Value| {
        condition(redb, "NameTaken").contains(&format!("belongs to database `{NAMESPACE}/a`"))
    };
    object(cluster, "redb", other, "NameTaken", SOON, told).await?;
    cluster.must(&["delete", "redb", other, "--timeout=60s"], "")?;
    let after = cluster.get("service", other)?.context("no Service")?["metadata"]["uid"].clone();
    assert_eq!(before, after);
    Ok(())
}

/// Another naming and other types take the old Services away.
async fn another_naming_cleans_up(cluster: &Cluster) -> Result<()> {
    let by_port = format!("redis-{}", port_of(cluster, "a")?);
    let naming = |word: &str| json!({"servicesRiggerSpec": {"serviceNaming": word, "databaseServiceType": "cluster_ip"}});
    patch(cluster, &naming("redis-port"))?;
    services_of(cluster, "a", &[&by_port]).await?;
    patch(cluster, &naming("bdb_name"))?;
    services_of(cluster, "a", &["a"]).await?;
    Ok(())
}

async fn redb(cluster: &Cluster, name: &str, more: &str) -> Result<()> {
    cluster.apply(&format!(
        "apiVersion: app.redislabs.com/v1alpha1\nkind: RedisEnterpriseDatabase\nmetadata: {{name: {name}}}\nspec: \
         {{redisEnterpriseCluster: {{name: svc}}, memorySize: 100MB{more}}}\n"
    ))?;
    let active = |redb: &Value| redb["status"]["status"] == "active";
    object(cluster, "redb", name, "active", SOON, active)
        .await
        .map(drop)
}

fn patch(cluster: &Cluster, spec: &Value) -> Result<()> {
    let patch = json!({ "spec": spec }).to_string();
    cluster
        .must(&["patch", "rec", "svc", "--type=merge", "-p", &patch], "")
        .map(drop)
}

async fn annotation(cluster: &Cluster, service: &str, key: &str, value: &str) -> Result<()> {
    let what = format!("{key}={value}");
    let says = |found: &Value| found["metadata"]["annotations"][key] == value;
    object(cluster, "service", service, &what, SOON, says)
        .await
        .map(drop)
}

fn port_of(cluster: &Cluster, name: &str) -> Result<u64> {
    let topology = cluster.get("dbtopo", name)?.context("no topology")?;
    topology["spec"]["port"].as_u64().context("no port")
}

/// Waits until exactly these are the Services of the database.
async fn services_of(cluster: &Cluster, database: &str, wanted: &[&str]) -> Result<()> {
    until(
        &format!("Services of {database}: {wanted:?}"),
        SOON,
        || async {
            let label = format!("meridian.dev/database={database}");
            let found = cluster.must(&["get", "services", "-l", &label, "-o", "name"], "")?;
            let found: Vec<&str> = found
                .lines()
                .filter_map(|line| line.strip_prefix("service/"))
                .collect();
            Ok(if found == wanted {
                Look::Holds(())
            } else {
                Look::NotYet(format!("{found:?}"))
            })
        },
    )
    .await
}

/// How long the EndpointSlice took after each topology that named a new primary, sorted.
async fn follows(cluster: &Cluster, database: &str) -> Result<Vec<Duration>> {
    let slice = format!("{database}-meridian");
    let primaries = Watch::start(cluster, "dbtopo", database, "{.spec.shards[0].primary}")?;
    let targets = Watch::start(
        cluster,
        "endpointslice",
        &slice,
        "{.endpoints[0].targetRef.name}",
    )?;
    let mut took = Vec::new();
    for _ in 0..MOVES {
        let ready = |topology: &Value| {
            let shard = &topology["spec"]["shards"][0];
            shard["inSync"]
                .as_array()
                .is_some_and(|all| !all.is_empty())
                && topology["spec"]["fence"].is_null()
        };
        let topology = object(
            cluster,
            "dbtopo",
            database,
            "a replica in sync",
            SOON,
            ready,
        )
        .await?;
        let old = topology["spec"]["shards"][0]["primary"]
            .as_str()
            .context("no primary")?
            .to_owned();
        cluster.must(
            &[
                "annotate",
                "dbtopo",
                database,
                "--overwrite",
                &format!("meridian.dev/leave-pod={old}"),
            ],
            "",
        )?;
        let (named, new) = primaries.another_than(&old)?;
        let (led, _) = targets.until(&new)?;
        took.push(led.saturating_duration_since(named));
    }
    took.sort();
    Ok(took)
}

/// One field of one object as the API server sends it, with the time of its arrival.
struct Watch {
    child: Child,
    lines: Receiver<(Instant, String)>,
}

impl Watch {
    fn start(cluster: &Cluster, kind: &str, name: &str, path: &str) -> Result<Self> {
        let format = format!("jsonpath={path}{{\"\\n\"}}");
        let mut child = Command::new(kubectl()?)
            .args([
                "--kubeconfig",
                &cluster.kubeconfig,
                "--namespace",
                NAMESPACE,
            ])
            .args(["get", kind, name, "--watch", "-o", &format])
            .stdout(Stdio::piped())
            .spawn()?;
        let out = BufReader::new(child.stdout.take().context("no output")?);
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if send.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    fn find(&self, wanted: impl Fn(&str) -> bool) -> Result<(Instant, String)> {
        loop {
            let (at, line) = self
                .lines
                .recv_timeout(SOON)
                .context("the watch brought nothing")?;
            if wanted(&line) {
                return Ok((at, line));
            }
        }
    }

    /// The first value that is neither empty nor `old`.
    fn another_than(&self, old: &str) -> Result<(Instant, String)> {
        self.find(|line| !line.is_empty() && line != old)
    }

    fn until(&self, wanted: &str) -> Result<(Instant, String)> {
        self.find(|line| line == wanted)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing of it is left.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
