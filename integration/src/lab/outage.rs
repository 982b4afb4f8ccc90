//! Longer troubles than a killed process: cables that are pulled, programs that stay away, a store that goes back in time,
//! volumes that fill up; and the processes of a pod as this machine sees them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::try_join_all;
use rustix::process::Signal;

use super::bring_up::BringUp;
use super::error::{LabError, Result};
use super::plan::ClusterPlan;
use super::process::{self, ProcessRecord, RunningProcess};
use super::progress::Progress;
use super::{Binaries, Lab, Own, command, files, network, unit};

/// How long a process may take to end after it was asked to.
const END_WITHIN: Duration = Duration::from_secs(10);
/// How long a process may take to be started again once it may.
const START_WITHIN: Duration = Duration::from_secs(30);
const API_SERVER: &str = "kube-apiserver";
const STORE: &str = "etcd";
/// What follows the API on a control plane and on a node.
const FOLLOWERS: [&str; 3] = ["kube-controller-manager", "kube-scheduler", "coredns"];
const NODE_FOLLOWERS: [&str; 2] = ["kubelet", "kube-proxy"];

impl Lab {
    /// Pulls a node's cable: no packet enters or leaves it, and everything on it runs on. What talks within the node does
    /// not notice.
    pub async fn unplug(&self, node: &str) -> Result<()> {
        let (_, node) = self.own("unplugging a node")?.state.node(node)?;
        network::set_link(&node.namespace, false).await
    }

    /// Ends [`Lab::unplug`].
    pub async fn plug(&self, node: &str) -> Result<()> {
        let (_, node) = self.own("plugging a node in")?.state.node(node)?;
        network::set_link(&node.namespace, true).await
    }

    /// Ends a process of a node or control plane (`lab-1-control-plane`) and keeps it from being started again.
    pub async fn stop_process(&self, unit: &str, name: &str) -> Result<()> {
        let place = self.place(unit)?;
        let running = self.processes(unit)?;
        if !unit::runs(&place.folder, name)? {
            let known: Vec<&str> = running.iter().map(|found| found.name.as_str()).collect();
            return Err(LabError::Unknown {
                kind: "process of this unit",
                name: name.to_owned(),
                known: known.join(", "),
            });
        }
        files::write(&unit::hold(&place.folder, name), "")?;
        let ended: Vec<ProcessRecord> = running
            .into_iter()
            .filter(|found| found.name == name)
            .map(|found| found.process)
            .collect();
        end(&ended, name).await
    }

