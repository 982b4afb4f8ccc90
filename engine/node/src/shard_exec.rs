//! What runs between PID 1 and a shard: takes the lock of the shard's directory, asks to be told when PID 1 dies, and *becomes*
//! Valkey. The lock lives in the Valkey process, so two never write one directory, whatever happened to their supervisors.

use std::convert::Infallible;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tracing::warn;

use crate::atomic_file::{self, FileError};
use crate::desired::{Keeps, Unreadable};
use crate::kept::{self, KeptError, Loads, Look, Refused};
use crate::layout::{Layout, ShardLayout};
use crate::lock::{Lock, LockError};
use crate::sacrifice;

/// Why the shard did not start.
#[derive(Debug, thiserror::Error)]
pub enum ShardExecError {
    /// An earlier process still uses the directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A system call before the start failed.
    #[error("prepare the shard process")]
    Prepare(#[source] std::io::Error),
    /// What its last process left cannot be looked at.
    #[error("look at what the last process left")]
    Kept(#[from] KeptError),
    /// What it says of that cannot be stored.
    #[error("say what became of what the last process left")]
    Said(#[from] FileError),
    /// What its last process left cannot be loaded, and nobody else is known to have it.
    #[error("{0}")]
    Refused(String),
    /// The program is not there or cannot run.
    #[error("run {program}; give its path with --valkey-server")]
    Exec {
        /// Which program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// What to make of the files that the last process left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// It ended with an error, perhaps because it could not load them.
    pub examine: bool,
    /// By what it is configured to know its data again.
    pub keeps: Keeps,
    /// What becomes of them if it could not.
    pub unreadable: Unreadable,
}

/// Becomes Valkey with the configuration in `directory`.
///
/// # Errors
/// [`ShardExecError`]; on success it does not return.
pub fn exec(directory: &Path, valkey: &Path, left: Left) -> Result<Infallible, ShardExecError> {
    let files: ShardLayout = ShardLayout {
        directory: directory.to_owned(),
        socket: PathBuf::new(),
    };
    sacrifice::offer();
    let signal = Some(rustix::process::Signal::TERM);
    rustix::process::set_parent_process_death_signal(signal)
        .map_err(|e| ShardExecError::Prepare(e.into()))?;
    let lock = Lock::take(
        &files.lock(),
        &format!("process {} (Valkey)", std::process::id()),
    )?;
    lock.keep_over_exec().map_err(ShardExecError::Prepare)?;
    judge(&files, left)?;
    let mut command = Command::new(valkey);
    command.arg(files.config());
    // The child sets it to what it is to be once that is loaded.
    match (left.keeps, kept::loads(&files, left.keeps)?) {
        (Keeps::AppendOnly, Loads::Snapshot) => drop(command.args(["--appendonly", "no"])),
        (Keeps::Snapshots, Loads::AppendOnly) => drop(command.args(["--appendonly", "yes"])),
        (Keeps::Nothing, _)
        | (Keeps::Snapshots, Loads::Snapshot)
        | (Keeps::AppendOnly, Loads::AppendOnly) => {}
    }
    let source = command.exec();
    Err(ShardExecError::Exec {
        program: valkey.to_owned(),
        source,
    })
}

/// Sees to it that there is nothing that Valkey would not load, or says what that is.
fn judge(files: &ShardLayout, left: Left) -> Result<(), ShardExecError> {
    let path = files.refused();
    let loads = kept::loads(files, left.keeps)?;
    let look = if left.examine {
        Look::Closely
    } else {
        Look::ForGaps
    };
    let damage = kept::examine(files, loads, look)?;
    if loads == Loads::Snapshot && kept::is_manifest_unreadable(files)? {
        let aside = kept::set_manifest_aside(files)?;
        warn!(aside = %aside.display(), "append-only files that are not loaded have no manifest that Valkey understands");
    }
    let Some(damage) = damage else {
        return match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(ShardExecError::Prepare(error))
            }
            Ok(()) | Err(_) => Ok(()),
        };
    };
    let mut refused = Refused {
        damage,
        waits: left.unreadable == Unreadable::Wait,
        aside: None,
    };
    if left.unreadable != Unreadable::CopyAnew {
        atomic_file::write_json(&path, &refused)?;
        if refused.damage.doubtful {
            warn!(directory = %files.directory.display(), "{}", refused.text());
            return Ok(());
        }
        return Err(ShardExecError::Refused(refused.text()));
    }
    refused.aside = Some(files.aside());
    atomic_file::write_json(&path, &refused)?;
    kept::set_aside(files)?;
    warn!(directory = %files.directory.display(), "{}", refused.text());
    Ok(())
}

/// Finds `program` in the search path unless it names a file already.
#[must_use]
pub fn resolve(program: &Path, search: Option<&std::ffi::OsStr>) -> PathBuf {
    if program.components().count() > 1 {
        return std::path::absolute(program).unwrap_or_else(|_| program.to_owned());
    }
    search
        .map(std::env::split_paths)
        .into_iter()
        .flatten()
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| program.to_owned())
}

/// Where the module is looked for: beside this program, then where images have it.
#[must_use]
pub fn default_module(own_path: Option<&Path>) -> PathBuf {
    let beside = own_path
        .and_then(Path::parent)
        .map(|directory| directory.join("libcrdt.so"));
    match beside {
        Some(path) if path.is_file() => path,
        Some(_) | None => PathBuf::from("/usr/lib/meridian/libcrdt.so"),
    }
}

/// The layout's directories as a child process needs them: absolute.
///
/// # Errors
/// The error of asking for the working directory.
pub fn absolute_layout(data: &Path, run: Option<&Path>) -> std::io::Result<Layout> {
    let run = run.map(std::path::absolute).transpose()?;
    Ok(Layout::new(&std::path::absolute(data)?, run.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_program_name_is_searched_and_a_path_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("valkey-server");
        std::fs::write(&program, "").unwrap();
        let search = dir.path().as_os_str();
        assert_eq!(resolve(Path::new("valkey-server"), Some(search)), program);
        assert_eq!(
            resolve(Path::new("/x/valkey-server"), Some(search)),
            Path::new("/x/valkey-server")
        );
        assert_eq!(
            resolve(Path::new("absent"), Some(search)),
            Path::new("absent")
        );
    }
}
