//! Transactions: which writes belong together, and that they stay in one slot.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::slot;

/// Counts EXECs since the server started.
static EXECS: AtomicU64 = AtomicU64::new(0);

/// An EXEC is about to run: the writes between it and the next form one group.
pub(crate) fn begin() {
    EXECS.fetch_add(1, Ordering::Relaxed);
}

/// The group of the writes that are running, if they have one.
pub(crate) fn current(in_exec: bool) -> Option<u64> {
    in_exec.then(|| EXECS.load(Ordering::Relaxed))
}

/// Clients that queue commands, each with the slot of its writes so far.
#[derive(Debug, Default)]
pub(crate) struct Queues(BTreeMap<u64, Option<u16>>);

impl Queues {
    /// The client sent MULTI.
    pub(crate) fn open(&mut self, client: u64) {
        self.0.entry(client).or_default();
    }

    /// The client sent EXEC, DISCARD or RESET, or is gone.
    pub(crate) fn close(&mut self, client: u64) {
        self.0.remove(&client);
    }

    /// Whether the client may be queueing; the server has the last word.
    pub(crate) fn is_open(&self, client: u64) -> bool {
        !self.0.is_empty() && self.0.contains_key(&client)
    }

    /// Notes the keys of a write; whether they lie in the slot of the writes before it.
    pub(crate) fn take<'a>(&mut self, client: u64, keys: impl Iterator<Item = &'a [u8]>) -> bool {
        let slot = self.0.entry(client).or_default();
        keys.map(slot::of)
            .all(|of_key| *slot.get_or_insert(of_key) == of_key)
    }
}

#[cfg(test)]
mod tests {
    use super::Queues;

    #[test]
    fn the_first_key_of_a_transaction_chooses_its_slot() {
        let mut queues = Queues::default();
        queues.open(1);
        assert!(queues.take(1, [b"{a}1".as_slice(), b"{a}2"].into_iter()));
        assert!(!queues.take(1, [b"b".as_slice()].into_iter()));
        assert!(queues.take(1, [b"a".as_slice()].into_iter()));
        queues.close(1);
        assert!(!queues.is_open(1));
        queues.open(1);
        assert!(queues.take(1, [b"b".as_slice()].into_iter()));
    }
}
