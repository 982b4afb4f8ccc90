//! Rules of single calls: lives, configurations, limits and words of counters, stability after a restart.

use crate::oracle::Value;
use crate::view::{FailingView, MemoryView};
use crate::world::{Intent, Step, World, config};
use meridian_crdt::{
    BeginError, ConfigError, Decimal, Incarnation, InstanceId, Limits, Number, Replica, Write,
    WriteError,
};

const NOW: u64 = 1_000_000;

fn fresh() -> (Replica, MemoryView) {
    let mut replica = Replica::new(config(1, 2), Limits::default()).unwrap();
    replica.begin(Incarnation(7)).unwrap();
    (replica, MemoryView::default())
}

fn set(key: &str, value: &str) -> Write {
    Write::SetString {
        key: key.into(),
        value: value.into(),
    }
}

fn increment(key: &str, delta: &str, number: Number) -> Write {
    Write::Increment {
        key: key.into(),
        delta: Decimal::parse(delta.as_bytes()).unwrap(),
        number,
    }
}

#[test]
fn a_shard_writes_only_under_an_incarnation_that_was_never_used() {
    let mut view = MemoryView::default();
    let mut replica = Replica::new(config(1, 2), Limits::default()).unwrap();
    assert_eq!(
        replica.write(&mut view, NOW, set("a", "1")),
        Err(WriteError::NoIncarnation)
    );
    replica.begin(Incarnation(7)).unwrap();
    assert_eq!(replica.begin(Incarnation(8)), Err(BeginError::UnderWay(7)));
    replica.write(&mut view, NOW, set("a", "1")).unwrap();

    let mut restarted = Replica::restore(&replica.snapshot(), Limits::default()).unwrap();
    assert_eq!(
        restarted.write(&mut view, NOW, set("a", "2")),
        Err(WriteError::NoIncarnation)
    );
    assert_eq!(restarted.begin(Incarnation(7)), Err(BeginError::Used(7)));
    restarted.begin(Incarnation(8)).unwrap();
    replica.end();
    assert_eq!(
        replica.write(&mut view, NOW, set("a", "2")),
        Err(WriteError::NoIncarnation)
    );
}

#[test]
fn configurations_only_go_forward() {
    let (mut replica, _) = fresh();
    let next = |version: u64, members: &[u32], ghosts: &[u32]| meridian_crdt::Config {
        instance: InstanceId(1),
        version,
        members: members.iter().copied().map(InstanceId).collect(),
        ghosts: ghosts.iter().copied().map(InstanceId).collect(),
    };
    assert_eq!(replica.configure(next(3, &[1, 3], &[2])), Ok(()));
    assert_eq!(replica.configure(next(3, &[1, 3], &[2])), Ok(()));
    assert_eq!(
        replica.configure(next(3, &[1], &[2])),
        Err(ConfigError::Conflict(3))
    );
    assert_eq!(
        replica.configure(next(2, &[1, 2], &[])),
        Err(ConfigError::Older {
            found: 2,
            current: 3
        })
    );
    assert_eq!(
        replica.configure(next(4, &[1, 2], &[])),
        Err(ConfigError::GhostMember(InstanceId(2)))
    );
    assert_eq!(
        replica.configure(next(4, &[3], &[])),
        Err(ConfigError::NotMember(InstanceId(1)))
    );
    let other = meridian_crdt::Config {
        instance: InstanceId(3),
        ..next(4, &[1, 3], &[2])
    };
    let refused = ConfigError::Instance {
        found: InstanceId(3),
        current: InstanceId(1),
    };
    assert_eq!(replica.configure(other), Err(refused));
    assert_eq!(replica.config(), &next(3, &[1, 3], &[2]));
}

