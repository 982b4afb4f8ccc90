//! The file that is handed on: a compressed archive with one folder, readable by its owner alone, complete or not there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;

use crate::error::CliError;

/// An archive that is being written under another name.
pub(crate) struct Archive {
    tar: tar::Builder<GzEncoder<BufWriter<File>>>,
    folder: String,
    unfinished: PathBuf,
    path: PathBuf,
    seconds: u64,
}

impl Archive {
    /// Begins an archive whose entries lie in `folder` and are dated `now`.
    pub(crate) fn create(path: &Path, folder: &str, now: Timestamp) -> Result<Self, CliError> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)
            .map_err(|source| CliError::File {
                path: unfinished.clone(),
                source,
            })?;
        let packed = GzEncoder::new(BufWriter::new(file), Compression::default());
        Ok(Self {
            tar: tar::Builder::new(packed),
            folder: folder.to_owned(),
            unfinished,
            path: path.to_owned(),
            seconds: u64::try_from(now.as_second()).unwrap_or(0),
        })
    }

    /// Adds a file.
    pub(crate) fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(content.len()).unwrap_or(u64::MAX));
        header.set_mode(0o600);
        header.set_mtime(self.seconds);
        let path = format!("{}/{name}", self.folder);
        self.tar.append_data(&mut header, path, content)
    }

    /// Gives the archive its name.
    pub(crate) fn finish(self) -> Result<(), CliError> {
        let mut file = self.tar.into_inner()?.finish()?;
        file.flush()?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&self.unfinished, &self.path).map_err(|source| CliError::File {
            path: self.path.clone(),
            source,
        })
    }
}
