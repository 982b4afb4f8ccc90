//! Which creations of a key are known, one per kind, and what follows for an item.

use crate::clock::Clock;
use crate::hlc::Stamp;
use crate::view::Kind;

/// The greatest generation of each kind that any received write named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generations(Vec<(Kind, Stamp)>);

/// Whether the items of a write live, as far as generations decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// They live, as long as nothing arrives that outlives this.
    Alive(Birth),
    /// Another kind has a greater generation.
    Dead,
}

/// The generation an item belongs to, as far as it matters for what is still to arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Birth {
    /// The named one.
    At(Stamp),
    /// The writer had no generation on record: all that it had seen were smaller than that of its kind, all others are
    /// greater. Kept is what the writer had seen, or nothing if this shard had seen it too.
    Stable(Clock),
}

impl Birth {
    /// Whether the item stays alive when another kind's generation becomes known.
    pub(super) fn survives(&self, other: Stamp) -> bool {
        match self {
            Self::At(own) => *own > other,
            Self::Stable(seen) => seen.covers(other.dot),
        }
    }
}

impl Generations {
    pub(crate) fn of(&self, kind: Kind) -> Option<Stamp> {
        self.0
            .iter()
            .find(|(k, _)| *k == kind)
            .map(|(_, stamp)| *stamp)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn raise(&mut self, kind: Kind, stamp: Stamp) {
        match self.0.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, known)) => *known = stamp.max(*known),
            None => self.0.push((kind, stamp)),
        }
    }

    pub(super) fn fate(&self, kind: Kind, stamp: Stamp) -> Fate {
        let dead = self.others(kind).any(|other| other > stamp);
        if dead {
            Fate::Dead
        } else {
            Fate::Alive(Birth::At(stamp))
        }
    }

    /// Fate of items whose writer had no generation on record. All generations it had ever seen were stable, and smaller
    /// than that of its kind; those it had not seen were written with its kind in view and are greater.
    pub(super) fn fate_of_stable(&self, kind: Kind, context: &Clock, own: &Clock) -> Fate {
        if self.others(kind).any(|other| !context.covers(other.dot)) {
            return Fate::Dead;
        }
        Fate::Alive(Birth::Stable(if own.includes(context) {
            Clock::new()
        } else {
            context.clone()
        }))
    }

    /// Whether every member has received the writes that are named here.
    pub(super) fn are_stable(&self, cut: &Clock) -> bool {
        self.0.iter().all(|(_, stamp)| cut.covers(stamp.dot))
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (Kind, Stamp)> + '_ {
        self.0.iter().copied()
    }

    fn others(&self, kind: Kind) -> impl Iterator<Item = Stamp> + '_ {
        self.0
            .iter()
            .filter(move |(k, _)| *k != kind)
            .map(|(_, stamp)| *stamp)
    }
}
