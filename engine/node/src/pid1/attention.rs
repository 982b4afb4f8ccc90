//! Whether the child still lives, not only exists. Pure, but for the interval of its beats.
//!
//! The child asks PID 1 something every few seconds at the latest. One that is stopped, or hangs, asks nothing, keeps its process id,
//! and lets go of everything that it does for the shards. Silence is measured in beats of PID 1's own loop: if PID 1 was stopped
//! together with the child, or the whole machine was, no beats were made in that time and none count.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

/// Between two beats. Beats that were missed are not made up for.
const BEAT: Duration = Duration::from_secs(1);

/// So many beats without a question are silence.
const SILENT: u32 = 15;

/// The beats of the loop.
pub(super) fn beats() -> Interval {
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

/// How long the child has asked nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attention {
    beats: u32,
}

impl Attention {
    /// The child has asked something, or was started.
    pub(super) fn heard(&mut self) {
        self.beats = 0;
    }

    /// One beat; `true`: the child is to be killed. It is said again only after as long a silence.
    pub(super) fn beat(&mut self) -> bool {
        self.beats += 1;
        let silent = self.beats >= SILENT;
        if silent {
            self.beats = 0;
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_asks_now_and_then_is_left_alone() {
        let mut attention = Attention::default();
        for _ in 0..100 {
            assert!((1..SILENT).all(|_| !attention.beat()));
            attention.heard();
        }
    }

    #[test]
    fn a_silent_child_is_killed_once_and_again_if_it_stays_silent() {
        let mut attention = Attention::default();
        let killed: Vec<u32> = (1..=3 * SILENT).filter(|_| attention.beat()).collect();
        assert_eq!(killed, [SILENT, 2 * SILENT, 3 * SILENT]);
    }
}
