//! The C side: functions that the server calls. None lets a panic through.

pub(crate) mod aux;
pub(crate) mod command;
pub(crate) mod events;
pub(crate) mod filter;
pub(crate) mod info;
pub(crate) mod load;
pub(crate) mod role;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

/// Set when a callback panicked or an effect was not taken: values, metadata and file may differ from then on.
static BROKEN: AtomicBool = AtomicBool::new(false);

/// The module has failed since the server started.
pub(crate) fn broken() -> bool {
    BROKEN.load(Ordering::Relaxed)
}

/// Refuses all writes from here on: memory and the append-only file may differ.
pub(crate) fn stop_writes() {
    BROKEN.store(true, Ordering::Relaxed);
}

/// Runs `body`; a panic ends in `None` and stops all later writes.
fn guarded<T>(body: impl FnOnce() -> T) -> Option<T> {
    let outcome = catch_unwind(AssertUnwindSafe(body)).ok();
    if outcome.is_none() {
        stop_writes();
    }
    outcome
}
