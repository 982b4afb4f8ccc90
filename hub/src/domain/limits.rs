//! How often somebody may do something: a bucket for each, in bounded memory. The generic cell rate algorithm (ITU-T I.371):
//! of each bucket only the moment is kept at which it is full again.

use std::collections::BTreeMap;
use std::time::Duration;

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Between two, in the long run.
    pub every: Duration,
    /// As many at once, at least 1.
    pub burst: u32,
}

impl Rate {
    /// So many a second, and as many at once; `None` for 0, which sets no limit.
    #[must_use]
    pub fn per_second(number: u32, burst: u32) -> Option<Self> {
        let every = Duration::from_secs(1).checked_div(number)?;
        Some(Self {
            every,
            burst: burst.max(1),
        })
    }

    /// Takes one out of a bucket that is full again at `full`; the moment at which it is then.
    fn take(self, full: Duration, now: Duration) -> Result<Duration, Duration> {
        let full = full.max(now);
        let room = self.every.saturating_mul(self.burst - 1);
        match (full - now).checked_sub(room) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(full + self.every),
        }
    }
}

/// A bucket for each key.
#[derive(Clone, Debug)]
pub struct Buckets<K> {
    rate: Rate,
    most: usize,
    full: BTreeMap<K, Duration>,
    /// Of all that find no room.
    others: Duration,
}

impl<K: Ord> Buckets<K> {
    /// Of this rate each, for at most so many keys at one time; those beyond share one.
    #[must_use]
    pub fn new(rate: Rate, most: usize) -> Self {
        Self {
            rate,
            most,
            full: BTreeMap::new(),
            others: Duration::ZERO,
        }
    }

    /// Takes one out, at a moment of a clock that only goes forward.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&mut self, key: K, now: Duration) -> Result<(), Duration> {
        if self.full.len() >= self.most && !self.full.contains_key(&key) {
            self.full.retain(|_, full| *full > now);
        }
        if self.full.len() >= self.most && !self.full.contains_key(&key) {
            self.others = self.rate.take(self.others, now)?;
            return Ok(());
        }
        let full = self.full.entry(key).or_default();
        *full = self.rate.take(*full, now)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_is_let_through_and_then_one_at_a_time() {
        let rate = Rate::per_second(2, 3).unwrap();
        let mut buckets = Buckets::new(rate, 8);
        for _ in 0..3 {
            assert_eq!(buckets.take("a", SECOND), Ok(()));
        }
        let half = Duration::from_millis(500);
        assert_eq!(buckets.take("a", SECOND), Err(half));
        assert_eq!(buckets.take("b", SECOND), Ok(()), "each has its own");
        assert_eq!(buckets.take("a", SECOND + half), Ok(()));
        assert_eq!(buckets.take("a", SECOND + half), Err(half));
        assert_eq!(Rate::per_second(0, 9), None);
    }

    #[test]
    fn keys_beyond_the_most_share_one_bucket_and_make_room_when_others_are_full_again() {
        let rate = Rate::per_second(1, 1).unwrap();
        let mut buckets = Buckets::new(rate, 2);
        assert_eq!(buckets.take(1, SECOND), Ok(()));
        assert_eq!(buckets.take(2, SECOND), Ok(()));
        assert_eq!(buckets.take(3, SECOND), Ok(()));
        assert_eq!(buckets.take(4, SECOND), Err(SECOND), "shares that of 3");
        assert_eq!(buckets.full.len(), 2);
        assert_eq!(buckets.take(4, SECOND * 2), Ok(()));
        assert_eq!(buckets.full.len(), 1);
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_one_burst(
            steps in prop::collection::vec(0..2_000_u64, 1..200),
            number in 1..20_u32,
            burst in 1..10_u32,
        ) {
            let rate = Rate::per_second(number, burst).unwrap();
            let mut buckets = Buckets::new(rate, 1);
            let (mut now, mut taken) = (SECOND, 0_u32);
            for step in steps {
                now += Duration::from_millis(step);
                taken += u32::from(buckets.take((), now).is_ok());
            }
            let most = (now - SECOND).as_secs_f64() * f64::from(number) + f64::from(burst);
            prop_assert!(f64::from(taken) <= most + 1e-6, "{taken} of {most}");
        }
    }
}
