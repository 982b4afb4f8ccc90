//! An exclusive lock on a directory that dies with its holder, and says who holds it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("{path} is held by {holder}: stop that process, or use another directory")]
    Held {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote into it.
        holder: String,
    },
    /// The file cannot be used.
    #[error("lock {path}")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// A held lock; dropping it (or dying) releases it.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock at `path` or says who has it. `holder` is one line for whoever comes second.
    ///
    /// # Errors
    /// [`LockError::Held`] if it is taken, [`LockError::Io`] if the file cannot be used.
    pub fn take(path: &Path, holder: &str) -> Result<Self, LockError> {
        let io = |source| LockError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(io)?;
                let holder = if holder.trim().is_empty() {
                    "an unnamed process"
                } else {
                    holder.trim()
                };
                return Err(LockError::Held {
                    path: path.to_owned(),
                    holder: holder.to_owned(),
                });
            }
            Err(e) => return Err(io(e.into())),
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        file.write_all(holder.as_bytes()).map_err(io)?;
        Ok(Self { file })
    }

    /// Lets the lock live on in the program that this process is about to become (`exec`).
    ///
    /// # Errors
    /// The error of the system call.
    pub fn keep_over_exec(&self) -> std::io::Result<()> {
        rustix::io::fcntl_setfd(&self.file, rustix::io::FdFlags::empty()).map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_was_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::take(&path, "process 7 (meridian-node run)").unwrap();
        let error = Lock::take(&path, "process 8").unwrap_err().to_string();
        assert!(error.contains("process 7 (meridian-node run)"), "{error}");
        drop(first);
        Lock::take(&path, "process 8").unwrap();
    }
}
