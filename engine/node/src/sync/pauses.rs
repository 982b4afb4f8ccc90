//! Which links a person has paused. Kept on disk: a link that was cut on purpose must not come back because a process restarted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::atomic_file::{self, FileError};

type Paused = BTreeMap<String, BTreeSet<u32>>;

/// The paused links, by database.
#[derive(Debug)]
pub(super) struct Pauses {
    path: PathBuf,
    paused: Mutex<Paused>,
}

impl Pauses {
    pub(super) fn load(path: &Path) -> Result<Self, FileError> {
        let paused = atomic_file::read_json(path)?.unwrap_or_default();
        Ok(Self {
            path: path.to_owned(),
            paused: Mutex::new(paused),
        })
    }

    pub(super) fn is_paused(&self, database: &str, peer: u32) -> bool {
        self.paused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(database)
            .is_some_and(|peers| peers.contains(&peer))
    }

    /// Pauses or resumes links; on disk before it is in force.
    pub(super) fn set(&self, links: &[(String, u32)], pause: bool) -> Result<(), FileError> {
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        let mut after = paused.clone();
        for (database, peer) in links {
            let peers = after.entry(database.clone()).or_default();
            if pause {
                peers.insert(*peer);
            } else {
                peers.remove(peer);
            }
        }
        after.retain(|_, peers| !peers.is_empty());
        atomic_file::write_json(&self.path, &after)?;
        *paused = after;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("paused.json");
        let link = |peer| ("db".to_owned(), peer);
        Pauses::load(&path)
            .unwrap()
            .set(&[link(2), link(3)], true)
            .unwrap();
        let again = Pauses::load(&path).unwrap();
        assert!(
            again.is_paused("db", 2) && again.is_paused("db", 3) && !again.is_paused("other", 2)
        );
        again.set(&[link(2)], false).unwrap();
        assert!(!Pauses::load(&path).unwrap().is_paused("db", 2));
    }
}
