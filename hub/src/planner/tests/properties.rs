//! Whatever happens, in whatever order.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Something that happens to the hub.
#[derive(Clone, Debug)]
enum Happening {
    Create(u8, Vec<u8>),
    Confirm(u8),
    Silent(u8),
    Lost(u8),
    Leave(u8, u8),
    Joins(u8),
    Report(u8),
    Obey(u8),
    Plan,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (
            1..=3_u8,
            proptest::sample::subsequence(vec![1_u8, 2, 3, 4], 1..=4)
        )
            .prop_map(|(n, on)| Happening::Create(n, on)),
        (1..=3_u8).prop_map(Happening::Confirm),
        (1..=4_u8).prop_map(Happening::Silent),
        (1..=4_u8).prop_map(Happening::Lost),
        (1..=3_u8, 1..=4_u8).prop_map(|(n, on)| Happening::Leave(n, on)),
        (1..=4_u8).prop_map(Happening::Joins),
        (1..=4_u8).prop_map(Happening::Report),
        (1..=4_u8).prop_map(Happening::Obey),
        Just(Happening::Plan),
    ]
}

fn happen(input: &mut World, happening: Happening) {
    let report = |n: u8| world(4).recs[&cluster(n)].clone();
    match happening {
        Happening::Create(n, on) => {
            let database = database(n, &on);
            input
                .databases
                .entry(database.name.clone())
                .or_insert(database);
        }
        Happening::Confirm(n) if input.databases.contains_key(&format!("db-{n}")) => {
            confirmed(input, &format!("db-{n}"))
        }
        Happening::Confirm(_) => {}
        Happening::Silent(n) => drop(input.recs.remove(&cluster(n))),
        Happening::Lost(n) => lose(input, n),
        Happening::Leave(n, on) => {
            let wanted = input.databases.get(&format!("db-{n}"));
            let known = input.clusters.contains_key(&cluster(on));
            let listed = wanted.is_some_and(|it| {
                let mut participants = it.participants().into_iter();
                it.deletion.is_none() && participants.any(|one| one.name == format!("lab-{on}"))
            });
            if known && listed {
                leave(input, n, on, "bob");
            }
        }
        // With the name and the identity that it had.
        Happening::Joins(n) => {
            if input.removed.remove(&cluster(n)).is_some() {
                let as_new = world(4);
                let joined = as_new.clusters[&cluster(n)].clone();
                input.clusters.insert(cluster(n), joined);
                let name = format!("lab-{n}");
                let remote = as_new.remotes[&name].clone();
                input.remotes.insert(name, remote);
                input.recs.insert(cluster(n), report(n));
            }
        }
        Happening::Report(n) if input.clusters.contains_key(&cluster(n)) => {
            drop(input.recs.insert(cluster(n), report(n)))
        }
        Happening::Report(_) => {}
        Happening::Obey(n) if input.clusters.contains_key(&cluster(n)) => obeys(input, n),
        Happening::Obey(_) => {}
        Happening::Plan => {
            let plan = plan(input);
            let before = input.desired.clone();
            carry_out(input, &plan);
            only_tombstones_delete(&before, input, &plan);
        }
    }
}

/// Whatever left the desired state was a tombstone that its member had carried out, or its member was lost, and every
/// data-bearing tombstone belongs to a database whose deletion a person confirmed, everywhere or there. Who is lost is told nothing.
fn only_tombstones_delete(before: &BTreeMap<Place, (Told, Revision)>, after: &Input, plan: &Plan) {
    for (place, (desired, _)) in before {
        let lost = after.removed.contains_key(&place.0);
        assert!(
            after.desired.contains_key(place) || desired.is_tombstone() || lost,
            "{place:?} vanished"
        );
    }
    let removed = &after.removed;
    let mut told = plan.tell.keys();
    assert!(told.all(|place| !removed.contains_key(&place.0)), "{plan}");
    for ((on, _), desired) in plan
        .tell
        .iter()
        .filter(|(_, desired)| desired.is_tombstone() && desired.data_bearing)
    {
        let owner = after
            .databases
            .values()
            .find(|database| database.name == desired.name)
            .unwrap();
        assert!(
            owner.deletion.is_some() || owner.removals.contains_key(on),
            "{} would be deleted",
            desired.name
        );
    }
}

