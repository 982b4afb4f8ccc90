use super::*;

mod lives;
mod simulation;

/// A core of node `a` with its shard: orders are carried out at once unless a test says otherwise.
struct Bench {
    core: Core,
    now: Millis,
    asks: Vec<Ask>,
    orders: Vec<Order>,
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

fn duty(epoch: u64, in_sync: &[&str], joining: &[&str]) -> Duty {
    Duty {
        uid: "u".to_owned(),
        epoch,
        fence: None,
        role: Role::Lead,
        in_sync: set(in_sync),
        joining: set(joining),
        copies: set(&["b", "c"]),
        as_is: false,
        keeps: true,
    }
}

/// The same, and the agent says that it leads with what it has.
fn as_is(duty: Duty) -> Duty {
    Duty {
        as_is: true,
        ..duty
    }
}

fn fenced(epoch: u64, fence: u64, in_sync: &[&str]) -> Duty {
    Duty {
        fence: Some(fence),
        ..duty(epoch, in_sync, &[])
    }
}

fn life(id: &str) -> Life {
    Life {
        id: id.to_owned(),
        position: Position::Leads,
        permission: None,
        revoked: 0,
    }
}

/// Facts of a life that may lead although others are in sync.
fn complete(id: &str) -> Facts {
    Facts {
        complete: Some(id.to_owned()),
        ..Facts::default()
    }
}

fn follows(state: Following) -> Position {
    Position::Follows {
        host: "h".to_owned(),
        state,
    }
}

fn granted(round: u64, member: &str) -> Event {
    answered(round, member, Answer::Granted)
}

fn answered(round: u64, member: &str, answer: Answer) -> Event {
    Event::Granted {
        round,
        member: member.to_owned(),
        answer,
    }
}

fn shows(epoch: u64, fence: Option<u64>, leads: bool, in_sync: &[&str]) -> Found {
    Found::Topology(Read {
        uid: "u".to_owned(),
        epoch,
        fence,
        leads,
        in_sync: set(in_sync),
    })
}

impl Bench {
    fn new(facts: Facts) -> Self {
        Self {
            core: Core::new(facts),
            now: 10_000,
            asks: Vec::new(),
            orders: Vec::new(),
        }
    }

    /// The life `1` of `duty`, complete.
    fn leading(duty: Duty) -> Self {
        let mut bench = Self::new(complete("1"));
        bench.feed(Event::Obeys(duty));
        bench.feed(Event::Up(life("1")));
        bench
    }

    fn feed(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.core.handle(self.now, event.clone()) {
                match action {
                    Action::Ask(ask) => self.asks.push(ask),
                    Action::Do(order) => {
                        self.orders.push(order);
                        events.push(Event::Done);
                    }
                }
            }
        }
    }

    fn at(&mut self, now: Millis) {
        self.now = now;
        self.feed(Event::Tick);
    }

    fn view(&self) -> View {
        self.core.view(self.now)
    }

    fn writable(&self) -> bool {
        self.view().writable
    }

    /// The round of the newest question to `member`, or of the newest read for `None`.
    fn newest(&self, member: Option<&str>) -> Option<u64> {
        self.asks.iter().rev().find_map(|ask| match ask {
            Ask::Grant {
                round, member: m, ..
            } if Some(m.as_str()) == member => Some(*round),
            Ask::Read { round } if member.is_none() => Some(*round),
            Ask::Grant { .. } | Ask::Read { .. } => None,
        })
    }

    fn grant(&mut self, member: &str) {
        let round = self.newest(Some(member)).unwrap();
        self.feed(granted(round, member));
    }

    fn find(&mut self, found: Found) {
        let round = self.newest(None).unwrap();
        self.feed(Event::Read { round, found });
    }

    fn permits(&self) -> Vec<Permission> {
        self.orders
            .iter()
            .filter_map(|order| {
                if let Order::Permit(permission) = order {
                    Some(*permission)
                } else {
                    None
                }
            })
            .collect()
    }
}

