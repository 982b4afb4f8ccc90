//! Whether the files that a shard left can be read, and what becomes of those that cannot.
//!
//! Valkey ends at once when it meets a damaged file, and would do so at every later start. It cuts off a last record that was not
//! written to its end by itself; nothing else is lost without somebody deciding so. A shard that follows a primary has nothing that
//! its primary lacks: its files are set aside, and it copies anew, once nobody counts on its copy any more. Anybody else stays away
//! and says what the file is.
//!
//! Files are looked at by the process that becomes Valkey and holds the directory's lock: whole only after Valkey has ended with an
//! error, and before every start where Valkey itself would make things worse. Of an append-only file that is not the last it cuts off
//! the end as well, refuses to start once, and the next time starts as if nothing were missing there.

mod aof;
mod examination;
mod manifest;
mod rdb;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::atomic_file::{self, FileError};
use crate::layout::ShardLayout;

pub use aof::is_command;
pub(crate) use examination::is_manifest_unreadable;
pub use examination::{Loads, Look, examine, loads};

/// A file that Valkey will not load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Damage {
    /// Which file.
    pub file: PathBuf,
    /// Its length, bytes.
    pub size: u64,
    /// Everything up to here can be read, bytes.
    pub whole_up_to: u64,
    /// What is wrong there.
    pub what: String,
    /// What to name to the tool that cuts the file off there; `None`: no tool can.
    pub repair: Option<PathBuf>,
    /// Only Valkey itself knows whether it is damage.
    #[serde(default)]
    pub doubtful: bool,
}

/// Why a shard did not load the files that it left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// The file.
    pub damage: Damage,
    /// It copies everything anew as soon as nobody counts on this copy.
    #[serde(default)]
    pub waits: bool,
    /// Where all of them lie now, if the shard began without them.
    pub aside: Option<PathBuf>,
}

/// Why the files were neither looked at nor set aside.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// The system refused.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file of ours.
    #[error(transparent)]
    File(#[from] FileError),
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeptError {
    let path = path.to_owned();
    move |source| KeptError::Io {
        action,
        path,
        source,
    }
}

impl Refused {
    /// What people read.
    #[must_use]
    pub fn text(&self) -> String {
        let Damage {
            file,
            size,
            whole_up_to,
            what,
            repair,
            doubtful: _,
        } = &self.damage;
        let found = format!(
            "its files cannot be read: {} is whole up to byte {whole_up_to} of {size}, {what}",
            file.display()
        );
        match (&self.aside, repair) {
            (None, _) if self.waits => format!(
                "{found}; nothing was thrown away. It stays away as long as it is in the in-sync set or about to join it, or a \
                 failover is under way, and then copies everything anew from its primary; if no primary is left, restore a copy \
                 of the directory"
            ),
            (Some(aside), _) => format!(
                "{found}; they are kept in {} until somebody deletes them or a later whole copy that cannot be read takes their place, and it copies \
                 everything anew from its primary",
                aside.display()
            ),
            (None, Some(named)) => format!(
                "{found}; nothing was thrown away. Where there is a copy, restore it; else copy the directory, and then run \
                 `valkey-check-aof --fix {}`, which loses the writes in the last {} bytes of the file; it is tried again by \
                 itself",
                named.display(),
                size.saturating_sub(*whole_up_to)
            ),
            (None, None) => format!(
                "{found}; nothing was thrown away, and no tool repairs this file: restore a copy of the directory. It is \
                 tried again by itself"
            ),
        }
    }
}

/// What the newest start of a shard said about its files; nothing if it said nothing or cannot be read.
#[must_use]
pub fn refused(path: &Path) -> Option<Refused> {
    atomic_file::read_json(path).ok().flatten()
}

/// Moves everything that the shard left into a folder of its own, and returns that. There is one such folder at most: a newer one
/// takes the place of an older one only if what is moved was once a whole copy; otherwise it is worth nothing and goes. What the shard
/// begins with afterwards is noted as unfinished until [`finished`].
///
/// # Errors
/// [`KeptError`] naming the step; it can be repeated.
pub fn set_aside(files: &ShardLayout) -> Result<PathBuf, KeptError> {
    let aside = files.aside();
    let beside = aside.with_extension("new");
    let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
    let twice = |path: &PathBuf| path.exists() && beside.join(name(path)).exists();
    if files.left().iter().any(twice) {
        // An earlier time ended before its last step, and the shard has begun anew since.
        remove(&aside)?;
        fs::rename(&beside, &aside).map_err(io("rename", &beside))?;
    }
    // What is moved was whole if the moving has begun.
    let was_whole = beside.exists() || !files.unfinished().exists();
    if aside.exists() && !was_whole {
        for path in files.left() {
            remove(&path)?;
        }
        return Ok(aside);
    }
    fs::create_dir_all(&beside).map_err(io("make", &beside))?;
    // Whatever comes now is an unfinished copy until it has everything.
    atomic_file::write(&files.unfinished(), b"")?;
    // The record of what they hold goes first: it must never speak of files that are gone.
    for path in files.left().iter().filter(|path| path.exists()) {
        fs::rename(path, beside.join(name(path))).map_err(io("move aside", path))?;
    }
    remove(&aside)?;
    fs::rename(&beside, &aside).map_err(io("rename", &beside))?;
    File::open(&files.directory)
        .and_then(|directory| directory.sync_all())
        .map_err(io("fsync", &files.directory))?;
    Ok(aside)
}

/// Moves append-only files out of the way that are not to be loaded and whose manifest cannot be read: Valkey reads it all the same,
/// and does not start.
///
/// # Errors
/// [`KeptError`] naming the step; it can be repeated.
pub fn set_manifest_aside(files: &ShardLayout) -> Result<PathBuf, KeptError> {
    let (directory, aside) = (files.append_only(), files.append_only_aside());
    remove(&aside)?;
    fs::rename(&directory, &aside).map_err(io("move aside", &directory))?;
    Ok(aside)
}

/// Notes that the shard has everything that it should have. `unfinished` is [`ShardLayout::unfinished`].
///
/// # Errors
/// [`KeptError`] if the note cannot be made.
pub fn finished(unfinished: &Path) -> Result<(), KeptError> {
    remove(unfinished)
}

fn remove(path: &Path) -> Result<(), KeptError> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
