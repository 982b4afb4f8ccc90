//! The one replica of this server, and the life it writes under.

use meridian_crdt::{Incarnation, Limits, Replica, RestoreError};

use crate::server::MainThread;

/// State of this server's shard.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    /// The metadata; none before the first configuration.
    pub(crate) replica: Option<Replica>,
    /// The transaction whose writes form the open group.
    open: Option<u64>,
}

/// The state of this process.
pub(crate) static SHARD: MainThread<Shard> = MainThread::new(Shard {
    replica: None,
    open: None,
});

impl Shard {
    /// Opens, keeps or closes the group of effects so that exactly the writes of `transaction` share one.
    pub(crate) fn enter(&mut self, transaction: Option<u64>) {
        let Some(replica) = &mut self.replica else {
            return;
        };
        if self.open == transaction {
            return;
        }
        replica.end_group();
        if transaction.is_some() {
            replica.begin_group();
        }
        self.open = transaction;
    }

    /// The server stopped being a primary, or starts anew: the next write draws a new incarnation.
    pub(crate) fn end_life(&mut self) {
        self.open = None;
        if let Some(replica) = &mut self.replica {
            replica.end();
        }
    }

    /// Forgets everything: another data set is about to be loaded.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Begins a life with fresh random bits, unless one is under way.
pub(crate) fn ensure_life(replica: &mut Replica) {
    while replica.incarnation().is_none() {
        // Refused only if the bits were drawn before, which a further draw heals.
        let _ = replica.begin(Incarnation(rand::random()));
    }
}

/// Bytes of effects to keep for peers in a server with this memory limit (bytes, 0 for none): a tenth of it, in bounds.
pub(crate) fn backlog(memory_limit: u64) -> usize {
    const LEAST: u64 = 8 << 20;
    const MOST: u64 = 256 << 20;
    const UNLIMITED: u64 = 64 << 20;
    let bytes = match memory_limit {
        0 => UNLIMITED,
        limit => (limit / 10).clamp(LEAST, MOST),
    };
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

impl Shard {
    /// Bounds the effects that are kept for peers.
    pub(crate) fn limit_backlog(&mut self, bytes: usize) {
        if let Some(replica) = &mut self.replica {
            replica.set_limits(Limits {
                log_bytes: bytes,
                ..Limits::default()
            });
        }
    }

    /// The state that a snapshot keeps, without a life.
    pub(crate) fn restored(bytes: &[u8]) -> Result<Self, RestoreError> {
        Ok(Self {
            replica: Some(Replica::restore(bytes, Limits::default())?),
            open: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::backlog;

    #[test]
    fn the_backlog_follows_the_memory_limit_in_bounds() {
        assert_eq!(backlog(0), 64 << 20);
        assert_eq!(backlog(1 << 20), 8 << 20);
        assert_eq!(backlog(1 << 30), (1 << 30) / 10);
        assert_eq!(backlog(1 << 40), 256 << 20);
    }
}
