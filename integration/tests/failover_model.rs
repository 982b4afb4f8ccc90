//! A model of failover inside a cluster: the production decisions of agent and node against an adversary.
//!
//! Three nodes, two agents that both believe to lead, an API server. Messages are late, lost and overtake one another; watches
//! are silent while requests pass; processes are killed, restarted and stopped for seconds; hosts are cut off, alone or in
//! twos; every clock runs at its own speed. The nodes
//! run `meridian_node::permission`, the agents `meridian_agent::controllers::failover`; only what surrounds them is played
//! (`world`, `node`). After every event it is checked that at most one shard may acknowledge a write, that no reply of an old
//! primary leaves once another has begun, and that whoever begins to acknowledge has every write that the in-sync set had and
//! that any member of it still has (`data`), that no whole copy is replaced by one with far less, and that a promotion without
//! a person loses no more than a bound; at every write of a topology, that nobody is promoted from outside the set. In the end
//! everything works again, and somebody must take writes.
//! Equal seeds give equal runs. `MERIDIAN_MODEL_RUNS=3000` plays that many.
//!
//! Not played: an API server that is put back while a node cannot be reached. Who leads there alone is then known to nobody.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

#[path = "failover_model/agents.rs"]
mod agents;
#[path = "failover_model/chaos.rs"]
mod chaos;
#[path = "failover_model/data.rs"]
mod data;
#[path = "failover_model/judge.rs"]
mod judge;
#[path = "failover_model/node.rs"]
mod node;
#[path = "failover_model/nodes.rs"]
mod nodes;
#[path = "failover_model/scripts.rs"]
mod scripts;
#[path = "failover_model/seen.rs"]
mod seen;
#[path = "failover_model/world.rs"]
mod world;

use seen::Seen;
use world::World;

/// Runs of the model, unless the environment says otherwise. Each plays two minutes.
const RUNS: u64 = 150;
/// Worlds in which a story is told.
const TOLD: usize = 20;
/// Played time of a run, milliseconds.
const PLAYED_MS: u64 = 120_000;

fn play(seed: u64) -> Seen {
    let mut world = World::new(seed);
    world
        .play(PLAYED_MS)
        .and_then(|_| world.recovers())
        .unwrap_or_else(|found| panic!("seed {seed}, at {} ms: {found}", world.now()))
}

fn runs() -> u64 {
    let Ok(text) = std::env::var("MERIDIAN_MODEL_RUNS") else {
        return RUNS;
    };
    text.parse()
        .unwrap_or_else(|_| panic!("MERIDIAN_MODEL_RUNS is {text:?}, expected a number"))
}

#[test]
fn no_two_primaries_acknowledge_at_once_and_nobody_outside_the_set_is_promoted() {
    let runs = runs();
    let mut all = Seen::default();
    for seed in 0..runs {
        all.add(&play(seed));
    }
    println!("{all:?}");
    // A model in which nothing happens proves nothing.
    assert!(all.failovers >= runs, "{all:?}");
    assert!(all.planned >= runs / 2, "{all:?}");
    assert!(all.admitted >= runs * 2, "{all:?}");
    assert!(all.by_waiting >= runs / 4, "{all:?}");
    assert!(all.rebuilt >= runs / 4, "{all:?}");
    assert!(all.raised >= runs / 8, "{all:?}");
    assert!(all.reinstated >= runs / 8, "{all:?}");
    assert!(all.asked >= runs / 8, "{all:?}");
    assert!(all.apart >= runs / 4, "{all:?}");
    assert!(all.emptied >= runs / 4, "{all:?}");
    assert!(all.held_back >= runs / 15, "{all:?}");
}

/// Plays a story in worlds that are equal but for their random numbers; `seeds` says which.
fn tell(seeds: impl Iterator<Item = u64>, story: impl Fn(&mut World) -> Result<(), String>) {
    for seed in seeds.take(TOLD) {
        let mut world = World::new(seed);
        world.calm();
        story(&mut world).unwrap_or_else(|e| panic!("seed {seed}, at {} ms: {e}", world.now()));
    }
}

/// Worlds with one replica.
fn pairs() -> impl Iterator<Item = u64> {
    (0..).filter(|seed: &u64| !seed.is_multiple_of(3))
}

/// Worlds with two replicas.
fn threes() -> impl Iterator<Item = u64> {
    (0..).step_by(3)
}

#[test]
fn a_permission_ends_with_the_oldest_grant() {
    tell(threes(), World::two_of_three_are_cut_off);
}

#[test]
fn a_newcomer_is_counted_before_it_may_take_over() {
    tell(pairs(), World::a_newcomer_that_grants_nothing_takes_over);
}

#[test]
fn a_read_that_shows_a_fence_permits_nothing() {
    tell(pairs(), World::a_deaf_primary_reads);
}

#[test]
fn a_process_of_an_earlier_epoch_is_granted_nothing_in_its_successors_name() {
    tell(
        pairs(),
        World::the_pod_is_made_again_and_the_old_one_runs_on,
    );
}

#[test]
fn who_led_in_an_epoch_that_is_given_again_is_granted_nothing() {
    tell(threes(), World::everything_but_one_host_is_put_back);
}

#[test]
fn a_candidate_stays_one_when_its_fence_is_taken_back() {
    tell(pairs(), World::a_fence_is_taken_back);
}

#[test]
fn a_topology_that_was_put_back_goes_on_after_every_permission() {
    tell(pairs(), World::put_back_and_the_primary_is_cut_off);
}

#[test]
fn the_set_of_a_backup_is_not_believed() {
    tell(pairs(), World::put_back_to_when_it_was_in_sync);
}

/// The model can find it: a process that answers, when it goes on, what it wrote before it was stopped.
#[test]
fn without_the_alarm_an_old_primary_acknowledges_after_its_successor() {
    tell(pairs(), World::it_wakes_with_a_reply_in_its_hands);
    tell(pairs(), |world| {
        world.alarm = false;
        let found = world.it_wakes_with_a_reply_in_its_hands();
        let found = found.expect_err("a late reply");
        if found.contains("acknowledges a write after") {
            return Ok(());
        }
        Err(found)
    });
}

#[test]
fn a_drain_whose_successor_dies_goes_on_without_keeping_clients_waiting() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.calm();
        world
            .drained_while_the_candidate_dies()
            .unwrap_or_else(|found| panic!("seed {seed}, at {} ms: {found}", world.now()));
    }
}

#[test]
fn a_calm_cluster_has_a_writable_primary_and_a_replica_that_can_take_over() {
    for seed in 0..10 {
        let mut world = World::new(seed);
        world.calm();
        let seen = world.play(20_000).unwrap_or_else(|found| panic!("{found}"));
        assert!(world.writable().len() == 1, "seed {seed}: nobody can write");
        assert!(seen.admitted >= 1, "seed {seed}: nobody is in sync");
        assert_eq!(
            seen.failovers, 0,
            "seed {seed}: a failover without a reason"
        );
    }
}