#[test]
fn increments_refuse_what_valkey_refuses_and_stop_at_59_bits() {
    let limit = (1_i64 << 58).to_string();
    let (integer, float) = (Number::Integer, Number::Float);
    for (value, delta, number, expected) in [
        ("5", "2", integer, Ok("7")),
        ("5", "-7", integer, Ok("-2")),
        ("1.50", "1", float, Ok("2.5")),
        ("3", "0.1", float, Ok("3.1")),
        ("5.0e3", "200", float, Ok("5200")),
        ("1.5", "1", integer, Err(WriteError::NotInteger)),
        ("007", "1", integer, Err(WriteError::NotInteger)),
        ("word", "1", integer, Err(WriteError::NotInteger)),
        ("word", "1", float, Err(WriteError::NotFloat)),
        (limit.as_str(), "-1", integer, Ok("288230376151711743")),
        (limit.as_str(), "1", integer, Err(WriteError::Overflow)),
        (limit.as_str(), "0.5", float, Err(WriteError::FloatOverflow)),
        (
            "-9223372036854775808",
            "1",
            integer,
            Err(WriteError::Overflow),
        ),
    ] {
        let (mut replica, mut view) = fresh();
        replica.write(&mut view, NOW, set("n", value)).unwrap();
        let result = replica
            .write(&mut view, NOW, increment("n", delta, number))
            .map(|_| ());
        assert_eq!(result, expected.clone().map(|_| ()), "{value} + {delta}");
        let shown = Value::Text(expected.unwrap_or(value).into());
        assert_eq!(view.0[b"n".as_slice()], shown, "{value} + {delta}");
    }
    assert_eq!(
        WriteError::Overflow.to_string(),
        "ERR increment or decrement would overflow"
    );
}

#[test]
fn a_write_to_a_key_of_another_kind_or_of_nothing_is_refused() {
    let (mut replica, mut view) = fresh();
    replica.write(&mut view, NOW, set("a", "1")).unwrap();
    let add = Write::SetAdd {
        key: b"a".to_vec(),
        elements: vec![b"x".to_vec()],
    };
    assert_eq!(
        replica.write(&mut view, NOW, add),
        Err(WriteError::WrongKind)
    );
    let nothing = Write::Delete { keys: vec![] };
    assert_eq!(
        replica.write(&mut view, NOW, nothing),
        Err(WriteError::Empty)
    );
    assert_eq!(replica.stats().written, 1);
}

#[test]
fn a_shard_with_half_a_write_takes_no_other() {
    let (mut replica, _) = fresh();
    let mut view = FailingView {
        fails_in: Some(2),
        ..FailingView::default()
    };
    let refused = replica.write(&mut view, NOW, set("a", "1"));
    assert!(matches!(refused, Err(WriteError::View(_))), "{refused:?}");
    let refused = replica.write(&mut view, NOW, set("b", "1"));
    assert!(
        matches!(refused, Err(WriteError::Damaged(_))),
        "{refused:?}"
    );
    assert!(replica.clock().is_empty());
}

#[test]
fn a_report_beyond_the_own_clock_is_refused() {
    let (mut replica, mut view) = fresh();
    let written = replica.write(&mut view, NOW, set("a", "1")).unwrap();
    let mut ahead = replica.clock().clone();
    ahead.raise(written.effect.dot.origin, 2);
    let refused = replica.write(&mut view, NOW, Write::Report { clock: ahead });
    assert!(matches!(refused, Err(WriteError::ReportAhead { .. })));
    let clock = replica.clock().clone();
    assert!(
        replica
            .write(
                &mut view,
                NOW,
                Write::Report {
                    clock: clock.clone()
                }
            )
            .is_ok()
    );
    assert_eq!(replica.reported(InstanceId(1)), Some(&clock));
}

