//! Which of its files Valkey will load, and the first of them that it will refuse.

use std::fs::{self, File};
use std::io::{self as std_io, BufReader};
use std::path::Path;

use super::aof::{self, End};
use super::manifest::{self, Kind};
use super::{Damage, KeptError, io, rdb};
use crate::desired::Keeps;
use crate::layout::ShardLayout;

/// What Valkey loads at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loads {
    /// The append-only files, with which it begins empty if there are none.
    AppendOnly,
    /// The snapshot, if there is one.
    Snapshot,
}

/// How closely files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Only what Valkey would refuse once and then load with a gap.
    ForGaps,
    /// Everything: it has ended with an error.
    Closely,
}

/// What Valkey is to load.
///
/// There may be a snapshot and no append-only file yet: Valkey would begin with an empty one and forget the snapshot. It is then
/// started without, and append-only files are switched on while it runs. While it makes the first of them it has a directory already,
/// and no manifest. The other way round there may be no snapshot yet, and the append-only files of the time before hold everything.
///
/// # Errors
/// [`KeptError`] if the manifest cannot be read at all.
pub fn loads(files: &ShardLayout, keeps: Keeps) -> Result<Loads, KeptError> {
    let parts = read(&files.manifest())?.map(|text| manifest::parts(&text));
    let nothing = parts.is_none_or(|parts| parts.is_ok_and(|parts| parts.is_empty()));
    let saved = files.snapshot().exists();
    Ok(match keeps {
        Keeps::Nothing => Loads::Snapshot,
        Keeps::Snapshots if saved || nothing => Loads::Snapshot,
        Keeps::AppendOnly if saved && nothing => Loads::Snapshot,
        Keeps::Snapshots | Keeps::AppendOnly => Loads::AppendOnly,
    })
}

/// The first of the files that Valkey will load, and that it will refuse.
///
/// # Errors
/// [`KeptError`] if a file cannot be read at all.
pub fn examine(files: &ShardLayout, loads: Loads, look: Look) -> Result<Option<Damage>, KeptError> {
    match (loads, look) {
        (Loads::Snapshot, Look::ForGaps) => Ok(None),
        (Loads::Snapshot, Look::Closely) => examine_snapshot(&files.snapshot(), false),
        (Loads::AppendOnly, look) => examine_append_only(files, look),
    }
}

/// Whether there is a manifest that Valkey does not understand. It reads it also if it loads the snapshot.
///
/// # Errors
/// [`KeptError`] if it cannot be read at all.
pub(crate) fn is_manifest_unreadable(files: &ShardLayout) -> Result<bool, KeptError> {
    Ok(read(&files.manifest())?.is_some_and(|text| manifest::parts(&text).is_err()))
}

fn examine_append_only(files: &ShardLayout, look: Look) -> Result<Option<Damage>, KeptError> {
    let manifest = files.manifest();
    let Some(text) = read(&manifest)? else {
        return Ok(None);
    };
    let parts = match (manifest::parts(&text), look) {
        (Ok(parts), _) => parts,
        // Valkey will say so.
        (Err(_), Look::ForGaps) => return Ok(None),
        (Err(what), Look::Closely) => {
            return Ok(Some(Damage {
                file: manifest,
                size: u64::try_from(text.len()).unwrap_or(u64::MAX),
                whole_up_to: 0,
                what: format!("and is no manifest of append-only files: {what}"),
                repair: None,
                doubtful: false,
            }));
        }
    };
    let last = parts.len().saturating_sub(1);
    for (index, (name, kind)) in parts.iter().enumerate() {
        let path = files.append_only().join(name);
        let damage = match (kind, look) {
            (Kind::Base, Look::Closely) => examine_snapshot(&path, true)?,
            (Kind::Increment, Look::ForGaps) if index == last => None,
            (Kind::Increment, _) => {
                examine_increment(&path, (index == last).then_some(&*manifest))?
            }
            (Kind::Base, Look::ForGaps) => None,
        };
        if damage.is_some() {
            return Ok(damage);
        }
    }
    Ok(None)
}

/// The content of a file; `None`: there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, KeptError> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std_io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io("read", path)(error)),
    }
}

/// A file and its length; `None`: there is none.
fn open(path: &Path) -> Result<Option<(BufReader<File>, u64)>, KeptError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std_io::ErrorKind::NotFound => return Ok(None),
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
        doubtful: false,
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
        doubtful: false,
    }))
}

/// `manifest`: it is the last file of this one.
fn examine_increment(path: &Path, manifest: Option<&Path>) -> Result<Option<Damage>, KeptError> {
    let Some((file, size)) = open(path)? else {
        return Ok(Some(absent(path)));
    };
    let scan = aof::scan(file).map_err(io("read", path))?;
    let mut doubtful = false;
    let what = match scan.end {
        End::Whole => return Ok(None),
        // Valkey cuts it off by itself.
        End::Cut if manifest.is_some() => return Ok(None),
        End::Cut => "where it ends in the middle of a record or of a transaction although a later file goes on".to_owned(),
        End::Broken => "where something begins that is no record".to_owned(),
        End::Unknown(command) => {
            doubtful = true;
            format!("where the command `{command}` begins, which Valkey does not know")
        }
    };
    // The tool repairs the last file of a manifest, and any other by its own name. Commands it does not know.
    let named = manifest.unwrap_or(path);
    Ok(Some(Damage {
        file: path.to_owned(),
        size,
        whole_up_to: scan.whole,
        what,
        repair: (!doubtful).then(|| named.to_owned()),
        doubtful,
    }))
}
