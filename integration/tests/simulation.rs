//! Deterministic simulation of the link between a hub and its agents: the production session, store, planner, tasks, applier
//! and journal over a network, clocks and API servers that a seed decides. Each run lets people and faults do what they
//! like, judges all that passes by the invariants of the link, puts everything right, and demands that the world comes to
//! rest.
//!
//! `MERIDIAN_SEEDS=10000` runs that many seeds, from `MERIDIAN_FIRST_SEED` on if it is set, and `MERIDIAN_SEED=7` one alone,
//! with everything that happened in it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "what cannot be simulated must fail, and a long run says how far it is"
)]

#[path = "simulation/agent.rs"]
mod agent;
#[path = "simulation/clock.rs"]
mod clock;
#[path = "simulation/dice.rs"]
mod dice;
#[path = "simulation/hub.rs"]
mod hub;
#[path = "simulation/judge.rs"]
mod judge;
#[path = "simulation/member.rs"]
mod member;
#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/people.rs"]
mod people;
#[path = "simulation/rest.rs"]
mod rest;
#[path = "simulation/road.rs"]
mod road;
#[path = "simulation/schedule.rs"]
mod schedule;
#[path = "simulation/site.rs"]
mod site;
#[path = "simulation/trace.rs"]
mod trace;
#[path = "simulation/volume.rs"]
mod volume;
#[path = "simulation/world.rs"]
mod world;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::Mutex,
    time::{Duration, Instant},
};

use meridian_hub::ca::Origin;
use world::World;

/// Seeds of `make test`. `make test-full` runs more.
const SEEDS: u64 = 120;
/// Seeds that may fail before no more are tried.
const FAILURES: usize = 8;
/// How often a long run tells how far it is.
const EVERY: Duration = Duration::from_secs(20);

/// What a run came to.
#[derive(Debug)]
struct Run {
    violations: Vec<String>,
    trace: Vec<String>,
    events: u64,
    digest: u64,
    rested: Duration,
    welcomes: (usize, usize),
    /// It was judged whether a member puts back what is lost while no hub runs.
    without_hub: bool,
}

/// One run, from nothing to rest.
fn run(seed: u64, whole_trace: bool) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new(seed, whole_trace).await;
        schedule::play(&mut world).await;
        let rested = rest::come_to_rest(&mut world).await;
        let mut without_hub = false;
        if world.trace.violations().is_empty() {
            without_hub = rest::without_hub(&mut world).await;
            world.start_hub(Origin::Loaded).await;
            rest::come_to_rest(&mut world).await;
            rest::replay(&mut world).await;
        }
        Run {
            violations: world.trace.violations(),
            trace: world.trace.lines(),
            events: world.trace.events(),
            digest: world.trace.digest(),
            rested,
            welcomes: world.judge.welcomes(),
            without_hub,
        }
    })
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text}: expected a number")),
    )
}

/// What a person needs of a seed that failed.
fn explain(seed: u64, run: &Run) -> String {
    let (what, trace) = (run.violations.join("\n"), run.trace.join("\n"));
    format!(
        "seed {seed}: {what}\n\nagain, with all that happened:\n  MERIDIAN_SEED={seed} cargo test -p meridian-integration \
         --test simulation every_seed -- --nocapture\n\nthe end of it:\n{trace}"
    )
}

#[test]
fn every_seed_keeps_the_invariants_of_the_link_and_comes_to_rest() {
    if let Some(seed) = number("MERIDIAN_SEED") {
        let run = run(seed, true);
        assert!(run.violations.is_empty(), "{}", explain(seed, &run));
        println!("{}", run.trace.join("\n"));
        return;
    }
    let first = number("MERIDIAN_FIRST_SEED").unwrap_or(0);
    let seeds = number("MERIDIAN_SEEDS").unwrap_or(SEEDS);
    let sums = Sums::new(first..first + seeds);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| while sums.run_one() {});
        }
    });
    sums.judge();
}

/// What many runs came to.
struct Sums {
    seeds: Range<u64>,
    begun: Instant,
    state: Mutex<State>,
}

struct State {
    next: u64,
    done: u64,
    told: Instant,
    events: u64,
    observed: u64,
    without_hub: u64,
    longest: Duration,
    failed: BTreeMap<u64, Run>,
}

impl Sums {
    fn new(seeds: Range<u64>) -> Self {
        let begun = Instant::now();
        let state = State {
            next: seeds.start,
            done: 0,
            told: begun,
            events: 0,
            observed: 0,
            without_hub: 0,
            longest: Duration::ZERO,
            failed: BTreeMap::new(),
        };
        Self {
            seeds,
            begun,
            state: Mutex::new(state),
        }
    }

    fn next(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap();
        let seed = state.next;
        state.next += 1;
        (seed < self.seeds.end && state.failed.len() < FAILURES).then_some(seed)
    }

    /// Runs the next seed, if there is one.
    fn run_one(&self) -> bool {
        let Some(seed) = self.next() else {
            return false;
        };
        let run = run(seed, false);
        let mut state = self.state.lock().unwrap();
        state.done += 1;
        state.events += run.events;
        state.observed += run.welcomes.1 as u64;
        state.without_hub += u64::from(run.without_hub);
        state.longest = state.longest.max(run.rested);
        if let Some(first) = run.violations.first() {
            println!("seed {seed}: {first}");
            state.failed.insert(seed, run);
        }
        if state.told.elapsed() > EVERY {
            state.told = Instant::now();
            let (done, all) = (state.done, self.seeds.end - self.seeds.start);
            println!("{done} of {all} seeds after {:?}", self.begun.elapsed());
        }
        true
    }

    fn judge(self) {
        let Self { begun, state, .. } = self;
        let state = state.into_inner().unwrap();
        if let Some((seed, run)) = state.failed.first_key_value() {
            let failed: Vec<_> = state.failed.keys().collect();
            panic!("seeds {failed:?} failed\n{}", explain(*seed, run));
        }
        assert!(
            state.done < SEEDS || state.without_hub >= state.done / 8,
            "only {} of {} seeds judged a member without a hub",
            state.without_hub,
            state.done
        );
        println!(
            "{} seeds, {} events, {} sessions that only observed, {} members judged without a hub, at rest after {:?} at most; \
             took {:?}",
            state.done,
            state.events,
            state.observed,
            state.without_hub,
            state.longest,
            begun.elapsed()
        );
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in [3, 11] {
        let (one, other) = (run(seed, true), run(seed, true));
        let apart = one.trace.iter().zip(&other.trace).find(|(a, b)| a != b);
        assert_eq!(apart, None, "seed {seed}");
        assert_eq!(
            (one.events, one.digest),
            (other.events, other.digest),
            "seed {seed}"
        );
    }
}
