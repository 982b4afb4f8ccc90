//! Files that are either the old or the new version, also after a crash: write beside, fsync, rename, fsync the directory.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};

/// What went wrong with a file of ours.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file is there but is not what this version writes.
    #[error("{path} is not readable by this version; move it away to start without it")]
    Content {
        /// Which file.
        path: PathBuf,
        /// Where the text stops making sense.
        #[source]
        source: serde_json::Error,
    },
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io {
        action,
        path,
        source,
    }
}

/// Replaces the content of `path`, readable by the owner only.
///
/// # Errors
/// [`FileError::Io`] naming the step that failed; the old content is then still there.
pub fn write(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = directory.join(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .map_err(io("create", &beside))?;
    file.write_all(content).map_err(io("write", &beside))?;
    file.sync_all().map_err(io("fsync", &beside))?;
    fs::rename(&beside, path).map_err(io("rename to", path))?;
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(io("fsync directory", directory))
}

/// [`write`], if the file says something else. For what is made again from other files at every start: a file whose last step on
/// its way to the disk failed counts as written.
///
/// # Errors
/// As [`write`].
pub fn keep(path: &Path, content: &[u8]) -> Result<(), FileError> {
    match fs::read(path) {
        Ok(found) if found == content => Ok(()),
        // Whatever keeps it from being read, the writing says.
        Ok(_) | Err(_) => write(path, content),
    }
}

/// Makes the symbolic link at `path` point to `target`, whatever it pointed to before.
///
/// # Errors
/// [`FileError::Io`] naming the step that failed; the old link is then still there.
pub fn link(target: &Path, path: &Path) -> Result<(), FileError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = directory.join(name);
    match fs::remove_file(&beside) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(io("remove", &beside)(e));
        }
        _ => {}
    }
    std::os::unix::fs::symlink(target, &beside).map_err(io("link", &beside))?;
    fs::rename(&beside, path).map_err(io("rename to", path))?;
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(io("fsync directory", directory))
}

/// [`write`] of `value` as indented JSON.
///
/// # Errors
/// As [`write`].
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|source| FileError::Content {
        path: path.to_owned(),
        source,
    })?;
    text.push(b'\n');
    write(path, &text)
}

/// Reads JSON; `None` if there is no such file.
///
/// # Errors
/// [`FileError`] if the file cannot be read or understood.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io("read", path)(e)),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|source| FileError::Content {
            path: path.to_owned(),
            source,
        })
}

/// Makes a directory (and those above it) that only the owner may enter.
///
/// # Errors
/// [`FileError::Io`] if it cannot be made.
pub fn make_dir(path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io("create directory", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_was_written_is_read_back_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), None);
        write_json(&path, &vec![1_u8, 2]).unwrap();
        write_json(&path, &vec![3_u8]).unwrap();
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), Some(vec![3]));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn a_file_that_says_it_already_is_left_alone() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.conf");
        let kept = |content: &str| {
            keep(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            fs::metadata(&path).unwrap().ino()
        };
        let first = kept("port 1");
        assert_eq!(kept("port 1"), first);
        assert_ne!(kept("port 2"), first);
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        fs::write(&path, "{").unwrap();
        let error = read_json::<Vec<u8>>(&path).unwrap_err().to_string();
        assert!(error.contains("x.json"), "{error}");
    }
}
