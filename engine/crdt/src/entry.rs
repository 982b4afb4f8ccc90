//! Metadata of one key, and how each operation changes it together with the visible value.
//!
//! The value of a key is what remains of all items ever written to it (registers, increments, elements) after two rules,
//! both of which only ever take away, so that the order of arrival does not matter:
//! * a removal takes every item that its writer had seen;
//! * an item dies once another kind has a generation with a greater stamp than the item's own.
//!
//! Items without metadata are *stable*: everything that can still arrive was written with them in view, so any removal
//! takes them, and any generation of another kind that is still unknown here is greater than theirs.

mod cell;
mod collect;
mod generations;
mod pending;
mod retain;
mod snapshot;

use crate::clock::Clock;
use crate::decimal::Decimal;
use crate::effect::{Effect, Generation};
use crate::id::{Dot, Origin};
use crate::view::{Kind, View, ViewError};
use cell::{Cell, Place};
use generations::{Birth, Fate, Generations};
use pending::Pending;
use std::collections::BTreeMap;

/// Metadata of one key. An empty one is not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) generations: Generations,
    pending: Pending,
    items: Items,
}

/// Items that are not stable, all of the one kind that can be alive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Items {
    /// Every item there may be is stable.
    #[default]
    None,
    String(Cell),
    /// Elements with the adds that keep them alive.
    Set(BTreeMap<Vec<u8>, Adds>),
    Hash(BTreeMap<Vec<u8>, Cell>),
}

/// The last add of each origin. A removal that has seen it has seen all earlier ones of that origin.
type Adds = BTreeMap<Origin, Add>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Add {
    seq: u64,
    birth: Birth,
}

/// One effect at one key.
pub(crate) struct Change<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) effect: &'a Effect,
    /// What this shard had received before the effect.
    pub(crate) own: &'a Clock,
    pub(crate) view: &'a mut dyn View,
}

impl Change<'_> {
    fn context(&self) -> &Clock {
        &self.effect.context
    }

    fn dot(&self) -> Dot {
        self.effect.dot
    }

    /// The part of the effect's context that has not arrived here: what it removes and is still to come.
    fn unseen(&self) -> Clock {
        self.context().beyond(self.own)
    }

    fn native_kind(&mut self) -> Result<Option<Kind>, ViewError> {
        self.view.kind(self.key)
    }
}

impl Entry {
    pub(crate) fn is_empty(&self) -> bool {
        self.generations.is_empty() && self.pending.is_empty() && matches!(self.items, Items::None)
    }

    /// Removals that wait for what they have seen.
    pub(crate) fn waiting(&self) -> u64 {
        self.pending.count()
    }

    pub(crate) fn delete(&mut self, change: &mut Change<'_>) -> Result<(), ViewError> {
        self.pending.remove_key(&change.unseen());
        self.retain_unseen(change)
    }

    pub(crate) fn set_string(
        &mut self,
        change: &mut Change<'_>,
        to: &[u8],
        of: Generation,
    ) -> Result<(), ViewError> {
        self.pending.remove_key(&change.unseen());
        match &mut self.items {
            Items::String(cell) => cell.retain(|item| !change.effect.context.covers(item.dot)),
            Items::None => {}
            Items::Set(_) | Items::Hash(_) => self.retain_unseen(change)?,
        }
        let fate = self.admit(change, Kind::String, of)?;
        if let (Fate::Alive(birth), false) = (fate, self.pending.takes_key(change.dot())) {
            if matches!(self.items, Items::None) {
                self.items = Items::String(Cell::default());
            }
            if let Items::String(cell) = &mut self.items {
                cell.fill(change, Place::Key)?;
                cell.assign(change.effect.stamp(), birth, to);
            }
        }
        self.show_string(change)
    }

    pub(crate) fn increment(
        &mut self,
        change: &mut Change<'_>,
        by: Decimal,
        of: Generation,
    ) -> Result<(), ViewError> {
        let fate = self.admit(change, Kind::String, of)?;
        let Fate::Alive(birth) = fate else {
            return Ok(());
        };
        if self.pending.takes_key(change.dot()) {
            return Ok(());
        }
        if matches!(self.items, Items::None) {
            self.items = Items::String(Cell::stable(change, Place::Key)?);
        }
        if let Items::String(cell) = &mut self.items {
            cell.fill(change, Place::Key)?;
            cell.increment(change.dot(), birth, by);
        }
        self.show_string(change)
    }

    pub(crate) fn set_add(
        &mut self,
        change: &mut Change<'_>,
        elements: &[Vec<u8>],
        of: Generation,
    ) -> Result<(), ViewError> {
        let fate = self.admit(change, Kind::Set, of)?;
        let Fate::Alive(birth) = fate else {
            return Ok(());
        };
        let Dot { origin, seq } = change.dot();
        for element in elements {
            if self.pending.takes_element(element, change.dot()) {
                continue;
            }
            change.view.set_insert(change.key, element)?;
            if matches!(self.items, Items::None) {
                self.items = Items::Set(BTreeMap::new());
            }
            if let Items::Set(set) = &mut self.items {
                set.entry(element.clone()).or_default().insert(
                    origin,
                    Add {
                        seq,
                        birth: birth.clone(),
                    },
                );
            }
        }
        Ok(())
    }

