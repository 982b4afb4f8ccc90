//! Where a store stands in its own history, and whether what a member obeyed last is part of that history.
//!
//! Every start of the hub opens a new term and draws a random incarnation. A term's last revision is the one before
//! the next term's first. A member that obeyed something outside of this line proves that the store went back in
//! time or is another one; then nothing may be applied or deleted until a person decides.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use meridian_api::ids::{Incarnation, Revision, StoreId, Term};
use serde::{Deserialize, Serialize};

/// The store's birth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Birth {
    /// Its identity.
    pub store_id: StoreId,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The certificate authority that the members of the store trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Anchor {
    /// Fingerprint of its public key.
    pub fingerprint: String,
    /// Trust domain of every identity that it signs; `None` in stores that are older than this field.
    #[serde(default)]
    pub trust_domain: Option<String>,
}

/// One start of the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// Term that it opened.
    pub term: Term,
    /// Random number of the start.
    pub incarnation: Incarnation,
    /// When.
    pub started_at: Timestamp,
}

/// A point in the history of some store, as a member remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Position {
    /// The store.
    pub store_id: StoreId,
    /// The term.
    pub term: Term,
    /// The start within the term.
    pub incarnation: Incarnation,
    /// The revision.
    pub revision: Revision,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            store_id,
            term,
            incarnation,
            revision,
        } = self;
        write!(
            f,
            "store {store_id}, term {term}, incarnation {incarnation}, revision {revision}"
        )
    }
}

/// What a member remembers of the hubs that it followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Where its orders ended: what it obeyed last.
    pub last: Option<Position>,
    /// The head of the first Welcome of the highest term that it followed, which may have ordered nothing. An agent that is
    /// older than this field says nothing of it.
    pub seen: Option<Position>,
}

impl Memory {
    /// What it remembers beside what is known already.
    #[must_use]
    pub fn without(self, known: Self) -> Self {
        Self {
            last: self.last.filter(|last| known.last != Some(*last)),
            seen: self.seen.filter(|seen| known.seen != Some(*seen)),
        }
    }

    /// The highest term in it.
    #[must_use]
    pub fn highest(self) -> Option<Term> {
        let terms = [self.last, self.seen].into_iter().flatten();
        terms.map(|position| position.term).max()
    }
}

/// The known starts with the revision at which each began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The store.
    pub store_id: StoreId,
    /// Term → (incarnation, first revision).
    pub starts: BTreeMap<Term, (Incarnation, Revision)>,
    /// The store's present revision: the last of the newest term so far.
    pub head: Revision,
}

/// Why a position is not in the line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stray {
    /// It belongs to another store.
    #[error(
        "the member obeyed {claimed}, but this hub's store is {ours}: the store was lost or replaced"
    )]
    OtherStore {
        /// What the member obeyed.
        claimed: Position,
        /// This store.
        ours: StoreId,
    },
    /// No start of this store had that term and incarnation.
    #[error(
        "the member obeyed {claimed}, which no start of this store had: an older copy of the store was put back"
    )]
    UnknownStart {
        /// What the member obeyed.
        claimed: Position,
    },
    /// The member followed a hub that ordered nothing and that this store never had.
    #[error(
        "the member was welcomed by the hub of {seen}, which no start of this store had: an older copy of the store was put back"
    )]
    UnknownWelcome {
        /// The head of that hub.
        seen: Position,
    },
    /// The start is known, the revision lies beyond its end.
    #[error(
        "the member obeyed {claimed}, but that term ended at revision {last} here: an older copy of the store was put back"
    )]
    Beyond {
        /// What the member obeyed.
        claimed: Position,
        /// Last revision of that term in this store.
        last: Revision,
    },
}

impl Line {
    /// Whether the position is part of this history.
    ///
    /// # Errors
    /// [`Stray`] says why it is not.
    pub fn verify(&self, claimed: Position) -> Result<(), Stray> {
        if claimed.store_id != self.store_id {
            return Err(Stray::OtherStore {
                claimed,
                ours: self.store_id,
            });
        }
        if !self.had(claimed) {
            return Err(Stray::UnknownStart { claimed });
        }
        let last = self.last_of(claimed.term);
        if claimed.revision > last {
            return Err(Stray::Beyond { claimed, last });
        }
        Ok(())
    }

    /// Whether what a member remembers is part of this history. A Welcome of another store says nothing: whoever obeyed an
    /// order of that store says so.
    ///
    /// # Errors
    /// [`Stray`] says why it is not.
    pub fn remembers(&self, memory: Memory) -> Result<(), Stray> {
        let Memory { last, seen } = memory;
        if let Some(last) = last {
            self.verify(last)?;
        }
        let ours = seen.filter(|seen| seen.store_id == self.store_id);
        match ours.filter(|seen| !self.had(*seen)) {
            Some(seen) => Err(Stray::UnknownWelcome { seen }),
            None => Ok(()),
        }
    }

    fn had(&self, position: Position) -> bool {
        let start = self.starts.get(&position.term);
        start.is_some_and(|(incarnation, _)| *incarnation == position.incarnation)
    }

