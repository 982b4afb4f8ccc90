//! Which writes belong together: those between one EXEC and the next.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts EXECs since the server started.
static EXECS: AtomicU64 = AtomicU64::new(0);

/// An EXEC is about to run.
pub(crate) fn begin() {
    EXECS.fetch_add(1, Ordering::Relaxed);
}

/// The transaction that is running, if one is.
pub(crate) fn current(in_exec: bool) -> Option<u64> {
    in_exec.then(|| EXECS.load(Ordering::Relaxed))
}
