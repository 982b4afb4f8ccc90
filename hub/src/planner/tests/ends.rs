//! How participants and members end: taken out by a change, lost for good.

use super::*;
use crate::domain::cluster::RemovedCluster;
use crate::domain::lost::Lost;
use crate::planner::tail::{Seen, asked};

/// A member is declared lost: what the hub knew of it goes with its registration.
pub(super) fn lose(input: &mut World, n: u8) {
    let Some(gone) = input.clusters.remove(&cluster(n)) else {
        return;
    };
    input.recs.remove(&cluster(n));
    let mine = |remote: &Remote| remote.cluster == cluster(n);
    let remotes = input.remotes.values().filter(|remote| mine(remote));
    let remotes: BTreeSet<_> = remotes.map(|remote| remote.name.clone()).collect();
    input.remotes.retain(|_, remote| !mine(remote));
    let lost = Lost {
        by: "alice".to_owned(),
        away_since: None,
        remotes,
        databases: BTreeSet::new(),
        residue: Vec::new(),
        parts: 0,
    };
    let removed = RemovedCluster {
        uid: cluster(n),
        name: gone.name,
        removed_at: moment(),
        lost: Some(lost),
    };
    input.removed.insert(cluster(n), removed);
}

/// A person takes a participant out of a database, and confirms that its data goes.
pub(super) fn leave(input: &mut World, number: u8, n: u8, who: &str) {
    let database = input.databases.get_mut(&format!("db-{number}")).unwrap();
    let listed = database.spec["participatingClusters"]
        .as_array_mut()
        .unwrap();
    listed.retain(|one| one["name"] != format!("lab-{n}"));
    let confirmed = Deletion {
        approval: who.to_owned(),
        at: moment(),
    };
    database.removals.insert(cluster(n), confirmed);
    all_read(input, number);
}

/// Everybody says that it is active, and has read all of everybody.
pub(super) fn all_read(input: &mut World, number: u8) {
    for n in 1..=9 {
        let seen = Seen {
            connected: true,
            active: true,
            caught_up: (1..=99).collect(),
        };
        let place = (cluster(n), object(0xdb, number));
        input.seen.insert(place, seen);
    }
}

/// One member carries out what it is told.
pub(super) fn obeys(input: &mut World, n: u8) {
    let here = input
        .desired
        .iter()
        .filter(|((at, _), _)| *at == cluster(n));
    let told: Vec<_> = here
        .map(|(place, (_, revision))| (*place, *revision))
        .collect();
    input.done.extend(told);
}

fn config(input: &World, n: u8) -> (u64, Vec<u64>) {
    let membership = &input.memberships[&object(0xdb, n)];
    (membership.config_version, membership.ghosts.clone())
}

fn kinds_told(input: &World, on: u8) -> Vec<(String, bool)> {
    let here = input.told.iter().filter(|((at, _), _)| *at == cluster(on));
    here.map(|(_, desired)| (desired.kind.clone(), desired.is_tombstone()))
        .collect()
}