#[test]
fn a_primary_that_nobody_may_replace_needs_no_lease() {
    let bench = Bench::leading(duty(1, &[], &[]));
    assert_eq!(
        bench.permits(),
        [Permission {
            epoch: 1,
            until: Until::Forever
        }]
    );
    assert!(bench.writable() && bench.asks.is_empty());
    assert_eq!(bench.core.wake(bench.now), None);
}

#[test]
fn a_permission_needs_every_member_and_counts_from_the_start_of_the_request() {
    let mut bench = Bench::leading(duty(1, &["b"], &["c"]));
    assert!(!bench.writable());
    bench.now += 100;
    bench.grant("b");
    assert!(!bench.writable(), "c has not granted");
    bench.now += 100;
    bench.grant("c");
    assert_eq!(
        bench.permits(),
        [Permission {
            epoch: 1,
            until: Until::At(10_000 + LEASE_MS)
        }]
    );
    assert_eq!(bench.view().counts, set(&["b", "c"]));
    bench.now = 10_000 + LEASE_MS - 1;
    assert!(bench.writable());
    bench.now += 1;
    assert!(!bench.writable(), "it ends at the very millisecond");
}

#[test]
fn the_oldest_grant_bounds_the_permission() {
    let mut bench = Bench::leading(duty(1, &["b", "c"], &[]));
    bench.grant("b");
    bench.grant("c");
    bench.at(10_500);
    bench.grant("b");
    assert_eq!(
        bench.permits().len(),
        1,
        "c's grant is still that of 10,000"
    );
    bench.grant("c");
    assert_eq!(bench.permits()[1].until, Until::At(10_500 + LEASE_MS));
}

#[test]
fn the_topology_is_read_only_when_a_member_is_late() {
    let mut bench = Bench::leading(duty(1, &["b"], &[]));
    bench.grant("b");
    bench.at(10_500);
    bench.at(10_000 + LATE_MS - 1);
    assert_eq!(bench.newest(None), None);
    bench.at(10_000 + LATE_MS);
    assert!(bench.newest(None).is_some());
    bench.find(shows(1, None, true, &["b"]));
    assert_eq!(
        bench.permits().last().unwrap().until,
        Until::At(10_000 + LATE_MS + LEASE_MS)
    );
}

#[test]
fn a_member_that_refuses_or_is_away_is_late_at_once() {
    for answer in [Answer::Failed, Answer::Refused { fenced: None }] {
        let mut bench = Bench::leading(duty(1, &["b"], &[]));
        let round = bench.newest(Some("b")).unwrap();
        bench.feed(answered(round, "b", answer));
        assert!(bench.newest(None).is_some(), "{answer:?}");
        assert!(!bench.writable(), "{answer:?}");
    }
}

#[test]
fn a_read_permits_only_if_it_shows_this_epoch_this_primary_and_no_fence() {
    let other = Found::Topology(Read {
        uid: "v".to_owned(),
        epoch: 3,
        fence: None,
        leads: true,
        in_sync: set(&["b"]),
    });
    // (found, permitted, revoked)
    let cases = [
        (shows(3, None, true, &["b"]), true, false),
        (shows(3, Some(3), true, &["b"]), true, false),
        (shows(3, Some(4), true, &["b"]), false, true),
        (shows(3, None, false, &["b"]), false, false),
        (shows(4, None, true, &["b"]), false, false),
        (shows(4, None, false, &["b"]), false, true),
        (shows(2, None, true, &["b"]), false, false),
        (other, false, false),
        (Found::Nothing, false, false),
    ];
    for (found, permitted, revoked) in cases {
        let mut bench = Bench::leading(duty(3, &["b"], &[]));
        let round = bench.newest(Some("b")).unwrap();
        bench.feed(answered(round, "b", Answer::Failed));
        bench.find(found.clone());
        assert_eq!(bench.writable(), permitted, "{found:?}");
        assert_eq!(
            bench.orders.contains(&Order::Revoke(3)),
            revoked,
            "{found:?}"
        );
        assert_eq!(bench.view().fenced, revoked.then_some(4), "{found:?}");
    }
}

