//! Whatever the order between origins: every value is what the oracle says, and all regions agree.

use crate::steps::{Mix, steps};
use crate::world::{World, expected};
use proptest::prelude::*;

/// Runs the steps; after each one the region that changed must show what the oracle says about the effects it holds.
fn run(regions: usize, steps: &[crate::world::Step], forget: bool) -> Result<World, TestCaseError> {
    let mut world = World::new(regions, forget);
    for step in steps {
        let changed = world.step(step);
        let region = &world.regions[changed];
        prop_assert_eq!(
            &region.view,
            &expected(&region.history),
            "region {} after {:?}",
            changed,
            step
        );
    }
    Ok(world)
}

fn all_agree(world: &World) -> Result<(), TestCaseError> {
    let first = &world.regions[0];
    prop_assert_eq!(&first.view, &expected(&first.history));
    for region in &world.regions[1..] {
        prop_assert_eq!(first.dots(), region.dots());
        prop_assert_eq!(&first.view, &region.view);
        prop_assert_eq!(first.view.digest(), region.view.digest());
    }
    Ok(())
}

proptest! {
    #![proptest_config(crate::runs())]

    #[test]
    fn every_region_shows_what_the_oracle_says(
        regions in 2..=5_usize,
        steps in steps(Mix { crashes: 0, gossip: 1 }, 90),
    ) {
        let mut world = run(regions, &steps, false)?;
        world.settle();
        all_agree(&world)?;
    }

    #[test]
    fn forgetting_is_invisible(regions in 2..=4_usize, steps in steps(Mix { crashes: 0, gossip: 16 }, 120)) {
        let mut forgetful = World::new(regions, true);
        let mut mindful = World::new(regions, false);
        for step in &steps {
            let changed = forgetful.step(step);
            mindful.step(step);
            let (left, right) = (&forgetful.regions[changed], &mindful.regions[changed]);
            prop_assert_eq!(&left.view, &right.view, "region {} after {:?}", changed, step);
            prop_assert_eq!(&left.view, &expected(&left.history), "region {} after {:?}", changed, step);
        }
        forgetful.settle();
        mindful.settle();
        all_agree(&forgetful)?;
        prop_assert_eq!(&forgetful.regions[0].view, &mindful.regions[0].view);
        forgetful.quiesce();
        all_agree(&forgetful)?;
        for region in &forgetful.regions {
            prop_assert_eq!(region.replica.stats().unstable_keys, 0);
            prop_assert_eq!(region.replica.stats().waiting_removals, 0);
        }
    }

    #[test]
    fn a_lost_tail_comes_back_and_nothing_that_was_shipped_is_lost(
        regions in 2..=4_usize,
        steps in steps(Mix { crashes: 8, gossip: 12 }, 120),
    ) {
        let mut world = run(regions, &steps, true)?;
        let held: std::collections::BTreeSet<_> = world.regions.iter().flat_map(|r| r.dots()).collect();
        world.settle();
        all_agree(&world)?;
        let kept = world.regions[0].dots();
        prop_assert!(held.is_subset(&kept), "lost: {:?}", held.difference(&kept));
        world.quiesce();
        all_agree(&world)?;
        // What refers to effects that two crashes together have taken from everybody is kept for good.
        let clock = world.regions[0].replica.clock();
        let all_there = world.regions[0].history.iter().all(|effect| clock.includes(&effect.context));
        for region in world.regions.iter().filter(|_| all_there) {
            prop_assert_eq!(region.replica.stats().unstable_keys, 0, "{:?}", region.replica);
        }
    }
}
