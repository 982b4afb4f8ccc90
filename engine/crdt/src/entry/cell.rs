//! A register and a counter in one: the value of a string key or of a hash field.
//!
//! Several values may be alive, written without knowledge of each other; the one with the greatest stamp is the base.
//! Increments that no removal has seen are added to the base, on whatever base they meet, if it is a number.

use super::generations::Birth;
use super::{Add, Change};
use crate::clock::Clock;
use crate::decimal::Decimal;
use crate::hlc::Stamp;
use crate::id::Dot;
use crate::view::ViewError;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Where a cell's visible value stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// The key itself.
    Key,
    /// A field of the key's hash.
    Field(&'a [u8]),
}

/// Items that are not stable, and the stable base under them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    /// The stable value that increments are added to. Only without siblings: a value written later has seen it.
    pub(super) base: Option<Vec<u8>>,
    /// Values that are alive.
    pub(super) siblings: Vec<Sibling>,
    /// Increments that are alive.
    pub(super) increments: BTreeMap<Dot, Increment>,
    /// Their sum.
    pub(super) sum: Decimal,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sibling {
    pub(super) stamp: Stamp,
    pub(super) birth: Birth,
    /// `None`: it is what the view shows.
    pub(super) value: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Increment {
    pub(super) delta: Decimal,
    pub(super) birth: Birth,
}

/// One item, as rules that take items away look at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'a> {
    pub(super) dot: Dot,
    pub(super) birth: &'a Birth,
}

impl<'a> Item<'a> {
    pub(super) fn of_add(origin: crate::id::Origin, add: &'a Add) -> Self {
        Self {
            dot: Dot {
                origin,
                seq: add.seq,
            },
            birth: &add.birth,
        }
    }
}

impl Place<'_> {
    fn read(self, change: &mut Change<'_>) -> Result<Option<Vec<u8>>, ViewError> {
        match self {
            Self::Key => change.view.string(change.key),
            Self::Field(field) => change.view.hash_get(change.key, field),
        }
    }

    fn write(self, change: &mut Change<'_>, value: Option<&[u8]>) -> Result<(), ViewError> {
        match (self, value) {
            (Self::Key, Some(value)) => change.view.set_string(change.key, value),
            (Self::Key, None) => change.view.delete(change.key),
            (Self::Field(field), Some(value)) => change.view.hash_set(change.key, field, value),
            (Self::Field(field), None) => change.view.hash_remove(change.key, field),
        }
    }
}

impl Cell {
    /// A cell over the stable value that the view shows.
    pub(super) fn stable(change: &mut Change<'_>, place: Place<'_>) -> Result<Self, ViewError> {
        Ok(Self {
            base: place.read(change)?,
            ..Self::default()
        })
    }

    /// Nothing that is not stable.
    pub(super) fn is_empty(&self) -> bool {
        self.siblings.is_empty() && self.increments.is_empty()
    }

    /// Takes a value that only the view holds into the cell, before the view changes.
    pub(super) fn fill(
        &mut self,
        change: &mut Change<'_>,
        place: Place<'_>,
    ) -> Result<(), ViewError> {
        if let Some(sibling) = self.siblings.iter_mut().find(|s| s.value.is_none()) {
            sibling.value = Some(place.read(change)?.unwrap_or_default());
        }
        Ok(())
    }

    pub(super) fn assign(&mut self, stamp: Stamp, birth: Birth, value: &[u8]) {
        self.siblings.retain(|s| s.stamp != stamp);
        self.siblings.push(Sibling {
            stamp,
            birth,
            value: Some(value.to_vec()),
        });
    }

    pub(super) fn increment(&mut self, dot: Dot, birth: Birth, delta: Decimal) {
        if self
            .increments
            .insert(dot, Increment { delta, birth })
            .is_none()
        {
            self.sum = self.sum.plus(delta);
        }
    }

    /// Takes away every item that `keep` refuses, and the stable base.
    pub(super) fn retain(&mut self, keep: impl Fn(Item<'_>) -> bool) {
        self.base = None;
        self.siblings.retain(|s| {
            keep(Item {
                dot: s.stamp.dot,
                birth: &s.birth,
            })
        });
        self.retain_increments(|dot, increment| {
            keep(Item {
                dot,
                birth: &increment.birth,
            })
        });
    }

    fn retain_increments(&mut self, keep: impl Fn(Dot, &Increment) -> bool) {
        let mut sum = Decimal::ZERO;
        self.increments.retain(|dot, increment| {
            let kept = keep(*dot, increment);
            if kept {
                sum = sum.plus(increment.delta);
            }
            kept
        });
        self.sum = sum;
    }

    /// Makes the view show what the cell holds. A value without increments and rivals is then left to the view alone.
    pub(super) fn show(
        &mut self,
        change: &mut Change<'_>,
        place: Place<'_>,
    ) -> Result<(), ViewError> {
        let winner = self.siblings.iter().max_by_key(|s| s.stamp);
        if winner.is_none_or(|w| w.value.is_some()) {
            place.write(change, self.value().as_deref())?;
        }
        if let ([only], true) = (self.siblings.as_mut_slice(), self.increments.is_empty()) {
            only.value = None;
        }
        Ok(())
    }

    /// The value to show, unless only the view holds it.
    fn value(&self) -> Option<Cow<'_, [u8]>> {
        let winner = self.siblings.iter().max_by_key(|s| s.stamp);
        let base = winner.map_or(self.base.as_deref(), |w| w.value.as_deref());
        if self.increments.is_empty() {
            return base.map(Cow::Borrowed);
        }
        let number = base.map_or(Some(Decimal::ZERO), Decimal::parse);
        match number {
            Some(number) => Some(Cow::Owned(number.plus(self.sum).to_string().into_bytes())),
            None => base.map(Cow::Borrowed),
        }
    }

    /// Forgets what is stable. The value stays what it is.
    pub(super) fn collect(&mut self, cut: &Clock) {
        if self.siblings.iter().all(|s| cut.covers(s.stamp.dot)) {
            let last = std::mem::take(&mut self.siblings)
                .into_iter()
                .max_by_key(|s| s.stamp);
            if let Some(winner) = last {
                self.base = winner.value;
            }
            self.fold(cut);
        } else {
            let winner = self.siblings.iter().map(|s| s.stamp).max();
            self.siblings
                .retain(|s| Some(s.stamp) == winner || !cut.covers(s.stamp.dot));
        }
    }

    /// Adds stable increments to the stable base: whatever removes the one removes the other.
    fn fold(&mut self, cut: &Clock) {
        let stable = |dot: &Dot| cut.covers(*dot);
        if !self.increments.keys().any(stable) {
            return;
        }
        let before = self.sum;
        self.retain_increments(|dot, _| !stable(&dot));
        let folded = before.minus(self.sum);
        if let Some(number) = self
            .base
            .as_deref()
            .map_or(Some(Decimal::ZERO), Decimal::parse)
        {
            self.base = Some(number.plus(folded).to_string().into_bytes());
        }
    }
}
