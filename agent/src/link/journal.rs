//! What the agent remembers of the hub's orders across restarts. Pure.
//!
//! An Apply is acknowledged when it is *in here and stored*; only then is it carried out. So a crash between the two
//! loses nothing, and an order that was acknowledged is carried out even if the hub is away by then. The newest order
//! of an object replaces the older ones: the journal is bounded by the number of objects, not by time.

use std::collections::{BTreeMap, BTreeSet};

use meridian_api::ids::{ObjectId, Revision, StoreId, Term};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::freeze::Freeze;
use super::order::{Mark, Order, Position, Wish};

/// Version of the stored form.
const VERSION: u8 = 1;
/// Tombstones that are remembered. The oldest go first; object ids are never used twice, so forgetting one only
/// matters if the hub replays an order that is older than that many deletions.
const TOMBSTONES: usize = 2000;
/// Bytes that a stored journal may take; a Secret may hold 1 MiB.
pub const CAPACITY: usize = 900 * 1024;

/// The agent's memory of the hub's orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Journal {
    version: u8,
    position: Option<Position>,
    /// Highest term that was obeyed, which may be above that of the position: a hub that had nothing to order.
    #[serde(default)]
    term: Term,
    /// The hub of that term, as it welcomed us first: with its incarnation, so that it can be told which hub it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<Position>,
    #[serde(default)]
    pending: BTreeMap<ObjectId, Order>,
    #[serde(default)]
    deleted: BTreeMap<ObjectId, Mark>,
    /// Objects that were applied and not deleted since: one that is missing was lost.
    #[serde(default)]
    held: BTreeSet<ObjectId>,
    /// What each of them was applied by last. A journal of an older agent lacks it until the next order.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    marks: BTreeMap<ObjectId, Mark>,
    /// The `metadata.uid` of each of them: another object of the name is not ours, whatever ours may have lost of its annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    uids: BTreeMap<ObjectId, String>,
    /// Objects written on the member that the hub took over: their `metadata.uid`.
    #[serde(default)]
    adopted: BTreeMap<ObjectId, String>,
    #[serde(default, skip_serializing_if = "Freeze::is_over")]
    frozen: Freeze,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            version: VERSION,
            position: None,
            term: Term(0),
            seen: None,
            pending: BTreeMap::new(),
            deleted: BTreeMap::new(),
            held: BTreeSet::new(),
            marks: BTreeMap::new(),
            uids: BTreeMap::new(),
            adopted: BTreeMap::new(),
            frozen: Freeze::default(),
        }
    }
}

/// Why a hub is not obeyed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Stranger {
    /// A store that we do not know.
    #[error(
        "the hub's store is {found}, expected {known}: nothing of it is applied until it is adopted on the hub"
    )]
    OtherStore {
        /// The store that we obeyed.
        known: StoreId,
        /// The store that speaks.
        found: StoreId,
    },
    /// A term that is over.
    #[error(
        "the hub speaks of term {found}, expected at least {known}: another hub has taken over, or its store went back"
    )]
    LowerTerm {
        /// The term that we obeyed.
        known: Term,
        /// The term that speaks.
        found: Term,
    },
    /// A head below what we have stored.
    #[error(
        "the hub's store is at revision {found}, expected at least {known}: it went back in time"
    )]
    WentBack {
        /// The revision that we stored.
        known: Revision,
        /// The head of the hub.
        found: Revision,
    },
}

/// Why a stored journal cannot be read.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Not the expected form.
    #[error(
        "the stored journal cannot be read: {0}; if it was edited by hand, put the old text back"
    )]
    Unreadable(#[from] serde_json::Error),
    /// Of a later agent.
    #[error(
        "the stored journal has version {found}, expected {VERSION}: run the agent that wrote it, or a newer one"
    )]
    Version {
        /// What was found.
        found: u8,
    },
}

