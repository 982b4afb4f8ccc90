//! When a certificate is renewed, and when again after that failed. Pure; hub and agent follow the same rules.
//!
//! The moment lies between [`EARLIEST`] and [`LATEST`] of the life, at a place that the certificate itself fixes: its serial
//! number is random, so a fleet does not renew at once, and a restart or a second look draws no other moment.

use std::fmt;
use std::time::Duration;

/// The earliest moment, in permille of the life.
pub const EARLIEST: u32 = 500;
/// The latest moment, in permille of the life.
pub const LATEST: u32 = 660;
/// Whoever holds a certificate for less than this part (permille) of its life does not renew it, whatever the clock says: with
/// a wrong clock each new certificate would seem old.
pub const AT_LEAST: u32 = 50;
/// Pause after the first failure; it doubles with each further one.
pub const FIRST_PAUSE: Duration = Duration::from_secs(15);
/// Longest pause between two attempts.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Shortest pause, however little is left of the life.
pub const SHORTEST_PAUSE: Duration = Duration::from_secs(5);

/// The life of a certificate, milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// First moment.
    pub not_before_ms: i64,
    /// Last moment.
    pub not_after_ms: i64,
}

impl Life {
    /// Whether it has ended.
    #[must_use]
    pub fn ended(self, now_ms: i64) -> bool {
        now_ms >= self.not_after_ms
    }

    /// The moment when the certificate (DER) with this life is to be renewed, milliseconds since 1970.
    #[must_use]
    pub fn renewed_at(self, certificate: &[u8]) -> i64 {
        let spread = u64::from(LATEST - EARLIEST + 1);
        let place = EARLIEST + u32::try_from(mixed(certificate) % spread).unwrap_or(0);
        self.not_before_ms.saturating_add(self.part(place))
    }

    /// How long the certificate is to be held at least before it is renewed, by a clock that nobody sets.
    #[must_use]
    pub fn held_at_least(self) -> Duration {
        Duration::from_millis(self.part(AT_LEAST).unsigned_abs())
    }

    /// What is left of it.
    #[must_use]
    pub fn left(self, now_ms: i64) -> Left {
        Left(self.not_after_ms.saturating_sub(now_ms))
    }

    fn part(self, permille: u32) -> i64 {
        let span = self.not_after_ms.saturating_sub(self.not_before_ms).max(0);
        span / 1000 * i64::from(permille)
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): enough to scatter random serial numbers; nothing is kept secret by it.
fn mixed(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// How much of a certificate's life is left, in milliseconds; negative after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left(pub i64);

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.0.unsigned_abs() / 60_000;
        let (amount, unit) = match minutes {
            0..=119 => (minutes, "minutes"),
            120..=2879 => (minutes / 60, "hours"),
            _ => (minutes / 1440, "days"),
        };
        if self.0 < 0 {
            return write!(f, "ended {amount} {unit} ago");
        }
        write!(f, "{amount} {unit} left")
    }
}

/// How long to wait after so many failures in a row (1 or more), with a fresh random `unit` in `[0, 1)`: doubling from
/// [`FIRST_PAUSE`] to [`LONGEST_PAUSE`], at most a tenth of what is left, of that a random half to all.
#[must_use]
pub fn again(failures: u32, unit: f64, left: Left) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let grown = FIRST_PAUSE
        .saturating_mul(1 << doublings)
        .min(LONGEST_PAUSE);
    let tenth = Duration::from_millis(left.0.max(0).unsigned_abs() / 10);
    let pause = if left.0 > 0 { grown.min(tenth) } else { grown };
    let unit = if unit.is_finite() {
        unit.clamp(0.0, 1.0)
    } else {
        0.5
    };
    pause.max(SHORTEST_PAUSE).mul_f64(0.5 + unit / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400_000;

    proptest! {
        #[test]
        fn every_certificate_is_renewed_between_half_and_two_thirds_of_its_life(
            serial in prop::collection::vec(any::<u8>(), 0..40),
            start in 0..DAY * 20_000,
            days in 1i64..4000,
        ) {
            let life = Life { not_before_ms: start, not_after_ms: start + days * DAY };
            let at = life.renewed_at(&serial) - start;
            prop_assert!(at >= days * DAY / 1000 * 500 && at <= days * DAY / 1000 * 660, "{at}");
            prop_assert_eq!(life.renewed_at(&serial) - start, at);
        }

        #[test]
        fn no_pause_is_longer_than_ten_minutes_or_shorter_than_half_the_shortest(
            failures in 0u32..100, unit in -1.0f64..2.0, left in -DAY..90 * DAY,
        ) {
            let pause = again(failures, unit, Left(left));
            prop_assert!(pause >= SHORTEST_PAUSE / 2 && pause <= LONGEST_PAUSE, "{pause:?}");
        }
    }

    #[test]
    fn a_fleet_spreads_over_the_whole_span() {
        let life = Life {
            not_before_ms: 0,
            not_after_ms: 7 * DAY,
        };
        let mut at: Vec<_> = (0u32..1000)
            .map(|n| life.renewed_at(&n.to_be_bytes()))
            .collect();
        at.sort_unstable();
        let (first, last) = (at[0], at[999]);
        assert!(
            first < 7 * DAY / 100 * 52 && last > 7 * DAY / 100 * 64,
            "{first} {last}"
        );
        let busiest = at.windows(50).map(|few| few[49] - few[0]).min().unwrap();
        assert!(busiest > DAY / 50, "50 of 1,000 within {busiest} ms");
    }

    #[test]
    fn pauses_double_are_jittered_and_leave_ten_attempts_before_the_end() {
        let week = Left(7 * DAY);
        assert_eq!(again(1, 1.0, week), FIRST_PAUSE);
        assert_eq!(again(1, 0.0, week), FIRST_PAUSE / 2);
        assert_eq!(again(2, 1.0, week), FIRST_PAUSE * 2);
        assert_eq!(again(30, 1.0, week), LONGEST_PAUSE);
        assert_eq!(again(30, 1.0, Left(600_000)), Duration::from_secs(60));
        assert_eq!(again(30, 1.0, Left(-1)), LONGEST_PAUSE);
    }

    #[test]
    fn what_is_left_is_told_in_words() {
        let told = |ms| Left(ms).to_string();
        assert_eq!(told(3 * DAY + 5), "3 days left");
        assert_eq!(told(DAY), "24 hours left");
        assert_eq!(told(90 * 60_000), "90 minutes left");
        assert_eq!(told(-3 * DAY), "ended 3 days ago");
    }
}
