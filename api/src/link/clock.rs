//! How far the wall clocks of both ends are apart, for people: nothing is decided by it.

use super::proto;

/// A measured difference of the wall clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    /// By how much the other clock is ahead of ours, milliseconds; negative if it is behind.
    pub ahead_ms: i64,
    /// The way there and back, milliseconds: the measurement is off by at most half of it.
    pub trip_ms: i64,
}

/// Difference of the clocks that people are warned of, milliseconds.
pub const WARNED_MS: i64 = 5_000;

impl Skew {
    /// Measures with a Beat that arrives while our wall clock shows `wall_ms` and our monotonic clock `mono_ms`. `None` until
    /// the other side has heard a Beat of ours, because the way is not known before.
    #[must_use]
    pub fn of(beat: &proto::Beat, wall_ms: i64, mono_ms: i64) -> Option<Self> {
        if beat.echo_mono_ms == 0 || beat.wall_ms == 0 {
            return None;
        }
        let since = mono_ms.checked_sub(beat.echo_mono_ms)?;
        let trip_ms = since.checked_sub(beat.echo_held_ms.max(0))?.max(0);
        // It was sent half of the way ago.
        let then = wall_ms.checked_sub(trip_ms / 2)?;
        Some(Self {
            ahead_ms: beat.wall_ms.checked_sub(then)?,
            trip_ms,
        })
    }

    /// Whether people are warned of it: where it is more than [`WARNED_MS`], however the way was divided.
    #[must_use]
    pub fn is_large(self) -> bool {
        self.ahead_ms.saturating_abs() > WARNED_MS.saturating_add(self.trip_ms / 2)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn beat(wall_ms: i64, echo_mono_ms: i64, echo_held_ms: i64) -> proto::Beat {
        proto::Beat {
            wall_ms,
            echo_mono_ms,
            echo_held_ms,
            ..proto::Beat::default()
        }
    }

    proptest! {
        /// With ways of equal length the skew is exact, however long the other side waited before it answered.
        #[test]
        fn the_skew_is_measured_whatever_the_way_and_the_wait(
            ahead in -1_000_000i64..1_000_000,
            half_trip in 0i64..60_000,
            held in 0i64..60_000,
            sent in 1i64..1_000_000,
        ) {
            let (mono, wall) = (sent + 2 * half_trip + held, 1_800_000_000_000);
            let theirs = wall - half_trip + ahead;
            let skew = Skew::of(&beat(theirs, sent, held), wall, mono).unwrap();
            prop_assert_eq!(skew, Skew { ahead_ms: ahead, trip_ms: 2 * half_trip });
        }

        #[test]
        fn no_numbers_of_the_other_side_break_anything(
            wall: i64, echo: i64, held: i64, ours: i64, mono: i64,
        ) {
            if let Some(skew) = Skew::of(&beat(wall, echo, held), ours, mono) {
                prop_assert!(skew.trip_ms >= 0);
                let _ = skew.is_large();
            }
        }
    }

    #[test]
    fn before_the_first_echo_nothing_is_known() {
        assert_eq!(Skew::of(&beat(5, 0, 0), 5, 5), None);
        assert_eq!(Skew::of(&beat(0, 5, 0), 5, 5), None);
    }

    #[test]
    fn people_are_warned_above_five_seconds_in_either_direction() {
        let is_large = |ahead_ms, trip_ms| Skew { ahead_ms, trip_ms }.is_large();
        assert!(is_large(5_001, 0) && is_large(-5_001, 0) && is_large(i64::MIN, 0));
        assert!(!is_large(5_000, 0) && !is_large(-5_000, 0));
        assert!(
            !is_large(6_000, 2_000) && is_large(6_001, 2_000),
            "a slow way is no wrong clock"
        );
    }
}
