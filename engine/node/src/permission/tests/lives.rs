//! A shard's process is started anew, or is in the middle of a copy: which of its lives may lead.

use super::*;

#[test]
fn a_life_with_less_than_it_had_wants_another_to_lead_and_never_asks() {
    let mut bench = Bench::leading(duty(3, &["b"], &[]));
    bench.grant("b");
    bench.feed(Event::Down);
    bench.feed(Event::Up(life("2")));
    let (asked, permitted) = (bench.asks.len(), bench.permits().len());
    bench.at(bench.now + ROUND_MS);
    assert_eq!(
        bench.view().wish,
        Some(Wish::Unfit {
            served: true,
            epoch: 3
        })
    );
    // Nor when the others leave because they cannot follow it, nor after a restart of whoever drives it.
    bench.feed(Event::Obeys(duty(3, &[], &[])));
    let mut again = Bench::new(bench.core.facts().clone());
    again.feed(Event::Obeys(duty(3, &[], &[])));
    again.feed(Event::Up(life("3")));
    assert!(again.permits().is_empty() && again.view().wish.is_some());
    assert_eq!(
        (bench.asks.len(), bench.permits().len()),
        (asked, permitted)
    );
    // A fence that is given up is no answer, even if its candidate is gone: the others may still have more.
    bench.feed(Event::Obeys(fenced(3, 4, &["b"])));
    for in_sync in [&["b"][..], &[][..]] {
        bench.feed(Event::Obeys(duty(4, in_sync, &[])));
        assert!(bench.view().wish.is_some() && bench.asks.len() == asked);
    }
    // A higher epoch that names it, with nobody in sync, is.
    bench.feed(Event::Obeys(duty(5, &[], &[])));
    assert!(bench.writable() && bench.view().wish.is_none());
}

#[test]
fn a_restart_that_nobody_may_replace_resumes() {
    let mut bench = Bench::leading(duty(3, &[], &[]));
    bench.feed(Event::Down);
    assert!(!bench.writable());
    bench.feed(Event::Up(life("2")));
    assert!(bench.writable());
}

#[test]
fn a_restart_while_somebody_joins_asks_whether_it_has_joined() {
    // (in sync meanwhile, resumes?)
    for (in_sync, resumes) in [(&[][..], true), (&["b"][..], false)] {
        let mut bench = Bench::leading(duty(3, &[], &["b"]));
        bench.grant("b");
        bench.feed(Event::Down);
        bench.feed(Event::Up(life("2")));
        bench.asks.clear();
        bench.at(bench.now + ROUND_MS);
        assert!(!bench.writable() && bench.view().counts.is_empty());
        assert_eq!(bench.newest(Some("b")), None, "b is not asked before");
        bench.find(shows(3, None, true, in_sync));
        bench.at(bench.now + 1);
        assert_eq!(bench.newest(Some("b")).is_some(), resumes);
        assert_eq!(bench.view().wish.is_none(), resumes);
    }
}

#[test]
fn a_candidate_that_restarted_is_no_candidate() {
    let replica = Duty {
        role: Role::Follow("h".to_owned()),
        ..duty(3, &["a", "c"], &[])
    };
    for (restarts, leads) in [(false, true), (true, false)] {
        let mut bench = Bench::new(Facts::default());
        bench.feed(Event::Obeys(replica.clone()));
        bench.feed(Event::Up(Life {
            position: follows(Following::Down),
            ..life("1")
        }));
        bench.feed(Event::Seen(follows(Following::Up)));
        if restarts {
            bench.feed(Event::Down);
            bench.feed(Event::Up(Life {
                position: follows(Following::Down),
                ..life("2")
            }));
        }
        bench.feed(Event::Obeys(duty(4, &["c"], &[])));
        assert_eq!(bench.orders.contains(&Order::Lead), leads);
        assert_eq!(bench.newest(Some("c")).is_some(), leads);
        assert_eq!(bench.view().wish.is_none(), leads);
    }
}

#[test]
fn a_replica_in_the_middle_of_a_copy_is_no_candidate() {
    let replica = Duty {
        role: Role::Follow("h".to_owned()),
        ..duty(3, &["a", "c"], &[])
    };
    let mut bench = Bench::new(Facts::default());
    bench.feed(Event::Obeys(replica));
    bench.feed(Event::Up(Life {
        position: follows(Following::Up),
        ..life("1")
    }));
    assert!(bench.view().complete);
    bench.feed(Event::Seen(follows(Following::Copying)));
    assert!(!bench.view().complete);
    bench.feed(Event::Obeys(duty(4, &["c"], &[])));
    assert!(bench.view().wish.is_some() && !bench.orders.contains(&Order::Lead));
}