    fn last_of(&self, term: Term) -> Revision {
        let mut later = self
            .starts
            .range((std::ops::Bound::Excluded(term), std::ops::Bound::Unbounded));
        later.next().map_or(self.head, |(_, (_, first))| {
            Revision(first.0.saturating_sub(1))
        })
    }
}

/// Why nothing may be applied, and what must be raised before it may again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Doubt {
    /// For people.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// What the member obeyed last, if a member raised the doubt.
    pub claimed: Option<Position>,
    /// The highest term that it followed. Doubts that are older than this field have none.
    #[serde(default)]
    pub seen: Option<Position>,
}

impl Doubt {
    /// What the member remembered that raised it.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory {
            last: self.claimed,
            seen: self.seen,
        }
    }
}

/// A position outside of the line that a person accepted for a member. It stands until the member has everything that
/// this hub wants of it; until then its sessions begin in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// What the member obeyed before, if anything.
    pub claimed: Option<Position>,
    /// The highest term that it followed before. What was accepted before this field was there has none.
    #[serde(default)]
    pub seen: Option<Position>,
    /// Who accepted it.
    pub approval: String,
}

impl Accepted {
    /// What the member remembered when a person accepted it.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory {
            last: self.claimed,
            seen: self.seen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: &str = "6f0c2a52-3b5e-4a3e-9d57-0d9a3c1f1e11";
    const OTHER: &str = "0d9a3c1f-3b5e-4a3e-9d57-6f0c2a521e11";

    fn line() -> Line {
        let starts = [
            (Term(1), (Incarnation(10), Revision(1))),
            (Term(3), (Incarnation(30), Revision(20))),
        ];
        Line {
            store_id: STORE.parse().unwrap(),
            starts: starts.into(),
            head: Revision(25),
        }
    }

    fn claim(store: &str, term: u64, incarnation: u64, revision: u64) -> Position {
        Position {
            store_id: store.parse().unwrap(),
            term: Term(term),
            incarnation: Incarnation(incarnation),
            revision: Revision(revision),
        }
    }

    #[test]
    fn positions_of_this_line_are_accepted_up_to_the_end_of_their_term() {
        for (term, incarnation, revision) in [(1, 10, 0), (1, 10, 19), (3, 30, 20), (3, 30, 25)] {
            line()
                .verify(claim(STORE, term, incarnation, revision))
                .unwrap();
        }
    }

    #[test]
    fn a_revision_beyond_the_end_of_its_term_is_astray() {
        let beyond = line().verify(claim(STORE, 1, 10, 20)).unwrap_err();
        assert!(
            matches!(
                beyond,
                Stray::Beyond {
                    last: Revision(19),
                    ..
                }
            ),
            "{beyond}"
        );
        let ahead = line().verify(claim(STORE, 3, 30, 26)).unwrap_err();
        assert!(
            matches!(
                ahead,
                Stray::Beyond {
                    last: Revision(25),
                    ..
                }
            ),
            "{ahead}"
        );
    }

    #[test]
    fn an_unknown_term_or_incarnation_is_astray() {
        for (term, incarnation) in [(2, 20), (3, 31), (4, 30)] {
            let stray = line()
                .verify(claim(STORE, term, incarnation, 1))
                .unwrap_err();
            assert!(matches!(stray, Stray::UnknownStart { .. }), "{stray}");
        }
    }

    #[test]
    fn a_welcome_by_a_hub_that_never_was_is_astray_but_one_of_another_store_says_nothing() {
        let seen = |seen| Memory {
            last: Some(claim(STORE, 1, 10, 5)),
            seen: Some(seen),
        };
        line().remembers(seen(claim(STORE, 3, 30, 999))).unwrap();
        line().remembers(seen(claim(OTHER, 9, 90, 1))).unwrap();
        for (term, incarnation) in [(2, 20), (3, 31), (4, 40)] {
            let memory = seen(claim(STORE, term, incarnation, 1));
            let stray = line().remembers(memory).unwrap_err();
            assert!(matches!(stray, Stray::UnknownWelcome { .. }), "{stray}");
        }
        let both = Memory {
            last: Some(claim(STORE, 2, 20, 1)),
            ..seen(claim(STORE, 4, 40, 1))
        };
        let stray = line().remembers(both).unwrap_err();
        assert!(matches!(stray, Stray::UnknownStart { .. }), "{stray}");
        assert_eq!(both.highest(), Some(Term(4)));
    }

    #[test]
    fn what_is_known_of_a_memory_is_not_asked_again() {
        let (last, seen) = (claim(STORE, 1, 10, 5), claim(STORE, 4, 40, 1));
        let both = Memory {
            last: Some(last),
            seen: Some(seen),
        };
        assert_eq!(both.without(both), Memory::default());
        let later = Memory {
            last: Some(claim(STORE, 5, 50, 1)),
            ..both
        };
        let news = Memory {
            seen: None,
            ..later
        };
        assert_eq!(later.without(both), news);
    }

    #[test]
    fn another_store_is_astray_whatever_its_numbers() {
        let stray = line().verify(claim(OTHER, 1, 10, 1)).unwrap_err();
        assert!(matches!(stray, Stray::OtherStore { .. }), "{stray}");
    }
}
