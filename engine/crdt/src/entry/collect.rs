//! Dropping the metadata of stable items. Values never change.

use super::{Entry, Items};
use crate::clock::Clock;

impl Entry {
    /// Forgets what no effect that can still arrive is able to tell apart. `cut` is what every member has for good, `own`
    /// what this shard has.
    ///
    /// Items lose their metadata only when no generation of the key is open: until then their own generation may decide.
    pub(crate) fn collect(&mut self, cut: &Clock, own: &Clock) {
        self.pending.prune(own);
        if !self.generations.are_stable(cut) {
            return;
        }
        self.generations = super::Generations::default();
        match &mut self.items {
            Items::None => {}
            Items::String(cell) => cell.collect(cut),
            Items::Set(set) => set.retain(|_, adds| {
                adds.retain(|origin, add| add.seq > cut.get(*origin));
                !adds.is_empty()
            }),
            Items::Hash(hash) => hash.retain(|_, cell| {
                cell.collect(cut);
                !cell.is_empty()
            }),
        }
        self.drop_empty_items();
    }
}
