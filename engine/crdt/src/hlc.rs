//! Hybrid logical time (Kulkarni, Demirbas, Madappa, Avva, Leone 2014): close to the wall clock, and never behind
//! anything its owner has seen, so that a write that was seen always has the smaller time.

use crate::id::Dot;
use std::cmp::{Ordering, Reverse};

/// 48 bits of milliseconds since 1970 and a 16-bit counter within the millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The first moment of a millisecond; milliseconds beyond 48 bits are cut to the last one.
    pub fn from_millis(ms: u64) -> Self {
        Self(ms.min((1 << 48) - 1) << 16)
    }

    /// The wall-clock part, milliseconds since 1970.
    pub fn millis(self) -> u64 {
        self.0 >> 16
    }

    /// The time of the next local event: the wall clock if it is ahead, otherwise one tick more than the last time.
    /// A counter that is full carries into the milliseconds.
    #[must_use]
    pub fn tick(self, now_ms: u64) -> Self {
        Self::from_millis(now_ms).max(Self(self.0.saturating_add(1)))
    }
}

/// The full order of writes: the later time wins, then the smaller instance id. The rest of the dot only separates
/// two lives of one instance that happened to use one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// When.
    pub hlc: Hlc,
    /// Which write.
    pub dot: Dot,
}

impl Ord for Stamp {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |s: &Self| (s.hlc, Reverse(s.dot.origin), s.dot.seq);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Stamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Incarnation, InstanceId, Origin};

    fn stamp(hlc: u64, instance: u32) -> Stamp {
        let origin = Origin {
            instance: InstanceId(instance),
            incarnation: Incarnation(7),
        };
        Stamp {
            hlc: Hlc(hlc),
            dot: Dot { origin, seq: 1 },
        }
    }

    #[test]
    fn later_time_wins_and_a_tie_goes_to_the_smaller_instance() {
        assert!(stamp(2, 9) > stamp(1, 1));
        assert!(stamp(2, 1) > stamp(2, 2));
    }

    #[test]
    fn time_never_stands_still_when_the_wall_clock_goes_back() {
        let seen = Hlc::from_millis(1_000);
        assert_eq!(seen.tick(900), Hlc(seen.0 + 1));
        assert_eq!(seen.tick(1_001), Hlc::from_millis(1_001));
        assert_eq!(Hlc(seen.0 | 0xffff).tick(900).millis(), 1_001);
    }
}