    /// Lets a process be started again that [`Lab::stop_process`] ended, and waits until it runs; the API server, until
    /// it answers.
    pub async fn start_process(&self, unit: &str, name: &str) -> Result<()> {
        let place = self.place(unit)?;
        files::remove(&unit::hold(&place.folder, name))?;
        let deadline = std::time::Instant::now() + START_WITHIN;
        while !self.processes(unit)?.iter().any(|found| found.name == name) {
            if std::time::Instant::now() > deadline {
                return Err(not_within(
                    &format!("{name} of {unit}"),
                    &place.folder,
                    name,
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if name == API_SERVER {
            self.bring_up()?.api_server_answers(&place.cluster).await?;
        }
        Ok(())
    }

    /// Copies the store of a cluster as it is at one moment into `folder`, which must not exist yet.
    pub async fn snapshot_store(&self, cluster: &str, folder: &Path) -> Result<()> {
        let unit = format!("{cluster}-control-plane");
        let place = self.place(&unit)?;
        if folder.exists() {
            return Err(LabError::Argument {
                field: "folder of the snapshot",
                found: format!("{}, which exists", folder.display()),
                expected: "a path where nothing is yet".to_owned(),
            });
        }
        let stores = self.processes(&unit)?;
        let stores: Vec<_> = stores.iter().filter(|found| found.name == STORE).collect();
        // A copy of what a stopped process wrote is what a copy after its sudden end would be, and that etcd survives.
        let stopped = stores
            .iter()
            .all(|found| found.process.signal(Signal::STOP));
        let copied = copy(&place.folder.join(STORE), folder).await;
        for found in &stores {
            let _ended_meanwhile = found.process.signal(Signal::CONT);
        }
        copied?;
        if stores.is_empty() || !stopped {
            files::remove(folder)?;
            return Err(LabError::Machine {
                what: format!("the store of {cluster}"),
                found: "its etcd does not run, or ended during the copy".to_owned(),
                next: "look at `lab status`, and try again".to_owned(),
            });
        }
        Ok(())
    }

    /// Puts back what [`Lab::snapshot_store`] copied: everything that was written since is forgotten. Returns once the
    /// API server answers again, and the cluster's own components were started anew: their watches wait behind versions of
    /// the lost future, as etcd's guide to recovery says. What runs in pods is left to itself.
    pub async fn restore_store(&self, cluster: &str, folder: &Path) -> Result<()> {
        let unit = format!("{cluster}-control-plane");
        let place = self.place(&unit)?;
        let member = folder.join("member");
        if !member.is_dir() {
            return Err(LabError::Argument {
                field: "folder of the snapshot",
                found: format!("{} without a folder `member`", folder.display()),
                expected: "what `lab snapshot-store` wrote".to_owned(),
            });
        }
        self.stop_process(&unit, API_SERVER).await?;
        self.stop_process(&unit, STORE).await?;
        let store = place.folder.join(STORE);
        files::remove(&store)?;
        copy(folder, &store).await?;
        self.start_process(&unit, STORE).await?;
        self.start_process(&unit, API_SERVER).await?;
        let own = self.own("restarting a cluster's components")?;
        let (_, nodes) = own
            .state
            .plans()?
            .into_iter()
            .find(|(plan, _)| plan.name == cluster)
            .unwrap_or((place.cluster, Vec::new()));
        let nodes = nodes
            .into_iter()
            .map(|node| self.restart(node.name, &NODE_FOLLOWERS));
        let (control_plane, nodes) =
            tokio::join!(self.restart(unit, &FOLLOWERS), try_join_all(nodes));
        control_plane.and(nodes.map(drop))
    }

    async fn restart(&self, unit: String, names: &[&str]) -> Result<()> {
        for name in names {
            self.stop_process(&unit, name).await?;
            self.start_process(&unit, name).await?;
        }
        Ok(())
    }

    /// Limits a volume (the name of the PersistentVolume) to so many MiB for pods that are started on this node from now on.
    /// They find it empty; what it held is gone, and so is what they write when the node loses power.
    pub async fn limit_volume(&self, node: &str, volume: &str, mebibytes: u32) -> Result<()> {
        let own = self.own("limiting a volume")?;
        let (cluster, node) = own.state.node(node)?;
        let folder = own.layout.volumes(&cluster.name).join(volume);
        if volume.contains('/') || !folder.is_dir() {
            return Err(LabError::Unknown {
                kind: "volume",
                name: volume.to_owned(),
                known: files::names(&own.layout.volumes(&cluster.name)).join(", "),
            });
        }
        let supervisor = unit::running(&own.layout.node(&cluster.name, &node.name))?;
        let supervisor = supervisor.ok_or_else(|| LabError::Machine {
            what: format!("node {}", node.name),
            found: "it has no power".to_owned(),
            next: format!("`lab start-node {}`", node.name),
        })?;
        files::clear(&folder)?;
        // The mounts of a node are its own: the limit must be set among them, and goes with them.
        let mounts = format!("--mount=/proc/{}/ns/mnt", supervisor.pid);
        let options = format!("size={mebibytes}m,mode=777");
        let mount = ["--", "mount", "-t", "tmpfs", "-o", &options, "lab-volume"];
        let mut arguments = vec![mounts.as_str()];
        arguments.extend(mount);
        let folder = folder.to_string_lossy();
        arguments.push(&folder);
        command::run("nsenter", &arguments).await.map(drop)
    }

    /// The processes of a pod that runs on this lab, whatever node it is on.
    pub fn pod_processes(&self, pod: &str) -> Result<Vec<RunningProcess>> {
        let own = self.own("looking at a pod's processes")?;
        Ok(process::of_pod(&own.state.plan.bridge(), pod))
    }

    /// The network namespace of a node or control plane, for clients that are to be where it is.
    pub fn network_namespace(&self, unit: &str) -> Result<PathBuf> {
        Ok(Path::new("/run/netns").join(self.place(unit)?.namespace))
    }

    fn place(&self, unit: &str) -> Result<Place> {
        let own = self.own("looking for a node or control plane")?;
        let plans = own.state.plans()?;
        let control_plane = plans
            .into_iter()
            .find(|(cluster, _)| unit == format!("{}-control-plane", cluster.name));
        if let Some((cluster, _)) = control_plane {
            return Ok(Place {
                namespace: cluster.namespace(),
                folder: own.layout.control_plane(&cluster.name),
                cluster,
            });
        }
        let (cluster, node) = own.state.node(unit)?;
        Ok(Place {
            folder: own.layout.node(&cluster.name, &node.name),
            namespace: node.namespace,
            cluster,
        })
    }

    fn bring_up(&self) -> Result<Starter<'_>> {
        let own = self.own("starting a process")?;
        Ok(Starter {
            own,
            binaries: Binaries::find(&own.config.cache)?,
        })
    }
}

/// Where a unit is.
struct Place {
    cluster: ClusterPlan,
    namespace: String,
    folder: PathBuf,
}

struct Starter<'a> {
    own: &'a Own,
    binaries: Binaries,
}

impl Starter<'_> {
    async fn api_server_answers(&self, cluster: &ClusterPlan) -> Result<()> {
        let bring_up = BringUp {
            layout: &self.own.layout,
            binaries: &self.binaries,
            program: &self.own.config.program,
            progress: Progress::start(true),
        };
        bring_up.api_server_answers(cluster).await
    }
}

/// Asks processes to end, then makes them.
async fn end(processes: &[ProcessRecord], name: &str) -> Result<()> {
    let started = std::time::Instant::now();
    for process in processes {
        // One that ended by itself is what was wanted.
        let _was_there = process.signal(Signal::TERM);
    }
    while processes.iter().any(ProcessRecord::is_alive) {
        if started.elapsed() > 2 * END_WITHIN {
            return Err(LabError::Machine {
                what: format!("process {name}"),
                found: format!("it lives {} s after SIGKILL", END_WITHIN.as_secs()),
                next: "look at what it waits for in /proc/PID/stack".to_owned(),
            });
        }
        if started.elapsed() > END_WITHIN {
            for process in processes {
                let _was_there = process.signal(Signal::KILL);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn not_within(part: &str, folder: &Path, name: &str) -> LabError {
    let log = unit::log_path(folder, name);
    LabError::NotReady {
        part: part.to_owned(),
        reason: format!("not started within {} s", START_WITHIN.as_secs()),
        tail: files::tail(&log, 15),
        log,
    }
}

async fn copy(from: &Path, to: &Path) -> Result<()> {
    let arguments = [
        "-a".as_ref(),
        "--sparse=always".as_ref(),
        from.as_os_str(),
        to.as_os_str(),
    ];
    command::run("cp", &arguments).await.map(drop)
}
