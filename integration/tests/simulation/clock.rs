//! Wall clocks that are wrong: each machine has one, which goes with the virtual time until somebody sets it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use jiff::Timestamp;
use meridian_hub::clock::Clock;
use tokio::time::Instant;

/// 2026-11-22T12:00:00Z in milliseconds since 1970.
const BEGIN: i64 = 1_795_348_800_000;

/// The wall clock of one machine. Clones are the same clock.
#[derive(Clone, Debug)]
pub(crate) struct Wall {
    begun: Instant,
    off: Arc<AtomicI64>,
}

impl Wall {
    pub(crate) fn new(begun: Instant) -> Self {
        Self {
            begun,
            off: Arc::default(),
        }
    }

    /// Somebody sets it forward, or back.
    pub(crate) fn step(&self, seconds: i64) {
        self.off.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    pub(crate) fn millis(&self) -> i64 {
        let passed = i64::try_from(self.begun.elapsed().as_millis()).unwrap();
        BEGIN + passed + self.off.load(Ordering::SeqCst)
    }
}

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.millis()).unwrap()
    }
}
