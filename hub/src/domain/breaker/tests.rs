use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// The two objects of a database: the database and its instance.
fn objects(database: usize) -> [ObjectId; 2] {
    let of = |n: usize| ObjectId::new(Uuid::from_u128(n as u128 + 1)).unwrap();
    [of(database * 2), of(database * 2 + 1)]
}

fn name(database: usize) -> String {
    format!("db-{database}")
}

/// A scope with databases 0 to `managed`, of which these are to go.
fn told(managed: usize, deletions: &[usize]) -> Told {
    Told {
        databases: (0..managed).map(name).collect(),
        deletions: deletions
            .iter()
            .flat_map(|database| objects(*database).map(|object| (object, name(*database))))
            .collect(),
    }
}

fn judge(tally: &mut Tally, told: &Told, seconds: i64) -> bool {
    tally.judge(told, &BTreeMap::new(), at(seconds));
    told.deletions.keys().all(|object| tally.lets(*object))
}

#[test]
fn three_go_and_the_fourth_stops_all_however_few_databases_there_are() {
    let mut tally = Tally::default();
    assert!(judge(&mut tally, &told(4, &[0, 1, 2]), 0));
    assert!(!judge(&mut tally, &told(4, &[0, 1, 2, 3]), 60));
    let frozen = tally.frozen().unwrap();
    assert_eq!((frozen.deletions, frozen.limit, frozen.managed), (4, 3, 4));
    assert!(
        !tally.lets(objects(0)[0]),
        "what was let through stops, too"
    );
    assert!(tally.has_let(objects(0)[0]) && !tally.has_let(objects(3)[0]));
}

#[test]
fn of_many_databases_one_in_ten_goes() {
    let ten: Vec<_> = (0..10).collect();
    assert!(judge(&mut Tally::default(), &told(100, &ten), 0));
    let eleven: Vec<_> = (0..11).collect();
    assert!(!judge(&mut Tally::default(), &told(100, &eleven), 0));
    assert!(!judge(&mut Tally::default(), &told(109, &eleven), 0));
    assert!(judge(&mut Tally::default(), &told(110, &eleven), 0));
}

#[test]
fn what_is_deleted_one_by_one_is_counted_for_an_hour() {
    let mut tally = Tally::default();
    for (n, seconds) in [(0, 0), (1, 1200), (2, 2400)] {
        assert!(judge(&mut tally, &told(9, &[n]), seconds));
    }
    let mut late = tally.clone();
    assert!(!judge(&mut tally, &told(9, &[3]), 3599));
    assert!(
        judge(&mut late, &told(9, &[3]), 3600),
        "the first is an hour ago"
    );
}

#[test]
fn a_clock_that_goes_back_forgets_nothing() {
    let mut tally = Tally::default();
    assert!(judge(&mut tally, &told(9, &[0, 1, 2]), 7200));
    assert!(!judge(&mut tally, &told(9, &[3]), 0));
}

#[test]
fn time_ends_no_freeze_and_a_member_that_comes_back_late_is_still_let() {
    let mut tally = Tally::default();
    assert!(judge(&mut tally, &told(9, &[0]), 0));
    assert!(
        judge(&mut tally, &told(9, &[0]), 864_000),
        "it is told once more"
    );
    let mut frozen = Tally::default();
    assert!(!judge(&mut frozen, &told(9, &[0, 1, 2, 3]), 0));
    assert!(!judge(&mut frozen, &told(9, &[0, 1, 2, 3]), 864_000));
}

#[test]
fn what_a_person_has_seen_goes_and_counts_no_more() {
    let mut tally = Tally::default();
    let four = told(40, &[0, 1, 2, 3, 4]);
    assert!(!judge(&mut tally, &four, 0));
    tally.release(&four, "alice", at(60));
    assert!(judge(&mut tally, &four, 61));
    assert_eq!(tally.seen()[&objects(0)[1]], "alice");
    assert!(judge(
        &mut tally,
        &told(40, &[0, 1, 2, 3, 4, 5, 6, 7, 8]),
        62
    ));
    let five_more = told(40, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert!(
        !judge(&mut tally, &five_more, 63),
        "five that nobody has seen"
    );
}

#[test]
fn what_was_seen_in_the_list_of_the_fleet_is_seen_on_each_member() {
    let mut fleet = Tally::default();
    let all = told(9, &[0, 1, 2, 3]);
    assert!(!judge(&mut fleet, &all, 0));
    fleet.release(&all, "alice", at(1));
    let mut member = Tally::default();
    member.judge(&all, &fleet.seen(), at(2));
    assert!(all.deletions.keys().all(|object| member.lets(*object)));
}

#[test]
fn a_list_has_another_name_as_soon_as_one_deletion_is_another() {
    let cluster = |n: u128| ClusterUid::new(Uuid::from_u128(n)).unwrap();
    let name = |scope, list: &[(u128, usize, u64)]| {
        let list = list.iter();
        let list = list.map(|(c, o, r)| (cluster(*c), objects(*o)[0], Revision(*r)));
        list_name(scope, list)
    };
    let known = name(Scope::Fleet, &[(1, 1, 5), (2, 1, 6)]);
    assert_eq!(known, name(Scope::Fleet, &[(2, 1, 6), (1, 1, 5)]));
    for other in [
        name(Scope::Fleet, &[(1, 1, 5)]),
        name(Scope::Fleet, &[(1, 1, 5), (2, 1, 7)]),
        name(Scope::Fleet, &[(1, 1, 5), (2, 2, 6)]),
        name(Scope::Cluster(cluster(1)), &[(1, 1, 5), (2, 1, 6)]),
    ] {
        assert_ne!(known, other);
    }
}

proptest! {
    /// Whatever is asked for when, in whatever pieces: within no hour more goes than the limit, unless a person has seen it.
    #[test]
    fn never_more_than_the_limit_within_the_window(
        managed in 1usize..80,
        asked in prop::collection::vec((0usize..80, 0i64..1500), 1..60),
    ) {
        let (mut tally, mut seconds) = (Tally::default(), 0);
        let mut wanted = BTreeSet::new();
        let mut went: BTreeMap<usize, i64> = BTreeMap::new();
        for (database, pause) in asked {
            seconds += pause;
            wanted.insert(database);
            let list: Vec<_> = wanted.iter().copied().collect();
            judge(&mut tally, &told(managed, &list), seconds);
            for database in &wanted {
                if tally.lets(objects(*database)[0]) {
                    went.entry(*database).or_insert(seconds);
                }
            }
            let recent = went.values().filter(|at| seconds - **at < 3600).count();
            prop_assert!(recent <= limit(managed.max(80)), "{recent}");
        }
    }
}
