//! The lab: real Kubernetes clusters on one Linux machine, for scenario tests, demos and people.
//!
//! Every control plane and every node is a unit with a network, process and mount namespace of its own, linked to one
//! bridge; what runs there are Kubernetes' own programs, built from source by `tools/prerequisites.sh`. The binary
//! `lab` and scenario tests use this; nothing that ships does.
//!
//! ```no_run
//! # async fn example() -> Result<(), meridian_integration::lab::LabError> {
//! use meridian_integration::lab::{Lab, LabConfig};
//! let lab = Lab::attach_or_up(&LabConfig::from_environment()?).await?;
//! let client = lab.cluster("lab-1")?.client().await?;
//! lab.partition("lab-1", "lab-2").await?;
//! lab.heal().await?;
//! # Ok(()) }
//! ```

mod bring_up;
mod cli;
mod client;
mod cloud;
mod command;
mod config;
mod enclose;
mod ending;
mod error;
mod fault;
mod files;
mod images;
mod layout;
mod machine;
mod network;
mod outage;
mod pki;
mod plan;
mod process;
mod progress;
mod render;
mod state;
mod status;
mod supervise;
mod unit;
mod wait;

use std::path::{Path, PathBuf};

use futures::future::try_join_all;

pub use self::cli::main;
pub use self::config::LabConfig;
pub use self::error::{LabError, Result};
pub use self::layout::{Binaries, Layout};
pub use self::plan::{ClusterPlan, LabPlan, NodePlan};
pub use self::process::{ProcessRecord, RunningProcess};
pub use self::state::LabState;
pub use self::status::{ClusterStatus, LabStatus, NodeStatus, UnitStatus};
pub use self::unit::Restarts;

use self::bring_up::BringUp;
use self::progress::Progress;
use self::state::Lock;

/// A cluster that a test works with: the lab's own, or one that somebody else made.
#[derive(Debug, Clone)]
pub struct Cluster {
    name: String,
    kubeconfig: PathBuf,
}

impl Cluster {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Kubeconfig of an administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A new client with that kubeconfig.
    pub async fn client(&self) -> Result<kube::Client> {
        client::of_kubeconfig(&self.kubeconfig).await
    }

    /// The names of its nodes, as its API server has them.
    pub async fn nodes(&self) -> Result<Vec<String>> {
        use kube::ResourceExt;
        let nodes: kube::Api<k8s_openapi::api::core::v1::Node> =
            kube::Api::all(self.client().await?);
        let list = nodes
            .list(&kube::api::ListParams::default())
            .await
            .map_err(error::kubernetes(&self.name, "list its nodes"))?;
        Ok(list.items.iter().map(ResourceExt::name_any).collect())
    }
}

/// Clusters to test with, and what can be done to them.
#[derive(Debug)]
pub struct Lab {
    clusters: Vec<Cluster>,
    /// `None`: somebody else made the clusters.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    layout: Layout,
    state: LabState,
    config: LabConfig,
}

impl Lab {
    /// The clusters of `MERIDIAN_KUBECONFIGS` (files, separated by commas) if it is set; else the lab of this
    /// configuration, brought up as far as it is not.
    pub async fn attach_or_up(config: &LabConfig) -> Result<Self> {
        match Self::of_environment()? {
            Some(others) => Ok(others),
            None => Self::up(config).await,
        }
    }

