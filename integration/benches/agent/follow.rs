//! How fast clients are led to another pod when the one with most primaries is killed, or told to go.
//!
//! Two watches of `kubectl` are read line by line, and every time is that of the line that shows it: nothing is polled.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use meridian_integration::{
    stack::{Cluster, NAMESPACE, kubectl},
    wait::{Look, until},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// How long every database may take until it could do it again.
const SETTLED: Duration = Duration::from_secs(240);
/// Name, primary, fence, who is in sync, whether it has replicas, whose shard takes writes.
const TOPOLOGY: &str = concat!(
    r#"{{.metadata.name}}|{{range .spec.shards}}{{with .primary}}{{.}}{{end}}{{end}}|"#,
    r#"{{with .spec.fence}}{{.epoch}}{{end}}|{{range .spec.shards}}{{with .inSync}}{{.}}{{end}}{{end}}|"#,
    r#"{{.spec.replication}}|{{with .status}}{{range .members}}"#,
    r#"{{.node}}={{range .shards}}{{.writable}}{{end}},{{end}}{{end}}{{"\n"}}"#,
);
/// Name, database, pod.
const SLICE: &str = concat!(
    r#"{{.metadata.name}}|{{index .metadata.labels "meridian.dev/database"}}|"#,
    r#"{{range .endpoints}}{{with .targetRef}}{{.name}}{{end}}{{end}}{{"\n"}}"#,
);

/// What ends the primaries of a pod.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cause {
    /// SIGKILL of its first process.
    Killed,
    /// It is deleted with its grace: its primaries are asked to move.
    Deleted,
}

/// A pod, and since when it is the one.
#[derive(Clone, Debug)]
struct Since {
    pod: String,
    at: Instant,
}

#[derive(Clone, Debug)]
struct Topology {
    ordered: Since,
    /// Whether the primary takes writes, and since when.
    takes: Option<Instant>,
    /// A replica could take over at once.
    ready: bool,
    replicated: bool,
}

#[derive(Debug, Default)]
struct Seen {
    topologies: BTreeMap<String, Topology>,
    /// By database and slice.
    slices: BTreeMap<(String, String), Since>,
}

impl Seen {
    fn topology(&mut self, line: &str, at: Instant) -> Option<()> {
        let fields: Vec<&str> = line.split('|').collect();
        let [name, primary, fence, in_sync, replicated, takes] = fields.as_slice() else {
            return None;
        };
        let before = self.topologies.get(*name);
        let same = before.filter(|before| before.ordered.pod == *primary);
        let fresh = Since {
            pod: (*primary).to_owned(),
            at,
        };
        let told = format!("{primary}=true");
        let takes = takes.split(',').any(|member| member == told);
        let topology = Topology {
            ordered: same.map_or(fresh, |same| same.ordered.clone()),
            takes: takes.then(|| same.and_then(|same| same.takes).unwrap_or(at)),
            ready: fence.is_empty() && !in_sync.is_empty(),
            replicated: *replicated == "true",
        };
        self.topologies.insert((*name).to_owned(), topology);
        Some(())
    }

    fn slice(&mut self, line: &str, at: Instant) -> Option<()> {
        let fields: Vec<&str> = line.split('|').collect();
        let [name, database, pod] = fields.as_slice() else {
            return None;
        };
        let key = ((*database).to_owned(), (*name).to_owned());
        let fresh = Since {
            pod: (*pod).to_owned(),
            at,
        };
        let since = self.slices.entry(key).or_insert_with(|| fresh.clone());
        if since.pod != *pod {
            *since = fresh;
        }
        Some(())
    }

    /// The slices of a database.
    fn of<'a>(&'a self, database: &'a str) -> impl Iterator<Item = &'a Since> {
        let all = self.slices.iter();
        all.filter(move |((owner, _), _)| owner == database)
            .map(|(_, since)| since)
    }

    /// Why not every database could do it again; `None`: it could.
    fn unsettled(&self) -> Option<String> {
        for (name, topology) in &self.topologies {
            let primary = &topology.ordered.pod;
            if topology.takes.is_none() || (topology.replicated && !topology.ready) {
                return Some(format!("{name}: {topology:?}"));
            }
            if self.of(name).next().is_none() {
                return Some(format!("no slice of {name} was seen"));
            }
            if let Some(other) = self.of(name).find(|since| since.pod != *primary) {
                return Some(format!("{name} is led to {other:?}, not to {primary}"));
            }
        }
        self.topologies
            .is_empty()
            .then(|| "no topology was seen".to_owned())
    }

    /// The pod with most primaries that can go elsewhere, and their databases.
    fn victim(&self) -> Option<(String, BTreeSet<String>)> {
        let mut by_pod: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, topology) in self.topologies.iter().filter(|(_, one)| one.replicated) {
            let all = by_pod.entry(topology.ordered.pod.clone()).or_default();
            all.insert(name.clone());
        }
        by_pod.into_iter().max_by_key(|(_, all)| all.len())
    }
}

