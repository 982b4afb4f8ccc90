//! Who wrote an effect, and which one of its effects it is.

use std::fmt;

/// A participant of an Active-Active database. Given by the control plane, small, never used twice in one database.
/// In a tie between two writes the smaller id wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u32);

/// 64 random bits that a participant draws at its first write after every start or promotion. Never read back from
/// data as one's own, so that no sequence number is ever used twice, whatever tail of the data was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// One life of one participant: the writer of a stream of effects numbered 1, 2, 3, …
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The participant.
    pub instance: InstanceId,
    /// Which of its lives.
    pub incarnation: Incarnation,
}

/// The name of one effect: the `seq`-th of its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// The writer.
    pub origin: Origin,
    /// Position in the writer's stream, from 1.
    pub seq: u64,
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:016x}", self.instance, self.incarnation.0)
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.origin, self.seq)
    }
}
