//! Reports clocks that this region cannot lose. Others forget what everybody has reported, so a report is a promise.
//!
//! Valkey's `WAITAOF` waits for the writes of the *same connection* only, and a connection without a write proves nothing. So each
//! round reads the clock, *then* makes a write on that connection (the report of the round before), then waits until that write is
//! on disk: what the clock named was written before it, hence is on disk too. It is reported in the next round.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::shard::{Clock, Shard, ShardAddress, ShardError, ShardState};

/// How often a busy shard reports.
const BUSY: Duration = Duration::from_secs(1);

/// A shard in which nothing happens but reports slows down to this.
const QUIET: Duration = Duration::from_secs(16);

/// fsync comes once a second; a disk that needs longer than this is broken, and nothing is promised.
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
    // A connection of its own: WAITAOF blocks it.
    let shard = Shard::connect(address).await?;
    let mut durable = Bytes::new();
    let mut before = Clock::default();
    let mut pause = BUSY;
    loop {
        let clock = shard.clock().await?;
        if let Some(proven) = round(&shard, &clock, &durable).await? {
            durable = proven;
        } else {
            warn!(
                shard = address.name,
                waited_s = DISK.as_secs(),
                "the disk is not keeping up: no clock is reported"
            );
        }
        pause = next_pause(pause, &before.text, &clock.text);
        before = clock;
        tokio::time::sleep(pause).await;
    }
}

/// Reports `durable`, and proves that `clock` may be reported next; `None` if the disk did not answer.
async fn round(shard: &Shard, clock: &Clock, durable: &Bytes) -> Result<Option<Bytes>, ShardError> {
    shard.report(durable).await?;
    Ok(shard.wait_for_disk(DISK).await?.then(|| clock.blob.clone()))
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
