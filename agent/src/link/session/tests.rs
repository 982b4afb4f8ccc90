use meridian_api::link::proto::{ConfirmAction, OutcomeResult, SyncMode};
use serde_json::json;

use super::*;
use crate::link::{
    kinds::{DELETE_APPROVED, Kind},
    testing::{MemoryMember, World, id, instance, item, position, rerc, tombstone},
};

fn live(member: &MemoryMember, n: u8) -> serde_json::Value {
    member.object(Kind::Database, &format!("db-{n}")).expect("the object exists")
}

#[tokio::test(start_paused = true)]
async fn an_apply_is_acknowledged_and_then_carried_out() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    let seq = wire.apply(position(1, 5), vec![item(1, 5)]).await;
    assert_eq!(wire.ack(seq).await.durable_upto_revision, 5);
    assert_eq!(wire.outcome(1).await.result(), OutcomeResult::Applied);
    let object = live(&world.member, 1);
    assert_eq!(object["spec"], json!({"revision": 5}));
    assert_eq!(object["metadata"]["annotations"]["meridian.dev/object-id"], json!(id(1)));
    assert_eq!(object["metadata"]["annotations"]["meridian.dev/revision"], json!("5"));
    assert_eq!(world.journal.saved().position().unwrap().revision.0, 5);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn in_observe_nothing_is_applied_and_nothing_is_deleted() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![item(1, 5), rerc(2, 5)]).await;
    wire.outcome(1).await;
    wire.settle().await;
    wire.hang_up().await;
    let before = world.member.all();
    let mut wire = world.open(position(1, 9), SyncMode::Observe).await;
    wire.apply(position(1, 9), vec![item(1, 8), item(3, 8), tombstone(rerc(2, 5), 9), tombstone(item(1, 5), 9)]).await;
    wire.confirm(1, ConfirmAction::Delete, 9).await;
    let heard = wire.settle().await;
    assert!(!heard.iter().any(|frame| matches!(frame, Say::Ack(_))), "{heard:?}");
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
    wire.say(Heard::DigestAsk(proto::DigestAsk::default())).await;
    let mut entries = Vec::new();
    loop {
        let Say::Inventory(page) = wire.hear().await else { continue };
        entries.extend(page.entries);
        if page.last {
            break;
        }
    }
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!((entry.object_id.clone(), entry.revision, entry.data_bearing), (id(7), 5, true));
    assert_eq!((entry.highest_instance_id, entry.config_version), (7, 5));
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
    wire.apply(position(4, 900), vec![item(1, 900), item(2, 900)]).await;
    let heard = wire.settle().await;
    assert!(!heard.iter().any(|frame| matches!(frame, Say::Ack(_))), "{heard:?}");
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
    assert!(matches!(&ended.why, Why::Local(reason) if reason.contains("term")), "{}", ended.why);
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
    let other = |revision| proto::StorePosition { store_id: id(0xee), ..position(9, revision) };
    let before = world.member.all();
    let mut wire = world.open(other(50), SyncMode::Full).await;
    wire.apply(other(50), vec![item(1, 50), tombstone(item(1, 5), 50)]).await;
    wire.settle().await;
    assert_eq!(world.member.all(), before);
    let adopt = proto::Confirm { action: ConfirmAction::Adopt.into(), approval: "admin".to_owned(), ..Default::default() };
    wire.say(Heard::Confirm(proto::Confirm { approval: String::new(), ..adopt.clone() })).await;
    wire.apply(other(51), vec![item(1, 51)]).await;
    wire.settle().await;
    assert_eq!(world.member.all(), before, "an adoption without approval is none");
    wire.say(Heard::Confirm(adopt)).await;
    let seq = wire.apply(other(52), vec![item(1, 52)]).await;
    assert_eq!(wire.ack(seq).await.durable_upto_revision, 52);
    assert_eq!(wire.outcome(1).await.result(), OutcomeResult::Applied);
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
async fn a_replay_of_everything_changes_nothing() {
    let world = World::new();
    let mut wire = world.open(position(1, 9), SyncMode::Full).await;
    let frames =
        [(position(1, 5), vec![rerc(1, 5)]), (position(1, 6), vec![item(2, 6)]), (position(1, 9), vec![tombstone(rerc(1, 5), 9)])];
    for (upto, items) in frames.clone() {
        let seq = wire.apply(upto, items).await;
        wire.ack(seq).await;
        wire.settle().await;
    }
    let (objects, writes) = (world.member.all(), world.member.writes());
    assert_eq!(writes, ["write RedisEnterpriseRemoteCluster db-1", "write RedisEnterpriseActiveActiveDatabase db-2",
        "delete RedisEnterpriseRemoteCluster db-1"]);
    for from in 0..frames.len() {
        for (upto, items) in frames.iter().skip(from).cloned() {
            wire.apply(upto, items).await;
        }
        wire.settle().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(world.member.all(), objects);
        assert_eq!(world.member.writes(), writes);
    }
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn orders_wait_for_what_must_come_first() {
    let world = World::new();
    let mut wire = world.open(position(1, 9), SyncMode::Full).await;
    let mut database = item(1, 7);
    database.after = vec![id(2)];
    let mut membership = instance(2, 7);
    membership.after = vec![id(3)];
    wire.apply(position(1, 7), vec![database, membership, rerc(3, 7)]).await;
    assert_eq!(wire.outcome(1).await.result(), OutcomeResult::Applied);
    assert_eq!(world.member.writes(), ["write RedisEnterpriseRemoteCluster db-3", "write ActiveActiveInstance db-2",
        "write RedisEnterpriseActiveActiveDatabase db-1"]);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_order_behind_a_held_one_waits_and_an_independent_one_does_not() {
    let world = World::new();
    world.member.put(Kind::RemoteCluster, "db-3", json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}}));
    let mut wire = world.open(position(1, 9), SyncMode::Full).await;
    let mut behind = item(1, 7);
    behind.after = vec![id(3)];
    wire.apply(position(1, 7), vec![behind, rerc(3, 7), item(4, 7)]).await;
    let held = wire.outcome(3).await;
    assert_eq!((held.result(), held.code.as_str()), (OutcomeResult::Held, codes::FOREIGN_OBJECT));
    assert!(held.message.contains("`Helm`"), "{}", held.message);
    wire.settle().await;
    assert_eq!(world.member.writes(), ["write RedisEnterpriseActiveActiveDatabase db-4"]);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn data_goes_only_by_tombstone_and_confirmation_and_is_reported_when_it_is_gone() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![item(1, 5)]).await;
    wire.outcome(1).await;
    wire.apply(position(1, 8), vec![tombstone(item(1, 5), 8)]).await;
    let prepared = wire.outcome(1).await;
    assert_eq!((prepared.result(), prepared.code.as_str(), prepared.revision), (OutcomeResult::Held, codes::NEEDS_CONFIRMATION, 8));
    wire.confirm(1, ConfirmAction::Delete, 7).await;
    wire.settle().await;
    assert!(live(&world.member, 1)["metadata"]["deletionTimestamp"].is_null(), "a Confirm of another revision counts for nothing");
    wire.confirm(1, ConfirmAction::Delete, 8).await;
    assert_eq!(wire.outcome(1).await.result(), OutcomeResult::Deferred);
    let object = live(&world.member, 1);
    assert_eq!(object["metadata"]["annotations"][DELETE_APPROVED], json!("8"));
    assert!(object["metadata"]["deletionTimestamp"].is_string());
    world.member.release(Kind::Database, "db-1");
    assert_eq!(wire.outcome(1).await.result(), OutcomeResult::Applied);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn keep_leaves_the_object_as_it_is() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![item(1, 5)]).await;
    wire.outcome(1).await;
    let before = world.member.all();
    wire.apply(position(1, 8), vec![tombstone(item(1, 5), 8)]).await;
    wire.outcome(1).await;
    wire.confirm(1, ConfirmAction::Keep, 8).await;
    assert_eq!(wire.outcome(1).await.result(), OutcomeResult::Noop);
    wire.confirm(1, ConfirmAction::Delete, 8).await;
    wire.settle().await;
    assert_eq!(world.member.all(), before);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_of_another_object_or_a_lower_revision_deletes_nothing() {
    let world = World::new();
    let mut wire = world.open(position(1, 9), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![rerc(1, 5), rerc(2, 5)]).await;
    wire.outcome(1).await;
    wire.outcome(2).await;
    let before = world.member.all();
    let mut wrong = tombstone(rerc(1, 5), 9);
    wrong.object_id = id(7);
    wire.apply(position(1, 9), vec![wrong, tombstone(rerc(2, 5), 4)]).await;
    for n in [2, 7] {
        let outcome = wire.outcome(n).await;
        assert_eq!((outcome.result(), outcome.code.as_str()), (OutcomeResult::Nack, codes::BAD_TOMBSTONE), "{n}");
    }
    assert_eq!(world.member.all(), before);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn absence_from_a_full_sync_deletes_nothing() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![item(1, 5), rerc(2, 5)]).await;
    wire.outcome(2).await;
    wire.settle().await;
    wire.hang_up().await;
    let before = world.member.all();
    let mut wire = world.open(position(2, 9), SyncMode::Full).await;
    let seq = wire.apply(position(2, 9), vec![]).await;
    wire.ack(seq).await;
    wire.settle().await;
    assert_eq!(world.member.all(), before);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_item_that_cannot_be_read_is_refused_and_its_batch_is_taken() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    let mut pod = item(1, 5);
    (pod.api_version, pod.kind) = ("v1".to_owned(), "Pod".to_owned());
    let seq = wire.apply(position(1, 5), vec![pod, item(2, 5)]).await;
    wire.ack(seq).await;
    let refused = wire.outcome(1).await;
    assert_eq!((refused.result(), refused.code.as_str()), (OutcomeResult::Nack, codes::UNSUPPORTED));
    assert_eq!(wire.outcome(2).await.result(), OutcomeResult::Applied);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn without_durable_storage_nothing_is_acknowledged_or_applied() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    world.journal.set_broken(true);
    wire.apply(position(1, 5), vec![item(1, 5)]).await;
    assert!(matches!(wire.hear().await, Say::Bye(_)));
    assert!(matches!(wire.ended().await.why, Why::Local(_)));
    assert_eq!(world.member.writes(), Vec::<String>::new());
    world.journal.set_broken(false);
    let (_, hello) = world.dial().await;
    assert_eq!(hello.last, None);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_is_carried_out_after_a_crash_with_the_hub_away() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    world.member.set_unavailable(true);
    let seq = wire.apply(position(1, 5), vec![item(1, 5)]).await;
    wire.ack(seq).await;
    let (member, journal) = world.crash().await;
    member.set_unavailable(false);
    let world = World::with(member, journal);
    let mut waited = 0;
    while world.member.writes().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
        waited += 1;
        assert!(waited < 1000, "the stored order is never carried out");
    }
    let (_, hello) = world.dial().await;
    assert_eq!(hello.last, Some(position(1, 5)));
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_somebody_took_away_is_made_again() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![instance(1, 5)]).await;
    wire.outcome(1).await;
    let lost = world.member.lose(Kind::Instance, "db-1");
    let object = Box::new(serde_json::from_value(lost).unwrap());
    world.commands.send(Command::Seen { kind: Kind::Instance, object, gone: true }).await.unwrap();
    wire.settle().await;
    wire.settle().await;
    assert_eq!(world.member.object(Kind::Instance, "db-1").unwrap()["spec"]["instanceId"], json!(1));
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_freeze_stops_applying_until_it_ends() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.say(Heard::Freeze(proto::Freeze { on: true, reason: "many deletions".to_owned(), ..Default::default() })).await;
    let seq = wire.apply(position(1, 5), vec![item(1, 5)]).await;
    wire.ack(seq).await;
    wire.settle().await;
    assert_eq!(world.member.writes(), Vec::<String>::new());
    wire.say(Heard::Freeze(proto::Freeze::default())).await;
    assert_eq!(wire.outcome(1).await.result(), OutcomeResult::Applied);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn hello_repeats_outcomes_until_the_hub_has_them() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![item(1, 5)]).await;
    wire.outcome(1).await;
    wire.hang_up().await;
    let (wire, hello) = world.dial().await;
    assert_eq!(hello.pending_outcomes.len(), 1);
    assert_eq!((hello.kube_system_uid.as_str(), hello.last), ("u1", Some(position(1, 5))));
    wire.say(Heard::Welcome(crate::link::testing::welcome(position(1, 5), SyncMode::Resume))).await;
    wire.say(Heard::Beat(proto::Beat { outcomes_durable_upto: 5, ..Default::default() })).await;
    let mut wire = wire;
    wire.settle().await;
    wire.hang_up().await;
    let (_, hello) = world.dial().await;
    assert_eq!(hello.pending_outcomes, []);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_hub_ends_the_session_by_the_monotonic_clock() {
    let world = World::new();
    let wire = world.open(position(1, 5), SyncMode::Full).await;
    let ended = wire.ended().await;
    assert!(matches!(ended.why, Why::Idle(_)), "{}", ended.why);
    assert_eq!(ended.lasted.as_secs(), 30);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn beats_go_out_and_echo_the_hubs_clock() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.say(Heard::Beat(proto::Beat { mono_ms: 77, ..Default::default() })).await;
    let since = Instant::now();
    let beat = loop {
        if let Say::Beat(beat) = wire.hear_any().await {
            break beat;
        }
    };
    assert_eq!(beat.echo_mono_ms, 77);
    assert_eq!(since.elapsed().as_secs(), 10);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn every_way_out_is_named() {
    let world = World::new();
    let drain = proto::Drain { slot_ms: 700, ..Default::default() };
    let wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.say(Heard::Drain(drain.clone())).await;
    assert!(matches!(wire.ended().await.why, Why::Drained(found) if found == drain));
    let wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.say(Heard::Bye(proto::Bye { code: codes::REVOKED.to_owned(), ..Default::default() })).await;
    assert!(matches!(wire.ended().await.why, Why::Bye { code, .. } if code == codes::REVOKED));
    let wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.fail(tonic::Status::unavailable("gone")).await;
    assert!(matches!(wire.ended().await.why, Why::Broken(_)));
    let wire = world.open(position(1, 5), SyncMode::Full).await;
    assert!(matches!(wire.hang_up().await.why, Why::Closed));
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_breaks_the_protocol_is_left_with_a_word() {
    let world = World::new();
    for first in [
        Heard::Apply(proto::Apply::default()),
        Heard::Welcome(proto::Welcome { proto: 99, ..crate::link::testing::welcome(position(1, 5), SyncMode::Full) }),
        Heard::Welcome(proto::Welcome { head: None, ..crate::link::testing::welcome(position(1, 5), SyncMode::Full) }),
    ] {
        let (mut wire, _) = world.dial().await;
        wire.say(first).await;
        assert!(matches!(wire.hear().await, Say::Bye(bye) if bye.code == codes::PROTOCOL_ERROR));
        assert!(matches!(wire.ended().await.why, Why::Protocol(_)));
    }
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.say(Heard::Welcome(crate::link::testing::welcome(position(1, 5), SyncMode::Full))).await;
    assert!(matches!(wire.hear().await, Say::Bye(_)));
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_never_welcomes_is_left() {
    let world = World::new();
    let (wire, _) = world.dial().await;
    let ended = wire.ended().await;
    assert!(matches!(ended.why, Why::Idle(_)), "{}", ended.why);
    assert_eq!(ended.lasted, Duration::ZERO);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_sync_mode_is_only_observed() {
    let world = World::new();
    let (wire, _) = world.dial().await;
    wire.say(Heard::Welcome(proto::Welcome { mode: 42, ..crate::link::testing::welcome(position(1, 5), SyncMode::Full) })).await;
    let mut wire = wire;
    wire.apply(position(1, 5), vec![item(1, 5)]).await;
    wire.settle().await;
    assert_eq!(world.member.writes(), Vec::<String>::new());
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn new_roots_and_answers_to_wishes_are_handed_on() {
    let mut world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.say(Heard::Trust(proto::TrustBundle { version: 3, ..Default::default() })).await;
    let refusal = proto::Confirm { intent_id: "w".to_owned(), action: ConfirmAction::Refuse.into(), ..Default::default() };
    wire.say(Heard::Confirm(refusal.clone())).await;
    wire.settle().await;
    assert_eq!(world.trust.borrow_and_update().as_ref().map(|bundle| bundle.version), Some(3));
    assert_eq!(world.answers.recv().await, Some(refusal));
    world.shut_down().await;
}
