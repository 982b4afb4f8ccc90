//! What a cloud does for a cluster, done by one small process per lab: addresses for Services of type LoadBalancer and
//! volumes for claims. `lab up` starts it; it ends with the lab.

mod balancer;
mod volumes;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Service};
use kube::Api;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::error::{LabError, Result, file};
use super::layout::Layout;
use super::plan::{ClusterPlan, NodePlan};
use super::process::ProcessRecord;
use super::state::LabState;
use super::{client, files};

pub(crate) use volumes::{STORAGE_CLASS, storage_class};

/// How often nodes are asked for their health, and the lab for new clusters.
const TICK: Duration = Duration::from_secs(1);

/// Starts the process for this lab unless it runs. `lab` is the lab's own program.
pub(crate) async fn start(layout: &Layout, lab: &Path) -> Result<()> {
    let folder = layout.cloud();
    let record_path = folder.join("process.json");
    if ProcessRecord::read(&record_path)?.is_some_and(|record| record.is_alive()) {
        return Ok(());
    }
    files::make_folder(&folder)?;
    let log_path = folder.join("cloud.log");
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)
        .map_err(file("open", &log_path))?;
    let errors = log.try_clone().map_err(file("open", &log_path))?;
    let child = tokio::process::Command::new("setsid")
        .arg(lab)
        .arg("cloud")
        .arg(layout.root())
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(|error| LabError::Command {
            command: format!("setsid {} cloud {}", lab.display(), layout.root().display()),
            status: "no start".to_owned(),
            stderr: error.to_string(),
        })?;
    let record = child
        .id()
        .and_then(ProcessRecord::of)
        .ok_or_else(|| LabError::NotReady {
            part: "the lab's cloud process".to_owned(),
            reason: "it ended at once".to_owned(),
            tail: files::tail(&log_path, 15),
            log: log_path.clone(),
        })?;
    record.write(&record_path)
}

/// Ends the process of this lab, if it runs.
pub(crate) async fn stop(layout: &Layout) -> Result<()> {
    let Some(record) = ProcessRecord::read(&layout.cloud().join("process.json"))? else {
        return Ok(());
    };
    while record.is_alive() {
        // Not there any more is what is wanted; SIGKILL is not refused.
        let _was_there = record.signal(rustix::process::Signal::KILL);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Serves the lab in this folder until it is gone, or until another process has taken over.
pub(crate) async fn serve(state_dir: &Path) -> Result<()> {
    let layout = Layout::new(state_dir)?;
    let record_path = layout.cloud().join("process.json");
    let own = ProcessRecord::of(std::process::id());
    if let Some(own) = &own {
        own.write(&record_path)?;
    }
    let mut served = BTreeMap::<u8, u8>::new();
    let mut tasks = JoinSet::new();
    // A lab made anew in the same folder has a process of its own.
    while ProcessRecord::read(&record_path)? == own {
        let Some(state) = LabState::read(&layout)? else {
            break;
        };
        if state.clusters != served {
            // Nodes or clusters came: everything is derived from the clusters themselves, so all may start again.
            tasks.shutdown().await;
            for (cluster, nodes) in state.plans()? {
                tasks.spawn(serve_cluster(layout.clone(), cluster, nodes));
            }
            served = state.clusters;
        }
        tokio::time::sleep(TICK).await;
    }
    Ok(())
}

/// Serves one cluster for ever; what fails is logged and tried again at the next tick or change.
async fn serve_cluster(layout: Layout, cluster: ClusterPlan, nodes: Vec<NodePlan>) {
    let kubeconfig = layout.kubeconfig(&cluster.name);
    let client = loop {
        match client::of_kubeconfig(&kubeconfig).await {
            Ok(client) => break client,
            // The cluster is still being made.
            Err(_) => tokio::time::sleep(TICK).await,
        }
    };
    let changed = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    let services: Store<Service> = follow(Api::all(client.clone()), &changed, &mut tasks);
    let claims: Store<PersistentVolumeClaim> =
        follow(Api::all(client.clone()), &changed, &mut tasks);
    let volumes: Store<PersistentVolume> = follow(Api::all(client.clone()), &changed, &mut tasks);
    for ready in [
        services.wait_until_ready().await,
        claims.wait_until_ready().await,
        volumes.wait_until_ready().await,
    ] {
        if let Err(error) = ready {
            log(&cluster.name, &format!("a watch ended: {error}"));
            return;
        }
    }
    let provisioner = volumes::Provisioner::new(client.clone(), layout.volumes(&cluster.name));
    let mut balancer = balancer::Balancer::new(client, cluster.clone(), nodes);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = changed.notified() => {}
            _ = tick.tick() => balancer.probe(&services.state()).await,
        }
        let provisioned = provisioner
            .reconcile(&claims.state(), &volumes.state())
            .await;
        let balanced = balancer.reconcile(&services.state()).await;
        for error in provisioned.into_iter().chain(balanced) {
            log(&cluster.name, &error.to_string());
        }
    }
}

/// Keeps a copy of all objects of a kind, and says when it changes.
fn follow<K>(api: Api<K>, changed: &Arc<Notify>, tasks: &mut JoinSet<()>) -> Store<K>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, mut writer) = reflector::store();
    let changed = Arc::clone(changed);
    tasks.spawn(async move {
        loop {
            let mut events = std::pin::pin!(watcher(api.clone(), watcher::Config::default()));
            while let Some(Ok(event)) = events.next().await {
                writer.apply_watcher_event(&event);
                changed.notify_one();
            }
            // From a list on: a store that was put back tells nothing to who goes on from a version that it lost.
            tokio::time::sleep(TICK).await;
        }
    });
    store
}

/// The process's error stream is its log.
fn log(cluster: &str, line: &str) {
    use std::io::Write;
    let _log_is_gone = writeln!(std::io::stderr().lock(), "{cluster}: {line}");
}