/// A removal overtakes what it removes, and the shard forgets as much as it may in between.
#[test]
fn a_removal_is_remembered_until_what_it_has_seen_arrives() {
    for (write, removal) in [
        (Intent::Set(0, 0), Intent::Delete(vec![0])),
        (Intent::Count(0, 100), Intent::Set(0, 5)),
        (Intent::Add(0, vec![0, 1]), Intent::Remove(0, vec![0])),
        (
            Intent::Fill(0, vec![(0, 0), (1, 0)]),
            Intent::Clear(0, vec![1]),
        ),
        (Intent::CountIn(0, 0, 100), Intent::Fill(0, vec![(0, 5)])),
    ] {
        let mut world = World::new(3, true);
        world.step(&Step::Write { region: 0, write });
        for (from, to) in [(0, 1), (1, 2), (0, 2)] {
            world.step(&Step::Fetch {
                from,
                to,
                transactions: 9,
            });
            world.step(&Step::Deliver { from, to });
            let region = &mut world.regions[2];
            while region.replica.collect(1) {}
            let waiting = u64::from((from, to) == (1, 2));
            assert_eq!(
                region.replica.stats().waiting_removals,
                waiting,
                "{removal:?} after {from} to {to}"
            );
            if to == 1 {
                world.step(&Step::Write {
                    region: 1,
                    write: removal.clone(),
                });
            }
        }
        assert_eq!(world.regions[2].view, world.regions[1].view, "{removal:?}");
    }
}

#[test]
fn a_report_that_was_lost_and_came_back_replaces_no_later_one() {
    let (mut lost, mut lost_view) = fresh();
    let early = lost
        .write(
            &mut lost_view,
            NOW,
            Write::Report {
                clock: lost.clock().clone(),
            },
        )
        .unwrap();
    let mut again = Replica::new(config(1, 2), Limits::default()).unwrap();
    again.begin(Incarnation(8)).unwrap();
    let mut view = MemoryView::default();
    let first = again.write(&mut view, NOW, set("a", "1")).unwrap();
    let clock = again.clock().clone();
    let later = again
        .write(
            &mut view,
            NOW,
            Write::Report {
                clock: clock.clone(),
            },
        )
        .unwrap();

    let mut peer = Replica::new(config(2, 2), Limits::default()).unwrap();
    for written in [first, later, early] {
        peer.apply(&mut MemoryView::default(), NOW, &written.effect)
            .unwrap();
    }
    assert_eq!(peer.reported(InstanceId(1)), Some(&clock));
}

#[test]
fn a_report_is_due_as_long_as_it_tells_something_new() {
    let (mut replica, mut view) = fresh();
    assert!(!replica.is_report_due(replica.clock()));
    replica.write(&mut view, NOW, set("a", "1")).unwrap();
    let clock = replica.clock().clone();
    assert!(
        !replica.is_report_due(&meridian_crdt::Clock::new()),
        "nothing of it is durable"
    );
    assert!(replica.is_report_due(&clock));
    replica
        .write(&mut view, NOW, Write::Report { clock })
        .unwrap();
    assert!(
        !replica.is_report_due(replica.clock()),
        "a report alone is no news"
    );
}

#[test]
fn metadata_stays_while_one_member_has_not_reported() {
    let mut world = World::new(3, true);
    world.step(&Step::Write {
        region: 0,
        write: Intent::Count(0, 100),
    });
    world.settle();
    for _ in 0..3 {
        for region in [0, 1] {
            world.step(&Step::Persist { region });
            world.step(&Step::Report { region });
        }
        world.settle();
    }
    while world.regions[0].replica.collect(10) {}
    assert_eq!(world.regions[0].replica.stats().unstable_keys, 1);
    world.quiesce();
    assert_eq!(world.regions[0].replica.stats().unstable_keys, 0);
    assert!(world.regions[0].replica.stats().collected > 0);
}

/// Region 0 writes, region 1 takes it, region 0 loses it and comes back: what it lost is still on its way to region 2
/// through region 1, behind no report of the new life.
#[test]
fn nothing_is_stable_while_a_lost_tail_is_on_its_way() {
    let mut world = region_0_loses_what_region_1_got(true);
    for _ in 0..3 {
        for (from, to) in [(2, 0), (2, 1), (0, 1)] {
            fetch(&mut world, from, to);
        }
        everybody_tells_region_2(&mut world);
    }
    assert_newest_is_not_stable_until_all_settles(world);
}

