//! When members come back after their sessions ended together: as fast as the hub can welcome them, and no faster.

use std::time::Duration;

/// Sessions that a hub welcomes within a second: handshake, admission and the first look at what is wanted. A thousand members
/// are back within 20 s, which leaves a third of the 30 s that a restart may take them.
pub const RATE: u32 = 50;
/// Hellos that are looked into at one time. Beyond that more of them only wait for the store.
pub const AT_ONCE: usize = 32;
/// No spread is shorter.
const SHORTEST: Duration = Duration::from_secs(2);
/// No member is kept away for longer by advice: a hub that is started several times in a row must find its members.
const CAP: Duration = Duration::from_secs(20);
/// Agents accept no more.
const LONGEST: Duration = Duration::from_secs(120);
/// Before the first slot: another replica needs a moment to listen.
const FIRST: Duration = Duration::from_millis(250);

/// Over which time the first attempts of so many members are spread.
#[must_use]
pub fn spread(members: usize) -> Duration {
    let members = u32::try_from(members).unwrap_or(u32::MAX);
    (Duration::from_secs(members.into()) / RATE).clamp(SHORTEST, LONGEST)
}

/// The longest wait between two attempts of one of so many members.
#[must_use]
pub fn cap(members: usize) -> Duration {
    spread(members).max(CAP)
}

/// When the member that is sent away as the `nth`, from 0 on, comes back.
#[must_use]
pub fn slot(nth: u32) -> Duration {
    (FIRST + Duration::from_secs(nth.into()) / RATE).min(LONGEST)
}

/// When one comes again that finds too many others before it; `unit` is random in `[0, 1)`.
#[must_use]
pub fn pushback(members: usize, unit: f64) -> Duration {
    FIRST + spread(members).mul_f64(unit.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_members_come_within_two_seconds_and_many_at_the_rate_of_the_hub() {
        let seconds = |members| spread(members).as_secs_f64();
        assert!((seconds(0) - 2.0).abs() < 1e-9 && (seconds(100) - 2.0).abs() < 1e-9);
        assert!((seconds(300) - 6.0).abs() < 1e-9);
        assert!((seconds(1000) - 20.0).abs() < 1e-9);
        assert_eq!(spread(usize::MAX), LONGEST);
        assert_eq!((cap(8), cap(3000)), (CAP, Duration::from_secs(60)));
    }

    #[test]
    fn every_slot_is_another_and_they_are_as_far_apart_as_the_hub_welcomes() {
        for nth in 0..5000 {
            assert_eq!(slot(nth + 1) - slot(nth), Duration::from_secs(1) / RATE);
        }
        assert_eq!(slot(u32::MAX), LONGEST);
    }

    #[test]
    fn whoever_finds_too_many_before_it_comes_within_the_spread() {
        assert_eq!(pushback(8, 0.0), FIRST);
        assert_eq!(pushback(1000, 0.5), FIRST + Duration::from_secs(10));
        assert_eq!(pushback(8, f64::INFINITY), FIRST + SHORTEST);
    }
}
