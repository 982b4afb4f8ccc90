//! A whole Meridian on the lab: clusters, hub, agents, RECs. Used by the demo and by scenario tests, through the same
//! commands that a person would type (`kubectl`, `meridian`), so that what they prove is what a person gets.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;

use crate::shell;

pub use cluster::{Cluster, kubectl};
pub use hub::Hub;
pub use region::Region;

pub mod cluster;
pub mod hub;
pub mod region;

/// Namespace in each cluster that holds the agent and its REC.
pub const NAMESPACE: &str = "redis";
/// Name of the REC in each cluster.
pub const REC: &str = "rec";

/// Where things lie on this machine.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The repository.
    pub root: PathBuf,
    /// The programs that were built.
    pub bin: PathBuf,
    /// State of the stack: the hub's data, logs.
    pub state: PathBuf,
}

impl Paths {
    /// Paths of this checkout. The state folder is `.demo` below the repository's root; `MERIDIAN_STATE` names another,
    /// so that tests leave a running demo alone.
    ///
    /// # Errors
    /// If the state folder cannot be made.
    pub fn from_environment() -> anyhow::Result<Self> {
        let state = std::env::var("MERIDIAN_STATE").unwrap_or_else(|_| ".demo".into());
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("no workspace root")?
            .to_path_buf();
        let bin = std::env::var_os("MERIDIAN_BUILD_DIR")
            .map_or_else(|| root.join("target/debug"), PathBuf::from);
        let state = root.join(state);
        fs::create_dir_all(&state).with_context(|| format!("make {}", state.display()))?;
        Ok(Self { root, bin, state })
    }

    /// A program that was built; its absence says how to build it.
    ///
    /// # Errors
    /// If it is not there.
    pub fn program(&self, name: &str) -> anyhow::Result<String> {
        let path = self.bin.join(name);
        anyhow::ensure!(
            path.exists(),
            "{} is missing: run `make build`",
            path.display()
        );
        Ok(path.to_string_lossy().into_owned())
    }
}

/// Clusters, hub and what runs on them.
#[derive(Debug)]
pub struct Stack {
    /// Where things lie.
    pub paths: Paths,
    /// The clusters, in the order of their names.
    pub clusters: Vec<Cluster>,
    /// The hub.
    pub hub: Hub,
}

/// How long a REC may take from `apply` to Running, image already on the nodes.
pub const REC_RUNNING: Duration = Duration::from_secs(120);
/// How long a cluster may take from `apply` of the bundle to Connected.
pub const CONNECTED: Duration = Duration::from_secs(90);
/// How long an Active-Active database may take from creation to all links up.
pub const DATABASE_UP: Duration = Duration::from_secs(90);

impl Stack {
    /// Brings up what is missing of: clusters, images on them, hub, agents, RECs. Says what it does through `say`.
    ///
    /// # Errors
    /// If any part does not come up: with its name and what it last said.
    pub async fn up(paths: Paths, say: &dyn Fn(&str)) -> anyhow::Result<Self> {
        let clusters = Cluster::start_lab(&paths, 3, 3)?;
        say("starting the hub");
        let hub = Hub::start(&paths).await?;
        let stack = Self {
            paths,
            clusters,
            hub,
        };
        for cluster in &stack.clusters {
            say(&format!(
                "{}: custom resources, join token, agent, REC",
                cluster.name
            ));
            cluster.install(&stack.paths, &stack.hub)?;
        }
        for cluster in &stack.clusters {
            say(&format!(
                "{}: waiting for the agent's link to the hub",
                cluster.name
            ));
            stack.hub.connected(&cluster.name, CONNECTED).await?;
        }
        for cluster in &stack.clusters {
            say(&format!("{}: waiting for the REC to run", cluster.name));
            cluster.rec_running(REC_RUNNING).await?;
        }
        Ok(stack)
    }

    /// Connects to what [`Stack::up`] left running.
    ///
    /// # Errors
    /// If there is nothing to connect to.
    pub fn attach(paths: Paths) -> anyhow::Result<Self> {
        let clusters = Cluster::running(&paths)?;
        let hub = Hub::attach(&paths)?;
        Ok(Self {
            paths,
            clusters,
            hub,
        })
    }

    /// Removes everything: hub process, clusters, state. What is not there is no error.
    ///
    /// # Errors
    /// If a process cannot be ended or the lab cannot be taken down.
    pub async fn down(paths: &Paths) -> anyhow::Result<()> {
        Hub::stop(paths).await?;
        shell::succeed(&paths.program("lab")?, &["down"], &[], "")?;
        fs::remove_dir_all(&paths.state)
            .with_context(|| format!("remove {}", paths.state.display()))
    }
}
