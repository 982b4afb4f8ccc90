//! Taking items of a whole key away: by a removal, or by the generation of another kind. Stable items always go.

use super::cell::{Item, Place};
use super::generations::Birth;
use super::{Change, Entry, Items};
use crate::hlc::Stamp;
use crate::view::{Kind, ViewError};

impl Entry {
    /// Keeps only what the effect's writer had not seen.
    pub(super) fn retain_unseen(&mut self, change: &mut Change<'_>) -> Result<(), ViewError> {
        let context = &change.effect.context;
        self.retain(change, |item| !context.covers(item.dot))
    }

    /// A generation of `kind` became known: items of other kinds below it die.
    pub(super) fn kill_others(
        &mut self,
        change: &mut Change<'_>,
        kind: Kind,
        stamp: Stamp,
    ) -> Result<(), ViewError> {
        if self.holder(change)?.is_none_or(|holder| holder == kind) {
            return Ok(());
        }
        self.retain(change, |item| item.birth.survives(stamp))
    }

    /// The effect's writer held the key as `kind`: items of other kinds that it had seen, or whose generation it had seen,
    /// were dead for it.
    pub(super) fn kill_seen_others(
        &mut self,
        change: &mut Change<'_>,
        kind: Kind,
    ) -> Result<(), ViewError> {
        if self.holder(change)?.is_none_or(|holder| holder == kind) {
            return Ok(());
        }
        let context = &change.effect.context;
        self.retain(change, |item| match item.birth {
            Birth::At(stamp) => !context.covers(stamp.dot),
            Birth::Stable(_) => !context.covers(item.dot),
        })
    }

    /// The kind whose items may be alive.
    fn holder(&self, change: &mut Change<'_>) -> Result<Option<Kind>, ViewError> {
        match &self.items {
            Items::None => change.native_kind(),
            Items::String(_) => Ok(Some(Kind::String)),
            Items::Set(_) => Ok(Some(Kind::Set)),
            Items::Hash(_) => Ok(Some(Kind::Hash)),
        }
    }

    /// Keeps the items that `keep` accepts and shows nothing else.
    fn retain(
        &mut self,
        change: &mut Change<'_>,
        keep: impl Fn(Item<'_>) -> bool,
    ) -> Result<(), ViewError> {
        match &mut self.items {
            Items::None => change.view.delete(change.key)?,
            Items::String(cell) => {
                cell.retain(keep);
                cell.show(change, Place::Key)?;
            }
            Items::Set(set) => {
                set.retain(|_, adds| {
                    adds.retain(|origin, add| keep(Item::of_add(*origin, add)));
                    !adds.is_empty()
                });
                change.view.delete(change.key)?;
                for element in set.keys() {
                    change.view.set_insert(change.key, element)?;
                }
            }
            Items::Hash(hash) => {
                for (field, cell) in &mut *hash {
                    cell.retain(&keep);
                    cell.fill(change, Place::Field(field))?;
                }
                hash.retain(|_, cell| !cell.is_empty());
                change.view.delete(change.key)?;
                for (field, cell) in hash {
                    cell.show(change, Place::Field(field))?;
                }
            }
        }
        self.drop_empty_items();
        Ok(())
    }
}
