//! How each fault is made, and taken back.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::cause::Fault;
use super::memory;
use super::run::Waits;
use super::site::{DATABASE, Place, SETTLED, Site};
use crate::lab::{ProcessRecord, RunningProcess};
use crate::wait::until_true;

/// Size of the volume that is filled: room for the database's files, and soon full.
const VOLUME_MIB: u32 = 96;
/// How many leaders in the wrong place are deleted until one is in the right place.
const LEADERS: usize = 8;
/// Where the pods have their data volume.
const VOLUME: &str = "var/lib/meridian";
/// How long a drained node may keep its pods: those of databases hand over and end within it, whatever their grace period is.
const DRAINED: &str = "--timeout=60s";
/// Annotation by which a primary is asked to leave its pod.
const LEAVE: &str = "meridian.dev/leave-pod";

/// What must be done so that a fault is over.
#[derive(Debug)]
pub(crate) enum Undo {
    Nothing,
    Continue(Vec<ProcessRecord>),
    Start(String),
    Plug(String),
    Join(String),
    StartApi,
    Empty(PathBuf),
    Memory { limit: PathBuf, before: String },
}

/// What a fault needs before the clients start: a bounded volume, a leader in the right place, an old copy of the store.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    snapshot: Option<tempfile::TempDir>,
}

/// Prepares a fault; the primary may be elsewhere afterwards.
pub(crate) async fn prepare(site: &Site, fault: Fault, waits: &Waits) -> Result<Prepared> {
    site.settled(SETTLED).await?;
    replace_restarted(site).await?;
    let place = site.settled(SETTLED).await?;
    match fault {
        Fault::PowerOff | Fault::Unplug => leader_leaves_primary(site, &place).await?,
        Fault::PowerOffLeader | Fault::UnplugLeader => {
            leader_joins_primary(site, &place).await?;
        }
        Fault::FillVolume => bounded_primary(site, &place).await?,
        Fault::RestoreStore => {
            let folder = tempfile::tempdir()?;
            let name = &site.cluster.name;
            site.lab
                .snapshot_store(name, &folder.path().join("store"))
                .await?;
            let taken = Instant::now();
            move_away(site, &place)?;
            moved(site, &place).await?;
            tokio::time::sleep(waits.snapshot_age.saturating_sub(taken.elapsed())).await;
            return Ok(Prepared {
                snapshot: Some(folder),
            });
        }
        Fault::DeletePod
        | Fault::ForceDeletePod
        | Fault::KillValkey
        | Fault::KillFirst
        | Fault::Move
        | Fault::DrainAll
        | Fault::StopValkey
        | Fault::StopFirst
        | Fault::StopPod
        | Fault::OutOfMemory
        | Fault::CutFromApi
        | Fault::ApiAway => {}
    }
    Ok(Prepared::default())
}

/// Replaces every pod whose container was started again: the kubelet waits longer before each further start, up to five
/// minutes, and a fault that ends the container again would show that wait and nothing else.
async fn replace_restarted(site: &Site) -> Result<()> {
    for pod in site.restarted_pods()? {
        site.delete_pod(&pod).await?;
        site.settled(SETTLED).await?;
    }
    Ok(())
}

/// Makes a fault.
pub(crate) async fn inject(
    site: &Site,
    fault: Fault,
    place: &Place,
    prepared: &Prepared,
) -> Result<Undo> {
    let (pod, node) = (&place.primary, &place.node);
    let control_plane = format!("{}-control-plane", site.cluster.name);
    let delete = |more: &[&str]| {
        let words = ["delete", "pod", pod, "--wait=false"];
        site.cluster.must(&[&words, more].concat(), "").map(drop)
    };
    match fault {
        Fault::DeletePod => delete(&[])?,
        Fault::ForceDeletePod => delete(&["--grace-period=0", "--force"])?,
        Fault::KillValkey => signal(&[site.process(pod, "valkey-server")?], Signal::KILL)?,
        Fault::KillFirst => signal(&[site.process(pod, "first")?], Signal::KILL)?,
        Fault::PowerOff | Fault::PowerOffLeader => {
            site.lab.kill_node(node).await?;
            return Ok(Undo::Start(node.clone()));
        }
        Fault::Move => move_away(site, place)?,
        Fault::DrainAll => drain_all(site).await?,
        Fault::StopValkey => return stop(vec![site.process(pod, "valkey-server")?]),
        Fault::StopFirst => return stop(vec![site.process(pod, "first")?]),
        Fault::StopPod => return stop(site.processes(pod)?),
        Fault::FillVolume => return fill(site, pod),
        Fault::OutOfMemory => return memory::exhaust(site, pod).await,
        Fault::CutFromApi => {
            site.lab.partition(node, &control_plane).await?;
            return Ok(Undo::Join(node.clone()));
        }
        Fault::Unplug | Fault::UnplugLeader => {
            site.lab.unplug(node).await?;
            return Ok(Undo::Plug(node.clone()));
        }
        Fault::ApiAway => {
            site.lab
                .stop_process(&control_plane, "kube-apiserver")
                .await?;
            return Ok(Undo::StartApi);
        }
        Fault::RestoreStore => {
            let folder = prepared
                .snapshot
                .as_ref()
                .context("no snapshot was taken")?;
            let name = &site.cluster.name;
            site.lab
                .restore_store(name, &folder.path().join("store"))
                .await?;
        }
    }
    Ok(Undo::Nothing)
}

