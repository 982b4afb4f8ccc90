//! What a member lacks, found by comparing digests of 256 buckets: only the objects of buckets that differ are looked at, and
//! of these only those that differ are sent. What the member holds beyond that stays: absence is not deletion.

use std::collections::{BTreeMap, BTreeSet};

use meridian_api::ids::{ObjectId, Revision};
use meridian_api::link::digest::{Digest, bucket};

/// The state of objects: revision and hash of each.
pub type States = BTreeMap<ObjectId, (Revision, Vec<u8>)>;

/// A comparison that goes on. Whoever has none left open is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    open: BTreeSet<u8>,
    /// Parts of buckets whose last page has not come.
    parts: States,
    /// What the member holds as it is wanted, with the revision that it has.
    agreed: BTreeMap<ObjectId, Revision>,
}

impl Comparison {
    /// Begins to compare what is wanted with what a member says it holds.
    #[must_use]
    pub fn begin(wanted: &States, theirs: &Digest) -> Self {
        let mut ours = Digest::default();
        for (object, (revision, hash)) in wanted {
            ours.add(*object, *revision, hash);
        }
        let open: BTreeSet<u8> = ours.differing(theirs).into_iter().collect();
        let agreed = wanted
            .iter()
            .filter(|(object, _)| !open.contains(&bucket(**object)))
            .map(|(object, (revision, _))| (*object, *revision))
            .collect();
        Self {
            open,
            parts: States::new(),
            agreed,
        }
    }

    /// The buckets to ask for. An empty question would ask for all: whoever differs in none asks nothing.
    #[must_use]
    pub fn asks(&self) -> Vec<u32> {
        self.open.iter().map(|bucket| u32::from(*bucket)).collect()
    }

    /// Whether every bucket is compared.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.open.is_empty()
    }

    /// What the member holds as it is wanted, as far as was compared, with the revision that it has.
    #[must_use]
    pub fn agreed(self) -> BTreeMap<ObjectId, Revision> {
        self.agreed
    }

    /// Takes a page of one bucket in; what is to be sent of it, once the `last` has come.
    pub fn page(
        &mut self,
        of: u8,
        held: impl IntoIterator<Item = (ObjectId, (Revision, Vec<u8>))>,
        last: bool,
        wanted: &States,
    ) -> BTreeSet<ObjectId> {
        if !self.open.contains(&of) {
            return BTreeSet::new();
        }
        let held = held.into_iter().filter(|(object, _)| bucket(*object) == of);
        self.parts.extend(held);
        if !last {
            return BTreeSet::new();
        }
        self.open.remove(&of);
        let mut lacking = BTreeSet::new();
        for (object, state) in in_bucket(wanted, of) {
            if self.parts.get(object) == Some(state) {
                self.agreed.insert(*object, state.0);
            } else {
                lacking.insert(*object);
            }
        }
        self.parts.retain(|object, _| bucket(*object) != of);
        lacking
    }

    /// Waits for no page any more: everything of the buckets that are still open is to be sent.
    pub fn give_up(&mut self, wanted: &States) -> BTreeSet<ObjectId> {
        let open = std::mem::take(&mut self.open);
        self.parts.clear();
        let objects = open.into_iter().flat_map(|of| in_bucket(wanted, of));
        objects.map(|(object, _)| *object).collect()
    }
}

fn in_bucket(wanted: &States, of: u8) -> impl Iterator<Item = (&ObjectId, &(Revision, Vec<u8>))> {
    wanted
        .iter()
        .filter(move |(object, _)| bucket(**object) == of)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn states() -> impl Strategy<Value = States> {
        let id = (1u128..400).prop_map(|n| ObjectId::new(Uuid::from_u128(n)).unwrap());
        let state = (1u64..4, 0u8..3).prop_map(|(rev, hash)| (Revision(rev), vec![hash]));
        prop::collection::btree_map(id, state, 0..120)
    }

    fn digest(states: &States) -> Digest {
        let mut digest = Digest::default();
        for (object, (revision, hash)) in states {
            digest.add(*object, *revision, hash);
        }
        digest
    }

    proptest! {
        #[test]
        fn what_is_sent_makes_them_equal_and_nothing_of_equal_buckets_is_sent(
            wanted in states(),
            held in states(),
            page in 1usize..5,
        ) {
            let theirs = digest(&held);
            let mut comparison = Comparison::begin(&wanted, &theirs);
            let mut sent = BTreeSet::new();
            for of in comparison.asks() {
                let of = u8::try_from(of).unwrap();
                let all: Vec<_> = held.clone().into_iter().filter(|(id, _)| bucket(*id) == of).collect();
                let pages: Vec<_> = all.chunks(page).map(<[_]>::to_vec).collect();
                let pages = if pages.is_empty() { vec![Vec::new()] } else { pages };
                let count = pages.len();
                for (at, entries) in pages.into_iter().enumerate() {
                    sent.extend(comparison.page(of, entries, at + 1 == count, &wanted));
                }
            }
            prop_assert!(comparison.is_over());
            let mut after = held.clone();
            for object in &sent {
                prop_assert_ne!(held.get(object), wanted.get(object), "it is there already");
                after.insert(*object, wanted[object].clone());
            }
            for (object, state) in &wanted {
                prop_assert_eq!(after.get(object), Some(state));
            }
            let differing = digest(&wanted).differing(&theirs);
            for object in &sent {
                prop_assert!(differing.contains(&bucket(*object)));
            }
            let rest = wanted.iter().filter(|(object, _)| !sent.contains(object));
            let rest: BTreeMap<_, _> = rest.map(|(object, (revision, _))| (*object, *revision)).collect();
            prop_assert_eq!(comparison.agreed(), rest);
        }

        #[test]
        fn whoever_sends_no_pages_is_sent_every_object_of_the_buckets_that_differ(
            wanted in states(),
            held in states(),
        ) {
            let mut comparison = Comparison::begin(&wanted, &digest(&held));
            let sent = comparison.give_up(&wanted);
            prop_assert!(comparison.is_over());
            for (object, state) in &wanted {
                prop_assert!(sent.contains(object) || held.get(object) == Some(state));
            }
        }
    }

    #[test]
    fn pages_that_nobody_asked_for_change_nothing() {
        let object = ObjectId::new(Uuid::from_u128(7)).unwrap();
        let wanted = States::from([(object, (Revision(1), vec![1]))]);
        let mut comparison = Comparison::begin(&wanted, &digest(&wanted));
        assert!(comparison.is_over() && comparison.asks().is_empty());
        assert_eq!(comparison.page(7, [], true, &wanted), BTreeSet::new());
    }
}