/// Two watches that run.
pub(crate) struct Watches {
    seen: Arc<Mutex<Seen>>,
    // They end with this.
    _children: [Child; 2],
}

impl Watches {
    pub(crate) fn start(cluster: &Cluster) -> Result<Self> {
        let seen = Arc::<Mutex<Seen>>::default();
        let topologies = watch(
            cluster,
            "databasetopologies",
            TOPOLOGY,
            &seen,
            |seen, line, at| seen.topology(line, at),
        )?;
        let slices = watch(cluster, "endpointslices", SLICE, &seen, |seen, line, at| {
            seen.slice(line, at)
        })?;
        Ok(Self {
            seen,
            _children: [topologies, slices],
        })
    }

    fn with<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until every pod is ready and every database could do it again.
    pub(crate) async fn settled(&self, cluster: &Cluster, nodes: usize) -> Result<()> {
        until("every database could move again", SETTLED, async || {
            let pods = cluster.list("pods")?;
            let ready = pods.iter().filter(|pod| {
                let conditions = pod["status"]["conditions"].as_array();
                let mut all = conditions.into_iter().flatten();
                pod["metadata"]["labels"]["redis.io/role"] == "node"
                    && pod["metadata"]["deletionTimestamp"].is_null()
                    && all.any(|one| one["type"] == "Ready" && one["status"] == "True")
            });
            let ready = ready.count();
            if ready < nodes {
                return Ok(Look::NotYet(format!("{ready} of {nodes} pods are ready")));
            }
            Ok(self
                .with(Seen::unsettled)
                .map_or(Look::Holds(()), Look::NotYet))
        })
        .await
    }

    /// Ends the primaries of the pod with most of them, and gives for each database that can go elsewhere the seconds until all
    /// its slices lead there: since the cause, since the order, since the new primary says that it takes writes.
    pub(crate) async fn follow(&self, cluster: &Cluster, cause: Cause) -> Result<Followed> {
        let (pod, databases) = self.with(Seen::victim).context("no primary")?;
        let first = process_of(&pod)?;
        let start = Instant::now();
        match cause {
            Cause::Killed => kill_process(first, Signal::KILL)?,
            Cause::Deleted => {
                cluster.must(&["delete", "pod", &pod, "--wait=false"], "")?;
            }
        }
        let led = async || {
            let stays = self.with(|seen| {
                let mut all = databases.iter();
                all.find(|name| {
                    seen.of(name)
                        .any(|since| since.pod == pod || since.pod.is_empty())
                })
                .cloned()
            });
            Ok(stays.map_or(Look::Holds(()), Look::NotYet))
        };
        until(&format!("no client is led to {pod}"), SETTLED, led).await?;
        self.with(|seen| {
            let times = databases.iter().map(|name| {
                let all = seen.of(name).map(|since| since.at);
                let led = all.max().context("no slice")?;
                let topology = seen.topologies.get(name).context("no topology")?;
                let since = |from: Instant| led.saturating_duration_since(from).as_secs_f64();
                // A slice is only led to who takes writes; the line that says so may be read a moment later.
                let takes = topology.takes.unwrap_or(led);
                Ok([since(start), since(topology.ordered.at), since(takes)])
            });
            Ok(Followed {
                pod: pod.clone(),
                times: times.collect::<Result<_>>()?,
            })
        })
    }
}

/// What one cause came to.
pub(crate) struct Followed {
    /// The pod that ended.
    pub(crate) pod: String,
    /// For each database, seconds since: the cause, the order, the new primary that takes writes.
    pub(crate) times: Vec<[f64; 3]>,
}

/// Starts a watch whose lines `note` notes.
fn watch(
    cluster: &Cluster,
    kind: &str,
    columns: &str,
    seen: &Arc<Mutex<Seen>>,
    note: fn(&mut Seen, &str, Instant) -> Option<()>,
) -> Result<Child> {
    let mut child = Command::new(kubectl()?)
        .args([
            "--kubeconfig",
            &cluster.kubeconfig,
            "--namespace",
            NAMESPACE,
        ])
        .args([
            "get",
            kind,
            "--watch",
            "-o",
            &format!("go-template={columns}"),
        ])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("watch {kind}"))?;
    let output = child.stdout.take().context("no output")?;
    let seen = Arc::clone(seen);
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let at = Instant::now();
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            note(&mut seen, &line, at);
        }
    });
    Ok(child)
}

/// The first process of a pod of this machine.
fn process_of(pod: &str) -> Result<Pid> {
    for entry in fs::read_dir("/proc")?.flatten() {
        let text = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let is_first = |line: &str| line.starts_with("NSpid:") && line.ends_with("\t1");
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some(number) = number
            && text("comm").trim() == "meridian-node"
            && text("root/etc/hostname").trim() == pod
            && text("status").lines().any(is_first)
        {
            return Pid::from_raw(number).context("process 0");
        }
    }
    bail!("`{pod}` has no first process on this machine")
}