    pub(crate) fn set_remove(
        &mut self,
        change: &mut Change<'_>,
        elements: &[Vec<u8>],
    ) -> Result<(), ViewError> {
        let unseen = change.unseen();
        for element in elements {
            self.pending.remove_element(element, &unseen);
        }
        match &mut self.items {
            Items::Set(set) => {
                for element in elements {
                    let adds = set.entry(element.clone()).or_default();
                    adds.retain(|origin, add| {
                        !change.effect.context.covers(Dot {
                            origin: *origin,
                            seq: add.seq,
                        })
                    });
                    if adds.is_empty() {
                        change.view.set_remove(change.key, element)?;
                        set.remove(element);
                    }
                }
                self.drop_empty_items();
            }
            Items::None if change.native_kind()? == Some(Kind::Set) => {
                for element in elements {
                    change.view.set_remove(change.key, element)?;
                }
            }
            Items::None | Items::String(_) | Items::Hash(_) => {}
        }
        Ok(())
    }

    pub(crate) fn hash_set(
        &mut self,
        change: &mut Change<'_>,
        fields: &[(Vec<u8>, Vec<u8>)],
        of: Generation,
    ) -> Result<(), ViewError> {
        let fate = self.admit(change, Kind::Hash, of)?;
        let unseen = change.unseen();
        for (field, value) in fields {
            self.pending.remove_field(field, &unseen);
            let wanted = match &fate {
                Fate::Alive(birth) if !self.pending.takes_field(field, change.dot()) => {
                    Some(birth.clone())
                }
                Fate::Alive(_) | Fate::Dead => None,
            };
            self.with_field(change, field, wanted.is_some(), |cell, change| {
                cell.retain(|item| !change.effect.context.covers(item.dot));
                if let Some(birth) = wanted {
                    cell.fill(change, Place::Field(field))?;
                    cell.assign(change.effect.stamp(), birth, value);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    pub(crate) fn hash_remove(
        &mut self,
        change: &mut Change<'_>,
        fields: &[Vec<u8>],
    ) -> Result<(), ViewError> {
        let unseen = change.unseen();
        for field in fields {
            self.pending.remove_field(field, &unseen);
            self.with_field(change, field, false, |cell, change| {
                cell.retain(|item| !change.effect.context.covers(item.dot));
                Ok(())
            })?;
        }
        Ok(())
    }

    pub(crate) fn hash_increment(
        &mut self,
        change: &mut Change<'_>,
        field: &[u8],
        by: Decimal,
        of: Generation,
    ) -> Result<(), ViewError> {
        let fate = self.admit(change, Kind::Hash, of)?;
        let Fate::Alive(birth) = fate else {
            return Ok(());
        };
        if self.pending.takes_field(field, change.dot()) {
            return Ok(());
        }
        self.with_field(change, field, true, |cell, change| {
            if cell.is_empty() {
                *cell = Cell::stable(change, Place::Field(field))?;
            }
            cell.fill(change, Place::Field(field))?;
            cell.increment(change.dot(), birth, by);
            Ok(())
        })
    }

    /// Changes one field of a hash and shows it. Without `create` a key that is no hash is left alone.
    fn with_field(
        &mut self,
        change: &mut Change<'_>,
        field: &[u8],
        create: bool,
        act: impl FnOnce(&mut Cell, &mut Change<'_>) -> Result<(), ViewError>,
    ) -> Result<(), ViewError> {
        if matches!(self.items, Items::None)
            && (create || change.native_kind()? == Some(Kind::Hash))
        {
            self.items = Items::Hash(BTreeMap::new());
        }
        let Items::Hash(hash) = &mut self.items else {
            return Ok(());
        };
        let cell = hash.entry(field.to_vec()).or_default();
        let shown = act(cell, change).and_then(|()| cell.show(change, Place::Field(field)));
        if cell.is_empty() {
            hash.remove(field);
        }
        self.drop_empty_items();
        shown
    }

    /// Makes the visible string what the cell says; without a cell there is none left.
    fn show_string(&mut self, change: &mut Change<'_>) -> Result<(), ViewError> {
        match &mut self.items {
            Items::String(cell) => cell.show(change, Place::Key)?,
            Items::None => change.view.delete(change.key)?,
            Items::Set(_) | Items::Hash(_) => {}
        }
        self.drop_empty_items();
        Ok(())
    }

    /// Files the generation of an adding write, which may kill what other kinds hold, and tells what becomes of its items.
    fn admit(
        &mut self,
        change: &mut Change<'_>,
        kind: Kind,
        of: Generation,
    ) -> Result<Fate, ViewError> {
        let stamp = match of {
            Generation::Stable => return self.admit_stable(change, kind),
            Generation::Own => change.effect.stamp(),
            Generation::Named(stamp) => stamp,
        };
        if self.generations.of(kind) < Some(stamp) {
            self.kill_others(change, kind, stamp)?;
            self.generations.raise(kind, stamp);
        }
        let outlived = self.pending.outlives(kind, stamp.dot);
        Ok(if outlived {
            Fate::Dead
        } else {
            self.generations.fate(kind, stamp)
        })
    }

    /// As [`admit`](Self::admit), for a writer without a generation on record. Who has received what such a writer had
    /// knows the generation of its kind; only who is behind (a newcomer) must conclude from the writer's context that the
    /// generations in it were smaller.
    fn admit_stable(&mut self, change: &mut Change<'_>, kind: Kind) -> Result<Fate, ViewError> {
        if !change.own.includes(change.context()) {
            self.kill_seen_others(change, kind)?;
            self.pending.outlive_others(kind, change.context());
        }
        let outlived = self.pending.outlives(kind, change.dot());
        let fate = self
            .generations
            .fate_of_stable(kind, change.context(), change.own);
        Ok(if outlived { Fate::Dead } else { fate })
    }

    fn drop_empty_items(&mut self) {
        let empty = match &self.items {
            Items::None => true,
            Items::String(cell) => cell.is_empty(),
            Items::Set(set) => set.is_empty(),
            Items::Hash(hash) => hash.is_empty(),
        };
        if empty {
            self.items = Items::None;
        }
    }
}
