//! What the agent costs and how fast it is, on a real cluster: REC apply → Running, REDB apply → active one by one and in a
//! burst, memory and requests to the API server with and without databases.
//!
//! `make bench-agent`, or `make bench-agent SHORT=1` for what depends on two hundred databases alone. Figures of the agent
//! with databases are printed beside those without, as a ratio. Requests are counted by the API server itself, through a flow
//! schema that only the agent's account matches; by resource they are as the agent's own metrics count them, and so are the
//! durations of looks.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench prints, and one that cannot go on has failed"
)]

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use meridian_integration::{
    lab::Lab,
    stack::{Cluster, NAMESPACE},
};
use serde_json::{Value, json};

#[path = "agent/follow.rs"]
mod follow;
#[path = "agent/shown.rs"]
mod shown;
#[expect(dead_code, reason = "the scenarios use more of it")]
#[path = "../tests/clusters/support.rs"]
mod support;

use follow::{Cause, Watches};
use shown::Shown;
use support::{condition, rec, state};

/// Clusters that are made one after another.
const RECS: usize = 5;
/// Databases that are made one after another.
const ONE_BY_ONE: usize = 30;
/// Databases that are made at once; with those before, two hundred.
const AT_ONCE: usize = 170;
/// How long the agent is watched while nothing happens: longer than objects that are well rest at least. Shorter when asked.
const IDLE: Duration = Duration::from_secs(360);
const SHORT_IDLE: Duration = Duration::from_secs(120);
/// How often a pod is killed, and how often one is deleted.
const KILLED: usize = 12;
const DELETED: usize = 4;
/// Pods of the REC.
const NODES: usize = 3;
/// How long the tail of what was just done may take: it is not idleness.
const SETTLED: Duration = Duration::from_secs(60);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// The flow schema that counts the agent's requests.
const COUNTER: &str = "bench-meridian-agent";

/// What the agent's processes use.
#[derive(Clone, Debug, Default)]
struct Use {
    /// Resident memory of each replica, MiB.
    resident: Vec<Resident>,
    /// Requests a minute of all replicas together.
    requests: f64,
    /// Requests a minute by verb and resource.
    by_resource: BTreeMap<String, f64>,
    /// Processor time of all replicas, percent of one core.
    processor: f64,
}

/// Resident memory, MiB: all of it, the part that is not files, files.
#[derive(Clone, Copy, Debug)]
struct Resident {
    all: f64,
    anonymous: f64,
    files: f64,
}

fn main() -> Result<()> {
    // `cargo test --benches` calls benches too; only `cargo bench` asks for a measurement.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(bench())
}

async fn bench() -> Result<()> {
    Lab::refuse_others("reading what the agent's processes use")?;
    let short = std::env::args().any(|argument| argument == "--short");
    let cluster = support::cluster().await;
    count_requests(cluster)?;
    if !short {
        let mut running = Vec::new();
        for n in 0..RECS {
            let name = format!("bench-{n}");
            running.push(rec_until_running(cluster, &name, "").await?);
            support::gone(cluster, &name).await?;
        }
        show("REC apply → Running", &running);
    }

    let roomy = "  redisEnterpriseNodeResources:\n    limits: {cpu: 4, memory: 24Gi}\n    requests: {cpu: 50m, memory: 256Mi}\n";
    rec_until_running(cluster, "bench", roomy).await?;
    let long = if short { SHORT_IDLE } else { IDLE };
    let without = if short {
        None
    } else {
        Some(idle(cluster, long).await?)
    };
    load_databases(cluster, short).await?;
    machine("loaded")?;
    for (pod, pid) in agents(cluster)? {
        println!("{pod} after the load: {}", resident(pid)?);
    }
    let with = idle(cluster, long).await?;
    let databases = ONE_BY_ONE + AT_ONCE;
    compare(&without.unwrap_or_default(), &with, databases);
    machine("idle")?;

    let watches = Watches::start(cluster)?;
    follow_all(cluster, &watches, Cause::Killed, KILLED).await?;
    follow_all(cluster, &watches, Cause::Deleted, DELETED).await?;
    for (pod, pid) in agents(cluster)? {
        println!("{pod} at the end: {}; looks", resident(pid)?);
        Shown::of(cluster, &pod)?.looks();
    }
    Ok(())
}

/// Makes two hundred databases; those of `short` all at once.
async fn load_databases(cluster: &Cluster, short: bool) -> Result<()> {
    let mut active = Vec::new();
    let one: Vec<String> = (0..ONE_BY_ONE).map(|n| format!("one-{n}")).collect();
    let mut many: Vec<String> = (0..AT_ONCE).map(|n| format!("many-{n}")).collect();
    if short {
        many.extend(one);
    } else {
        for name in one {
            active.push(databases_until_active(cluster, &[name]).await?);
        }
        show("REDB apply → active", &active);
    }
    let burst = databases_until_active(cluster, &many).await?;
    println!(
        "{} REDBs applied at once → all active: {burst:.1} s",
        many.len()
    );
    Ok(())
}

