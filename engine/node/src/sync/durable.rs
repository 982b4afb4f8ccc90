//! Reports clocks that this region cannot lose. Others forget what everybody has reported, so a report is a promise.
//!
//! A region also must not lose them with its primary: whoever may take over must have acknowledged everything that the clock
//! names. With a failover a write that is on this disk alone would be gone, while others have forgotten how to send it again.
//!
//! Each round reads the clock, waits until what it names is in the append-only file, and then fsyncs that file itself: an fsync
//! covers what any process wrote. `WAITAOF` is not used: with `appendfsync everysec`, Valkey 8.1.1 was seen to answer it
//! before, and without, the `fdatasync` of a write of the same connection.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::roles::RoleView;
use super::shard::{Shard, ShardAddress, ShardError, ShardState};
use crate::valkey::Copy;

/// How often a busy shard reports.
const BUSY: Duration = Duration::from_secs(1);

/// A shard in which nothing happens but reports slows down to this.
const QUIET: Duration = Duration::from_secs(16);

/// How often Valkey is asked whether its background fsync has ended.
const WRITTEN: Duration = Duration::from_millis(10);

/// How often it is asked how far the copies are; they say it once a second.
const ACKNOWLEDGED: Duration = Duration::from_millis(100);

/// A disk that needs longer than this is broken, and nothing is promised.
const DISK: Duration = Duration::from_secs(15);

/// Reports until `stop`.
pub(super) async fn run(
    address: ShardAddress,
    mut state: watch::Receiver<ShardState>,
    roles: Option<watch::Receiver<RoleView>>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            ready = state.wait_for(|state| state.shard.is_some()) => if ready.is_err() { return },
        }
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = rounds(&address, roles.as_ref()) => ended,
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

async fn rounds(
    address: &ShardAddress,
    roles: Option<&watch::Receiver<RoleView>>,
) -> Result<(), ShardError> {
    let shard = Shard::connect(address).await?;
    let mut before = String::new();
    let mut pause = BUSY;
    loop {
        let clock = shard.clock().await?;
        // Read after the clock: everything that it names lies before.
        let written = shard.replicated().await?.offset;
        let mut kept = make_durable(&shard, address).await?;
        if let Some(roles) = roles.filter(|_| kept.is_ok()) {
            kept = is_acknowledged(&shard, roles, written).await?;
        }
        match kept {
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

/// Waits until everybody who may take over has everything up to `written`, or says who has not. The set that is obeyed is never
/// smaller than the one that the agent promotes from.
async fn is_acknowledged(
    shard: &Shard,
    roles: &watch::Receiver<RoleView>,
    written: u64,
) -> Result<Result<(), String>, ShardError> {
    let all = async {
        loop {
            let copies = shard.replicated().await?.copies;
            let lacks = lacking(&roles.borrow(), &copies, written);
            if lacks.as_ref().is_ok_and(BTreeSet::is_empty) {
                return Ok::<_, ShardError>(());
            }
            tokio::time::sleep(ACKNOWLEDGED).await;
        }
    };
    if let Ok(all) = tokio::time::timeout(DISK, all).await {
        return all.map(Ok);
    }
    let copies = shard.replicated().await?.copies;
    Ok(match lacking(&roles.borrow(), &copies, written) {
        Ok(lacks) => Err(format!(
            "{lacks:?} may take over and did not acknowledge byte {written} within {} s",
            DISK.as_secs()
        )),
        Err(reason) => Err(reason.to_owned()),
    })
}

/// Members that have not acknowledged everything up to `written`.
fn lacking(
    role: &RoleView,
    copies: &BTreeMap<String, Copy>,
    written: u64,
) -> Result<BTreeSet<String>, &'static str> {
    if role.order.is_none() || role.view.leads != Some(true) {
        return Err("who may take over is not known");
    }
    let has = |member: &&String| {
        copies
            .get(*member)
            .is_some_and(|copy| copy.offset >= written)
    };
    let all = role.view.members.iter();
    Ok(all.filter(|member| !has(member)).cloned().collect())
}

/// Puts everything that the shard has written so far on disk, or says why that cannot be promised.
pub(super) async fn make_durable(
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
    fn a_clock_is_told_only_when_every_member_has_what_it_names() {
        let copies = |offset| {
            let copy = |offset| Copy {
                online: true,
                offset,
            };
            [("b".to_owned(), copy(offset)), ("c".to_owned(), copy(100))].into()
        };
        let mut role = RoleView::default();
        assert!(lacking(&role, &copies(100), 100).is_err(), "no order yet");
        role.order = Some(("u".to_owned(), 1, 1));
        role.view.leads = Some(true);
        let members = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        for (who, offset, lacks) in [
            (&[][..], 0, &[][..]),
            (&["b"], 100, &[]),
            (&["b"], 99, &["b"]),
            (&["c"], 99, &[]),
            (&["b", "c", "d"], 100, &["d"]),
        ] {
            role.view.members = members(who);
            assert_eq!(lacking(&role, &copies(offset), 100), Ok(members(lacks)));
        }
        role.view.leads = Some(false);
        assert!(lacking(&role, &copies(100), 100).is_err(), "no primary");
    }

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
