//! Where random numbers come from that decide an order: identities of objects, by which they are sorted, and the jitter of
//! heartbeats. Secrets and certificates take theirs from the operating system and are none of this.

use std::fmt;

use uuid::{Builder, Uuid};

/// A source of random numbers. The hub has the operating system's; a simulation has one that a seed decides.
pub trait Random: Send + Sync + fmt::Debug {
    /// 64 random bits.
    fn bits(&self) -> u64;

    /// A random UUID (version 4).
    fn uuid(&self) -> Uuid {
        let bits = (u128::from(self.bits()) << 64) | u128::from(self.bits());
        Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
    }

    /// The interval, or up to a fifth less or more, so that those of many do not meet.
    fn jittered(&self, interval: std::time::Duration) -> std::time::Duration {
        let step = u32::try_from(self.bits() % 401).unwrap_or_default();
        interval.mul_f64(0.8 + f64::from(step) / 1000.0)
    }
}

/// The operating system's, through a generator of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn bits(&self) -> u64 {
        rand::random()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Debug)]
    struct Always(u64);

    impl Random for Always {
        fn bits(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn an_interval_is_stretched_by_a_fifth_at_most() {
        let second = Duration::from_secs(1);
        assert_eq!(Always(0).jittered(second), Duration::from_millis(800));
        assert_eq!(Always(400).jittered(second), Duration::from_millis(1200));
        assert_eq!(Always(401).jittered(second), Duration::from_millis(800));
    }

    #[test]
    fn a_uuid_is_one_of_random_bits() {
        assert_eq!(Always(u64::MAX).uuid().get_version_num(), 4);
        assert_ne!(SystemRandom.uuid(), SystemRandom.uuid());
    }
}