fn members_of(spec: &Value) -> Vec<u64> {
    let members = spec["members"].as_array().unwrap().iter();
    members
        .map(|one| one["instanceId"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_deletion_does_not_wait_for_who_is_lost() {
    let mut input = with(world(3), [database(1, &[1, 2, 3])]);
    settle(&mut input);
    confirmed(&mut input, "db-1");
    settle(&mut input);
    obeys(&mut input, 1);
    obeys(&mut input, 2);
    settle(&mut input);
    assert!(input.databases.contains_key("db-1"), "it waits for lab-3");
    lose(&mut input, 3);
    settle(&mut input);
    assert!(input.databases.is_empty() && input.memberships.is_empty());
    assert!(
        kinds_told(&input, 3).is_empty(),
        "nothing is told there any more"
    );
}

#[test]
fn a_database_goes_on_without_who_is_lost_and_never_listens_to_it_again() {
    let mut input = with(world(3), [database(1, &[1, 2, 3])]);
    settle(&mut input);
    lose(&mut input, 3);
    assert_eq!(settle(&mut input), 1, "one plan, then rest");
    assert_eq!(config(&input, 1), (2, vec![3]));
    for n in 1..=2 {
        let spec = instance(&input, n);
        assert_eq!(
            (members_of(spec), &spec["ghosts"]),
            (vec![1, 2], &json!([3]))
        );
        let Action::Upsert { body } = &told(&input, n, objects::REAADB)[0].action else {
            panic!("a tombstone")
        };
        let listed = body["spec"]["participatingClusters"].as_array().unwrap();
        assert_eq!(listed.len(), 2, "{listed:?}");
        let gone: Vec<_> = told(&input, n, RERC)
            .into_iter()
            .filter(|one| one.is_tombstone())
            .collect();
        assert_eq!(gone.len(), 1, "nobody dials it any more");
    }
    assert!(kinds_told(&input, 3).is_empty());
    assert_eq!(
        plan(&input).report["db-1"],
        [
            "goes on without lab-3: cluster lab-3 was declared lost; take lab-3 out of spec.participatingClusters"
        ]
    );
}

#[test]
fn another_member_with_the_name_of_a_lost_one_is_a_new_participant() {
    let mut input = with(world(3), [database(1, &[1, 2, 3])]);
    settle(&mut input);
    let (remote, recs) = (
        input.remotes["lab-3"].clone(),
        input.recs[&cluster(3)].clone(),
    );
    lose(&mut input, 3);
    // It comes before the planner has looked, on a cluster of its own.
    let other = Cluster {
        uid: cluster(9),
        ..world(3).clusters[&cluster(3)].clone()
    };
    input.clusters.insert(cluster(9), other);
    input.recs.insert(cluster(9), recs);
    let anew = Remote {
        cluster: cluster(9),
        object_id: object(0xe0, 9),
        ..remote
    };
    input.remotes.insert("lab-3".to_owned(), anew);
    settle(&mut input);
    assert_eq!(instance(&input, 9)["instanceId"], 4, "none is given twice");
    assert_eq!(config(&input, 1), (2, vec![3]));
    assert_eq!(members_of(instance(&input, 1)), [1, 2, 4]);
}

#[test]
fn a_database_of_which_all_are_lost_rests_until_it_is_deleted() {
    let mut input = with(world(2), [database(1, &[2])]);
    settle(&mut input);
    lose(&mut input, 2);
    settle(&mut input);
    assert!(input.desired.is_empty());
    confirmed(&mut input, "db-1");
    settle(&mut input);
    assert!(input.databases.is_empty());
}

#[test]
fn who_is_taken_out_deletes_its_data_alone_and_is_a_ghost_when_that_is_done() {
    let mut input = with(world(3), [database(1, &[1, 2, 3])]);
    settle(&mut input);
    leave(&mut input, 1, 3, "alice");
    settle(&mut input);
    for (kind, approval) in [(objects::REAADB, "alice"), (objects::INSTANCE, "alice")] {
        let gone = told(&input, 3, kind)[0];
        assert_eq!(
            (gone.approval(), gone.is_tombstone()),
            (Some(approval), true)
        );
        for n in 1..=2 {
            assert!(!told(&input, n, kind)[0].is_tombstone(), "{kind} on {n}");
        }
    }
    assert_eq!(
        members_of(instance(&input, 1)),
        [1, 2, 3],
        "what it wrote is still read"
    );
    assert_eq!(
        plan(&input).report["db-1"],
        ["waits for lab-3: it has not confirmed that the data of lab-3 there is gone"]
    );
    members_obey(&mut input);
    settle(&mut input);
    assert_eq!(config(&input, 1), (2, vec![3]));
    assert_eq!(members_of(instance(&input, 2)), [1, 2]);
    members_obey(&mut input);
    settle(&mut input);
    assert!(
        kinds_told(&input, 3).is_empty(),
        "its remote clusters went last"
    );
    assert!(plan(&input).report["db-1"].is_empty());
}

#[test]
fn nobody_is_taken_out_whose_removal_nobody_confirmed() {
    let mut input = with(world(2), [database(1, &[1, 2])]);
    settle(&mut input);
    leave(&mut input, 1, 2, "alice");
    input.databases.get_mut("db-1").unwrap().removals.clear();
    settle(&mut input);
    assert!(!told(&input, 2, objects::REAADB)[0].is_tombstone());
    assert_eq!(config(&input, 1), (1, vec![]));
    let waits = &plan(&input).report["db-1"][0];
    assert!(waits.starts_with("waits for a person"), "{waits}");
}

#[test]
fn who_is_lost_while_it_leaves_is_not_waited_for() {
    let mut input = with(world(3), [database(1, &[1, 2, 3])]);
    settle(&mut input);
    leave(&mut input, 1, 3, "alice");
    settle(&mut input);
    lose(&mut input, 3);
    settle(&mut input);
    assert_eq!(config(&input, 1), (2, vec![3]));
    assert!(kinds_told(&input, 3).is_empty());
}

#[test]
fn who_comes_again_while_it_leaves_is_a_new_instance_after_its_data_is_gone() {
    let mut input = with(world(2), [database(1, &[1, 2])]);
    settle(&mut input);
    leave(&mut input, 1, 2, "alice");
    settle(&mut input);
    let again = database(1, &[1, 2]);
    let wanted = input.databases.get_mut("db-1").unwrap();
    (wanted.spec, wanted.removals) = (again.spec, again.removals);
    settle(&mut input);
    assert!(
        told(&input, 2, objects::INSTANCE)[0].is_tombstone(),
        "first the old data goes"
    );
    members_obey(&mut input);
    settle(&mut input);
    assert_eq!(instance(&input, 2)["instanceId"], 3);
    assert_eq!(config(&input, 1).1, [2]);
}

#[test]
fn the_checker_refuses_to_tell_who_is_gone_and_to_give_an_instance_up_without_a_ghost() {
    let mut input = with(world(2), [database(1, &[1, 2])]);
    settle(&mut input);
    let place = (cluster(2), object(0xdb, 1));
    let number = PlanNumber(input.plan_number.0 + 1);
    let told = input.told[&place].clone();
    let tell = Plan {
        number,
        tell: [(place, told)].into(),
        ..Plan::default()
    };
    check(&input, &tell).unwrap();
    let forget = Plan {
        number,
        forget: [place].into(),
        ..Plan::default()
    };
    assert_eq!(check(&input, &forget), Err(Breach::ForgottenEarly(place)));
    let before = input.memberships[&object(0xdb, 1)].clone();
    lose(&mut input, 2);
    assert!(matches!(
        check(&input, &tell),
        Err(Breach::ToldRemoved { .. })
    ));
    check(&input, &forget).unwrap();
    let mut given_up = before;
    given_up.instances.remove("lab-2");
    given_up.config_version += 1;
    let memberships = |membership| Plan {
        number,
        memberships: [(object(0xdb, 1), membership)].into(),
        ..Plan::default()
    };
    let refused = check(&input, &memberships(given_up.clone()));
    assert!(
        matches!(refused, Err(Breach::Unghosted { id: 2, .. })),
        "{refused:?}"
    );
    given_up.ghosts.push(2);
    check(&input, &memberships(given_up)).unwrap();
}

#[test]
fn the_checker_refuses_to_delete_the_data_of_a_participant_whose_removal_was_confirmed_once() {
    let mut input = with(world(2), [database(1, &[1, 2])]);
    settle(&mut input);
    leave(&mut input, 1, 2, "alice");
    let plan = plan(&input);
    check(&input, &plan).unwrap();
    input.databases.get_mut("db-1").unwrap().spec = database(1, &[1, 2]).spec;
    assert!(matches!(
        check(&input, &plan),
        Err(Breach::Unapproved { .. })
    ));
}

/// Member 2 gets a second REC, of remote cluster `lab-9`.
fn second_rec(input: &mut World) {
    let recs = &mut input.recs.get_mut(&cluster(2)).unwrap().recs;
    let second = Rec {
        name: "rec-2".to_owned(),
        ..recs[0].clone()
    };
    recs.push(second);
    let remote = Remote {
        object_id: object(0xe0, 9),
        name: "lab-9".to_owned(),
        rec: "rec-2".to_owned(),
        ..input.remotes["lab-2"].clone()
    };
    input.remotes.insert(remote.name.clone(), remote);
}

#[test]
fn another_rec_of_a_member_is_told_nothing_until_the_instance_that_leaves_it_is_gone() {
    let mut input = with(world(2), [database(1, &[1, 2])]);
    second_rec(&mut input);
    settle(&mut input);
    leave(&mut input, 1, 2, "alice");
    settle(&mut input);
    let wanted = input.databases.get_mut("db-1").unwrap();
    (wanted.spec, wanted.removals) = (database(1, &[1, 9]).spec, BTreeMap::new());
    settle(&mut input);
    for kind in [objects::REAADB, objects::INSTANCE] {
        assert!(told(&input, 2, kind)[0].is_tombstone(), "{kind}");
    }
    assert_eq!(
        plan(&input).report["db-1"],
        ["waits for lab-2: it has not confirmed that the data of lab-2 there is gone"]
    );
    members_obey(&mut input);
    let next = plan(&input);
    let place = (cluster(2), object(0xaa, 1));
    assert!(
        next.forget.contains(&place) && !next.tell.contains_key(&place),
        "{next}"
    );
    settle(&mut input);
    let spec = instance(&input, 2);
    assert_eq!(
        (&spec["instanceId"], &spec["cluster"]),
        (&json!(3), &json!("rec-2"))
    );
    assert_eq!(config(&input, 1).1, [2]);
}

#[test]
fn a_member_whose_instance_is_replaced_by_that_of_another_rec_keeps_it_until_a_person_says_more() {
    let mut input = with(world(2), [database(1, &[1, 2])]);
    second_rec(&mut input);
    settle(&mut input);
    leave(&mut input, 1, 2, "alice");
    // As it could be stored in one change once.
    input.databases.get_mut("db-1").unwrap().spec = database(1, &[1, 9]).spec;
    settle(&mut input);
    let spec = instance(&input, 2);
    assert_eq!(
        (&spec["instanceId"], &spec["cluster"]),
        (&json!(2), &json!("rec"))
    );
    let waits = &plan(&input).report["db-1"][0];
    assert!(waits.contains("take lab-9 out"), "{waits}");
    leave(&mut input, 1, 9, "alice");
    input
        .databases
        .get_mut("db-1")
        .unwrap()
        .removals
        .retain(|home, _| *home != cluster(9));
    settle(&mut input);
    assert!(told(&input, 2, objects::INSTANCE)[0].is_tombstone());
}

#[test]
fn the_data_of_who_leaves_goes_when_another_serves_and_those_that_stay_have_read_it() {
    let mut input = with(world(3), [database(1, &[1, 2, 3])]);
    settle(&mut input);
    leave(&mut input, 1, 3, "alice");
    let places: Vec<_> = (1..=3).map(|n| (cluster(n), object(0xdb, 1))).collect();
    assert_eq!(asked(&input).into_iter().collect::<Vec<_>>(), places);
    let goes = |input: &World| told(input, 3, objects::REAADB)[0].is_tombstone();
    let waits = |change: &dyn Fn(&mut [Seen]), words: &[&str]| {
        let mut seen = vec![input.seen[&places[0]].clone(); 3];
        change(&mut seen);
        let seen = places.iter().copied().zip(seen);
        let mut input = input.clone();
        input.seen = seen.collect();
        settle(&mut input);
        assert_eq!(goes(&input), words.is_empty(), "{words:?}");
        assert_eq!(settle(&mut input), 0, "nothing more is planned");
        let said = plan(&input).report["db-1"].clone();
        let found = said
            .iter()
            .zip(words)
            .all(|(line, word)| line.contains(word));
        assert!(
            found && (words.is_empty() || said.len() == words.len()),
            "{said:?}"
        );
    };
    waits(&|seen| seen[2].connected = false, &["remove lab-3 --lost"]);
    let inactive = |seen: &mut [Seen]| {
        seen[0].active = false;
        seen[1].active = false;
    };
    waits(&inactive, &["one of those that stay to be active"]);
    let behind = |seen: &mut [Seen]| assert!(seen[1].caught_up.remove(&3));
    waits(
        &behind,
        &["waits for lab-2: it has not said that it has read all that lab-3 wrote"],
    );
    waits(
        &|seen| seen.fill(Seen::default()),
        &["remove lab-3 --lost", "one of those that stay"],
    );
    waits(&|seen| seen[1] = Seen::default(), &[]);
    waits(&|_| {}, &[]);
    // What was told cannot be taken back, and is waited for as before.
    settle(&mut input);
    input.seen.clear();
    assert_eq!(settle(&mut input), 0);
    assert!(asked(&input).is_empty() && goes(&input));
    let waits = &plan(&input).report["db-1"];
    assert_eq!(
        waits.as_slice(),
        ["waits for lab-3: it has not confirmed that the data of lab-3 there is gone"]
    );
}
