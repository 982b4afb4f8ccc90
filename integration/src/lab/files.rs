//! Writing files of the lab so that a killed run leaves whole ones or none.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::{Result, file};

/// Writes a file for everybody to read: first beside its place, then moved there.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    write_with_mode(path, text, 0o644)
}

/// As [`write`], readable by its owner only.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<()> {
    write_with_mode(path, text, 0o600)
}

fn write_with_mode(path: &Path, text: &str, mode: u32) -> Result<()> {
    use std::io::Write;
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    let mut beside = path.as_os_str().to_owned();
    // A process that was just started and the one that started it may both write its record.
    beside.push(format!(".new-{}", std::process::id()));
    let beside = Path::new(&beside);
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let mut handle = options.open(beside).map_err(file("write", beside))?;
    handle
        .set_permissions(fs::Permissions::from_mode(mode))
        .map_err(file("write", beside))?;
    handle
        .write_all(text.as_bytes())
        .map_err(file("write", beside))?;
    fs::rename(beside, path).map_err(file("write", path))
}

/// Makes a folder and those above it.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(file("make the folder", path))
}

/// Removes a file or a whole folder; one that is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(file("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes what is in a folder, but not the folder.
pub(crate) fn clear(path: &Path) -> Result<()> {
    let entries = fs::read_dir(path).map_err(file("read", path))?;
    entries
        .flatten()
        .try_for_each(|entry| remove(&entry.path()))
}

/// The names of what is in a folder, in order; none if it cannot be read.
pub(crate) fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// As [`remove`], on a thread of its own: the images of a cluster's nodes are thousands of files.
pub(crate) async fn remove_aside(path: PathBuf) -> Result<()> {
    let shown = path.clone();
    tokio::task::spawn_blocking(move || remove(&path))
        .await
        .unwrap_or_else(|error| Err(file("remove", &shown)(std::io::Error::other(error))))
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let Ok(bytes) = fs::read(path) else {
        return "(no such file)".to_owned();
    };
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_process_is_writing_beside_is_left_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        let others = folder.path().join("record.json.new");
        fs::write(&others, "half").unwrap();
        write(&path, "whole").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
        assert_eq!(fs::read_to_string(&others).unwrap(), "half");
        let names = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 2, "nothing of its own stays beside");
    }
}