fn compare(without: &Use, with: &Use, databases: usize) {
    println!(
        "agent, idle {:>41} {:>14}    ratio",
        "without",
        format!("with {databases}")
    );
    for (n, after) in with.resident.iter().enumerate() {
        let before = without.resident.get(n);
        let of = |part: fn(&Resident) -> f64| (before.map_or(f64::NAN, part), part(after));
        let (all, anonymous, files) = (of(|r| r.all), of(|r| r.anonymous), of(|r| r.files));
        line(&format!("memory of replica {n}, MiB"), all.0, all.1);
        line("  without files", anonymous.0, anonymous.1);
        line("  files", files.0, files.1);
    }
    line("requests a minute", without.requests, with.requests);
    for (what, after) in &with.by_resource {
        let before = without.by_resource.get(what).copied();
        line(&format!("  {what}"), before.unwrap_or_default(), *after);
    }
    line("processor, % of a core", without.processor, with.processor);
}

/// Ends the primaries of a pod again and again, and prints how fast clients were led elsewhere.
async fn follow_all(
    cluster: &Cluster,
    watches: &Watches,
    cause: Cause,
    times: usize,
) -> Result<()> {
    let mut all = [const { Vec::new() }; 3];
    for n in 0..times {
        watches.settled(cluster, NODES).await?;
        let followed = watches.follow(cluster, cause).await?;
        let mut worst = [0.0_f64; 3];
        for one in &followed.times {
            for part in 0..3 {
                worst[part] = worst[part].max(one[part]);
                all[part].push(one[part]);
            }
        }
        println!(
            "{cause:?} {n}: {} with {} databases; last led elsewhere {:.2} s after it, {:.2} s after the order, {:.2} s after \
             it was confirmed",
            followed.pod,
            followed.times.len(),
            worst[0],
            worst[1],
            worst[2]
        );
    }
    for (what, seconds) in ["the cause", "the order", "it was confirmed"]
        .iter()
        .zip(&all)
    {
        show(&format!("{cause:?}: {what} → Services lead there"), seconds);
    }
    machine(&format!("{cause:?}"))
}

/// Prints how busy the machine is.
fn machine(when: &str) -> Result<()> {
    let load = fs::read_to_string("/proc/loadavg")?;
    println!("machine, {when}: load {}", load.trim());
    Ok(())
}

fn line(what: &str, before: f64, after: f64) {
    println!(
        "{what:<42} {before:>10.1} {after:>14.1} {:>8.2}",
        after / before
    );
}

fn show(what: &str, seconds: &[f64]) {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[sorted.len() / 2];
    let most = sorted[sorted.len() * 99 / 100];
    let worst = sorted[sorted.len() - 1];
    println!(
        "{what}: median {median:.2} s, P99 {most:.2} s, worst {worst:.2} s of {}",
        sorted.len()
    );
}

/// Applies a REC and gives the seconds until it runs with all nodes.
async fn rec_until_running(cluster: &Cluster, name: &str, more: &str) -> Result<f64> {
    let yaml = match more {
        "" => rec(name, ""),
        _ => {
            rec(name, "")
                .split("  redisEnterpriseNodeResources")
                .next()
                .unwrap()
                .to_owned()
                + more
        }
    };
    let started = Instant::now();
    cluster.apply(&yaml)?;
    let runs = |rec: &Value| state(rec) == "Running" && condition(rec, "Ready").starts_with("True");
    support::object(cluster, "rec", name, "Running", PATIENCE, runs).await?;
    Ok(started.elapsed().as_secs_f64())
}

/// Applies databases in one call, every second with a replica, and gives the seconds until all are active.
async fn databases_until_active(cluster: &Cluster, names: &[String]) -> Result<f64> {
    let items: Vec<Value> = (0..)
        .zip(names)
        .map(|(n, name)| database(name, n % 2 == 1))
        .collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    let started = Instant::now();
    cluster.apply(&list.to_string())?;
    let last = names.last().context("no names")?;
    let all_active = async || -> Result<bool> {
        let all = cluster.list("redb")?;
        let active = all
            .iter()
            .filter(|redb| redb["status"]["status"] == "active");
        let active: Vec<&str> = active
            .filter_map(|redb| redb["metadata"]["name"].as_str())
            .collect();
        Ok(names.iter().all(|name| active.contains(&name.as_str())))
    };
    meridian_integration::wait::until_true(
        &format!("databases up to {last} are active"),
        PATIENCE,
        all_active,
    )
    .await?;
    Ok(started.elapsed().as_secs_f64())
}

