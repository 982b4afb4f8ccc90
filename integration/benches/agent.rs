//! What the agent costs and how fast it is, on a real cluster: REC apply → Running, REDB apply → active one by one and in a
//! burst, memory and requests to the API server with and without databases.
//!
//! `make bench-agent`. Figures of the agent with databases are printed beside those without, as a ratio. Requests are
//! counted by the API server itself, through a flow schema that only the agent's account matches; by resource they are
//! as the agent's own metrics count them, and so are the durations of looks.

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
use meridian_integration::stack::{Cluster, NAMESPACE};
use serde_json::{Value, json};

#[path = "agent/shown.rs"]
mod shown;
#[expect(dead_code, reason = "the scenarios use more of it")]
#[path = "../tests/clusters/support.rs"]
mod support;

use shown::Shown;
use support::{condition, rec, state};

/// Clusters that are made one after another.
const RECS: usize = 5;
/// Databases that are made one after another.
const ONE_BY_ONE: usize = 30;
/// Databases that are made at once; with those before, two hundred.
const AT_ONCE: usize = 170;
/// How long the agent is watched while nothing happens: longer than objects that are well rest at least.
const IDLE: Duration = Duration::from_secs(360);
/// How long the tail of what was just done may take: it is not idleness.
const SETTLED: Duration = Duration::from_secs(60);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// The flow schema that counts the agent's requests.
const COUNTER: &str = "bench-meridian-agent";

/// What the agent's processes use.
#[derive(Clone, Debug, Default)]
struct Use {
    /// Resident memory of each replica, MiB: all of it, and the part that is not files.
    resident: Vec<(f64, f64)>,
    /// Requests a minute of all replicas together.
    requests: f64,
    /// Requests a minute by verb and resource.
    by_resource: BTreeMap<String, f64>,
    /// Processor time of all replicas, percent of one core.
    processor: f64,
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
    let cluster = support::cluster().await;
    count_requests(cluster)?;
    let mut running = Vec::new();
    for n in 0..RECS {
        let name = format!("bench-{n}");
        running.push(rec_until_running(cluster, &name, "").await?);
        support::gone(cluster, &name).await?;
    }
    show("REC apply → Running", &running);

    let roomy = "  redisEnterpriseNodeResources:\n    limits: {cpu: 4, memory: 24Gi}\n    requests: {cpu: 50m, memory: 256Mi}\n";
    rec_until_running(cluster, "bench", roomy).await?;
    let without = idle(cluster).await?;

    let mut active = Vec::new();
    for n in 0..ONE_BY_ONE {
        let names = [format!("one-{n}")];
        active.push(databases_until_active(cluster, &names).await?);
    }
    show("REDB apply → active", &active);
    let names: Vec<String> = (0..AT_ONCE).map(|n| format!("many-{n}")).collect();
    let burst = databases_until_active(cluster, &names).await?;
    println!("{AT_ONCE} REDBs applied at once → all active: {burst:.1} s");
    let with = idle(cluster).await?;

    let databases = ONE_BY_ONE + AT_ONCE;
    println!(
        "agent, idle {:>41} {:>14}    ratio",
        "without",
        format!("with {databases}")
    );
    for (n, (before, after)) in without.resident.iter().zip(&with.resident).enumerate() {
        line(&format!("memory of replica {n}, MiB"), before.0, after.0);
        line("  without files", before.1, after.1);
    }
    line("requests a minute", without.requests, with.requests);
    for (what, after) in &with.by_resource {
        let before = without.by_resource.get(what).copied();
        line(&format!("  {what}"), before.unwrap_or_default(), *after);
    }
    line("processor, % of a core", without.processor, with.processor);
    for (pod, _) in agents(cluster)? {
        println!("{pod}: looks");
        Shown::of(cluster, &pod)?.looks();
    }
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
    let worst = sorted[sorted.len() - 1];
    println!(
        "{what}: median {median:.2} s, worst {worst:.2} s of {}",
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
async fn idle(cluster: &Cluster) -> Result<Use> {
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
    tokio::time::sleep(IDLE).await;
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

/// Resident memory of a process, MiB (`VmRSS` and its part `RssAnon`, proc_pid_status(5)).
fn resident(pid: u32) -> Result<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mib = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.with_context(|| format!("no {name}"))?.trim();
        Ok(kib.trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    };
    Ok((mib("VmRSS:")?, mib("RssAnon:")?))
}

/// Processor time of a process in hundredths of a second (proc_pid_stat(5), fields 14 and 15).
fn processor_ticks(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, after) = stat.rsplit_once(')').context("no name in stat")?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let field = |n: usize| -> Result<u64> { Ok(fields.get(n).context("short stat")?.parse()?) };
    Ok(field(11)? + field(12)?)
}
