//! Every random number of a run. One seed gives them all, and each part of the world has dice of its own, so that one part
//! that asks more often changes nothing for the others.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use meridian_hub::random::Random;

/// A stream of numbers (SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014). Clones
/// share it.
#[derive(Clone, Debug)]
pub(crate) struct Dice(Arc<Mutex<u64>>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    /// Dice of their own for a part of the world.
    pub(crate) fn fork(&self) -> Self {
        Self::new(self.next())
    }

    pub(crate) fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn in_range(&self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    pub(crate) fn millis(&self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.in_range(range))
    }

    /// True so many times of a thousand.
    pub(crate) fn in_thousand(&self, times: u64) -> bool {
        self.in_range(0..1000) < times
    }

    pub(crate) fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() {
            return None;
        }
        from.get(usize::try_from(self.in_range(0..from.len() as u64)).unwrap())
    }

    /// A number in `[0, 1)`.
    pub(crate) fn unit(&self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).unwrap()) / (f64::from(u32::MAX) + 1.0)
    }
}

impl Random for Dice {
    fn bits(&self) -> u64 {
        self.next()
    }
}
