//! Two shards, their replicas' grants and the agent's wait, with clocks that start anywhere and run at different speeds, and
//! processes that stop for any time between a message and its effect. At no moment may both shards write.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{Deadline, Epoch, Fence};

/// How long a grant holds, and what the agent waits beyond it, in ms.
const LEASE: f64 = 3_000.0;
const MARGIN: f64 = 500.0;
/// Clocks run at most so much too fast or too slow.
const DRIFT: f64 = 0.05;

/// The time since boot of one machine, as a function of the true time in ms.
#[derive(Clone, Copy, Debug)]
struct Clock {
    start: f64,
    speed: f64,
}

impl Clock {
    fn any(random: &mut SmallRng) -> Self {
        Self {
            start: random.random_range(0.0..1e12),
            speed: random.random_range(1.0 - DRIFT..1.0 + DRIFT),
        }
    }

    fn read(self, at: f64) -> u64 {
        (self.start + at * self.speed) as u64
    }

    /// True time that passes while this clock counts `span`.
    fn takes(self, span: f64) -> f64 {
        span / self.speed
    }
}

/// What reaches a shard at a true time.
#[derive(Debug)]
enum Message {
    Permit(Epoch, Deadline),
    Revoke(Epoch),
}

/// A delay: mostly short, sometimes as long as a machine that hangs.
fn delay(random: &mut SmallRng) -> f64 {
    match random.random_range(0..10) {
        0 => random.random_range(0.0..20_000.0),
        1..=3 => random.random_range(0.0..3_000.0),
        _ => random.random_range(0.0..50.0),
    }
}

/// Permissions of one reign: each counts from before its request was sent, and arrives whenever it does.
fn reign(
    random: &mut SmallRng,
    clock: Clock,
    epoch: Epoch,
    from: f64,
    until: f64,
) -> Vec<(f64, Message)> {
    let mut messages = Vec::new();
    let mut at = from;
    while at < until {
        let granted = at + delay(random);
        // Whoever is to grant has stopped doing so by `until`.
        if granted < until {
            let deadline = Deadline::At(clock.read(at) + LEASE as u64);
            messages.push((granted + delay(random), Message::Permit(epoch, deadline)));
        }
        at += random.random_range(100.0..900.0);
    }
    messages
}

fn deliver(fence: &mut Fence, clock: Clock, messages: &mut Vec<(f64, Message)>, now: f64) {
    messages.sort_by(|a, b| b.0.total_cmp(&a.0));
    while messages.last().is_some_and(|(at, _)| *at <= now) {
        match messages.pop() {
            // A refusal is an answer too: the epoch is over.
            Some((at, Message::Permit(epoch, deadline))) => {
                let _ = fence.permit(epoch, deadline, clock.read(at));
            }
            Some((_, Message::Revoke(epoch))) => fence.revoke(epoch),
            None => {}
        }
    }
}

/// One failover; how many looks found a shard that may write.
fn failover(seed: u64, wait: f64) -> Result<u64, String> {
    let mut random = SmallRng::seed_from_u64(seed);
    let random = &mut random;
    let [old_clock, new_clock, agent] = [(); 3].map(|()| Clock::any(random));
    let fenced = random.random_range(1_000.0..20_000.0);
    let promoted = fenced + agent.takes(wait);
    let (mut old, mut new) = (Fence::new(), Fence::new());
    new.follow(true);
    let mut to_old = reign(random, old_clock, 1, 0.0, fenced);
    if random.random_bool(0.3) {
        to_old.push((fenced + delay(random), Message::Revoke(2)));
    }
    let mut to_new = reign(random, new_clock, 2, promoted, promoted + 10_000.0);
    let (mut writable, mut following) = (0, true);
    let mut now = 0.0;
    while now < promoted + 40_000.0 {
        if following && now >= promoted {
            new.follow(false);
            following = false;
        }
        deliver(&mut old, old_clock, &mut to_old, now);
        deliver(&mut new, new_clock, &mut to_new, now);
        let can = [(&old, old_clock), (&new, new_clock)].map(|(f, c)| f.writable(c.read(now)));
        if can == [true, true] {
            return Err(format!(
                "seed {seed}: both write at {now:.0} ms, fenced at {fenced:.0} ms"
            ));
        }
        writable += u64::from(can[0] || can[1]);
        now += random.random_range(1.0..100.0);
    }
    Ok(writable)
}

#[test]
fn two_shards_never_write_at_once_whatever_their_clocks_show() {
    let mut writable = 0;
    for seed in 0..400 {
        writable += failover(seed, LEASE + MARGIN).unwrap();
    }
    assert!(writable > 10_000, "hardly anybody ever wrote: {writable}");
}

/// The simulation can fail: an agent that does not wait for the end of the lease is found out.
#[test]
fn an_agent_that_waits_too_short_lets_both_write() {
    let found = (0..400).filter(|seed| failover(*seed, LEASE / 2.0).is_err());
    assert!(found.count() > 10);
}

/// Whatever arrives in whatever order: a write is allowed only within a permission that was given for an epoch which is
/// neither revoked nor below one that was seen, judged by looking at everything that was ever accepted.
#[test]
fn a_write_is_allowed_only_by_a_permission_that_still_counts() {
    for seed in 0..2_000 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut fence = Fence::new();
        let mut accepted: Vec<(Epoch, Deadline)> = Vec::new();
        let (mut seen, mut revoked) = (0, 0);
        for _ in 0..60 {
            let (epoch, now) = (random.random_range(0..6), random.random_range(0..100));
            match random.random_range(0..10) {
                0 => {
                    fence.revoke(epoch);
                    (seen, revoked) = (seen.max(epoch), revoked.max(epoch));
                }
                1 => {
                    fence.follow(true);
                    fence.follow(false);
                    accepted.clear();
                }
                _ => {
                    let end = random.random_range(0..100);
                    let deadline = if end < 5 {
                        Deadline::Forever
                    } else {
                        Deadline::At(end)
                    };
                    let fits = epoch > 0 && epoch > revoked && epoch >= seen;
                    assert_eq!(
                        fence.permit(epoch, deadline, now).is_ok(),
                        fits,
                        "seed {seed}"
                    );
                    if fits {
                        seen = epoch;
                        accepted.push((epoch, deadline));
                    }
                }
            }
            // A clock may show anything: it is read anew, and may even go back.
            let now = random.random_range(0..100);
            let covered = accepted.iter().any(|(epoch, deadline)| {
                *epoch > revoked && *epoch >= seen && !deadline.passed(now)
            });
            let allowed = fence.check(|| now).is_ok();
            assert!(
                covered || !allowed,
                "seed {seed}: allowed at {now} by none of {accepted:?}"
            );
        }
    }
}