/// As above, but the lost write is still between region 0 and region 1: nobody's report speaks of it.
#[test]
fn nothing_is_stable_while_a_member_may_still_hear_from_a_former_life() {
    let mut world = region_0_loses_what_region_1_got(false);
    for _ in 0..3 {
        for (from, to) in [(2, 0), (2, 1)] {
            fetch(&mut world, from, to);
        }
        everybody_tells_region_2(&mut world);
    }
    assert_newest_is_not_stable_until_all_settles(world);
}

fn fetch(world: &mut World, from: usize, to: usize) {
    world.step(&Step::Fetch {
        from,
        to,
        transactions: 100,
    });
    world.step(&Step::Deliver { from, to });
}

fn region_0_loses_what_region_1_got(arrived: bool) -> World {
    let mut world = World::new(3, true);
    world.step(&Step::Write {
        region: 1,
        write: Intent::Set(1, 0),
    });
    fetch(&mut world, 1, 0);
    world.step(&Step::Write {
        region: 0,
        write: Intent::Set(1, 0),
    });
    world.step(&Step::Persist { region: 0 });
    world.step(&Step::Write {
        region: 0,
        write: Intent::Set(0, 0),
    });
    world.step(&Step::Fetch {
        from: 0,
        to: 1,
        transactions: 100,
    });
    if arrived {
        world.step(&Step::Deliver { from: 0, to: 1 });
    }
    world.step(&Step::Crash { region: 0 });
    world.step(&Step::Time { region: 2, ms: 50 });
    world.step(&Step::Write {
        region: 2,
        write: Intent::Set(0, 5),
    });
    world
}

fn everybody_tells_region_2(world: &mut World) {
    for region in 0..3 {
        world.step(&Step::Persist { region });
        world.step(&Step::Report { region });
    }
    fetch(world, 0, 2);
    fetch(world, 1, 2);
}

fn assert_newest_is_not_stable_until_all_settles(mut world: World) {
    let newest = world.regions[2].history[0].dot;
    while world.regions[2].replica.collect(10) {}
    assert!(
        !world.regions[2].replica.stable().covers(newest),
        "stable before the lost tail arrived"
    );
    world.settle();
    let newest = Value::Text(b"word".to_vec());
    assert!(
        world
            .regions
            .iter()
            .all(|r| r.view.0.get(b"a".as_slice()) == Some(&newest))
    );
    world.quiesce();
    assert_eq!(world.regions[2].replica.stats().unstable_keys, 0);
}

#[test]
fn a_value_that_lost_comes_back_when_only_the_winner_is_removed() {
    let mut world = World::new(3, true);
    world.step(&Step::Write {
        region: 0,
        write: Intent::Set(0, 7),
    });
    world.settle();
    world.quiesce();
    world.step(&Step::Write {
        region: 0,
        write: Intent::Set(0, 0),
    });
    world.step(&Step::Time {
        region: 1,
        ms: 5_000,
    });
    world.step(&Step::Write {
        region: 1,
        write: Intent::Set(0, 5),
    });
    for (from, text) in [(0, "5"), (1, "word")] {
        fetch(&mut world, from, 2);
        while world.regions[2].replica.collect(10) {}
        assert_eq!(
            world.regions[2].view.0[b"a".as_slice()],
            Value::Text(text.into())
        );
    }
    world.step(&Step::Write {
        region: 1,
        write: Intent::Delete(vec![0]),
    });
    fetch(&mut world, 1, 2);
    assert_eq!(
        world.regions[2].view.0[b"a".as_slice()],
        Value::Text(b"5".to_vec())
    );
}
