//! What a lab is to be, from arguments and environment.

use std::path::PathBuf;

use super::error::{LabError, Result};
use super::layout;
use super::plan::{LabPlan, MAX_CLUSTERS, MAX_NODES};
use super::state::LabState;

/// What a lab is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabConfig {
    /// Tells labs on one machine apart, 0 to 40; `None` takes that of the state folder, else 0.
    pub id: Option<u8>,
    /// What names of clusters begin with; `None` takes `lab` for id 0, `lab1` for id 1 and so on.
    pub prefix: Option<String>,
    /// Number of clusters, from 1.
    pub clusters: u8,
    /// Nodes of each cluster, from 1.
    pub nodes: u8,
    /// Where the lab keeps its state.
    pub state_dir: PathBuf,
    /// The cache that `tools/prerequisites.sh` filled.
    pub cache: PathBuf,
    /// The lab's own program, which supervises its processes.
    pub program: PathBuf,
    /// Whether to say nothing on the way.
    pub quiet: bool,
}

impl LabConfig {
    /// Three clusters of three nodes with their state in `.lab` of the repository, unless `MERIDIAN_LAB_ID` or
    /// `MERIDIAN_LAB_STATE` say otherwise.
    pub fn from_environment() -> Result<Self> {
        let id = match std::env::var("MERIDIAN_LAB_ID") {
            Err(_) => None,
            Ok(text) => Some(text.parse().map_err(|_| LabError::Argument {
                field: "MERIDIAN_LAB_ID",
                found: text,
                expected: "a number from 0 to 40".to_owned(),
            })?),
        };
        Ok(Self {
            id,
            prefix: None,
            clusters: 3,
            nodes: 3,
            state_dir: std::env::var_os("MERIDIAN_LAB_STATE")
                .map_or_else(default_state_dir, PathBuf::from),
            cache: layout::default_cache()?,
            program: own_program()?,
            quiet: false,
        })
    }

    /// The state that this configuration makes of what is there.
    pub(crate) fn grown_state(&self, there: Option<LabState>) -> Result<LabState> {
        for (field, found, most) in [
            ("number of clusters", self.clusters, MAX_CLUSTERS),
            ("number of nodes", self.nodes, MAX_NODES),
        ] {
            if found == 0 || found > most {
                return Err(LabError::Argument {
                    field,
                    found: found.to_string(),
                    expected: format!("1 to {most}"),
                });
            }
        }
        let mut state = match there {
            None => {
                let id = self.id.unwrap_or_default();
                let prefix = self
                    .prefix
                    .clone()
                    .unwrap_or_else(|| LabPlan::default_prefix(id));
                LabState {
                    plan: LabPlan::new(id, &prefix)?,
                    clusters: std::collections::BTreeMap::new(),
                }
            }
            Some(there) => {
                self.refuse_other_plan(&there.plan)?;
                there
            }
        };
        state.grow(self.clusters, self.nodes);
        Ok(state)
    }

    fn refuse_other_plan(&self, there: &LabPlan) -> Result<()> {
        let other_id = self.id.is_some_and(|id| id != there.id);
        let other_prefix = self
            .prefix
            .as_ref()
            .is_some_and(|prefix| *prefix != there.prefix);
        if !other_id && !other_prefix {
            return Ok(());
        }
        Err(LabError::Argument {
            field: "id and name prefix",
            found: format!("{:?} and {:?}", self.id, self.prefix),
            expected: format!(
                "{} and `{}`, which the lab in {} has; choose another --state-dir for a second lab",
                there.id,
                there.prefix,
                self.state_dir.display()
            ),
        })
    }
}

/// `.lab` in the repository that the current folder lies in, else in the current folder.
fn default_state_dir() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let repository = here
        .ancestors()
        .find(|folder| folder.join("integration/kubernetes/go.mod").exists());
    repository.unwrap_or(&here).join(".lab")
}

/// The binary `lab`: this process's own, else the one that cargo put beside a test or a bench.
fn own_program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MERIDIAN_LAB_PROGRAM") {
        return Ok(path.into());
    }
    let own = std::env::current_exe().map_err(|source| LabError::File {
        action: "find",
        path: PathBuf::from("/proc/self/exe"),
        source,
    })?;
    let candidates = own
        .ancestors()
        .skip(1)
        .take(3)
        .map(|folder| folder.join("lab"));
    let found = std::iter::once(own.clone())
        .filter(|own| own.ends_with("lab"))
        .chain(candidates)
        .find(|path| path.is_file());
    found.ok_or_else(|| LabError::Machine {
        what: "the program `lab`".to_owned(),
        found: format!("not beside {}", own.display()),
        next: "run `cargo build -p meridian-integration --bin lab`, or set MERIDIAN_LAB_PROGRAM"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(id: Option<u8>, prefix: Option<&str>, clusters: u8, nodes: u8) -> LabConfig {
        LabConfig {
            id,
            prefix: prefix.map(str::to_owned),
            clusters,
            nodes,
            state_dir: "/state".into(),
            cache: "/cache".into(),
            program: "/lab".into(),
            quiet: true,
        }
    }

    #[test]
    fn a_new_lab_takes_its_prefix_from_its_id() {
        let state = config(Some(4), None, 2, 1).grown_state(None).unwrap();
        assert_eq!(
            (state.plan.prefix.as_str(), state.clusters.len()),
            ("lab4", 2)
        );
        assert_eq!(
            config(None, None, 1, 1)
                .grown_state(None)
                .unwrap()
                .plan
                .prefix,
            "lab"
        );
    }

    #[test]
    fn a_state_folder_keeps_its_id_and_refuses_another() {
        let there = config(Some(4), None, 1, 1).grown_state(None).unwrap();
        assert_eq!(
            config(None, None, 1, 1)
                .grown_state(Some(there.clone()))
                .unwrap(),
            there
        );
        let error = config(Some(5), None, 1, 1)
            .grown_state(Some(there.clone()))
            .unwrap_err()
            .to_string();
        assert!(error.contains("--state-dir"), "{error}");
        assert!(
            config(None, Some("other"), 1, 1)
                .grown_state(Some(there))
                .is_err()
        );
    }

    #[test]
    fn no_clusters_or_no_nodes_is_refused() {
        assert!(config(None, None, 0, 1).grown_state(None).is_err());
        assert!(config(None, None, 1, 0).grown_state(None).is_err());
        assert!(config(None, None, 1, 27).grown_state(None).is_err());
    }
}
