//! Reports clocks that this region cannot lose. Others forget what everybody has reported, so a report is a promise.
//!
//! Each round reads the clock, waits until what it names is in the append-only file, and then fsyncs that file itself: an fsync
//! covers what any process wrote. `WAITAOF` is not used: with `appendfsync everysec`, Valkey 8.1.1 was seen to answer it
//! before, and without, the `fdatasync` of a write of the same connection.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::shard::{Shard, ShardAddress, ShardError, ShardState};

/// How often a busy shard reports.
const BUSY: Duration = Duration::from_secs(1);

/// A shard in which nothing happens but reports slows down to this.
const QUIET: Duration = Duration::from_secs(16);

/// How often Valkey is asked whether its background fsync has ended.
const WRITTEN: Duration = Duration::from_millis(10);

/// A disk that needs longer than this is broken, and nothing is promised.
const DISK: Duration = Duration::from_secs(15);

/// Reports until `stop`.
pub(super) async fn run(
    address: ShardAddress,
    mut state: watch::Receiver<ShardState>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            ready = state.wait_for(|state| state.shard.is_some()) => if ready.is_err() { return },
        }
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = rounds(&address) => ended,
        };
        if let Err(error) = ended {
            debug!(
                shard = address.name,
                error = crate::run::chain(&error),
                "clock reports begin again"
            );
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(BUSY) => {}
        }
    }
}

async fn rounds(address: &ShardAddress) -> Result<(), ShardError> {
    let shard = Shard::connect(address).await?;
    let mut before = String::new();
    let mut pause = BUSY;
    loop {
        let clock = shard.clock().await?;
        match make_durable(&shard, address).await? {
            Ok(()) => shard.report(&clock.blob).await?,
            Err(reason) => warn!(
                shard = address.name,
                reason, "no clock is reported: nothing can be promised"
            ),
        }
        pause = next_pause(pause, &before, &clock.text);
        before = clock.text;
        tokio::time::sleep(pause).await;
    }
}

/// Puts everything that the shard has written so far on disk, or says why that cannot be promised.
async fn make_durable(
    shard: &Shard,
    address: &ShardAddress,
) -> Result<Result<(), String>, ShardError> {
    let written = async {
        while !shard.is_written().await? {
            tokio::time::sleep(WRITTEN).await;
        }
        Ok(())
    };
    match tokio::time::timeout(DISK, written).await {
        Ok(written) => written?,
        Err(_elapsed) => {
            return Ok(Err(format!(
                "the append-only file was not written within {} s",
                DISK.as_secs()
            )));
        }
    }
    let directory = address.append_only.clone();
    let synced = tokio::task::spawn_blocking(move || fsync_all(&directory)).await;
    Ok(match synced {
        Ok(synced) => {
            synced.map_err(|e| format!("fsync of {}: {e}", address.append_only.display()))
        }
        Err(ended) => Err(ended.to_string()),
    })
}

/// Every file and the directory itself: which file is the newest changes when Valkey rewrites them.
fn fsync_all(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        match File::open(entry?.path()) {
            Ok(file) => file.sync_all()?,
            // A rewrite has just replaced it; what it held is in the file that took its place, on disk.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    File::open(directory)?.sync_all()
}

/// Reports are effects too: two regions that answer each other's reports would never be quiet. Where nothing else happened, the
/// pause doubles.
fn next_pause(pause: Duration, before: &str, after: &str) -> Duration {
    let (Ok(before), Ok(after)) = (parse(before), parse(after)) else {
        return BUSY;
    };
    let rounds = pause.as_secs() / BUSY.as_secs() + 1;
    let quiet = after.iter().all(|(origin, sequence)| {
        let known = before.get(origin).copied().unwrap_or(0);
        sequence.saturating_sub(known) <= rounds
    });
    if quiet { (pause * 2).min(QUIET) } else { BUSY }
}

fn parse(text: &str) -> Result<BTreeMap<String, u64>, serde_json::Error> {
    serde_json::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reports_slow_the_reports_down() {
        assert_eq!(
            next_pause(BUSY, "{\"1.a\":5,\"2.b\":7}", "{\"1.a\":6,\"2.b\":8}"),
            BUSY * 2
        );
        assert_eq!(
            next_pause(BUSY * 2, "{\"1.a\":6}", "{\"1.a\":7,\"2.b\":3}"),
            BUSY * 4
        );
        assert_eq!(next_pause(QUIET, "{}", "{}"), QUIET);
    }

    #[test]
    fn a_write_makes_them_quick_again() {
        assert_eq!(next_pause(QUIET, "{\"1.a\":5}", "{\"1.a\":100}"), BUSY);
        assert_eq!(next_pause(QUIET, "", "not a clock"), BUSY);
    }
}