/// Takes a fault back.
pub(crate) async fn undo(site: &Site, undo: Undo) -> Result<()> {
    let control_plane = format!("{}-control-plane", site.cluster.name);
    match undo {
        Undo::Nothing => {}
        Undo::Continue(processes) => {
            for process in &processes {
                // One that somebody killed meanwhile, such as the kubelet, is gone.
                let _was_there = process.signal(Signal::CONT);
            }
        }
        Undo::Start(node) => site.lab.start_node(&node).await?,
        Undo::Plug(node) => site.lab.plug(&node).await?,
        Undo::Join(node) => site.lab.heal_between(&node, &control_plane).await?,
        Undo::StartApi => {
            site.lab
                .start_process(&control_plane, "kube-apiserver")
                .await?;
        }
        Undo::Empty(file) => fs::remove_file(&file)
            .with_context(|| format!("empty the volume: remove {}", file.display()))?,
        Undo::Memory { limit, before } => {
            if limit.exists() {
                fs::write(&limit, before).with_context(|| format!("reset {}", limit.display()))?;
            }
        }
    }
    Ok(())
}

fn signal(processes: &[RunningProcess], signal: Signal) -> Result<()> {
    for found in processes {
        ensure!(
            found.process.signal(signal),
            "{} (pid {}) was gone before it was hit",
            found.name,
            found.process.pid
        );
    }
    Ok(())
}

fn stop(processes: Vec<RunningProcess>) -> Result<Undo> {
    signal(&processes, Signal::STOP)?;
    let stopped = processes.into_iter().map(|found| found.process);
    Ok(Undo::Continue(stopped.collect()))
}

/// Asks the primary to leave its pod, as the rollout of a cluster does.
fn move_away(site: &Site, place: &Place) -> Result<()> {
    let wish = format!("{LEAVE}={}", place.primary);
    let words = ["annotate", "dbtopo", DATABASE, &wish, "--overwrite"];
    site.cluster.must(&words, "").map(drop)
}

/// Waits until another pod leads, with everything well.
async fn moved(site: &Site, before: &Place) -> Result<Place> {
    until_true("the primary has moved", SETTLED, || async {
        let topology = site.cluster.get("dbtopo", DATABASE)?.unwrap_or_default();
        let primary = topology["spec"]["shards"][0]["primary"].as_str();
        Ok(primary.is_some_and(|primary| primary != before.primary))
    })
    .await?;
    site.settled(SETTLED).await
}

/// Drains the node of every pod in turn, and gives it back before the next.
async fn drain_all(site: &Site) -> Result<()> {
    for (pod, node) in site.nodes_of_pods()? {
        let drain = [
            "drain",
            &node,
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            DRAINED,
        ];
        let drained = site.cluster.must(&drain, "");
        site.cluster.must(&["uncordon", &node], "")?;
        drained.with_context(|| format!("drain {node}, which carries `{pod}`"))?;
        site.settled(SETTLED).await?;
    }
    Ok(())
}

/// Sees to it that the agent's leader is on another node than the primary: a node that carries both is a fault of its own.
async fn leader_leaves_primary(site: &Site, place: &Place) -> Result<()> {
    for _try in 0..LEADERS {
        let leader = site.leader()?;
        if site.agents()?.get(&leader) != Some(&place.node) {
            break;
        }
        replace_leader(site, &leader).await?;
    }
    let now = site.settled(SETTLED).await?;
    let beside = site.agents()?.get(&site.leader()?) == Some(&place.node);
    ensure!(
        now.primary == place.primary && !beside,
        "primary or leader moved on while they were parted"
    );
    Ok(())
}

/// Deletes the pod of the leader, and waits until another leads.
async fn replace_leader(site: &Site, leader: &str) -> Result<()> {
    site.delete_pod(leader).await?;
    until_true("another agent leads", SETTLED, || async {
        Ok(site.agents()?.contains_key(&site.leader()?) && site.leader()? != leader)
    })
    .await
}

