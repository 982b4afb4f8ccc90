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
    // Nor is a higher epoch that names it, with nobody in sync: only the agent's word is that it leads as it is.
    bench.feed(Event::Obeys(duty(5, &[], &[])));
    assert!(bench.view().wish.is_some() && bench.permits().len() == permitted);
    bench.feed(Event::Obeys(as_is(duty(6, &[], &[]))));
    bench.find(shows(6, None, true, &[]));
    assert!(bench.writable() && bench.view().wish.is_none());
}

#[test]
fn a_primary_that_does_not_start_with_its_files_wants_another_to_lead_if_somebody_can() {
    let mut bench = Bench::leading(duty(3, &["b"], &[]));
    bench.grant("b");
    bench.feed(Event::Down);
    assert_eq!(bench.view().wish, None, "it may come back");
    bench.feed(Event::Refused);
    assert_eq!(bench.view().wish, Some(Wish::Refused));
    // Nobody else has what it has.
    bench.feed(Event::Obeys(duty(3, &[], &[])));
    assert_eq!(bench.view().wish, None);
    bench.feed(Event::Obeys(duty(3, &["b"], &[])));
    bench.feed(Event::Up(life("1")));
    assert_eq!(bench.view().wish, None, "it has been repaired");
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
fn a_restart_with_nothing_does_not_resume_beside_somebody_who_may_have_more() {
    let forgets = |copies: &[&str]| Duty {
        keeps: false,
        copies: set(copies),
        ..duty(3, &[], &[])
    };
    // (who else has a part, whether it resumes)
    for (copies, resumes) in [(&["b"][..], false), (&[], true)] {
        let mut bench = Bench::leading(forgets(copies));
        assert!(bench.writable() && bench.core.facts().led.is_some());
        bench.feed(Event::Down);
        bench.feed(Event::Up(life("2")));
        assert_eq!(
            (bench.writable(), bench.view().wish.is_none()),
            (resumes, resumes)
        );
    }
}

#[test]
fn a_candidate_that_restarts_after_its_promotion_and_before_it_led_is_unfit() {
    let replica = Duty {
        role: Role::Follow("h".to_owned()),
        ..duty(3, &["a"], &[])
    };
    // (what the topology says of the new epoch, whether it leads)
    let none = || duty(4, &[], &[]);
    let alone = Duty {
        copies: set(&[]),
        ..none()
    };
    for (order, leads) in [(none(), false), (as_is(none()), true), (alone, true)] {
        let asks = order.as_is;
        let mut bench = Bench::new(Facts::default());
        bench.feed(Event::Obeys(replica.clone()));
        bench.feed(Event::Up(Life {
            position: follows(Following::Up),
            ..life("1")
        }));
        assert!(bench.view().complete);
        bench.feed(Event::Down);
        bench.feed(Event::Obeys(order));
        bench.feed(Event::Up(life("2")));
        if asks {
            bench.find(shows(4, None, true, &[]));
        }
        assert_eq!(
            (bench.writable(), bench.view().wish.is_none()),
            (leads, leads)
        );
    }
}

#[test]
fn who_is_said_to_lead_as_it_is_asks_whether_that_still_holds() {
    // (what the topology says now, whether it leads, whether it wants another to)
    let cases = [
        (shows(3, None, true, &[]), true, false),
        (shows(3, None, true, &["b"]), false, true),
        (shows(3, Some(4), true, &[]), false, false),
        (shows(5, None, false, &[]), false, false),
        (Found::Nothing, false, false),
    ];
    for (found, leads, wishes) in cases {
        let mut bench = Bench::new(Facts::default());
        bench.feed(Event::Obeys(as_is(duty(3, &[], &[]))));
        bench.feed(Event::Up(life("1")));
        assert!(!bench.writable() && !bench.asks.is_empty());
        bench.find(found.clone());
        let now = (bench.writable(), bench.view().wish.is_some());
        assert_eq!(now, (leads, wishes), "{found:?}");
    }
}

#[test]
fn to_have_led_takes_a_permission() {
    let mut bench = Bench::leading(duty(3, &["b"], &[]));
    assert!(bench.core.facts().served.is_some() && bench.core.facts().led.is_none());
    // Nobody granted anything before its process ended, and the set was emptied since.
    let mut again = Bench::new(bench.core.facts().clone());
    again.feed(Event::Obeys(duty(3, &[], &[])));
    again.feed(Event::Up(life("2")));
    assert!(again.view().wish.is_some());
    bench.grant("b");
    assert_eq!(bench.core.facts().led, bench.core.facts().served);
}

#[test]
fn an_unfit_life_is_unfit_under_a_topology_that_was_made_again() {
    let mut bench = Bench::leading(duty(3, &["b"], &[]));
    bench.feed(Event::Down);
    bench.feed(Event::Up(life("2")));
    let again = |epoch| Duty {
        uid: "another".to_owned(),
        ..duty(epoch, &[], &[])
    };
    bench.feed(Event::Obeys(again(4)));
    assert!(!bench.writable() && bench.view().wish.is_some());
    // A life that has everything leads under it.
    let mut bench = Bench::leading(duty(3, &["b"], &[]));
    bench.feed(Event::Obeys(again(4)));
    assert!(bench.writable() && bench.view().wish.is_none());
}

#[test]
fn a_new_database_leads_because_the_agent_says_so() {
    for (order, leads) in [(duty(1, &[], &[]), false), (as_is(duty(1, &[], &[])), true)] {
        let mut bench = Bench::new(Facts::default());
        let asks = order.as_is;
        bench.feed(Event::Obeys(order));
        bench.feed(Event::Up(life("1")));
        if asks {
            bench.find(shows(1, None, true, &[]));
        }
        assert_eq!(bench.writable(), leads);
    }
}

#[test]
fn a_replica_knows_since_when_it_does_not_follow() {
    let mut bench = Bench::new(Facts::default());
    bench.feed(Event::Obeys(Duty {
        role: Role::Follow("h".to_owned()),
        ..duty(3, &["a"], &[])
    }));
    assert_eq!(bench.view().apart_since, Some(10_000));
    bench.at(10_050);
    bench.feed(Event::Up(Life {
        position: follows(Following::Down),
        ..life("1")
    }));
    assert_eq!(bench.view().apart_since, Some(10_000));
    bench.feed(Event::Seen(follows(Following::Up)));
    assert_eq!(bench.view().apart_since, None);
    bench.at(10_100);
    for lost in [Event::Seen(follows(Following::Copying)), Event::Down] {
        bench.feed(lost);
        assert_eq!(bench.view().apart_since, Some(10_100));
    }
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
