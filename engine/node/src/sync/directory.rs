//! The authority without Kubernetes: a directory that several nodes share. `<database>.json` is a topology, `reports/` is where
//! each node leaves its own, `entries/` where it says that it takes clients, and while a file `away` or `away-<node>` is there, nobody, or that node, gets an answer.
//!
//! For tests of real processes and for trying things on one machine; pods use the Kubernetes API.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use meridian_api::crds::topology::{EntryReport, MemberReport};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::SyncError;
use super::authority::{Authority, AuthorityError};
use super::node::Node;
use super::topology::Topology;
use super::users;
use crate::atomic_file;
use crate::desired::{Access, Password};

/// How often the directory is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The file in the place of the users Secret: its keys and values as JSON. A database that it does not name has no password.
const USERS: &str = "users";

/// What the directory says.
#[derive(PartialEq)]
struct Seen {
    topologies: Vec<Topology>,
    users: BTreeMap<String, String>,
}

impl Seen {
    fn access(&self) -> BTreeMap<String, Access> {
        let open = || Access::only(Password::NoneOnLoopback);
        let names = self.topologies.iter().map(|t| (t.name.clone(), open()));
        let mut access: BTreeMap<_, _> = names.collect();
        access.extend(users::read(&self.users));
        access
    }
}

/// What the child reads at its start: who the node is and where the others are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryFile {
    /// The name of this node.
    pub node: String,
    /// The name of the cluster.
    pub cluster: String,
    /// The shared directory.
    pub directory: PathBuf,
    /// The host of every node, this one included.
    pub hosts: BTreeMap<String, String>,
    /// Where other nodes reach this one; all use the same port.
    pub internal_listen: SocketAddr,
    /// Where other regions would pull from.
    pub sync_listen: SocketAddr,
}

/// A shared directory, as one node sees it.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    path: PathBuf,
    node: String,
}

impl Directory {
    pub(super) fn new(path: &Path, node: &str) -> Arc<Self> {
        Arc::new(Self {
            path: path.to_owned(),
            node: node.to_owned(),
        })
    }

    fn answers(&self) -> Result<(), AuthorityError> {
        let own = format!("away-{}", self.node);
        for name in ["away", &own] {
            let path = self.path.join(name);
            if path.exists() {
                return Err(AuthorityError::Away(format!("{} is there", path.display())));
            }
        }
        Ok(())
    }

    fn topology(&self, database: &str) -> Result<Topology, AuthorityError> {
        let path = self.path.join(format!("{database}.json"));
        atomic_file::read_json(&path)
            .map_err(|e| AuthorityError::Away(crate::run::chain(&e)))?
            .ok_or(AuthorityError::Gone)
    }

    fn all(&self) -> Result<Seen, AuthorityError> {
        self.answers()?;
        let entries =
            std::fs::read_dir(&self.path).map_err(|e| AuthorityError::Away(e.to_string()))?;
        let names = entries.filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.strip_suffix(".json").map(str::to_owned)
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        let topologies = names.iter().map(|name| self.topology(name));
        let users = atomic_file::read_json(&self.path.join(USERS))
            .map_err(|e| AuthorityError::Away(crate::run::chain(&e)))?;
        Ok(Seen {
            topologies: topologies.collect::<Result<_, _>>()?,
            users: users.unwrap_or_default(),
        })
    }
}

impl Authority for Directory {
    fn read<'a>(&'a self, database: &'a str) -> BoxFuture<'a, Result<Topology, AuthorityError>> {
        Box::pin(async move {
            self.answers()?;
            self.topology(database)
        })
    }

    fn report<'a>(
        &'a self,
        database: &'a str,
        member: &'a MemberReport,
    ) -> BoxFuture<'a, Result<(), AuthorityError>> {
        Box::pin(async move {
            self.answers()?;
            let reports = self.path.join("reports");
            let path = reports.join(format!("{database}.{}.json", self.node));
            atomic_file::make_dir(&reports)
                .and_then(|()| atomic_file::write_json(&path, member))
                .map_err(|e| AuthorityError::Away(crate::run::chain(&e)))
        })
    }

    fn entry<'a>(
        &'a self,
        database: &'a str,
        entry: Option<&'a EntryReport>,
    ) -> BoxFuture<'a, Result<(), AuthorityError>> {
        Box::pin(async move {
            self.answers()?;
            let entries = self.path.join("entries");
            let path = entries.join(format!("{database}.{}.json", self.node));
            atomic_file::make_dir(&entries)
                .and_then(|()| atomic_file::write_json(&path, &entry))
                .map_err(|e| AuthorityError::Away(crate::run::chain(&e)))
        })
    }
}

/// Follows the directory for ever.
pub(super) async fn learn(node: Arc<Node>, directory: Arc<Directory>) -> Result<(), SyncError> {
    let mut known = None;
    loop {
        match directory.all() {
            Ok(seen) => {
                if known.as_ref() != Some(&seen) {
                    node.follow(seen.topologies.clone(), seen.access()).await;
                    known = Some(seen);
                }
            }
            Err(AuthorityError::Away(_)) => {}
            Err(error) => warn!(%error, "the directory changed while it was read"),
        }
        tokio::time::sleep(LOOK).await;
    }
}
