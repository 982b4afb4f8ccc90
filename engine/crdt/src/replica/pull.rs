//! Effects for a peer that asks.

use super::Replica;
use crate::batch::Batch;
use crate::clock::Clock;
use crate::id::{InstanceId, Origin};
use crate::log::Frame;
use std::sync::Arc;

/// Why a peer cannot be served from the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PullError {
    /// The log no longer reaches back to what the peer has.
    #[error(
        "instance {requester} has {have} effects of {origin} and the backlog starts at {first}; it needs a full \
         synchronization, or a larger backlog next time"
    )]
    BacklogGone {
        /// Who asked.
        requester: InstanceId,
        /// Stream that is cut.
        origin: Origin,
        /// Last number the requester has.
        have: u64,
        /// First number that is kept, [`u64::MAX`] for none.
        first: u64,
    },
    /// Removed participants and strangers get nothing.
    #[error("instance {0} is not a member of this database; pull is refused")]
    NonMember(InstanceId),
}

impl Replica {
    /// The next effects for `requester`, whose clock is `theirs`: all lives of this instance, and all lives of the
    /// requester's own instance (a tail that it lost). Other streams it gets from their own instances.
    ///
    /// The batch holds about `max_bytes`, at least one effect if there is any, and never ends inside a transaction.
    ///
    /// # Errors
    /// See [`PullError`].
    pub fn pull(
        &self,
        requester: InstanceId,
        theirs: &Clock,
        max_bytes: usize,
    ) -> Result<Batch, PullError> {
        if !self.config.members.contains(&requester) {
            return Err(PullError::NonMember(requester));
        }
        let mut batch = Batch::default();
        let mut bytes = 0;
        for (origin, ours) in self.clock.iter() {
            let served = origin.instance == self.config.instance || origin.instance == requester;
            let have = theirs.get(origin);
            if !served || have >= ours {
                continue;
            }
            let gone = |first| PullError::BacklogGone {
                requester,
                origin,
                have,
                first,
            };
            let frames = self.log.from(origin, have + 1).map_err(gone)?;
            let mut last_group = None;
            for frame in frames {
                let inside = frame.group.is_some() && frame.group == last_group;
                if self.is_open(origin, frame)
                    || (bytes >= max_bytes && !batch.is_empty() && !inside)
                {
                    batch.more = !self.is_open(origin, frame);
                    break;
                }
                bytes += frame.bytes.len();
                last_group = frame.group;
                batch.effects.push(Arc::clone(&frame.bytes));
            }
            if batch.more {
                break;
            }
        }
        Ok(batch)
    }

    /// Whether the effect belongs to the transaction that is being written right now.
    fn is_open(&self, origin: Origin, frame: &Frame) -> bool {
        self.grouping
            && frame.group.is_some()
            && frame.group == self.group
            && Some(origin.incarnation) == self.incarnation
            && origin.instance == self.config.instance
    }
}
