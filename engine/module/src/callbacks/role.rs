//! Whether this server is a primary or a replica.

use std::sync::atomic::{AtomicBool, Ordering};

static REPLICA: AtomicBool = AtomicBool::new(false);

/// This server follows a primary.
pub(crate) fn is_replica() -> bool {
    REPLICA.load(Ordering::Relaxed)
}

/// Records the role; true if it changed.
pub(crate) fn set_replica(replica: bool) -> bool {
    REPLICA.swap(replica, Ordering::Relaxed) != replica
}
