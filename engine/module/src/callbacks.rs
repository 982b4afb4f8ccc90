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

/// Set when a callback panicked: values and metadata may differ from then on, so nothing is written any more.
static BROKEN: AtomicBool = AtomicBool::new(false);

/// A callback has panicked since the server started.
pub(crate) fn broken() -> bool {
    BROKEN.load(Ordering::Relaxed)
}

/// Runs `body`; a panic ends in `None` and stops all later writes.
fn guarded<T>(body: impl FnOnce() -> T) -> Option<T> {
    let outcome = catch_unwind(AssertUnwindSafe(body)).ok();
    if outcome.is_none() {
        BROKEN.store(true, Ordering::Relaxed);
    }
    outcome
}
