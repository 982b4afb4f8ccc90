//! How long to wait before trying again: exponential, capped, with full jitter from a seed (so that tests can repeat it).

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};

/// A schedule of waits. The n-th wait lies between `min·2ⁿ` and twice that, and never above `max` by more than the jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The shortest wait.
    pub min: Duration,
    /// Waits stop growing here.
    pub max: Duration,
}

/// Restarts of a child process: the first is nearly immediate, a crash loop costs one start every few seconds.
pub const RESTART: Schedule = Schedule {
    min: Duration::from_millis(50),
    max: Duration::from_secs(5),
};

/// Connections to another region: short enough that a healed network is used within a second or two.
pub const RECONNECT: Schedule = Schedule {
    min: Duration::from_millis(100),
    max: Duration::from_secs(2),
};

/// Requests to the Kubernetes API.
pub const API: Schedule = Schedule {
    min: Duration::from_millis(200),
    max: Duration::from_secs(15),
};

impl Schedule {
    /// The wait before attempt number `attempt` (from 0), jittered by `seed`.
    #[must_use]
    pub fn delay(&self, attempt: u32, seed: u64) -> Duration {
        let attempt = usize::try_from(attempt.min(32)).unwrap_or(32);
        ExponentialBuilder::default()
            .with_min_delay(self.min)
            .with_max_delay(self.max)
            .with_factor(2.0)
            .without_max_times()
            .with_jitter()
            .with_jitter_seed(seed)
            .build()
            .nth(attempt)
            .unwrap_or(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_within_cap_and_jitter() {
        for seed in 0..50 {
            let first = RESTART.delay(0, seed);
            assert!(
                first >= RESTART.min && first <= RESTART.min * 2,
                "{first:?}"
            );
            let late = RESTART.delay(40, seed);
            assert!(late >= RESTART.max && late <= RESTART.max * 2, "{late:?}");
        }
    }

    #[test]
    fn different_seeds_give_different_waits() {
        assert_ne!(RECONNECT.delay(3, 1), RECONNECT.delay(3, 2));
    }
}
