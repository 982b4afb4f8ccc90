//! That this process lives is told by a task of its own: whoever carries out orders may wait for the disk for longer than PID 1 waits
//! for a word. What waits for the disk leaves its thread to the other tasks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::pid1::{Verb, ask};

/// Often enough that PID 1 misses several before it calls this process dead.
const BEAT: Duration = Duration::from_secs(3);

/// Tells PID 1 again and again that the tasks of this process run, until `stop`.
pub(super) async fn run(supervisor: PathBuf, stop: CancellationToken) {
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beats.tick() => tell(&supervisor).await,
        }
    }
}

async fn tell(supervisor: &Path) {
    // The question is the sign; whoever needs the answer asks for it.
    if let Err(error) = ask(supervisor, Verb::Status).await {
        debug!(
            error = crate::run::chain(&error),
            "PID 1 has not heard that this process lives"
        );
    }
}

/// Does `work`, which may wait for the disk; the other tasks go on meanwhile.
pub(super) fn on_disk<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // There is no other thread for them.
        Ok(_) | Err(_) => work(),
    }
}
