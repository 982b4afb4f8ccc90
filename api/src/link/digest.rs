//! Bucket digests: how hub and agent find the objects on which they differ without listing all.
//!
//! Each managed object falls into one of 256 buckets by its id. The digest of a bucket is the sum (mod 2^64) of a 64-bit
//! fingerprint of each (id, revision, hash) in it: independent of order, and an object is added or removed in constant
//! time. It finds differences between honest ends; it is no defence against a forger.

use super::Bytes;
use crate::ids::{ObjectId, Revision};

/// Number of buckets.
pub const BUCKETS: usize = 256;

/// Length of the digest on the wire, bytes.
pub const WIRE_LENGTH: usize = BUCKETS * 8;

/// A digest on the wire that has the wrong length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("digest: found {found} bytes, expected {WIRE_LENGTH}")]
pub struct DigestLength {
    /// The length.
    pub found: usize,
}

/// The digests of all buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest([u64; BUCKETS]);

impl Default for Digest {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

/// The bucket that an object falls into.
pub fn bucket(object: ObjectId) -> u8 {
    // The last byte is random in every version of UUID that is drawn; the first ones of version 7 are a clock.
    object.uuid().as_bytes()[15]
}

impl Digest {
    /// Adds an object as it is held.
    pub fn add(&mut self, object: ObjectId, revision: Revision, hash: &[u8]) {
        let bucket = &mut self.0[usize::from(bucket(object))];
        *bucket = bucket.wrapping_add(fingerprint(object, revision, hash));
    }

    /// Takes back exactly what was added.
    pub fn remove(&mut self, object: ObjectId, revision: Revision, hash: &[u8]) {
        let bucket = &mut self.0[usize::from(bucket(object))];
        *bucket = bucket.wrapping_sub(fingerprint(object, revision, hash));
    }

    /// The buckets in which two digests differ, in rising order.
    pub fn differing(&self, other: &Self) -> Vec<u8> {
        (0..=u8::MAX)
            .filter(|bucket| self.0[usize::from(*bucket)] != other.0[usize::from(*bucket)])
            .collect()
    }

    /// As bytes: 256 numbers of 8 bytes, most significant first.
    pub fn to_wire(&self) -> Bytes {
        self.0
            .iter()
            .flat_map(|bucket| bucket.to_be_bytes())
            .collect()
    }

    /// From bytes; no bytes at all are the digest of nothing.
    pub fn from_wire(wire: &[u8]) -> Result<Self, DigestLength> {
        let mut digest = Self::default();
        if wire.is_empty() {
            return Ok(digest);
        }
        let (chunks, rest) = wire.as_chunks::<8>();
        if chunks.len() != BUCKETS || !rest.is_empty() {
            return Err(DigestLength { found: wire.len() });
        }
        for (bucket, chunk) in digest.0.iter_mut().zip(chunks) {
            *bucket = u64::from_be_bytes(*chunk);
        }
        Ok(digest)
    }
}

/// FNV-1a over (id, revision, hash), then the finaliser of SplitMix64 so that sums of similar inputs do not cancel.
fn fingerprint(object: ObjectId, revision: Revision, hash: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let fnv = object
        .uuid()
        .as_bytes()
        .iter()
        .chain(&revision.0.to_be_bytes())
        .chain(hash)
        .fold(OFFSET, |state, byte| {
            (state ^ u64::from(*byte)).wrapping_mul(PRIME)
        });
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn object(n: u128) -> ObjectId {
        ObjectId::new(Uuid::from_u128(n)).unwrap()
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_removal_undoes(
            objects in proptest::collection::btree_map(1u128.., (0u64.., proptest::collection::vec(any::<u8>(), 0..33)), 1..40),
        ) {
            let mut forward = Digest::default();
            let mut backward = Digest::default();
            for (id, (revision, hash)) in &objects {
                forward.add(object(*id), Revision(*revision), hash);
            }
            for (id, (revision, hash)) in objects.iter().rev() {
                backward.add(object(*id), Revision(*revision), hash);
            }
            prop_assert_eq!(&forward, &backward);
            let (id, (revision, hash)) = objects.first_key_value().unwrap();
            backward.remove(object(*id), Revision(*revision), hash);
            prop_assert_eq!(forward.differing(&backward), vec![bucket(object(*id))]);
        }

        #[test]
        fn the_wire_form_reads_back(ids in proptest::collection::btree_set(1u128.., 0..40)) {
            let mut digest = Digest::default();
            for id in ids {
                digest.add(object(id), Revision(1), b"hash");
            }
            let wire = digest.to_wire();
            prop_assert_eq!(wire.len(), WIRE_LENGTH);
            prop_assert_eq!(Digest::from_wire(&wire), Ok(digest));
        }
    }

    #[test]
    fn a_changed_revision_or_hash_changes_the_bucket() {
        let digest = |revision, hash: &[u8]| {
            let mut digest = Digest::default();
            digest.add(object(7), Revision(revision), hash);
            digest
        };
        let base = digest(1, b"a");
        assert_eq!(base.differing(&digest(2, b"a")), [7]);
        assert_eq!(base.differing(&digest(1, b"b")), [7]);
        assert!(base.differing(&base).is_empty());
    }

    #[test]
    fn a_digest_of_another_length_is_refused() {
        assert_eq!(Digest::from_wire(&[]), Ok(Digest::default()));
        assert_eq!(Digest::from_wire(&[0; 7]), Err(DigestLength { found: 7 }));
        assert_eq!(
            Digest::from_wire(&[0; WIRE_LENGTH + 8]),
            Err(DigestLength {
                found: WIRE_LENGTH + 8
            })
        );
    }
}
