//! The fence: whether this shard may acknowledge a write. A pure decision, without server calls and without a clock.
//!
//! A primary acknowledges only while it holds a permission of its epoch that has not run out. The node obtains permissions
//! from the replicas that could be promoted in its place and hands them in (`CRDT.FENCE`); time is handed in too.

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

/// Number of a reign: it rises with every promotion. 0 stands for none.
pub(crate) type Epoch = u64;

/// Until when a permission holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deadline {
    /// Up to, and without, this time: milliseconds since the machine was booted, time in suspension included.
    At(u64),
    /// Nobody could be promoted, so nobody needs to wait for its end.
    Forever,
}

impl Deadline {
    fn passed(self, now: u64) -> bool {
        matches!(self, Self::At(end) if now >= end)
    }
}

/// Why a write is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No permission since the start, or since the last time this shard followed another.
    None,
    /// The last permission ran out.
    Lapsed,
    /// The last permission was taken back.
    Revoked,
}

/// Why a permission is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PermitError {
    #[error(
        "epoch {asked} is over: epoch {seen} was seen; ask with the epoch of the present topology"
    )]
    Stale { asked: Epoch, seen: Epoch },
    #[error("epoch {asked} was revoked; only a higher epoch can be permitted")]
    Revoked { asked: Epoch },
    #[error("0 is no epoch; epochs begin with 1")]
    Zero,
    #[error(
        "this shard follows a primary; end that with REPLICAOF NO ONE before it gets a permission"
    )]
    Replica,
}

/// What is known of permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fence {
    seen: Epoch,
    revoked: Epoch,
    permission: Option<(Epoch, Deadline)>,
    taken_back: bool,
    ever: bool,
    replica: bool,
}

impl Fence {
    /// Without permission.
    pub(crate) const fn new() -> Self {
        Self {
            seen: 0,
            revoked: 0,
            permission: None,
            taken_back: false,
            ever: false,
            replica: false,
        }
    }

    /// Accepts a permission. Within an epoch the later deadline counts; but one without end is replaced by any other, because
    /// it is given only while nobody could be promoted, and somebody is about to be.
    pub(crate) fn permit(
        &mut self,
        epoch: Epoch,
        deadline: Deadline,
        now: u64,
    ) -> Result<(), PermitError> {
        if epoch == 0 {
            return Err(PermitError::Zero);
        }
        if self.replica {
            return Err(PermitError::Replica);
        }
        if epoch <= self.revoked {
            return Err(PermitError::Revoked { asked: epoch });
        }
        if epoch < self.seen {
            let seen = self.seen;
            return Err(PermitError::Stale { asked: epoch, seen });
        }
        let deadline = match self.permission {
            Some((held, before @ Deadline::At(_))) if held == epoch => before.max(deadline),
            _ => deadline,
        };
        self.seen = epoch;
        self.permission = Some((epoch, deadline));
        self.ever |= !deadline.passed(now);
        Ok(())
    }

    /// From here on no permission of `epoch` or a lower one holds or is accepted.
    pub(crate) fn revoke(&mut self, epoch: Epoch) {
        self.seen = self.seen.max(epoch);
        self.revoked = self.revoked.max(epoch);
        if self
            .permission
            .is_some_and(|(held, _)| held <= self.revoked)
        {
            self.permission = None;
            self.taken_back = true;
        }
    }

    /// The shard begins or ceases to follow a primary. Whoever follows gives its permission away: coming back takes a new one.
    pub(crate) fn follow(&mut self, replica: bool) {
        self.replica = replica;
        if replica {
            self.permission = None;
            self.taken_back = false;
        }
    }

    /// Whether a primary may make and acknowledge a write at `now`.
    pub(crate) fn check(&self, now: impl FnOnce() -> u64) -> Result<(), Denied> {
        match self.permission {
            Some((_, Deadline::Forever)) => Ok(()),
            Some((_, deadline)) if !deadline.passed(now()) => Ok(()),
            Some(_) => Err(Denied::Lapsed),
            None if self.taken_back => Err(Denied::Revoked),
            None => Err(Denied::None),
        }
    }

    /// Whether clients can write here.
    pub(crate) fn writable(&self, now: u64) -> bool {
        !self.replica && self.check(|| now).is_ok()
    }

    /// Whether a replica may copy from here: a primary that has not held a permission in the life of this process may have
    /// started with less than its replicas have, and must not hand that to them.
    pub(crate) fn may_be_copied(&self) -> bool {
        self.ever || self.replica
    }

    /// The highest epoch that was ever permitted or revoked here.
    pub(crate) fn epoch(&self) -> Epoch {
        self.seen
    }

    /// The highest revoked epoch.
    pub(crate) fn revoked(&self) -> Epoch {
        self.revoked
    }

    /// The deadline of the permission that is held, run out or not.
    pub(crate) fn deadline(&self) -> Option<Deadline> {
        self.permission.map(|(_, deadline)| deadline)
    }

    /// A permission was held once in the life of this process.
    pub(crate) fn ever(&self) -> bool {
        self.ever
    }
}
