//! Restarts: effects that come again, snapshots in the middle, and lives.

use crate::steps::{Mix, steps};
use crate::view::{FailingView, MemoryView};
use crate::world::{Step, World, config};
use meridian_crdt::{Limits, Outcome, Replica};
use proptest::prelude::*;
use proptest::sample::Index;

const MIX: Mix = Mix {
    crashes: 0,
    gossip: 4,
};

proptest! {
    #![proptest_config(crate::runs())]

    #[test]
    fn replaying_again_from_any_point_changes_nothing(
        regions in 2..=4_usize,
        steps in steps(MIX, 60),
        cut in any::<Index>(),
        again in any::<Index>(),
    ) {
        let mut world = World::new(regions, true);
        steps.iter().for_each(|step| { world.step(step); });
        let region = &world.regions[0];
        let history = &region.history;
        let cut = cut.index(history.len() + 1);
        let again = again.index(cut + 1);

        let mut replica = Replica::new(config(1, 4), Limits::default()).unwrap();
        let mut view = MemoryView::default();
        for effect in &history[..cut] {
            prop_assert_eq!(replica.replay(&mut view, effect), Ok(Outcome::Done));
        }
        let before = view.clone();
        for effect in &history[again..cut] {
            prop_assert_eq!(replica.replay(&mut view, effect), Ok(Outcome::Duplicate));
        }
        prop_assert_eq!(&view, &before);
        prop_assert_eq!(replica.stats().duplicates, (cut - again) as u64);
        for effect in &history[cut..] {
            prop_assert_eq!(replica.replay(&mut view, effect), Ok(Outcome::Done));
        }
        prop_assert_eq!(&view, &region.view);
        prop_assert_eq!(replica.clock(), region.replica.clock());
        prop_assert_eq!(replica.incarnation(), None);
    }

    /// The observer has none of what the others found stable before they wrote.
    #[test]
    fn who_receives_everything_from_the_beginning_ends_alike_in_any_order_between_origins(
        regions in 2..=4_usize,
        steps in steps(Mix { crashes: 2, gossip: 16 }, 100),
        order in proptest::collection::vec(any::<Index>(), 400),
    ) {
        let mut world = World::new(regions, true);
        steps.iter().for_each(|step| { world.step(step); });
        world.settle();
        let mut streams = std::collections::BTreeMap::<_, std::collections::VecDeque<_>>::new();
        for effect in &world.regions[0].history {
            streams.entry(effect.dot.origin).or_default().push_back(effect.clone());
        }
        for stream in streams.values_mut() {
            stream.make_contiguous().sort_by_key(|effect| effect.dot.seq);
        }
        let mut replica = Replica::new(config(9, 9), Limits::default()).unwrap();
        let (mut view, mut received) = (MemoryView::default(), vec![]);
        for place in order.iter().cycle() {
            let open: Vec<_> = streams.iter().filter(|(_, s)| !s.is_empty()).map(|(origin, _)| *origin).collect();
            if open.is_empty() {
                break;
            }
            let next = streams.get_mut(&open[place.index(open.len())]).and_then(|s| s.pop_front()).unwrap();
            replica.replay(&mut view, &next).unwrap();
            received.push(next);
            prop_assert_eq!(&view, &crate::world::expected(&received));
        }
        prop_assert_eq!(&view, &world.regions[0].view);
    }

    #[test]
    fn a_snapshot_is_the_whole_state_but_the_incarnation(
        regions in 2..=4_usize,
        before in steps(MIX, 60),
        after in steps(MIX, 30),
    ) {
        let mut world = World::new(regions, true);
        before.iter().for_each(|step| { world.step(step); });
        for region in &mut world.regions {
            let bytes = region.replica.snapshot();
            let restored = Replica::restore(&bytes, Limits::default()).unwrap();
            prop_assert_eq!(restored.incarnation(), None);
            prop_assert_eq!(restored.clock(), region.replica.clock());
            prop_assert_eq!(restored.hlc(), region.replica.hlc());
            prop_assert_eq!(restored.stable(), region.replica.stable());
            prop_assert_eq!(restored.snapshot(), bytes);
            region.replica = restored;
        }
        for step in &after {
            let changed = world.step(step);
            let region = &world.regions[changed];
            prop_assert_eq!(&region.view, &crate::world::expected(&region.history));
        }
    }

    #[test]
    fn an_effect_that_the_store_refused_halfway_is_applied_whole_the_second_time(
        steps in steps(Mix { crashes: 0, gossip: 10 }, 80),
        failures in proptest::collection::vec(0..6_u8, 1..40),
    ) {
        let mut world = World::new(3, true);
        steps.iter().for_each(|step| { world.step(step); });
        let history = &world.regions[0].history;
        let mut replica = Replica::new(config(1, 3), Limits::default()).unwrap();
        let mut view = FailingView::default();
        for (effect, failure) in history.iter().zip(failures.iter().cycle()) {
            view.fails_in = Some(*failure);
            let clock = replica.clock().clone();
            if replica.replay(&mut view, effect).is_err() {
                prop_assert_eq!(replica.clock(), &clock);
                prop_assert_eq!(replica.replay(&mut view, effect), Ok(Outcome::Done));
            }
            if failure % 2 == 0 {
                while replica.collect(1) {}
            }
        }
        prop_assert_eq!(&view.values, &world.regions[0].view);
    }

    #[test]
    fn no_dot_is_ever_used_twice(steps in steps(Mix { crashes: 12, gossip: 4 }, 100)) {
        let mut world = World::new(3, true);
        let mut seen = std::collections::BTreeMap::new();
        for step in &steps {
            world.step(step);
            for effect in world.regions.iter().flat_map(|region| &region.history) {
                let known = seen.entry(effect.dot).or_insert_with(|| effect.clone());
                prop_assert_eq!(&*known, effect, "one dot names two effects after {:?}", step);
            }
        }
    }
}

#[test]
fn a_new_life_writes_under_a_new_origin_and_the_lost_tail_is_pulled_back() {
    use crate::world::Intent;
    let mut world = World::new(2, true);
    world.step(&Step::Write {
        region: 0,
        write: Intent::Count(0, 100),
    });
    world.step(&Step::Persist { region: 0 });
    world.step(&Step::Write {
        region: 0,
        write: Intent::Count(0, 200),
    });
    world.settle();
    world.step(&Step::Crash { region: 0 });
    world.step(&Step::Write {
        region: 0,
        write: Intent::Count(0, 400),
    });
    world.settle();
    let total = crate::oracle::Value::Text(b"7".to_vec());
    for region in &world.regions {
        assert_eq!(region.view.0.get(b"a".as_slice()), Some(&total));
        let lives = region
            .replica
            .clock()
            .iter()
            .filter(|(origin, _)| origin.instance.0 == 1)
            .count();
        assert_eq!(lives, 2);
    }
}
