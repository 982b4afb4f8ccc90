//! What a lab consists of, written down, and who may change it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::error::{LabError, Result, file};
use super::files;
use super::layout::Layout;
use super::plan::{ClusterPlan, LabPlan, NodePlan};
use super::progress::Progress;

/// The folder that says which lab has which id on this machine.
const OWNERS: &str = "/run/meridian-lab";

/// What a lab consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabState {
    /// Its names and addresses.
    #[serde(flatten)]
    pub plan: LabPlan,
    /// Number of nodes by the cluster's index.
    pub clusters: BTreeMap<u8, u8>,
}

impl LabState {
    /// What the lab of this folder consists of; `None` if there is none.
    pub fn read(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.lab_file();
        match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file("read", &path)(error)),
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|error| LabError::State {
                    path,
                    reason: error.to_string(),
                }),
        }
    }

    /// Writes it down.
    pub fn write(&self, layout: &Layout) -> Result<()> {
        let path = layout.lab_file();
        let text = serde_json::to_string_pretty(self).map_err(|error| LabError::State {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        files::write(&path, &text)
    }

    /// Adds clusters and nodes up to these numbers; what is there stays.
    pub fn grow(&mut self, clusters: u8, nodes: u8) {
        for index in 1..=clusters {
            let count = self.clusters.entry(index).or_default();
            *count = nodes.max(*count);
        }
    }

    /// The plans of its clusters with those of their nodes.
    pub fn plans(&self) -> Result<Vec<(ClusterPlan, Vec<NodePlan>)>> {
        let with_nodes = |(index, nodes): (&u8, &u8)| {
            let cluster = self.plan.cluster(*index)?;
            let nodes = cluster.nodes(*nodes)?;
            Ok((cluster, nodes))
        };
        self.clusters.iter().map(with_nodes).collect()
    }

    /// The plans of a node and its cluster.
    pub fn node(&self, name: &str) -> Result<(ClusterPlan, NodePlan)> {
        let mut known = Vec::new();
        for (cluster, nodes) in self.plans()? {
            for node in nodes {
                if node.name == name {
                    return Ok((cluster, node));
                }
                known.push(node.name);
            }
        }
        Err(LabError::Unknown {
            kind: "node",
            name: name.to_owned(),
            known: known.join(", "),
        })
    }
}

/// Held while a lab is changed; another run waits for it.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a file, waiting for whoever has it.
    pub(crate) async fn take(path: &Path, progress: Progress) -> Result<Self> {
        if let Some(parent) = path.parent() {
            files::make_folder(parent)?;
        }
        let handle = File::create(path).map_err(file("open", path))?;
        let mut told = false;
        while flock(&handle, FlockOperation::NonBlockingLockExclusive).is_err() {
            if !told {
                progress.say(&format!(
                    "another run changes this lab ({}): waiting for it",
                    path.display()
                ));
                told = true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(Self { _file: handle })
    }
}

/// The lock of everything on the machine that has this id.
pub(crate) fn id_lock(id: u8) -> PathBuf {
    Path::new(OWNERS).join(format!("{id}.lock"))
}

/// Makes this state folder the owner of the lab's id, or says who has it. Returns whether somebody else, whose folder is
/// gone, had it before: then what it left on the machine must go first.
pub(crate) fn claim(lab: &LabPlan, layout: &Layout) -> Result<bool> {
    let path = owner_file(lab.id);
    let own = layout.root().display().to_string();
    let owner = match std::fs::read_to_string(&path) {
        Ok(owner) => Some(owner),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(file("read", &path)(error)),
    };
    if let Some(owner) = owner.as_ref().filter(|owner| **owner != own) {
        let theirs = LabState::read(&Layout::new(Path::new(owner))?)?;
        if theirs.is_some_and(|theirs| theirs.plan.id == lab.id) {
            return Err(LabError::Machine {
                what: format!("lab id {}", lab.id),
                found: format!("the lab in {owner} has it"),
                next: "choose another with --id, or `lab down` that one".to_owned(),
            });
        }
    }
    files::write(&path, &own)?;
    Ok(owner.as_ref() != Some(&own))
}

/// Gives the id back, if this folder has it.
pub(crate) fn release(lab: &LabPlan, layout: &Layout) -> Result<()> {
    let path = owner_file(lab.id);
    if is_owner(lab, layout)? {
        files::remove(&path)?;
    }
    Ok(())
}

/// Whether this state folder has the lab's id.
pub(crate) fn is_owner(lab: &LabPlan, layout: &Layout) -> Result<bool> {
    let path = owner_file(lab.id);
    match std::fs::read_to_string(&path) {
        Ok(owner) => Ok(Path::new(&owner) == layout.root()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(file("read", &path)(error)),
    }
}

fn owner_file(id: u8) -> PathBuf {
    Path::new(OWNERS).join(format!("{id}.owner"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_grows_and_never_shrinks() {
        let mut state = LabState {
            plan: LabPlan::new(0, "lab").unwrap(),
            clusters: BTreeMap::from([(1, 3)]),
        };
        state.grow(2, 1);
        assert_eq!(state.clusters, BTreeMap::from([(1, 3), (2, 1)]));
        state.grow(1, 5);
        assert_eq!(state.clusters, BTreeMap::from([(1, 5), (2, 1)]));
    }

    #[test]
    fn a_node_is_found_with_its_cluster_and_an_unknown_one_names_those_there_are() {
        let state = LabState {
            plan: LabPlan::new(0, "lab").unwrap(),
            clusters: BTreeMap::from([(1, 1), (2, 2)]),
        };
        let (cluster, node) = state.node("lab-2-b").unwrap();
        assert_eq!((cluster.name.as_str(), node.index), ("lab-2", 1));
        assert!(
            state
                .node("lab-1-b")
                .unwrap_err()
                .to_string()
                .contains("lab-1-a, lab-2-a, lab-2-b")
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        assert_eq!(LabState::read(&layout).unwrap(), None);
        let state = LabState {
            plan: LabPlan::new(3, "x").unwrap(),
            clusters: BTreeMap::from([(1, 3)]),
        };
        state.write(&layout).unwrap();
        assert_eq!(LabState::read(&layout).unwrap(), Some(state));
    }
}