    /// The clusters of `MERIDIAN_KUBECONFIGS` (files, separated by commas), which somebody else made; `None` if it is not set.
    pub fn of_environment() -> Result<Option<Self>> {
        match std::env::var("MERIDIAN_KUBECONFIGS") {
            Ok(list) if !list.is_empty() => {
                Self::of_kubeconfigs(list.split(',').map(Path::new)).map(Some)
            }
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// Clusters that somebody else made, named as their kubeconfigs' current contexts.
    pub fn of_kubeconfigs<'a>(paths: impl Iterator<Item = &'a Path>) -> Result<Self> {
        let cluster = |path: &Path| {
            let kubeconfig = path.to_owned();
            client::name_in_kubeconfig(path).map(|name| Cluster { name, kubeconfig })
        };
        Ok(Self {
            clusters: paths.map(cluster).collect::<Result<_>>()?,
            own: None,
        })
    }

    /// The lab of this configuration's state folder, as it is; `None` if there is none.
    pub fn attach(config: &LabConfig) -> Result<Option<Self>> {
        let layout = Layout::new(&config.state_dir)?;
        LabState::read(&layout)?
            .map(|state| Self::of_state(layout, state, config))
            .transpose()
    }

    /// Brings the lab up. What is up stays as it is; what a killed run left half made is made anew.
    pub async fn up(config: &LabConfig) -> Result<Self> {
        let progress = Progress::start(config.quiet);
        machine::check()?;
        let binaries = Binaries::find(&config.cache)?;
        let layout = Layout::new(&config.state_dir)?;
        let _lock = Lock::take(&layout.lock(), progress).await?;
        let there = LabState::read(&layout)?;
        let new = there.is_none();
        let state = config.grown_state(there)?;
        {
            let _id_lock = Lock::take(&state::id_lock(state.plan.id), progress).await?;
            let taken_over = state::claim(&state.plan, &layout)?;
            if new || taken_over {
                remove_from_machine(&state.plan, progress).await?;
            }
        }
        state.write(&layout)?;
        network::ensure_bridge(&state.plan).await?;
        cloud::start(&layout, &config.program).await?;
        let bring_up = BringUp {
            layout: &layout,
            binaries: &binaries,
            program: &config.program,
            progress,
        };
        let plans = state.plans()?;
        progress.say(&format!(
            "starting {} clusters with {} nodes in all",
            plans.len(),
            plans.iter().map(|(_, nodes)| nodes.len()).sum::<usize>()
        ));
        try_join_all(
            plans
                .iter()
                .map(|(cluster, nodes)| bring_up.cluster(cluster, nodes)),
        )
        .await?;
        Self::of_state(layout, state, config)
    }

    fn of_state(layout: Layout, state: LabState, config: &LabConfig) -> Result<Self> {
        let cluster = |(plan, _): &(ClusterPlan, Vec<NodePlan>)| Cluster {
            name: plan.name.clone(),
            kubeconfig: layout.kubeconfig(&plan.name),
        };
        let clusters = state.plans()?.iter().map(cluster).collect();
        Ok(Self {
            clusters,
            own: Some(Own {
                layout,
                state,
                config: config.clone(),
            }),
        })
    }

    /// Its clusters, in order.
    #[must_use]
    pub fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    /// The cluster of this name.
    pub fn cluster(&self, name: &str) -> Result<&Cluster> {
        self.clusters
            .iter()
            .find(|cluster| cluster.name == name)
            .ok_or_else(|| {
                let known: Vec<&str> = self.clusters.iter().map(Cluster::name).collect();
                LabError::Unknown {
                    kind: "cluster",
                    name: name.to_owned(),
                    known: known.join(", "),
                }
            })
    }

    /// The address under which pods reach a program of this machine that listens on all addresses.
    pub fn host_address(&self) -> Result<std::net::Ipv4Addr> {
        Ok(self.own("the machine's address")?.state.plan.host())
    }

    /// Drops, without a word, all packets between the two, both ways. Sides are `host`, a cluster (`lab-1`), a node
    /// (`lab-1-a`) or a control plane (`lab-1-control-plane`). Between a cluster and the host, the control plane
    /// stays reachable, so that the test can still look.
    pub async fn partition(&self, a: &str, b: &str) -> Result<()> {
        fault::cut(&self.own("a partition")?.state, a, b, true).await
    }

    /// As [`Lab::partition`], for packets from `from` to `to` only.
    pub async fn partition_one_way(&self, from: &str, to: &str) -> Result<()> {
        fault::cut(&self.own("a partition")?.state, from, to, false).await
    }

    /// Ends the partition between these two.
    pub async fn heal_between(&self, a: &str, b: &str) -> Result<()> {
        fault::mend(&self.own("healing a partition")?.state, a, b).await
    }

    /// Ends all partitions.
    pub async fn heal(&self) -> Result<()> {
        fault::mend_all(&self.own("healing partitions")?.state).await
    }

    /// Takes a node's power away: its processes and containers end at once, its link goes dead. The control plane is
    /// no part of any node.
    pub async fn kill_node(&self, node: &str) -> Result<()> {
        let own = self.own("killing a node")?;
        let (cluster, node) = own.state.node(node)?;
        fault::kill_node(&own.layout, &cluster, &node).await
    }

    /// Gives a node its power back and waits until it is Ready.
    pub async fn start_node(&self, node: &str) -> Result<()> {
        let own = self.own("starting a node")?;
        let (cluster, node) = own.state.node(node)?;
        let binaries = Binaries::find(&own.config.cache)?;
        network::set_link(&node.namespace, true).await?;
        let progress = Progress::start(own.config.quiet);
        BringUp {
            layout: &own.layout,
            binaries: &binaries,
            program: &own.config.program,
            progress,
        }
        .node(&cluster, &node)
        .await
    }

    /// Puts an image on every node: an archive, or an image of the machine's own store such as `localhost/name:tag`.
    pub async fn load_image(&self, image: &str) -> Result<()> {
        let own = self.own("loading an image")?;
        let archive = images::Archive::find(image).await?;
        let plans = own.state.plans()?;
        let sockets = plans.iter().flat_map(|(cluster, nodes)| {
            nodes
                .iter()
                .map(|node| (node, own.layout.runtime_socket(&cluster.name, &node.name)))
        });
        let running =
            sockets.filter(|(node, _)| !process::in_network_namespace(&node.namespace).is_empty());
        try_join_all(running.map(|(_, socket)| {
            let path = archive.path();
            async move { images::import(&socket, path).await }
        }))
        .await
        .map(drop)
    }

    /// The processes of a node or of a control plane (`lab-1-control-plane`), for tests that stop or kill one.
    pub fn processes(&self, unit: &str) -> Result<Vec<RunningProcess>> {
        let own = self.own("looking at processes")?;
        let plans = own.state.plans()?;
        let control_plane = plans
            .iter()
            .find(|(cluster, _)| unit == format!("{}-control-plane", cluster.name));
        let namespace = match control_plane {
            Some((cluster, _)) => cluster.namespace(),
            None => own.state.node(unit)?.1.namespace,
        };
        Ok(process::running_in(&namespace))
    }

    /// What is true of the lab now.
    pub async fn status(&self) -> Result<LabStatus> {
        let own = self.own("the lab's status")?;
        status::of_lab(&own.layout, &own.state).await
    }

    /// Ends everything and removes every trace from the machine, also of a run that was killed. Works without a lab,
    /// too.
    pub async fn down(config: &LabConfig) -> Result<()> {
        let progress = Progress::start(config.quiet);
        machine::check()?;
        let layout = Layout::new(&config.state_dir)?;
        let _lock = Lock::take(&layout.lock(), progress).await?;
        // A state file that cannot be read must not keep anybody from removing the lab.
        let recorded = LabState::read(&layout).unwrap_or_else(|error| {
            progress.say(&error.to_string());
            None
        });
        let state = match recorded {
            Some(state) => state,
            None => config.grown_state(None)?,
        };
        cloud::stop(&layout).await?;
        if state::is_owner(&state.plan, &layout)? {
            remove_from_machine(&state.plan, progress).await?;
            state::release(&state.plan, &layout)?;
        }
        progress.say("removing files");
        let clusters = state
            .plans()?
            .into_iter()
            .map(|(cluster, _)| layout.cluster(&cluster.name));
        try_join_all(clusters.chain([layout.cloud()]).map(files::remove_aside)).await?;
        files::remove(&layout.lab_file())?;
        progress.say("nothing of the lab is left");
        Ok(())
    }

    /// Refuses `action` if `MERIDIAN_KUBECONFIGS` names clusters.
    ///
    /// # Errors
    /// [`LabError::NotOurs`].
    pub fn refuse_others(action: &'static str) -> Result<()> {
        match Self::of_environment()? {
            Some(others) => others.own(action).map(drop),
            None => Ok(()),
        }
    }

    fn own(&self, action: &'static str) -> Result<&Own> {
        self.own.as_ref().ok_or_else(|| {
            let cluster = self
                .clusters
                .first()
                .map(|cluster| cluster.name.clone())
                .unwrap_or_default();
            LabError::NotOurs { action, cluster }
        })
    }
}

/// Removes processes, links, namespaces, control groups and the bridge of a lab, found by name.
async fn remove_from_machine(lab: &LabPlan, progress: Progress) -> Result<()> {
    let names = network::leftovers(lab);
    if !names.is_empty() {
        progress.say(&format!(
            "removing {} control planes and nodes",
            names.len()
        ));
    }
    try_join_all(names.iter().map(|name| async move {
        ending::kill_namespace(name).await?;
        network::remove_namespace(name).await
    }))
    .await?;
    network::remove_bridge(lab).await?;
    machine::remove_control_groups(&lab.bridge()).await
}
