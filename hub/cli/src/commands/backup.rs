//! `meridian hub backup`: the state of a running hub into a file.

use std::{
    fs::File,
    io::{self, IsTerminal, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, header};
use meridian_api::backup::{Decoder, Summary};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::{args::Format, client::Hub, error::CliError, output};

/// Between two lines of progress.
const TELL: Duration = Duration::from_secs(1);

/// Writes the state of the hub into a file that is whole or not there. Nobody but its owner reads it.
pub(crate) async fn backup(
    hub: &Hub,
    path: &Path,
    force: bool,
    format: Format,
) -> Result<(), CliError> {
    // Before the hub is asked: what cannot be written need not be read.
    let mut file = beside(path, force)?;
    let begun = Instant::now();
    let summary = fetch(hub, file.as_file_mut(), path, begun).await?;
    keep(file, path, force)?;
    let seconds = begun.elapsed().as_secs_f64();
    let told = told(path, &summary, seconds);
    output::show(&told, || text(path, &summary, seconds), format)
}

/// A file of mode 0600 in the same directory, which vanishes unless it is kept.
pub(super) fn beside(path: &Path, force: bool) -> Result<NamedTempFile, CliError> {
    if path.is_dir() || (!force && path.symlink_metadata().is_ok()) {
        return Err(exists(path));
    }
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    tempfile::Builder::new()
        .prefix(".meridian-backup-")
        .tempfile_in(folder)
        .map_err(|error| unwritten(path, &error))
}

async fn fetch(
    hub: &Hub,
    file: &mut File,
    path: &Path,
    begun: Instant,
) -> Result<Summary, CliError> {
    let mut decoder = Decoder::default();
    // The newest, which the hub that leads has.
    let mut headers = HeaderMap::new();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let mut answer = hub.download("hub/backup", headers).await?;
    let damaged = |error: &dyn std::fmt::Display| CliError::Answer {
        request: "GET /api/v1/hub/backup".to_owned(),
        reason: error.to_string(),
    };
    let mut next = begun + TELL;
    let terminal = io::stderr().is_terminal();
    while let Some(piece) = answer.piece().await? {
        decoder
            .read(&piece, drop)
            .map_err(|error| damaged(&error))?;
        file.write_all(&piece)
            .map_err(|error| unwritten(path, &error))?;
        if terminal && Instant::now() >= next {
            next += TELL;
            let (bytes, records) = decoder.progress();
            let seconds = begun.elapsed().as_secs();
            output::note(&format!("{records} records, {bytes} bytes, {seconds} s"));
        }
    }
    decoder.end().map_err(|error| damaged(&error))
}

/// Gives the file its name, after the disk has all of it.
pub(super) fn keep(file: NamedTempFile, path: &Path, force: bool) -> Result<(), CliError> {
    let synced = file.as_file().sync_all();
    synced.map_err(|error| unwritten(path, &error))?;
    let kept = if force {
        file.persist(path)
    } else {
        file.persist_noclobber(path)
    };
    match kept {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(exists(path)),
        Err(error) => Err(unwritten(path, &error.error)),
    }
}

fn exists(path: &Path) -> CliError {
    let found = if path.is_dir() {
        "a directory"
    } else {
        "a file of that name"
    };
    CliError::Usage(format!(
        "--file {}: found {found}, expected none; give another name, or --force to replace a file",
        path.display()
    ))
}

pub(super) fn unwritten(path: &Path, source: &io::Error) -> CliError {
    CliError::File {
        path: PathBuf::from(path),
        source: io::Error::new(
            source.kind(),
            format!(
                "it cannot be written: {source}; nothing was kept, name another place with --file"
            ),
        ),
    }
}

fn told(path: &Path, summary: &Summary, seconds: f64) -> Value {
    json!({
        "file": path.display().to_string(),
        "backup": summary.header,
        "records": summary.records,
        "bytes": summary.bytes,
        "sha256": summary.sha256,
        "seconds": seconds,
        "notContained": NOT_CONTAINED,
    })
}

const NOT_CONTAINED: &str = "the private key of the certificate authority: keep a copy of root.key and root.crt apart (folder ca \
                             of the hub's data directory, or --ca-dir)";

fn text(path: &Path, summary: &Summary, seconds: f64) -> String {
    let header = &summary.header;
    format!(
        "backed up {records} records, {bytes} bytes into {path} in {seconds:.1} s\n\
         store {store}, term {term}, revision {revision}, taken at {taken}\n\
         SHA-256 {sha256}\n\
         not contained: {NOT_CONTAINED}\n",
        records = summary.records,
        bytes = summary.bytes,
        path = path.display(),
        store = header.store_id,
        term = header.term,
        revision = header.revision,
        taken = header.taken_at,
        sha256 = summary.sha256,
    )
}
