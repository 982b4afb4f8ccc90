//! The state machine alone, and three replicas with clocks that differ, pauses and lost answers against a model of etcd.

mod model;

use proptest::prelude::*;

use super::*;
use model::{Faults, World};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const OURS: Lease = Lease(1);
const THEIRS: Lease = Lease(9);
const LIFE: Duration = Duration::from_secs(3);

fn answered(ask: Ask, answer: Answer) -> Event {
    Event::Answered(ask, answer)
}

/// A replica that leads since 100 ms, with a lease that it asked for at 0.
fn leader() -> Election {
    let mut election = Election::new(Rules::default());
    let first = election.step(ms(0), Event::Tick);
    assert_eq!(first, [Action::Ask(Ask::Look)]);
    let vacant = election.step(ms(0), answered(Ask::Look, Answer::Seat(None)));
    assert_eq!(vacant, [Action::Ask(Ask::Grant)]);
    let granted = election.step(ms(50), answered(Ask::Grant, Answer::Granted(OURS, LIFE)));
    assert_eq!(granted, [Action::Ask(Ask::Claim(OURS))]);
    let claimed = election.step(ms(100), answered(Ask::Claim(OURS), Answer::Claimed));
    assert_eq!(claimed, [Action::Lead(OURS), Action::Ask(Ask::Renew(OURS))]);
    election
}

#[test]
fn a_leader_steps_down_a_margin_before_its_lease_ends_counted_from_when_it_asked() {
    let mut election = leader();
    assert_eq!(election.leads_until(), Some(ms(2500)));
    assert!(
        !election
            .step(ms(2499), Event::Tick)
            .contains(&Action::StepDown(Why::Overdue))
    );
    let ended = election.step(ms(2500), Event::Tick);
    let expected = [
        Action::StepDown(Why::Overdue),
        Action::Ask(Ask::Revoke(OURS)),
    ];
    assert_eq!(ended[..2], expected);
    assert_eq!(election.leads_until(), None);
}

#[test]
fn a_renewal_counts_from_when_it_was_asked_for_and_comes_too_late_after_the_end() {
    let mut election = leader();
    // Its answer is late, so that the next one is asked for at once.
    let renewed = answered(Ask::Renew(OURS), Answer::Renewed(LIFE));
    let asked = election.step(ms(1900), renewed);
    assert!(asked.contains(&Action::Ask(Ask::Renew(OURS))), "{asked:?}");
    assert_eq!(election.leads_until(), Some(ms(2600)));
    let late = election.step(ms(2600), answered(Ask::Renew(OURS), Answer::Renewed(LIFE)));
    assert_eq!(late.first(), Some(&Action::StepDown(Why::Overdue)));
    assert_eq!(election.leads_until(), None);
}

#[test]
fn a_lease_that_the_store_grants_for_longer_is_not_held_longer() {
    let mut election = leader();
    let long = answered(Ask::Renew(OURS), Answer::Renewed(ms(60_000)));
    drop(election.step(ms(200), long));
    assert_eq!(election.leads_until(), Some(ms(2600)));
}

#[test]
fn a_leader_whose_seat_is_anothers_or_empty_steps_down_but_not_for_an_older_look() {
    for holder in [Some(THEIRS), None] {
        let mut election = leader();
        let looking = election.step(ms(600), Event::Tick);
        assert!(looking.contains(&Action::Ask(Ask::Look)), "{looking:?}");
        let unseated = election.step(ms(650), answered(Ask::Look, Answer::Seat(holder)));
        assert_eq!(unseated.first(), Some(&Action::StepDown(Why::Unseated)));
    }
    let mut election = Election::new(Rules::default());
    let mut all = election.step(ms(0), Event::Tick);
    all.extend(election.step(ms(0), answered(Ask::Look, Answer::Seat(None))));
    // This look begins before the seat is taken and is answered after.
    all.extend(election.step(ms(510), Event::Tick));
    assert_eq!(
        all.iter()
            .filter(|it| **it == Action::Ask(Ask::Look))
            .count(),
        2
    );
    all.extend(election.step(ms(520), answered(Ask::Grant, Answer::Granted(OURS, LIFE))));
    all.extend(election.step(ms(530), answered(Ask::Claim(OURS), Answer::Claimed)));
    all.extend(election.step(ms(540), answered(Ask::Look, Answer::Seat(None))));
    assert!(election.leads_until().is_some(), "{all:?}");
}

#[test]
fn a_leader_whose_term_was_overtaken_in_two_looks_steps_down_and_in_one_does_not() {
    let mut election = leader();
    let mut look = |at: u64, answer: Answer| {
        let asked = election.step(ms(at), Event::Tick);
        assert!(asked.contains(&Action::Ask(Ask::Look)), "{asked:?}");
        election.step(ms(at + 10), answered(Ask::Look, answer))
    };
    let overtaken = Answer::Overtaken(Some(OURS));
    // The answer to what raised it was on its way.
    assert_eq!(look(600, overtaken), []);
    assert_eq!(look(1200, Answer::Seat(Some(OURS))), []);
    assert_eq!(look(1800, overtaken), []);
    let ended = look(2400, overtaken);
    assert_eq!(ended.first(), Some(&Action::StepDown(Why::Overtaken)));
}

#[test]
fn a_claim_whose_answer_is_lost_is_given_back_and_a_late_one_leads_nobody() {
    let mut election = Election::new(Rules::default());
    drop(election.step(ms(0), Event::Tick));
    drop(election.step(ms(0), answered(Ask::Look, Answer::Seat(None))));
    drop(election.step(ms(50), answered(Ask::Grant, Answer::Granted(OURS, LIFE))));
    let lost = election.step(ms(400), answered(Ask::Claim(OURS), Answer::Lost));
    assert_eq!(lost, [Action::Ask(Ask::Revoke(OURS))]);
    let late = election.step(ms(450), answered(Ask::Claim(OURS), Answer::Claimed));
    assert_eq!(late, [Action::Ask(Ask::Revoke(OURS))]);
    assert_eq!(election.leads_until(), None);
}

#[test]
fn who_resigns_leaves_the_seat_at_once_and_never_takes_it_again() {
    let mut election = leader();
    let resigned = election.step(ms(300), Event::Resign);
    let expected = [
        Action::StepDown(Why::Resigned),
        Action::Ask(Ask::Revoke(OURS)),
    ];
    assert_eq!(resigned, expected);
    drop(election.step(ms(900), Event::Tick));
    let looked = election.step(ms(950), answered(Ask::Look, Answer::Seat(None)));
    assert!(!looked.contains(&Action::Ask(Ask::Grant)), "{looked:?}");
}

proptest! {
    #[test]
    fn no_two_replicas_lead_at_one_time_or_in_one_term_whatever_fails(seed in any::<u64>()) {
        let mut world = World::new(seed);
        world.run(Duration::from_secs(30), Faults::All);
        prop_assert!(world.faults() == [] as [String; 0], "{:#?}", world.faults());
    }

    #[test]
    fn once_nothing_fails_any_more_somebody_leads_within_five_seconds(seed in any::<u64>()) {
        let mut world = World::new(seed);
        world.run(Duration::from_secs(30), Faults::All);
        world.run(Duration::from_secs(5), Faults::None);
        prop_assert_eq!(world.leaders().len(), 1);
        prop_assert_eq!(world.writers(), world.leaders());
        prop_assert!(world.faults().is_empty(), "{:#?}", world.faults());
    }
}
