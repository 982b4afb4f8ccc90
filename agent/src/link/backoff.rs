//! How long to wait before the next connection to the hub. Pure: the caller brings the random numbers.
//!
//! After a hub restart all agents lose their stream in the same instant, so the *first* delay needs the widest
//! spread: uniform in `[0, spread]`, where the hub says the spread (it knows how many agents it has and how many
//! handshakes it can serve per second). Later delays use decorrelated jitter (Brooker, "Exponential Backoff And
//! Jitter", AWS Architecture Blog, 2015): uniform in `[base, 3 × previous]`, capped. The count of attempts is
//! forgotten only after a session that was stable for [`STABLE_AFTER`]; a hub that accepts and drops at once
//! therefore still sees its agents come ever more slowly.

use std::time::Duration;

/// A session that lived this long counts as stable and resets the attempts.
pub const STABLE_AFTER: Duration = Duration::from_secs(300);
/// Shortest delay after the first one.
pub const BASE: Duration = Duration::from_millis(250);
/// No delay of ours is longer, whatever the hub hints.
pub const LONGEST_CAP: Duration = Duration::from_secs(120);
/// Spread used until a hub has told us its own.
pub const DEFAULT_SPREAD: Duration = Duration::from_secs(2);

/// The state between attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    spread: Duration,
    cap: Duration,
    previous: Option<Duration>,
    slot: Option<Duration>,
    not_before: Duration,
    attempts: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            spread: DEFAULT_SPREAD,
            cap: LONGEST_CAP,
            previous: None,
            slot: None,
            not_before: Duration::ZERO,
            attempts: 0,
        }
    }
}

impl Backoff {
    /// Takes the hub's hint from its Welcome. A cap of zero or above [`LONGEST_CAP`] becomes [`LONGEST_CAP`]; the
    /// spread never exceeds the cap.
    pub fn hint(&mut self, spread: Duration, cap: Duration) {
        self.cap = if cap.is_zero() {
            LONGEST_CAP
        } else {
            cap.clamp(BASE, LONGEST_CAP)
        };
        self.spread = spread.min(self.cap);
    }

    /// Takes the slot that a draining hub gave to this agent: exactly the next delay, used once.
    pub fn slot(&mut self, slot: Duration) {
        self.slot = Some(slot.min(LONGEST_CAP));
    }

    /// The hub refused with "retry after": the next delay is at least this long, used once.
    pub fn not_before(&mut self, least: Duration) {
        self.not_before = least.min(LONGEST_CAP);
    }

    /// Tells how long the session that just ended had been welcomed.
    pub fn session_lasted(&mut self, lasted: Duration) {
        if lasted >= STABLE_AFTER {
            self.previous = None;
            self.attempts = 0;
        }
    }

    /// Attempts since the last stable session.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The next delay. `unit` is a fresh random number in `[0, 1)`; anything else is clamped into it.
    pub fn next_delay(&mut self, unit: f64) -> Duration {
        self.attempts = self.attempts.saturating_add(1);
        let least = std::mem::take(&mut self.not_before);
        if let Some(slot) = self.slot.take() {
            self.previous = Some(slot.max(BASE));
            return slot.max(least);
        }
        let unit = if unit.is_finite() {
            unit.clamp(0.0, 1.0)
        } else {
            0.5
        };
        let delay = match self.previous {
            None => self.spread.mul_f64(unit),
            Some(previous) => {
                let high = previous.saturating_mul(3).min(self.cap).max(BASE);
                BASE + (high - BASE).mul_f64(unit)
            }
        };
        self.previous = Some(delay.max(BASE));
        if least.is_zero() {
            return delay;
        }
        // Everybody was told the same "retry after": our own jitter goes on top, or they all return together.
        least.saturating_add(delay).min(LONGEST_CAP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_first_delay_is_uniform_over_the_whole_spread() {
        let mut backoff = Backoff::default();
        backoff.hint(secs(30), secs(120));
        assert_eq!(backoff.clone().next_delay(0.0), Duration::ZERO);
        assert_eq!(backoff.clone().next_delay(0.5), secs(15));
        assert_eq!(backoff.next_delay(1.0), secs(30));
    }

    #[test]
    fn later_delays_grow_to_the_cap_and_stay_there() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..12).map(|_| backoff.next_delay(1.0)).collect();
        assert_eq!(delays.first(), Some(&secs(2)));
        assert!(
            delays
                .windows(2)
                .all(|pair| matches!(pair, [a, b] if a <= b)),
            "{delays:?}"
        );
        assert_eq!(delays.last(), Some(&secs(120)));
    }

    #[test]
    fn a_short_session_does_not_forget_the_attempts_and_a_stable_one_does() {
        let mut backoff = Backoff::default();
        for _ in 0..8 {
            backoff.next_delay(1.0);
        }
        backoff.session_lasted(secs(299));
        assert_eq!(backoff.attempts(), 8);
        assert!(backoff.clone().next_delay(1.0) > DEFAULT_SPREAD);
        backoff.session_lasted(secs(300));
        assert_eq!(backoff.attempts(), 0);
        assert_eq!(backoff.next_delay(1.0), DEFAULT_SPREAD);
    }

    #[test]
    fn a_drain_slot_is_taken_exactly_and_only_once() {
        let mut backoff = Backoff::default();
        backoff.slot(secs(7));
        assert_eq!(backoff.next_delay(0.9), secs(7));
        assert_ne!(backoff.next_delay(0.9), secs(7));
    }

    #[test]
    fn retry_after_is_a_lower_bound_with_jitter_on_top() {
        let mut backoff = Backoff::default();
        backoff.not_before(secs(10));
        assert_eq!(backoff.next_delay(0.5), secs(11));
        assert!(backoff.next_delay(0.0) < secs(10), "the bound is used once");
    }

    #[test]
    fn a_hint_cannot_raise_the_cap_above_ours() {
        let mut backoff = Backoff::default();
        backoff.hint(secs(86_400), secs(86_400));
        assert_eq!(backoff.next_delay(1.0), LONGEST_CAP);
    }

    proptest! {
        #[test]
        fn no_delay_ever_exceeds_the_cap(
            steps in prop::collection::vec((0u8..4, 0u64..1_000_000, 0.0f64..1.0), 1..60),
        ) {
            let mut backoff = Backoff::default();
            for (kind, millis, unit) in steps {
                let span = Duration::from_millis(millis);
                match kind {
                    0 => backoff.hint(span, span),
                    1 => backoff.slot(span),
                    2 => backoff.not_before(span),
                    _ => backoff.session_lasted(span),
                }
                prop_assert!(backoff.next_delay(unit) <= LONGEST_CAP);
            }
        }
    }
}
