//! One number for all values of a shard, whatever the order in which they are fed. For comparing regions, not for secrets.

use crate::clock::Clock;

/// Sums up keys and their values; equal values give equal digests in any order of keys, elements and fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(u128);

impl Digest {
    /// No keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a string key.
    pub fn add_string(&mut self, key: &[u8], value: &[u8]) {
        self.add(&[b"s", key, value]);
    }

    /// Adds one element of a set key. Every element is added once.
    pub fn add_element(&mut self, key: &[u8], element: &[u8]) {
        self.add(&[b"e", key, element]);
    }

    /// Adds one field of a hash key. Every field is added once.
    pub fn add_field(&mut self, key: &[u8], field: &[u8], value: &[u8]) {
        self.add(&[b"f", key, field, value]);
    }

    /// The digest of all that was added.
    pub fn finish(self) -> u128 {
        self.0
    }

    /// The digest of a clock, apart from that of the values: reports move the clock while values stand still.
    pub fn of_clock(clock: &Clock) -> u128 {
        let mut digest = Self::new();
        digest.add(&[b"c", &clock.encode()]);
        digest.finish()
    }

    fn add(&mut self, parts: &[&[u8]]) {
        self.0 = self.0.wrapping_add(hash(parts));
    }
}

/// FNV-1a with 128 bits over the length and the bytes of each part, then mixed so that sums do not cancel out.
fn hash(parts: &[&[u8]]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut state = OFFSET;
    for part in parts {
        for byte in (part.len() as u64).to_le_bytes().iter().chain(*part) {
            state = (state ^ u128::from(*byte)).wrapping_mul(PRIME);
        }
    }
    state ^= state >> 67;
    state = state.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    state ^ (state >> 59)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_contents_do() {
        let digest = |pairs: &[(&str, &str)]| {
            let mut digest = Digest::new();
            for (key, value) in pairs {
                digest.add_string(key.as_bytes(), value.as_bytes());
            }
            digest.finish()
        };
        assert_eq!(
            digest(&[("a", "1"), ("b", "2")]),
            digest(&[("b", "2"), ("a", "1")])
        );
        assert_ne!(
            digest(&[("a", "1"), ("b", "2")]),
            digest(&[("a", "2"), ("b", "1")])
        );
        assert_ne!(digest(&[("ab", "c")]), digest(&[("a", "bc")]));
    }
}