/// Makes the agent on the primary's node the leader, with the other one elsewhere.
async fn leader_joins_primary(site: &Site, place: &Place) -> Result<()> {
    let only_here = |verb: &str| {
        for node in site.cluster.list("node")? {
            let name = node["metadata"]["name"].as_str().unwrap_or_default();
            if name != place.node {
                site.cluster.must(&[verb, name], "")?;
            }
        }
        anyhow::Ok(())
    };
    let here = || -> Result<Option<String>> {
        let agents = site.agents()?;
        Ok(agents
            .into_iter()
            .find(|(_, node)| *node == place.node)
            .map(|(agent, _)| agent))
    };
    if here()?.is_none() {
        let leader = site.leader()?;
        let other = site.agents()?.into_keys().find(|agent| *agent != leader);
        only_here("cordon")?;
        let deleted = site
            .delete_pod(&other.context("only one agent runs")?)
            .await;
        let arrived = until_true("an agent runs on the primary's node", SETTLED, || async {
            Ok(here()?.is_some())
        })
        .await;
        only_here("uncordon")?;
        deleted?;
        arrived?;
    }
    let here = here()?.context("no agent runs on the primary's node")?;
    // Whoever is quickest leads next, which may be the pod that is made in place of the last leader.
    for _try in 0..LEADERS {
        let leader = site.leader()?;
        if leader == here {
            break;
        }
        replace_leader(site, &leader).await?;
    }
    let now = site.settled(SETTLED).await?;
    ensure!(
        now.primary == place.primary && site.leader()? == here,
        "primary or leader moved on while they were brought together"
    );
    Ok(())
}

/// Gives the replica a volume that can be full, and makes it the primary.
async fn bounded_primary(site: &Site, place: &Place) -> Result<()> {
    if is_bounded(site, &place.primary)? {
        return Ok(());
    }
    let pod = &place.replica;
    if !is_bounded(site, pod)? {
        let claim = format!("redis-enterprise-storage-{pod}");
        let found = site.cluster.get("pvc", &claim)?;
        let found = found.with_context(|| format!("no claim {claim}"))?;
        let volume = found["spec"]["volumeName"].as_str().unwrap_or_default();
        let nodes = site.nodes_of_pods()?;
        let node = nodes
            .get(pod)
            .with_context(|| format!("`{pod}` serves nowhere"))?;
        site.lab.limit_volume(node, volume, VOLUME_MIB).await?;
        // The limit is that of one node; elsewhere the pod would find the volume without.
        let others: Vec<String> = site
            .cluster
            .list("node")?
            .iter()
            .filter_map(|other| other["metadata"]["name"].as_str().map(str::to_owned))
            .filter(|other| other != node)
            .collect();
        let each = |verb: &str| {
            let mut all = others.iter();
            all.try_for_each(|other| site.cluster.must(&[verb, other], "").map(drop))
        };
        each("cordon")?;
        let replaced = site.delete_pod(pod).await;
        let bounded = until_true("the pod has a bounded volume", SETTLED, || async {
            Ok(site.nodes_of_pods()?.contains_key(pod) && is_bounded(site, pod)?)
        })
        .await;
        each("uncordon")?;
        replaced?;
        bounded?;
    }
    let place = site.settled(SETTLED).await?;
    if place.primary == *pod {
        return Ok(());
    }
    ensure!(place.replica == *pod, "`{pod}` holds no copy any more");
    move_away(site, &place)?;
    let now = moved(site, &place).await?;
    ensure!(now.primary == *pod, "`{}` took over", now.primary);
    Ok(())
}

fn is_bounded(site: &Site, pod: &str) -> Result<bool> {
    let first = site.process(pod, "first")?;
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", first.process.pid))?;
    let volume = format!(" /{VOLUME} ");
    Ok(mounts
        .lines()
        .any(|line| line.contains(&volume) && line.contains(" tmpfs ")))
}

/// Writes into the pod's volume until nothing goes in any more.
fn fill(site: &Site, pod: &str) -> Result<Undo> {
    ensure!(is_bounded(site, pod)?, "the volume of `{pod}` has no end");
    let first = site.process(pod, "first")?;
    let path = Path::new("/proc")
        .join(first.process.pid.to_string())
        .join("root")
        .join(VOLUME)
        .join("filler");
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    for size in [1 << 20, 1 << 12, 1] {
        let block = vec![0; size];
        while let Ok(written) = file.write(&block) {
            if written < size {
                break;
            }
        }
    }
    Ok(Undo::Empty(path))
}