/// What became of an order that was handed to [`Journal::accept`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is to be carried out.
    New,
    /// It is known already; nothing changed.
    Known,
    /// A newer state of the object is known.
    Stale {
        /// The newer state.
        newest: Mark,
    },
}

impl Journal {
    /// Reads what [`Journal::write`] wrote.
    ///
    /// # Errors
    /// [`JournalError`]: unreadable, or of another version. A journal that cannot be read is never taken for empty.
    pub fn read(text: &[u8]) -> Result<Self, JournalError> {
        let journal: Self = serde_json::from_slice(text)?;
        if journal.version != VERSION {
            return Err(JournalError::Version {
                found: journal.version,
            });
        }
        Ok(journal)
    }

    /// The stored form.
    ///
    /// # Errors
    /// [`JournalError::Unreadable`] if the JSON encoder fails, which it has no reason to.
    pub fn write(&self) -> Result<Vec<u8>, JournalError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// The position reached, for Hello; `None` before the first Apply.
    #[must_use]
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// The head of the first Welcome of the highest term that was obeyed, for Hello: a hub that never had that term has gone
    /// back in time, and can know it from nothing else if the term ordered nothing.
    #[must_use]
    pub fn seen(&self) -> Option<&Position> {
        self.seen.as_ref()
    }

    /// Whether a hub whose head is `head` may be obeyed.
    ///
    /// # Errors
    /// [`Stranger`] says why not. The hub itself knows its lineage of incarnations and answers OBSERVE for those.
    pub fn judge_head(&self, head: &Position) -> Result<(), Stranger> {
        self.judge_speaker(head)?;
        let Some(known) = &self.position else {
            return Ok(());
        };
        if head.term == known.term && head.revision < known.revision {
            return Err(Stranger::WentBack {
                known: known.revision,
                found: head.revision,
            });
        }
        Ok(())
    }

    fn judge_speaker(&self, speaker: &Position) -> Result<(), Stranger> {
        let known = self.position.as_ref();
        if let Some(known) = known.filter(|known| known.store_id != speaker.store_id) {
            return Err(Stranger::OtherStore {
                known: known.store_id,
                found: speaker.store_id,
            });
        }
        // Without a position nothing of the other store was ever applied: terms are compared within one store only.
        let seen = self.seen.as_ref();
        let seen = seen.filter(|seen| seen.store_id == speaker.store_id);
        let of_known = known.map(|known| known.term.max(self.term));
        let highest = of_known.max(seen.map(|seen| seen.term));
        if let Some(highest) = highest.filter(|highest| speaker.term < *highest) {
            return Err(Stranger::LowerTerm {
                known: highest,
                found: speaker.term,
            });
        }
        Ok(())
    }

    /// A hub of `head` is obeyed from now on: none of a lower term will be. Tells whether that is news.
    pub fn obey(&mut self, head: &Position) -> bool {
        let same = |seen: &Position| {
            (seen.store_id, seen.term, seen.incarnation)
                == (head.store_id, head.term, head.incarnation)
        };
        if self.seen.as_ref().is_some_and(same) {
            return false;
        }
        self.term = head.term;
        self.seen = Some(head.clone());
        true
    }

    /// Takes a batch in. Either the whole batch is taken, or the speaker is a stranger and nothing changes.
    ///
    /// # Errors
    /// [`Stranger`]: another store or a lower term.
    pub fn accept(
        &mut self,
        upto: &Position,
        orders: Vec<Order>,
    ) -> Result<Vec<(ObjectId, Accepted)>, Stranger> {
        self.judge_speaker(upto)?;
        let taken = orders
            .into_iter()
            .map(|order| (order.object_id, self.accept_one(order)))
            .collect();
        self.term = self.term.max(upto.term);
        match &mut self.position {
            Some(known) if (known.term, known.incarnation) == (upto.term, upto.incarnation) => {
                known.revision = known.revision.max(upto.revision);
            }
            // Another reign: what it has sent so far is all that we may claim to have of it.
            position => *position = Some(upto.clone()),
        }
        Ok(taken)
    }

