//! Every pair of concurrent writes, on every kind of key, in both orders.

use crate::world::{Intent, World, expected};
use meridian_crdt::Effect;

/// Every operation, on key `a`.
fn operations() -> Vec<Intent> {
    vec![
        Intent::Set(0, 0),
        Intent::Set(0, 5),
        Intent::Count(0, 300),
        Intent::Count(0, 25),
        Intent::Add(0, vec![0]),
        Intent::Add(0, vec![0, 1]),
        Intent::Remove(0, vec![0]),
        Intent::Fill(0, vec![(0, 0)]),
        Intent::Fill(0, vec![(0, 5), (1, 3)]),
        Intent::Clear(0, vec![0]),
        Intent::CountIn(0, 0, 300),
        Intent::CountIn(0, 1, 25),
        Intent::Delete(vec![0]),
    ]
}

/// What the key may be before.
fn states() -> Vec<Vec<Intent>> {
    vec![
        vec![],
        vec![Intent::Set(0, 7)],
        vec![Intent::Set(0, 5)],
        vec![Intent::Count(0, 200)],
        vec![Intent::Set(0, 3), Intent::Count(0, 50)],
        vec![Intent::Add(0, vec![0])],
        vec![Intent::Add(0, vec![0, 1]), Intent::Remove(0, vec![1])],
        vec![Intent::Fill(0, vec![(0, 7)])],
        vec![Intent::CountIn(0, 0, 100), Intent::Fill(0, vec![(1, 5)])],
        vec![
            Intent::Set(0, 0),
            Intent::Delete(vec![0]),
            Intent::Add(0, vec![0]),
        ],
    ]
}

/// Two regions that agree on the state, after it became stable if asked for.
fn prepared(state: &[Intent], stable: bool) -> World {
    let mut world = World::new(2, true);
    for intent in state {
        world.write(0, &intent.to_write());
    }
    world.settle();
    if stable {
        world.quiesce();
        assert_eq!(world.regions[0].replica.stats().unstable_keys, 0);
    }
    world
}

fn last_effect(world: &World, region: usize, before: usize) -> Option<Effect> {
    world.regions[region].history.get(before).cloned()
}

#[test]
fn concurrent_effects_commute_for_every_pair_of_operations_on_every_state() {
    let mut pairs = 0;
    for (state, stable) in states()
        .into_iter()
        .flat_map(|s| [(s.clone(), false), (s, true)])
    {
        for (left, right) in operations()
            .iter()
            .flat_map(|l| operations().into_iter().map(move |r| (l.clone(), r)))
        {
            let mut world = prepared(&state, stable);
            let counts = [
                world.regions[0].history.len(),
                world.regions[1].history.len(),
            ];
            let (mut first, mut first_view) = world.regions[0].fork();
            let (mut second, mut second_view) = world.regions[0].fork();
            world.write(0, &left.to_write());
            world.write(1, &right.to_write());
            let effects = [0, 1].map(|region| last_effect(&world, region, counts[region]));
            let [Some(one), Some(other)] = effects else {
                continue;
            };
            for effect in [&one, &other] {
                first.replay(&mut first_view, effect).unwrap();
            }
            for effect in [&other, &one] {
                second.replay(&mut second_view, effect).unwrap();
            }
            assert_eq!(
                first_view, second_view,
                "{state:?} (stable: {stable}), then {left:?} and {right:?}"
            );
            world.settle();
            assert_eq!(
                world.regions[0].view, first_view,
                "{state:?} (stable: {stable}), {left:?}, {right:?}"
            );
            assert_eq!(world.regions[1].view, expected(&world.regions[1].history));
            pairs += 1;
        }
    }
    assert!(
        pairs > 900,
        "only {pairs} pairs were allowed by their states"
    );
}
