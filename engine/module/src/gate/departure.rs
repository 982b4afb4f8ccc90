//! What may still leave after the last look at the permission.
//!
//! Between that look and the kernel's acceptance of the replies lies the server's own work: its append-only file, above all,
//! which can hang, and every instruction, after which the process can be stopped for any time. So the kernel watches, too: an
//! alarm goes off at the deadline, on the thread that would write, before that executes anything else, also when it was
//! stopped meanwhile. It wakes a server that sleeps: one that is alive looks at its permission at once, closes exactly the
//! connections that have to be closed, and stops the alarm.
//!
//! If it goes off a little later still ([`GRACE_MS`]), no look is coming in time. If replies to writes may be on their way then,
//! every connection is ended on the spot; otherwise those are to which the server still owes a part of an earlier reply.

use std::collections::BTreeSet;
use std::ffi::c_int;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::server::epoll::Interests;
use crate::server::{self, alarm, alarm::Alarm};

/// How long after the deadline the alarm ends connections, milliseconds. A tenth of what is added to the lease by whoever waits for the
/// end of a permission (`LEASE_MARGIN_MS` of the topology).
pub(crate) const GRACE_MS: u64 = 50;

/// No deadline.
const NEVER: u64 = u64::MAX;

/// The deadline that the alarm was last set for, while nothing was done about its end.
static DEADLINE: AtomicU64 = AtomicU64::new(NEVER);
/// Writes were let through whose replies may not have left.
static UNANSWERED: AtomicBool = AtomicBool::new(false);
/// What the server waits for.
static INTERESTS: OnceLock<Interests> = OnceLock::new();
/// Connections that the alarm has ended since the start.
static ENDED: AtomicU64 = AtomicU64::new(0);

/// Watches the departure of replies. One for each process.
#[derive(Debug)]
pub(crate) struct Watch(Alarm);

impl Watch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// As of the alarm, and of [`Interests`].
    pub(crate) fn new() -> io::Result<Self> {
        if INTERESTS.get().is_none() {
            // Loading is done once, and by one thread.
            let _ = INTERESTS.set(Interests::of_this_process()?);
        }
        Alarm::new(on_alarm).map(Self)
    }

    /// Replies may leave until then.
    ///
    /// # Errors
    /// As of the alarm.
    pub(crate) fn until(&self, deadline: u64) -> io::Result<()> {
        // In this order: an earlier alarm that goes off in between finds the later deadline.
        DEADLINE.store(deadline, Ordering::SeqCst);
        self.0.set(deadline, GRACE_MS)
    }

    /// There is nothing to watch: nobody waits for the end of the permission, or everything was done about it.
    ///
    /// # Errors
    /// As of the alarm, which goes off for nothing then.
    pub(crate) fn rest(&self) -> io::Result<()> {
        DEADLINE.store(NEVER, Ordering::SeqCst);
        self.0.stop()
    }
}

/// Whether writes were let through whose replies may not have left.
pub(crate) fn set_unanswered(unanswered: bool) {
    UNANSWERED.store(unanswered, Ordering::SeqCst);
}

/// The descriptors of those to whom a part of an earlier reply is still owed; none if that cannot be known.
pub(crate) fn owed() -> Option<BTreeSet<c_int>> {
    let mut owed = BTreeSet::new();
    let whole = INTERESTS.get()?.waiting(|descriptor| {
        owed.insert(descriptor);
    });
    whole.then_some(owed)
}

/// Connections that the alarm has ended since the start.
pub(crate) fn ended() -> u64 {
    ENDED.load(Ordering::SeqCst)
}

extern "C" fn on_alarm(_: c_int) {
    let deadline = DEADLINE.load(Ordering::SeqCst);
    if is_too_late(deadline, server::boot_ms()) {
        let ended = alarm::undisturbed(|| end_late(UNANSWERED.load(Ordering::SeqCst)));
        ENDED.fetch_add(ended, Ordering::SeqCst);
        // Whoever connects from now on waits for no reply of before.
        DEADLINE.store(NEVER, Ordering::SeqCst);
    }
}

/// Ends the connections by which a reply to a write may leave; how many.
fn end_late(unanswered: bool) -> u64 {
    let mut ended = 0;
    let end = |descriptor| ended += u64::from(alarm::end_connection(descriptor));
    if !unanswered && INTERESTS.get().is_some_and(|all| all.waiting(end)) {
        return ended;
    }
    ended + alarm::end_connections()
}

/// Whether nothing may leave any more. An alarm that was set before the permission was renewed goes off for nothing.
fn is_too_late(deadline: u64, now: u64) -> bool {
    now >= deadline.saturating_add(GRACE_MS)
}

#[cfg(test)]
mod tests {
    use super::{GRACE_MS, NEVER, is_too_late};

    #[test]
    fn it_is_too_late_once_the_grace_is_over() {
        let end = 7_000 + GRACE_MS;
        assert!(is_too_late(7_000, end));
        assert!(is_too_late(7_000, end + 100_000));
        assert!(!is_too_late(7_000, end - 1));
        assert!(!is_too_late(NEVER, u64::MAX - 1));
    }
}