#[test]
fn a_fence_ends_the_permission_at_once_however_it_is_learned() {
    type Learn = fn(&mut Bench);
    let ways: [Learn; 3] = [
        |bench| bench.feed(Event::Obeys(fenced(3, 4, &["b"]))),
        |bench| {
            let round = bench.newest(Some("b")).unwrap();
            let answer = Answer::Refused { fenced: Some(4) };
            bench.feed(answered(round, "b", answer));
        },
        |bench| {
            bench.at(bench.now + LATE_MS);
            bench.find(shows(3, Some(4), true, &["b"]));
        },
    ];
    for learn in ways {
        let mut bench = Bench::leading(duty(3, &["b"], &[]));
        bench.grant("b");
        assert!(bench.writable());
        learn(&mut bench);
        assert!(!bench.writable());
        assert_eq!(bench.view().fenced, Some(4));
        let tail = &bench.orders[bench.orders.len() - 2..];
        assert_eq!(tail, [Order::Revoke(3), Order::CloseClients]);
        // Whatever is still said for this epoch is worth nothing.
        bench.grant("b");
        bench.at(bench.now + ROUND_MS);
        assert!(!bench.writable());
        // The fence was given up: the same primary in the epoch of the fence.
        bench.feed(Event::Obeys(duty(4, &["b"], &[])));
        bench.grant("b");
        assert!(bench.writable());
    }
}

#[test]
fn a_fence_is_reported_only_when_the_shard_has_stopped_and_its_clients_are_gone() {
    let mut core = Core::new(complete("1"));
    let _asks = core.handle(0, Event::Obeys(fenced(3, 4, &["b"])));
    assert_eq!(core.view(0).fenced, None, "the shard is unknown");
    let up = core.handle(0, Event::Up(life("1")));
    assert_eq!(up, [Action::Do(Order::Revoke(3))]);
    assert_eq!(core.view(0).fenced, None, "the order is under way");
    let closing = core.handle(0, Event::Done);
    assert_eq!(closing, [Action::Do(Order::CloseClients)]);
    assert_eq!(core.view(0).fenced, None, "clients are there");
    assert_eq!(core.handle(0, Event::Done), []);
    assert_eq!(core.view(0).fenced, Some(4));
    // Whoever drives it anew cannot know whether the clients were closed.
    let mut again = Core::new(core.facts().clone());
    let _orders = again.handle(0, Event::Obeys(fenced(3, 4, &["b"])));
    let stopped = Life {
        revoked: 3,
        ..life("1")
    };
    let closing = again.handle(0, Event::Up(stopped));
    assert_eq!(closing, [Action::Do(Order::CloseClients)]);
}

#[test]
fn a_replica_reports_a_fence_as_soon_as_it_is_obeyed() {
    let mut core = Core::new(Facts::default());
    let replica = Duty {
        role: Role::Follow("h".to_owned()),
        ..fenced(3, 4, &["a"])
    };
    let _orders = core.handle(0, Event::Obeys(replica));
    assert_eq!(core.view(0).fenced, Some(4));
}

#[test]
fn a_newcomer_is_counted_only_when_the_permission_without_end_is_replaced() {
    let mut bench = Bench::leading(duty(1, &[], &[]));
    bench.feed(Event::Obeys(duty(1, &[], &["b"])));
    assert_eq!(bench.view().counts, set(&[]), "its writes have no end yet");
    assert!(bench.writable());
    bench.grant("b");
    assert_eq!(bench.view().counts, set(&["b"]));
    assert_eq!(
        bench.permits()[1].until,
        Until::At(10_000 + LEASE_MS),
        "an end replaces no end"
    );
    bench.feed(Event::Obeys(duty(1, &[], &[])));
    assert_eq!(bench.permits()[2].until, Until::Forever);
    assert_eq!(bench.view().counts, set(&[]));
}