fn database(name: &str, replication: bool) -> Value {
    json!({
        "apiVersion": "app.redislabs.com/v1alpha1",
        "kind": "RedisEnterpriseDatabase",
        "metadata": { "name": name },
        "spec": {
            "redisEnterpriseCluster": { "name": "bench" }, "memorySize": "100MB", "replication": replication,
        },
    })
}

/// Makes the API server count what the agent's account asks.
fn count_requests(cluster: &Cluster) -> Result<()> {
    let user = json!({ "kind": "ServiceAccount", "serviceAccount": { "name": "meridian-agent", "namespace": NAMESPACE } });
    let everything = json!({
        "subjects": [user],
        "resourceRules": [{
            "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"], "namespaces": ["*"], "clusterScope": true,
        }],
        "nonResourceRules": [{ "nonResourceURLs": ["*"], "verbs": ["*"] }],
    });
    let schema = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": { "name": COUNTER },
        "spec": {
            "matchingPrecedence": 500,
            "priorityLevelConfiguration": { "name": "workload-high" },
            "rules": [everything],
        },
    });
    cluster.apply(&schema.to_string())
}

/// Requests of the agent's account since the API server started.
fn requests(cluster: &Cluster) -> Result<f64> {
    let metrics = cluster.must(&["get", "--raw", "/metrics"], "")?;
    let counted = metrics.lines().filter(|line| {
        line.starts_with("apiserver_flowcontrol_dispatched_requests_total")
            && line.contains(COUNTER)
    });
    Ok(counted
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum())
}

/// What the agent uses while nothing happens.
async fn idle(cluster: &Cluster, long: Duration) -> Result<Use> {
    let pods = agents(cluster)?;
    tokio::time::sleep(SETTLED).await;
    let ticks = |pods: &BTreeMap<String, u32>| {
        pods.values()
            .map(|pid| processor_ticks(*pid))
            .sum::<Result<u64>>()
    };
    let shown =
        || -> Result<Vec<Shown>> { pods.keys().map(|pod| Shown::of(cluster, pod)).collect() };
    let before = shown()?;
    let (asked, used, since) = (requests(cluster)?, ticks(&pods)?, Instant::now());
    tokio::time::sleep(long).await;
    let minutes = since.elapsed().as_secs_f64() / 60.0;
    let asked = requests(cluster)? - asked;
    let used = ticks(&pods)?.saturating_sub(used);
    let resident: Result<_> = pods.values().map(|pid| resident(*pid)).collect();
    let mut by_resource = BTreeMap::new();
    for (before, after) in before.iter().zip(shown()?) {
        for (what, count) in after.requests_since(before) {
            *by_resource.entry(what).or_default() += count / minutes;
        }
    }
    Ok(Use {
        resident: resident?,
        requests: asked / minutes,
        by_resource,
        // Hundredths of a second in a minute.
        processor: f64::from(u32::try_from(used)?) / minutes / 60.0,
    })
}

/// The agent's processes on this machine: pod → pid.
fn agents(cluster: &Cluster) -> Result<BTreeMap<String, u32>> {
    let pods = cluster.must(
        &[
            "get",
            "pods",
            "-l",
            "app.kubernetes.io/name=meridian-agent",
            "-o",
            "name",
        ],
        "",
    )?;
    let names: Vec<&str> = pods
        .lines()
        .filter_map(|line| line.strip_prefix("pod/"))
        .collect();
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let host = fs::read_to_string(entry.path().join("root/etc/hostname")).unwrap_or_default();
        let program = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if program.trim() == "meridian-agent" && names.contains(&host.trim()) {
            found.insert(host.trim().to_owned(), pid);
        }
    }
    anyhow::ensure!(
        found.len() == names.len() && !found.is_empty(),
        "pods {names:?}, processes {found:?}"
    );
    Ok(found)
}

/// Resident memory of a process (`VmRSS` and its parts `RssAnon` and `RssFile`, proc_pid_status(5)).
fn resident(pid: u32) -> Result<Resident> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mib = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.with_context(|| format!("no {name}"))?.trim();
        Ok(kib.trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    };
    Ok(Resident {
        all: mib("VmRSS:")?,
        anonymous: mib("RssAnon:")?,
        files: mib("RssFile:")?,
    })
}

impl std::fmt::Display for Resident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (all, anonymous, files) = (self.all, self.anonymous, self.files);
        write!(
            f,
            "{all:.1} MiB ({anonymous:.1} without files, {files:.1} files)"
        )
    }
}

/// Processor time of a process in hundredths of a second (proc_pid_stat(5), fields 14 and 15).
fn processor_ticks(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, after) = stat.rsplit_once(')').context("no name in stat")?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let field = |n: usize| -> Result<u64> { Ok(fields.get(n).context("short stat")?.parse()?) };
    Ok(field(11)? + field(12)?)
}
