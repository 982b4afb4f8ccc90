//! The newest transactions in memory, so that those who follow the store read its log only where they are far behind.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Found;
use crate::store::{Batch, Change, Revision};

/// Most bytes of keys and values that are kept.
const BYTES: usize = 1024 * 1024;
/// Most transactions that are kept.
const BATCHES: usize = 1024;

/// Every transaction above a revision. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Recent(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    /// What is kept begins above this revision and has no gap.
    since: Revision,
    head: Revision,
    batches: VecDeque<Batch>,
    bytes: usize,
}

fn size(batch: &Batch) -> usize {
    let changes = batch.changes.iter();
    changes
        .map(|change| change.key.len() + change.value.as_ref().map_or(0, bytes::Bytes::len))
        .sum()
}

impl Recent {
    /// Nothing yet of what follows on this revision.
    pub(super) fn after_revision(head: Revision) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            since: head,
            head,
            batches: VecDeque::new(),
            bytes: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what is durable up to this revision: all transactions since the last call, in their order.
    pub(super) fn extend(&self, batches: Vec<Batch>, head: Revision) {
        let mut kept = self.lock();
        kept.bytes += batches.iter().map(size).sum::<usize>();
        kept.batches.extend(batches);
        kept.head = head;
        while (kept.bytes > BYTES || kept.batches.len() > BATCHES)
            && let Some(oldest) = kept.batches.pop_front()
        {
            kept.bytes -= size(&oldest);
            kept.since = oldest.revision;
        }
    }

    /// What changed below the prefix above `after`; `None` if not all of that is kept.
    pub(super) fn below(&self, prefix: &str, after: Revision) -> Option<Found> {
        let kept = self.lock();
        if after < kept.since {
            return None;
        }
        let first = kept
            .batches
            .partition_point(|batch| batch.revision <= after);
        let batches = kept.batches.range(first..).filter_map(|batch| {
            let mine = batch.changes.iter();
            let mine = mine.filter(|change| change.key.starts_with(prefix));
            let changes: Vec<Change> = mine.cloned().collect();
            (!changes.is_empty()).then_some(Batch {
                revision: batch.revision,
                changes,
            })
        });
        Some(Found::Batches {
            batches: batches.collect(),
            searched: kept.head.max(after),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(revision: u64, bytes: usize) -> Batch {
        let change = Change {
            key: format!("/a/{revision}"),
            value: Some(vec![0; bytes].into()),
        };
        Batch {
            revision: Revision(revision),
            changes: vec![change],
        }
    }

    /// Revisions, and how far was searched; `None` if the log has to be read.
    fn found(recent: &Recent, prefix: &str, after: u64) -> Option<(Vec<u64>, u64)> {
        match recent.below(prefix, Revision(after))? {
            Found::Batches { batches, searched } => {
                let revisions = batches.iter().map(|batch| batch.revision.0);
                Some((revisions.collect(), searched.0))
            }
            Found::Compacted { .. } => None,
        }
    }

    #[test]
    fn what_is_kept_is_told_from_any_revision_of_it_and_nothing_of_what_was_before() {
        let recent = Recent::after_revision(Revision(7));
        assert_eq!(found(&recent, "", 6), None);
        assert_eq!(found(&recent, "", 7), Some((vec![], 7)));
        recent.extend(vec![batch(8, 1), batch(9, 1)], Revision(9));
        assert_eq!(found(&recent, "/a/", 7), Some((vec![8, 9], 9)));
        assert_eq!(found(&recent, "/a/", 8), Some((vec![9], 9)));
        assert_eq!(found(&recent, "/b/", 7), Some((vec![], 9)));
        assert_eq!(found(&recent, "", 6), None);
    }

    #[test]
    fn what_exceeds_the_limits_is_forgotten_from_its_beginning_on() {
        let recent = Recent::after_revision(Revision(0));
        for revision in 1..=4 {
            recent.extend(vec![batch(revision, BYTES / 3)], Revision(revision));
        }
        assert_eq!(found(&recent, "", 1), None);
        assert_eq!(found(&recent, "", 2), Some((vec![3, 4], 4)));
        for revision in 5..5 + 2 * BATCHES as u64 {
            recent.extend(vec![batch(revision, 1)], Revision(revision));
        }
        let head = 4 + 2 * BATCHES as u64;
        assert_eq!(found(&recent, "", head - BATCHES as u64 - 1), None);
        let kept = found(&recent, "", head - BATCHES as u64);
        assert_eq!(kept.map(|(revisions, _)| revisions.len()), Some(BATCHES));
    }
}
