//! How much of a replication stream the append-only file of a shard certainly has. Two copies whose processes all ended can be
//! compared by it: Valkey itself keeps the identity of the stream and a position in it in snapshots only.
//!
//! Each round looks where the shard stands, waits until that is in the append-only file, fsyncs the file itself, and then puts the
//! position on disk: it names less than the file has, never more. Only a life that has everything it should have is recorded,
//! so that a life that began from files does not hide what they had.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::RoleView;
use crate::atomic_file;
use crate::sync::alive::on_disk;
use crate::sync::durable::make_durable;
use crate::sync::shard::{Shard, ShardAddress, ShardError};

/// How often the position is put on disk while it moves: as often as Valkey itself fsyncs.
const PAUSE: Duration = Duration::from_secs(1);

/// The version of the file format.
const FORMAT: u8 = 1;

/// A position in a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::sync) struct Held {
    format: u8,
    /// Identity of the stream.
    pub(in crate::sync) stream: String,
    /// Everything up to here is on disk, bytes.
    pub(in crate::sync) offset: u64,
}

/// What was recorded last; nothing if there is nothing that can be read.
pub(super) fn read(path: &Path) -> Option<Held> {
    match atomic_file::read_json::<Held>(path) {
        Ok(held) => held.filter(|held| held.format == FORMAT),
        Err(error) => {
            warn!(error = %crate::run::chain(&error), "how much this copy has is unknown");
            None
        }
    }
}

/// Records until `stop`. `shown` is what the driver of the shard sees.
pub(in crate::sync) async fn run(
    address: ShardAddress,
    path: PathBuf,
    mut shown: watch::Receiver<RoleView>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            complete = shown.wait_for(is_complete) => if complete.is_err() { return },
        }
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = rounds(&address, &path, &shown) => ended,
        };
        if let Err(error) = ended {
            debug!(
                shard = address.name,
                error = crate::run::chain(&error),
                "the position on disk is recorded anew"
            );
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

fn is_complete(shown: &RoleView) -> bool {
    shown.view.complete && shown.replicated.is_some()
}

async fn rounds(
    address: &ShardAddress,
    path: &Path,
    shown: &watch::Receiver<RoleView>,
) -> Result<(), ShardError> {
    let shard = Shard::connect(address).await?;
    let life = shard.life().await?.0.id;
    let mut last = None;
    loop {
        // The driver speaks of the life that this connection leads to: it may still show the one before.
        let current = |shown: &RoleView| is_complete(shown) && shown.life.as_ref() == Some(&life);
        if !current(&shown.borrow()) {
            return Ok(());
        }
        let replicated = shard.replicated().await?;
        let now = Held {
            format: FORMAT,
            stream: replicated.stream,
            offset: replicated.offset,
        };
        if !shard.appends().await? {
            // Nothing is kept, or snapshots: an older record would speak of a file that does not follow any more.
            forget(path, address);
        } else if last.as_ref() != Some(&now) {
            match make_durable(&shard, address).await? {
                Ok(()) if current(&shown.borrow()) => {
                    match on_disk(|| atomic_file::write_json(path, &now)) {
                        Ok(()) => last = Some(now),
                        Err(error) => {
                            warn!(shard = address.name, error = %crate::run::chain(&error), "how much is on disk is not recorded");
                        }
                    }
                }
                Ok(()) => return Ok(()),
                Err(reason) => {
                    debug!(
                        shard = address.name,
                        reason, "how much is on disk is not recorded"
                    );
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn forget(path: &Path, address: &ShardAddress) {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            warn!(shard = address.name, %error, "an old record of what is on disk stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_compares_with_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("held.json");
        assert_eq!(read(&path), None);
        for text in ["{}", r#"{"format":2,"stream":"s","offset":1}"#, "{\"form"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path), None, "{text}");
        }
        let held = Held {
            format: FORMAT,
            stream: "s".to_owned(),
            offset: 7,
        };
        atomic_file::write_json(&path, &held).unwrap();
        assert_eq!(read(&path), Some(held));
    }
}