/// What happens after this to a planner that looks at what has changed only: what it is told of that.
fn change(before: &Input, after: &Input) -> Changed {
    fn differing<'m, K: Ord, V: PartialEq>(
        before: &'m BTreeMap<K, V>,
        after: &'m BTreeMap<K, V>,
    ) -> impl Iterator<Item = &'m K> {
        let mut keys: BTreeSet<_> = before.keys().collect();
        keys.extend(after.keys());
        keys.into_iter()
            .filter(|key| before.get(key) != after.get(key))
    }
    let mut changed = Changed::default();
    let databases = before.databases.values().chain(after.databases.values());
    let owners: BTreeMap<_, _> = databases
        .flat_map(|known| {
            [known.object_id, known.instance_object_id].map(|object| (object, known.name.clone()))
        })
        .collect();
    changed
        .databases
        .extend(differing(&before.databases, &after.databases).cloned());
    let memberships = differing(&before.memberships, &after.memberships);
    changed
        .databases
        .extend(memberships.filter_map(|object| owners.get(object).cloned()));
    for place in differing(&before.desired, &after.desired) {
        let known = after.desired.get(place).or(before.desired.get(place));
        match (owners.get(&place.1), known) {
            (None, Some((told, _))) => drop(changed.told.insert((*place, told.name.clone()))),
            (owner, _) => changed.databases.extend(owner.cloned()),
        }
    }
    // As when a record goes of which it is not known who needs it.
    changed.everything = before.removed != after.removed;
    for cluster in differing(&before.recs, &after.recs) {
        let remotes = after.remotes.values();
        let of_it = remotes.filter(|remote| remote.cluster == *cluster);
        changed
            .remotes
            .extend(of_it.map(|remote| remote.name.clone()));
    }
    changed
}

proptest! {
    #[test]
    fn a_plan_of_what_has_changed_is_that_of_everything(
        happenings in proptest::collection::vec(happening(), 0..60)
    ) {
        let mut input = world(4);
        let mut needs = Needs::default();
        let mut changed = Changed::everything();
        for one in happenings {
            if matches!(one, Happening::Plan) {
                let mut of_changed = plan_changed(&input, &mut needs, &std::mem::take(&mut changed));
                let mut of_everything = plan(&input);
                // What is waited for is told of those that were looked at.
                of_changed.report.clear();
                of_everything.report.clear();
                prop_assert_eq!(of_changed, of_everything);
            }
            let before = input.input.clone();
            happen(&mut input, one);
            changed = changed.and(change(&before, &input));
        }
    }

    #[test]
    fn only_tombstones_delete_whatever_happens_and_the_planner_comes_to_rest(
        happenings in proptest::collection::vec(happening(), 0..40)
    ) {
        let mut input = world(4);
        for one in happenings {
            happen(&mut input, one);
        }
        settle(&mut input);
        prop_assert!(plan(&input).is_empty());
    }

    #[test]
    fn a_deletion_ends_whoever_is_lost_once_the_others_have_confirmed_it(
        happenings in proptest::collection::vec(happening(), 0..40),
        lost in proptest::sample::subsequence(vec![1_u8, 2, 3, 4], 1..=4)
    ) {
        let mut input = world(4);
        for one in happenings {
            happen(&mut input, one);
        }
        let names: Vec<_> = input.databases.keys().cloned().collect();
        for name in &names {
            confirmed(&mut input, name);
        }
        for n in &lost {
            lose(&mut input, *n);
        }
        // Bounded: told, done and forgotten, remote clusters after the databases.
        for _ in 0..3 {
            settle(&mut input);
            for n in 1..=4 {
                happen(&mut input, Happening::Obey(n));
            }
        }
        settle(&mut input);
        prop_assert!(input.databases.is_empty() && input.memberships.is_empty());
        prop_assert!(input.desired.is_empty(), "{:?}", input.desired);
    }

    #[test]
    fn no_instance_id_is_ever_given_twice(on in proptest::sample::subsequence(vec![1_u8, 2, 3, 4], 1..=4), floor in 0..50_u64) {
        let mut input = with(world(4), [database(1, &on)]);
        input.instance_id_floor = floor;
        settle(&mut input);
        let ids: BTreeSet<_> = input.memberships[&object(0xdb, 1)].instances.values().copied().collect();
        prop_assert_eq!(ids.len(), on.len());
        prop_assert!(ids.iter().all(|id| *id > floor));
    }
}
