//! Whether the files that a shard left can be read, and what becomes of those that cannot.
//!
//! Valkey ends at once when it meets a damaged file, and would do so at every later start. It cuts off a last record that was not
//! written to its end by itself; nothing else is lost without somebody deciding so. A shard that follows a primary has nothing that
//! its primary lacks: its files are set aside, and it copies anew, once nobody counts on its copy any more. Anybody else stays away
//! and says what the file is.
//!
//! Files are looked at only after Valkey has ended with an error, by the process that becomes Valkey and holds the directory's lock.

mod aof;
mod rdb;

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::atomic_file::{self, FileError};
use crate::layout::ShardLayout;
use aof::{End, Kind};

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
    /// The manifest to repair by cutting the file off there; `None`: no tool can.
    pub repair: Option<PathBuf>,
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
                "{found}; they are kept in {} until somebody deletes them, and it copies everything anew from its primary",
                aside.display()
            ),
            (None, Some(manifest)) => format!(
                "{found}; nothing was thrown away. Where there is a copy, restore it; else copy the directory, and then run \
                 `valkey-check-aof --fix {}`, which loses the writes in the last {} bytes of the file; it is tried again by \
                 itself",
                manifest.display(),
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

/// The first file that Valkey will not load.
///
/// # Errors
/// [`KeptError`] if a file cannot be read at all.
pub fn examine(files: &ShardLayout) -> Result<Option<Damage>, KeptError> {
    let directory = files.append_only();
    let manifest = directory.join("appendonly.aof.manifest");
    let text = match fs::read_to_string(&manifest) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return examine_snapshot(&files.snapshot(), false);
        }
        Err(error) => return Err(io("read", &manifest)(error)),
    };
    let Some(parts) = aof::parts(&text) else {
        let size = u64::try_from(text.len()).unwrap_or(u64::MAX);
        return Ok(Some(Damage {
            file: manifest,
            size,
            whole_up_to: 0,
            what: "and is no manifest of append-only files".to_owned(),
            repair: None,
        }));
    };
    let last = parts.len().saturating_sub(1);
    for (index, (name, kind)) in parts.iter().enumerate() {
        let path = directory.join(name);
        let damage = match kind {
            Kind::Base => examine_snapshot(&path, true)?,
            Kind::Increment => examine_increment(&path, &manifest, index == last)?,
        };
        if damage.is_some() {
            return Ok(damage);
        }
    }
    Ok(None)
}

/// A file and its length; `None`: there is none.
fn open(path: &Path) -> Result<Option<(BufReader<File>, u64)>, KeptError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io("open", path)(error)),
    };
    let size = file.metadata().map_err(io("look at", path))?.len();
    Ok(Some((BufReader::new(file), size)))
}

fn absent(file: &Path) -> Damage {
    Damage {
        file: file.to_owned(),
        size: 0,
        whole_up_to: 0,
        what: "because it is not there".to_owned(),
        repair: None,
    }
}

/// `needed`: it is damage if there is none.
fn examine_snapshot(path: &Path, needed: bool) -> Result<Option<Damage>, KeptError> {
    let Some((file, size)) = open(path)? else {
        return Ok(needed.then(|| absent(path)));
    };
    let fits = rdb::is_whole(file, size).map_err(io("read", path))?;
    Ok((!fits).then(|| Damage {
        file: path.to_owned(),
        size,
        whole_up_to: 0,
        what: "its checksum does not fit".to_owned(),
        repair: None,
    }))
}

fn examine_increment(
    path: &Path,
    manifest: &Path,
    last: bool,
) -> Result<Option<Damage>, KeptError> {
    let Some((file, size)) = open(path)? else {
        return Ok(Some(absent(path)));
    };
    let scan = aof::scan(file).map_err(io("read", path))?;
    let what = match scan.end {
        End::Whole => return Ok(None),
        // Valkey cuts it off by itself.
        End::Cut if last => return Ok(None),
        End::Cut => "where it ends in the middle of a record although a later file goes on",
        End::Broken => "where something begins that is no record",
    };
    Ok(Some(Damage {
        file: path.to_owned(),
        size,
        whole_up_to: scan.whole,
        what: what.to_owned(),
        repair: last.then(|| manifest.to_owned()),
    }))
}

/// Moves everything that the shard left into a folder of its own, and returns that. There is one such folder at most: a newer one
/// takes the place of an older one only if what is moved was once a whole copy; otherwise it is worth nothing and goes.
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
    let was_whole = files.held().exists() || beside.join("held.json").exists();
    if aside.exists() && !was_whole {
        for path in files.left() {
            remove(&path)?;
        }
        return Ok(aside);
    }
    fs::create_dir_all(&beside).map_err(io("make", &beside))?;
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