#[test]
fn a_permission_without_end_that_may_have_arrived_keeps_newcomers_uncounted() {
    let mut core = Core::new(complete("1"));
    let _orders = core.handle(0, Event::Obeys(duty(1, &[], &[])));
    let _orders = core.handle(0, Event::Up(life("1")));
    let permit = core.handle(0, Event::Done);
    assert!(matches!(permit[..], [Action::Do(Order::Permit(_))]));
    let _orders = core.handle(1, Event::Down);
    let _orders = core.handle(1, Event::Obeys(duty(1, &[], &["b"])));
    assert_eq!(core.view(1).counts, set(&[]));
    // The shard did not get it: nothing is without end.
    let _orders = core.handle(2, Event::Up(life("1")));
    assert_eq!(core.view(2).counts, set(&["b"]));
}

#[test]
fn a_demoted_primary_stops_follows_and_closes_its_clients_in_this_order() {
    let mut bench = Bench::leading(duty(3, &["b"], &[]));
    bench.grant("b");
    bench.orders.clear();
    bench.feed(Event::Obeys(Duty {
        role: Role::Follow("h".to_owned()),
        ..duty(4, &[], &["a"])
    }));
    let follow = Order::Follow("h".to_owned());
    assert_eq!(
        bench.orders,
        [Order::Revoke(4), follow, Order::CloseClients]
    );
    assert_eq!(bench.view().leads, Some(false));
}

#[test]
fn a_promoted_replica_asks_only_after_it_has_stopped_following() {
    let mut bench = Bench::new(complete("1"));
    bench.feed(Event::Obeys(Duty {
        role: Role::Follow("h".to_owned()),
        ..duty(3, &["a", "c"], &[])
    }));
    bench.feed(Event::Up(Life {
        position: follows(Following::Up),
        ..life("1")
    }));
    bench.feed(Event::Obeys(duty(4, &["c"], &[])));
    let lead = bench.orders.iter().position(|o| *o == Order::Lead).unwrap();
    let record = |o: &Order| matches!(o, Order::Record(f) if f.served.as_ref().is_some_and(|t| t.epoch == 4));
    assert!(bench.orders.iter().position(record).unwrap() < lead);
    bench.grant("c");
    assert!(bench.writable());
}

#[test]
fn answers_of_another_epoch_are_worth_nothing() {
    let mut bench = Bench::leading(duty(3, &["b"], &[]));
    let (old, _) = (bench.newest(Some("b")).unwrap(), bench.now);
    bench.feed(Event::Obeys(duty(4, &["b"], &[])));
    bench.feed(granted(old, "b"));
    bench.feed(Event::Read {
        round: old,
        found: shows(4, None, true, &["b"]),
    });
    assert!(!bench.writable());
}

#[test]
fn a_new_driver_goes_on_with_the_permission_that_the_shard_holds() {
    let mut bench = Bench::new(complete("1"));
    let permission = Permission {
        epoch: 3,
        until: Until::At(11_000),
    };
    bench.feed(Event::Obeys(duty(3, &["b"], &[])));
    bench.feed(Event::Up(Life {
        permission: Some(permission),
        ..life("1")
    }));
    assert!(bench.writable(), "nothing has ended");
    bench.grant("b");
    assert_eq!(
        bench.permits().last().unwrap().until,
        Until::At(10_000 + LEASE_MS)
    );
}

#[test]
fn a_node_that_stops_wants_another_to_lead_if_there_is_one() {
    for (in_sync, wish) in [(&["b"][..], Some(Wish::Stopping)), (&[][..], None)] {
        let mut bench = Bench::leading(duty(3, in_sync, &[]));
        bench.feed(Event::Stopping);
        assert_eq!(bench.view().wish, wish);
    }
}