    fn accept_one(&mut self, order: Order) -> Accepted {
        let of_pending = self
            .pending
            .get(&order.object_id)
            .map(|pending| pending.mark);
        let newest = of_pending.max(self.deleted.get(&order.object_id).copied());
        match newest {
            Some(newest) if newest == order.mark => Accepted::Known,
            Some(newest) if newest > order.mark => Accepted::Stale { newest },
            _ => {
                self.pending.insert(order.object_id, order);
                Accepted::New
            }
        }
    }

    /// Follows the hub to another store: only on a person's decision at the hub, which arrives as a Confirm.
    pub fn adopt_store(&mut self, head: &Position) {
        self.position = Some(Position {
            revision: Revision(0),
            ..head.clone()
        });
        self.term = head.term;
        self.seen = Some(head.clone());
        self.pending.clear();
        // Marks of another store cannot be compared with those of this one.
        self.deleted.clear();
        self.marks.clear();
    }

    /// Notes that the hub took over the object `uid` that was written on the member.
    pub fn adopt_object(&mut self, object_id: ObjectId, uid: &str) {
        self.adopted.insert(object_id, uid.to_owned());
    }

    /// The `metadata.uid` of the object that the hub took over as `object_id`.
    #[must_use]
    pub fn adopted(&self, object_id: &ObjectId) -> Option<&str> {
        self.adopted.get(object_id).map(String::as_str)
    }

    /// What the hub has frozen.
    #[must_use]
    pub fn frozen(&self) -> &Freeze {
        &self.frozen
    }

    /// Follows what the hub freezes and thaws. Tells whether that is news.
    pub fn freeze(&mut self, frozen: Freeze) -> bool {
        let news = self.frozen != frozen;
        self.frozen = frozen;
        news
    }

    /// Orders that are not carried out yet.
    #[must_use]
    pub fn pending(&self) -> &BTreeMap<ObjectId, Order> {
        &self.pending
    }

    /// Objects whose deletion was carried out, with its mark.
    #[must_use]
    pub fn deleted(&self, object_id: &ObjectId) -> Option<Mark> {
        self.deleted.get(object_id).copied()
    }

    /// Pending orders that wait for no other pending order, by the order of their kinds: what is needed by others is
    /// written first and deleted last.
    #[must_use]
    pub fn ready(&self) -> Vec<ObjectId> {
        let waits = |order: &Order| {
            order
                .after
                .iter()
                .any(|id| *id != order.object_id && self.pending.contains_key(id))
        };
        let mut ready: Vec<&Order> = self
            .pending
            .values()
            .filter(|order| !waits(order))
            .collect();
        ready.sort_by_key(|order| match order.wish {
            Wish::Upsert { .. } => (0, order.kind as u8),
            Wish::Delete { .. } => (1, u8::MAX - order.kind as u8),
        });
        ready.into_iter().map(|order| order.object_id).collect()
    }

    /// Pending orders that the order of `object_id` waits for.
    #[must_use]
    pub fn waits_for(&self, object_id: &ObjectId) -> BTreeSet<ObjectId> {
        let Some(order) = self.pending.get(object_id) else {
            return BTreeSet::new();
        };
        order
            .after
            .iter()
            .filter(|id| *id != object_id && self.pending.contains_key(id))
            .copied()
            .collect()
    }

    /// The order of `mark` is finished. An order that replaced it in the meantime stays.
    pub fn finish(&mut self, object_id: &ObjectId, mark: Mark) {
        let Some(order) = self
            .pending
            .get(object_id)
            .filter(|order| order.mark == mark)
        else {
            return;
        };
        match order.wish {
            Wish::Upsert { .. } => {
                self.held.insert(*object_id);
                self.marks.insert(*object_id, mark);
            }
            Wish::Delete { .. } => {
                self.deleted.insert(*object_id, mark);
                self.held.remove(object_id);
                self.marks.remove(object_id);
                self.uids.remove(object_id);
                self.adopted.remove(object_id);
                self.forget_old_tombstones();
            }
        }
        self.pending.remove(object_id);
    }

