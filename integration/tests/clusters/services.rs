//! The Services of databases: names, annotations of others, and how fast they follow a primary.

use std::{
    io::BufReader,
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

use super::support::{SOON, base64_of, cluster, condition, gone, object, running};

/// Changes of the primary that are timed, by cause.
const CHANGES: usize = 12;
/// Kills Valkey in its pod.
const KILL: &str = "for p in /proc/[0-9]*; do read -r n < $p/comm && [ $n = valkey-server ] && kill -9 ${p#/proc/}; done; :";
/// How long Services may take to follow, from the topology that names the new primary.
const FOLLOWS: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn services_are_named_as_asked_keep_what_others_wrote_and_follow_the_primary() {
    let cluster = cluster().await;
    running(cluster, "svc", "").await.unwrap();
    redb(cluster, "a", ", replication: true").await.unwrap();
    annotations_of_others_stay(cluster).await.unwrap();
    every_node_takes_clients(cluster, "a").await.unwrap();
    a_taken_name_takes_nothing(cluster).await.unwrap();
    another_naming_cleans_up(cluster).await.unwrap();
    let followed = follows(cluster, "a").await.unwrap();
    print(&followed);
    let late: Vec<_> = followed.iter().filter(|one| one.led > FOLLOWS).collect();
    assert!(late.is_empty(), "{late:?}");
    cluster
        .must(&["delete", "redb", "a", "--timeout=60s"], "")
        .unwrap();
    services_of(cluster, "a", &[]).await.unwrap();
    gone(cluster, "svc").await.unwrap();
}

/// Under the policy `all-nodes` every node takes clients, also while the primary changes; under `single` its node alone.
async fn every_node_takes_clients(cluster: &Cluster, name: &str) -> Result<()> {
    let policy = |word: &str| {
        let patch = json!({ "spec": { "proxyPolicy": word } }).to_string();
        cluster.must(&["patch", "redb", name, "--type=merge", "-p", &patch], "")
    };
    let port = port_of(cluster, name)?;
    policy("all-nodes")?;
    leads(cluster, name, 3, port + 20_000).await?;
    let secret = cluster.get("secret", &format!("redb-{name}"))?;
    let secret = secret.context("no Secret")?;
    let password = secret["data"]["password"].as_str().context("no password")?;
    let password = String::from_utf8(base64_of(password)?)?;
    let clients = cluster.region(name, &password, SOON).await?;
    // Each is a new connection, which may be led to any node.
    for number in 0..CLIENTS {
        clients
            .run::<String>(&format!("SET before-{number} x"))
            .await?;
    }
    let old = primary_with_a_replica(cluster, name).await?;
    let leave = format!("meridian.dev/leave-pod={old}");
    cluster.must(&["annotate", "dbtopo", name, "--overwrite", &leave], "")?;
    let moved = |topology: &Value| primary(topology) != old && serves(topology);
    object(cluster, "dbtopo", name, "another primary", SOON, moved).await?;
    leads(cluster, name, 3, port + 20_000).await?;
    for number in 0..CLIENTS {
        let kept: bool = clients.run(&format!("EXISTS before-{number}")).await?;
        anyhow::ensure!(kept, "before-{number} is lost");
        clients
            .run::<String>(&format!("SET after-{number} x"))
            .await?;
    }
    policy("single")?;
    leads(cluster, name, 1, port).await
}

/// Clients of each policy that connect one after the other: enough to be led to every node.
const CLIENTS: usize = 30;

/// Waits until the Services lead to so many pods, by this port of theirs.
async fn leads(cluster: &Cluster, name: &str, pods: usize, port: u64) -> Result<()> {
    let what = format!("{pods} endpoints with port {port}");
    for slice in [name.to_owned(), format!("{name}-load-balancer")] {
        let leads = |slice: &Value| {
            let endpoints = slice["endpoints"].as_array();
            endpoints.is_some_and(|all| all.len() == pods) && slice["ports"][0]["port"] == port
        };
        let slice = format!("{slice}-meridian");
        object(cluster, "endpointslice", &slice, &what, SOON, leads).await?;
    }
    Ok(())
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

/// Why a primary changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// It was asked to leave its pod.
    Move,
    /// Valkey was killed.
    Kill,
}

/// One change of the primary, as two watches saw it.
#[derive(Debug)]
struct Followed {
    cause: Cause,
    /// From the topology that names the new primary to the report in which that one serves.
    confirmed: Duration,
    /// From the topology that names the new primary to the EndpointSlice that leads to it.
    led: Duration,
}

/// How long the EndpointSlice took after each topology that named a new primary.
async fn follows(cluster: &Cluster, database: &str) -> Result<Vec<Followed>> {
    let topologies = Watch::start(cluster, "dbtopo", database)?;
    let slices = Watch::start(cluster, "endpointslice", &format!("{database}-meridian"))?;
    let mut all = Vec::new();
    for cause in [Cause::Move, Cause::Kill].repeat(CHANGES) {
        let old = primary_with_a_replica(cluster, database).await?;
        match cause {
            Cause::Move => {
                let leave = format!("meridian.dev/leave-pod={old}");
                cluster.must(&["annotate", "dbtopo", database, "--overwrite", &leave], "")?;
            }
            Cause::Kill => {
                let container = ["exec", &old, "-c", "redis-enterprise-node", "--"];
                cluster.must(&[&container[..], &["sh", "-c", KILL]].concat(), "")?;
            }
        }
        let (named, seen) = topologies.find(|topology| primary(topology) != old)?;
        let new = primary(&seen).to_owned();
        let (confirmed, _) = if serves(&seen) {
            (named, seen)
        } else {
            topologies.find(serves)?
        };
        let (led, _) = slices.find(|slice| slice["endpoints"][0]["targetRef"]["name"] == *new)?;
        all.push(Followed {
            cause,
            confirmed: confirmed.duration_since(named),
            led: led.saturating_duration_since(named),
        });
    }
    Ok(all)
}

/// Waits until nothing is under way and a replica could take over; the primary.
async fn primary_with_a_replica(cluster: &Cluster, database: &str) -> Result<String> {
    let ready = |topology: &Value| {
        let in_sync = topology["spec"]["shards"][0]["inSync"].as_array();
        in_sync.is_some_and(|all| !all.is_empty()) && topology["spec"]["fence"].is_null()
    };
    let what = "a replica in sync";
    let topology = object(cluster, "dbtopo", database, what, SOON, ready).await?;
    Ok(primary(&topology).to_owned())
}

fn primary(topology: &Value) -> &str {
    let primary = &topology["spec"]["shards"][0]["primary"];
    primary.as_str().unwrap_or_default()
}

/// Whether the primary says that it obeys the present epoch and answers.
fn serves(topology: &Value) -> bool {
    let members = topology["status"]["members"].as_array();
    let says = |member: &Value| {
        let shard = &member["shards"][0];
        member["node"] == primary(topology)
            && member["epoch"] == topology["spec"]["epoch"]
            && shard["role"] == "primary"
            && shard["ready"] == true
    };
    members.into_iter().flatten().any(says)
}

#[expect(clippy::print_stdout, reason = "the figures of a test that passes")]
fn print(all: &[Followed]) {
    for cause in [Cause::Move, Cause::Kill] {
        let of = |part: fn(&Followed) -> Duration| {
            let ours = all.iter().filter(|one| one.cause == cause);
            let mut times: Vec<u128> = ours.map(|one| part(one).as_millis()).collect();
            times.sort();
            (times[times.len() / 2], times[times.len() - 1], times)
        };
        let (median, worst, times) = of(|one| one.led);
        let (confirmed, late, _) = of(|one| one.confirmed);
        println!(
            "{cause:?}: Services follow the primary within {median} ms (median) and {worst} ms (worst); its own report \
             came after {confirmed} ms and {late} ms; all: {times:?}"
        );
    }
}

/// One object as the API server sends it, with the time of its arrival.
struct Watch {
    child: Child,
    seen: Receiver<(Instant, Value)>,
}

impl Watch {
    fn start(cluster: &Cluster, kind: &str, name: &str) -> Result<Self> {
        let mut child = Command::new(kubectl()?)
            .args(["--kubeconfig", &cluster.kubeconfig])
            .args(["--namespace", NAMESPACE])
            .args(["get", kind, name, "--watch", "-o", "json"])
            .stdout(Stdio::piped())
            .spawn()?;
        let out = BufReader::new(child.stdout.take().context("no output")?);
        let (send, seen) = channel();
        std::thread::spawn(move || {
            let objects = serde_json::Deserializer::from_reader(out).into_iter();
            for object in objects.map_while(Result::ok) {
                if send.send((Instant::now(), object)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, seen })
    }

    fn find(&self, wanted: impl Fn(&Value) -> bool) -> Result<(Instant, Value)> {
        loop {
            let found = self.seen.recv_timeout(SOON);
            let (at, object) = found.context("the watch brought nothing")?;
            if wanted(&object) {
                return Ok((at, object));
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing of it is left.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
