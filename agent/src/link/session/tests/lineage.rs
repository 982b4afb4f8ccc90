//! A hub that may not be obeyed is only observed.

use meridian_api::ids::Term;

use super::*;
use crate::link::{journal::Journal, order::Order, testing::MemoryJournal};

#[tokio::test(start_paused = true)]
async fn in_observe_nothing_is_applied_and_nothing_is_deleted() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![item(1, 5), rerc(2, 5)])
        .await;
    wire.outcome(1).await;
    wire.settle().await;
    wire.hang_up().await;
    let before = world.member.all();
    let mut wire = world.open(position(1, 9), SyncMode::Observe).await;
    wire.apply(
        position(1, 9),
        vec![
            item(1, 8),
            item(3, 8),
            tombstone(rerc(2, 5), 9),
            tombstone(item(1, 5), 9),
        ],
    )
    .await;
    wire.confirm(1, ConfirmAction::Delete, 9).await;
    let heard = wire.settle().await;
    assert!(
        !heard.iter().any(|frame| matches!(frame, Say::Ack(_))),
        "{heard:?}"
    );
    assert_eq!(world.member.all(), before);
    assert_eq!(world.journal.saved().position().unwrap().revision.0, 5);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn in_observe_even_stored_orders_wait() {
    let world = World::new();
    world.member.set_unavailable(true);
    let mut wire = {
        // Hello needs the list of objects, the writes shall fail: the API server goes away in between.
        world.member.set_unavailable(false);
        let wire = world.open(position(1, 5), SyncMode::Full).await;
        world.member.set_unavailable(true);
        wire
    };
    let seq = wire.apply(position(1, 5), vec![item(1, 5)]).await;
    wire.ack(seq).await;
    assert_eq!(wire.outcome(1).await.result(), OutcomeResult::Deferred);
    wire.hang_up().await;
    world.member.set_unavailable(false);
    let mut wire = world.open(position(1, 9), SyncMode::Observe).await;
    wire.settle().await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    // Two questions: when the second is answered, whatever the first one woke has been done.
    for _ in 0..2 {
        let (reply, answer) = oneshot::channel();
        world.commands.send(Command::Standing(reply)).await.unwrap();
        answer.await.unwrap().unwrap();
    }
    assert_eq!(world.member.writes(), Vec::<String>::new());
    wire.hang_up().await;
    let mut wire = world.open(position(1, 9), SyncMode::Resume).await;
    assert_eq!(wire.outcome(1).await.result(), OutcomeResult::Applied);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_observed_member_still_reports_its_inventory() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![instance(7, 5)]).await;
    wire.outcome(7).await;
    wire.hang_up().await;
    let mut wire = world.open(position(1, 9), SyncMode::Observe).await;
    wire.say(Heard::DigestAsk(proto::DigestAsk::default()))
        .await;
    let mut entries = Vec::new();
    loop {
        let Say::Inventory(page) = wire.hear().await else {
            continue;
        };
        entries.extend(page.entries);
        if page.last {
            break;
        }
    }
    let [entry] = entries.as_slice() else {
        panic!("{entries:?}")
    };
    assert_eq!(
        (entry.object_id.clone(), entry.revision, entry.data_bearing),
        (id(7), 5, true)
    );
    assert_eq!((entry.highest_instance_id, entry.config_version), (7, 5));
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn hello_names_the_hub_of_the_highest_term_although_it_ordered_nothing() {
    let world = World::new();
    let mut wire = world.open(position(5, 5), SyncMode::Full).await;
    wire.apply(position(5, 5), vec![item(1, 5)]).await;
    wire.outcome(1).await;
    wire.settle().await;
    wire.hang_up().await;
    let mut wire = world.open(position(6, 7), SyncMode::Resume).await;
    wire.settle().await;
    wire.hang_up().await;
    // A hub that is only observed is not followed.
    let mut wire = world.open(position(8, 9), SyncMode::Observe).await;
    wire.settle().await;
    wire.hang_up().await;
    let (member, journal) = world.crash().await;
    let world = World::with(member, journal);
    let (_wire, hello) = world.dial().await;
    assert_eq!(hello.last, Some(position(5, 5)));
    assert_eq!(hello.seen, Some(position(6, 7)));
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_lower_term_is_only_observed() {
    let world = World::new();
    let mut wire = world.open(position(5, 5), SyncMode::Full).await;
    wire.apply(position(5, 5), vec![item(1, 5)]).await;
    wire.outcome(1).await;
    wire.settle().await;
    wire.hang_up().await;
    let before = world.member.all();
    // The hub itself does not know that it is the old one.
    let mut wire = world.open(position(4, 900), SyncMode::Full).await;
    wire.apply(position(4, 900), vec![item(1, 900), item(2, 900)])
        .await;
    let heard = wire.settle().await;
    assert!(
        !heard.iter().any(|frame| matches!(frame, Say::Ack(_))),
        "{heard:?}"
    );
    assert_eq!(world.member.all(), before);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_apply_of_a_lower_term_ends_the_session_and_changes_nothing() {
    let world = World::new();
    let mut wire = world.open(position(5, 5), SyncMode::Full).await;
    wire.apply(position(5, 5), vec![item(1, 5)]).await;
    wire.outcome(1).await;
    let before = world.member.all();
    wire.apply(position(4, 9), vec![item(1, 9)]).await;
    let ended = wire.ended().await;
    assert!(
        matches!(&ended.why, Why::Local(reason) if reason.contains("term")),
        "{}",
        ended.why
    );
    assert_eq!(world.member.all(), before);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_store_is_only_observed_until_a_person_adopts_it() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![item(1, 5)]).await;
    wire.outcome(1).await;
    wire.settle().await;
    wire.hang_up().await;
    let other = |revision| proto::StorePosition {
        store_id: id(0xee),
        ..position(9, revision)
    };
    let before = world.member.all();
    let mut wire = world.open(other(50), SyncMode::Full).await;
    wire.apply(other(50), vec![item(1, 50), tombstone(item(1, 5), 50)])
        .await;
    wire.settle().await;
    assert_eq!(world.member.all(), before);
    let adopt = proto::Confirm {
        action: ConfirmAction::Adopt.into(),
        approval: "admin".to_owned(),
        ..Default::default()
    };
    wire.say(Heard::Confirm(proto::Confirm {
        approval: String::new(),
        ..adopt.clone()
    }))
    .await;
    wire.apply(other(51), vec![item(1, 51)]).await;
    wire.settle().await;
    assert_eq!(
        world.member.all(),
        before,
        "an adoption without approval is none"
    );
    let pending = || world.context.outbox.pending_outcomes();
    assert!(!pending().is_empty(), "the old hub never had it durably");
    wire.say(Heard::Confirm(adopt)).await;
    let seq = wire.apply(other(52), vec![]).await;
    wire.ack(seq).await;
    assert_eq!(pending(), [], "it speaks of a revision of the old store");
    let seq = wire.apply(other(52), vec![item(1, 52)]).await;
    assert_eq!(wire.ack(seq).await.durable_upto_revision, 52);
    assert_eq!(wire.outcome(1).await.result(), OutcomeResult::Applied);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_adopted_store_ends_what_the_other_has_frozen_and_freezes_what_it_names() {
    let freeze = |n| proto::Freeze {
        object_ids: vec![id(n)],
        reason: "many deletions".to_owned(),
        on: true,
    };
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![item(9, 5)]).await;
    wire.outcome(9).await;
    wire.say(Heard::Freeze(freeze(1))).await;
    wire.settle().await;
    wire.hang_up().await;
    let other = |revision| proto::StorePosition {
        store_id: id(0xee),
        ..position(9, revision)
    };
    let (mut wire, _) = world.dial().await;
    wire.say(Heard::Welcome(proto::Welcome {
        freeze: Some(freeze(2)),
        ..crate::link::testing::welcome(other(50), SyncMode::Full)
    }))
    .await;
    wire.say(Heard::Freeze(freeze(3))).await;
    wire.say(Heard::Confirm(proto::Confirm {
        action: ConfirmAction::Adopt.into(),
        approval: "admin".to_owned(),
        ..Default::default()
    }))
    .await;
    let batch = (1..=3).map(|n| item(n, 51)).collect();
    wire.apply(other(51), batch).await;
    assert_eq!(wire.outcome(1).await.result(), OutcomeResult::Applied);
    wire.settle().await;
    let shown = world.member.all();
    assert_eq!(shown.len(), 2, "the two others are frozen: {shown:?}");
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_went_back_is_only_observed() {
    let world = World::new();
    let mut wire = world.open(position(1, 50), SyncMode::Full).await;
    wire.apply(position(1, 50), vec![item(1, 50)]).await;
    wire.outcome(1).await;
    wire.hang_up().await;
    let before = world.member.all();
    let mut wire = world.open(position(1, 49), SyncMode::Resume).await;
    wire.apply(position(1, 51), vec![item(2, 51)]).await;
    wire.settle().await;
    assert_eq!(world.member.all(), before);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_sync_mode_is_only_observed() {
    let world = World::new();
    let (wire, _) = world.dial().await;
    wire.say(Heard::Welcome(proto::Welcome {
        mode: 42,
        ..crate::link::testing::welcome(position(1, 5), SyncMode::Full)
    }))
    .await;
    let mut wire = wire;
    wire.apply(position(1, 5), vec![item(1, 5)]).await;
    wire.settle().await;
    assert_eq!(world.member.writes(), Vec::<String>::new());
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_journal_another_wrote_takes_nothing_and_ends() {
    let mut world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    world.journal.overtake();
    wire.apply(position(1, 5), vec![item(1, 5)]).await;
    assert!(matches!(wire.ended().await.why, Why::Local(_)));
    // Not told to stop: it ends because it could never store anything again.
    world.ended().await;
    assert!(world.member.all().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_another_agent_may_have_deleted_is_not_made_again() {
    let mut world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![item(1, 5)]).await;
    wire.outcome(1).await;
    let before = world.member.writes();
    world.journal.overtake();
    let gone = world.member.lose(Kind::Database, "db-1");
    let seen = Command::Seen {
        kind: Kind::Database,
        object: Box::new(serde_json::from_value(gone).unwrap()),
        gone: true,
    };
    world.commands.send(seen).await.unwrap();
    world.ended().await;
    assert_eq!(world.member.writes(), before);
}

/// An agent that is overtaken as it was about to put `db-1` back: its member, and what it leaves.
async fn overtaken_at_a_loss(stored: Journal) -> (MemoryMember, Vec<Order>) {
    let member = MemoryMember::default();
    let mut world = World::with(member.clone(), MemoryJournal::of(stored));
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![item(1, 5)]).await;
    wire.outcome(1).await;
    wire.settle().await;
    world.journal.overtake();
    let gone = world.member.lose(Kind::Database, "db-1");
    let seen = Command::Seen {
        kind: Kind::Database,
        object: Box::new(serde_json::from_value(gone).unwrap()),
        gone: true,
    };
    world.commands.send(seen).await.unwrap();
    let owed = world.ended().await;
    (member, owed)
}

/// What is stored of `db-1` once it was carried out at each of these revisions.
fn carried_out(items: &[proto::Item]) -> Journal {
    let mut journal = Journal::default();
    for item in items {
        let order = Order::read(item, Term(1), "ns").unwrap();
        let (id, mark) = (order.object_id, order.mark);
        let upto = position(1, item.revision);
        let upto = link::Position::required("upto", Some(&upto)).unwrap();
        journal.accept(&upto.into(), vec![order]).unwrap();
        journal.finish(&id, mark);
    }
    journal
}

#[tokio::test(start_paused = true)]
async fn what_was_frozen_while_another_agent_took_over_is_not_made_once_it_is_thawed() {
    let freeze = proto::Freeze {
        object_ids: vec![id(1)],
        reason: "many deletions".to_owned(),
        on: true,
    };
    let thaw = proto::Freeze {
        on: false,
        ..freeze.clone()
    };
    // By a word, and by a Welcome that names it no more.
    for thaw in [Some(thaw), None] {
        let mut world = World::new();
        let mut wire = world.open(position(1, 5), SyncMode::Full).await;
        wire.say(Heard::Freeze(freeze.clone())).await;
        wire.apply(position(1, 5), vec![item(1, 5)]).await;
        wire.settle().await;
        world.journal.overtake();
        let wire = match thaw {
            Some(thaw) => {
                wire.say(Heard::Freeze(thaw)).await;
                wire
            }
            None => {
                wire.hang_up().await;
                world.open(position(1, 6), SyncMode::Resume).await
            }
        };
        world.ended().await;
        assert!(world.member.all().is_empty());
        drop(wire);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_as_another_took_over_is_put_back_by_the_next_start_without_a_hub() {
    let (member, owed) = overtaken_at_a_loss(Journal::default()).await;
    let stored = carried_out(&[item(1, 5)]);
    let world = World::owing(member, MemoryJournal::of(stored), owed);
    world.outcome_of(1).await;
    assert!(world.member.object(Kind::Database, "db-1").is_some());
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_another_agent_has_deleted_or_written_anew_is_not_owed() {
    for since in [tombstone(item(1, 5), 6), item(1, 6)] {
        let (member, owed) = overtaken_at_a_loss(Journal::default()).await;
        let stored = carried_out(&[item(1, 5), since]);
        let world = World::owing(member, MemoryJournal::of(stored), owed);
        let mut wire = world.open(position(1, 6), SyncMode::Resume).await;
        wire.settle().await;
        assert!(world.member.all().is_empty());
        world.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_batch_that_was_not_taken_is_not_taken_either() {
    let world = World::new();
    let mut wire = world.open(position(1, 6), SyncMode::Full).await;
    // The term of the Welcome is stored by then.
    wire.settle().await;
    world.journal.break_once();
    wire.apply(position(1, 5), vec![item(1, 5)]).await;
    wire.apply(position(1, 6), vec![item(2, 6)]).await;
    assert!(matches!(wire.ended().await.why, Why::Local(_)));
    let (_wire, hello) = world.dial().await;
    assert_eq!(hello.last, None, "the hub would take db-1 for delivered");
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn roots_of_a_hub_that_is_only_observed_are_not_taken() {
    let mut world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Observe).await;
    wire.say(Heard::Trust(proto::TrustBundle {
        version: 9,
        ..Default::default()
    }))
    .await;
    wire.settle().await;
    assert_eq!(*world.trust.borrow_and_update(), None);
    world.shut_down().await;
}