    /// Whether the object was applied here and not deleted since.
    #[must_use]
    pub fn holds(&self, object_id: &ObjectId) -> bool {
        self.held.contains(object_id)
    }

    /// The object that was applied is this one of the API server.
    pub fn stands_as(&mut self, object_id: ObjectId, uid: String) {
        if self.held.contains(&object_id) {
            self.uids.insert(object_id, uid);
        }
    }

    /// The `metadata.uid` of the object that was applied, if it is known.
    #[must_use]
    pub fn uid(&self, object_id: &ObjectId) -> Option<&str> {
        self.uids.get(object_id).map(String::as_str)
    }

    /// Objects that were applied, should be there, and are not among `live`.
    #[must_use]
    pub fn lost(&self, live: &BTreeSet<ObjectId>) -> BTreeSet<ObjectId> {
        let lost = self.held.difference(live);
        lost.filter(|id| !self.pending.contains_key(id))
            .copied()
            .collect()
    }

    /// The object that `order` made was lost or edited: it is carried out once more, unless a newer one is known.
    pub fn again(&mut self, order: Order) {
        self.accept_one(order);
    }

    /// Like [`Journal::again`], of an order that is remembered from a journal before this one: only if it is what the object was
    /// applied by last, and nothing was ordered since. Tells whether it is carried out.
    pub fn again_if_newest(&mut self, order: Order) -> bool {
        let id = order.object_id;
        let newest = self.marks.get(&id) == Some(&order.mark) && !self.pending.contains_key(&id);
        newest && self.accept_one(order) == Accepted::New
    }

    /// The order of `mark` is refused: it goes, and leaves no trace.
    pub fn refuse(&mut self, object_id: &ObjectId, mark: Mark) {
        if self
            .pending
            .get(object_id)
            .is_some_and(|order| order.mark == mark)
        {
            self.pending.remove(object_id);
        }
    }

    /// The hub confirmed the pending deletion of exactly `revision`. Tells whether there was one.
    pub fn confirm_delete(
        &mut self,
        object_id: &ObjectId,
        revision: Revision,
        approved_by: &str,
    ) -> bool {
        let Some(order) = self
            .pending
            .get_mut(object_id)
            .filter(|order| order.mark.revision == revision)
        else {
            return false;
        };
        let Wish::Delete { approval, .. } = &mut order.wish else {
            return false;
        };
        *approval = Some(approved_by.to_owned());
        true
    }

    /// The hub decided to keep the object: its pending deletion, if there is one, is dropped. Returns its mark.
    pub fn keep(&mut self, object_id: &ObjectId) -> Option<Mark> {
        let order = self.pending.get(object_id)?;
        if !matches!(order.wish, Wish::Delete { .. }) {
            return None;
        }
        self.pending.remove(object_id).map(|order| order.mark)
    }

    /// Everything up to here is carried out or answered: one below the oldest pending order, or the position.
    #[must_use]
    pub fn applied_upto(&self) -> Revision {
        let Some(position) = &self.position else {
            return Revision(0);
        };
        let oldest = self
            .pending
            .values()
            .map(|order| order.mark.revision.0.saturating_sub(1))
            .min();
        Revision(
            oldest
                .unwrap_or(position.revision.0)
                .min(position.revision.0),
        )
    }

    fn forget_old_tombstones(&mut self) {
        while self.deleted.len() > TOMBSTONES {
            let Some(oldest) = self
                .deleted
                .iter()
                .min_by_key(|(_, mark)| **mark)
                .map(|(id, _)| *id)
            else {
                return;
            };
            self.deleted.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
