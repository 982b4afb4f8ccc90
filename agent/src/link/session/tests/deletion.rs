//! Nothing is deleted without its tombstone, and no data without a confirmation.

use super::*;

#[tokio::test(start_paused = true)]
async fn data_goes_only_by_tombstone_and_confirmation_and_is_reported_when_it_is_gone() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![item(1, 5)]).await;
    wire.outcome(1).await;
    wire.apply(position(1, 8), vec![tombstone(item(1, 5), 8)])
        .await;
    let prepared = wire.outcome(1).await;
    assert_eq!(
        (prepared.result(), prepared.code.as_str(), prepared.revision),
        (OutcomeResult::Held, codes::NEEDS_CONFIRMATION, 8)
    );
    wire.confirm(1, ConfirmAction::Delete, 7).await;
    wire.settle().await;
    assert!(
        live(&world.member, 1)["metadata"]["deletionTimestamp"].is_null(),
        "a Confirm of another revision counts for nothing"
    );
    wire.confirm(1, ConfirmAction::Delete, 8).await;
    assert_eq!(wire.outcome(1).await.result(), OutcomeResult::Deferred);
    let object = live(&world.member, 1);
    assert_eq!(
        object["metadata"]["annotations"][DELETE_APPROVED],
        json!("1/8")
    );
    assert!(object["metadata"]["deletionTimestamp"].is_string());
    world.member.release(Kind::Database, "db-1");
    assert_eq!(wire.outcome(1).await.result(), OutcomeResult::Applied);
    world.shut_down().await;
}

/// A deletion of the object 1 that the hub has confirmed while it was frozen.
async fn frozen_deletion() -> (World, Wire) {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![item(1, 5)]).await;
    wire.outcome(1).await;
    wire.apply(position(1, 8), vec![tombstone(item(1, 5), 8)])
        .await;
    wire.outcome(1).await;
    wire.say(Heard::Freeze(frozen(true))).await;
    let told = wire.outcome(1).await;
    assert_eq!(
        (told.result(), told.code.as_str()),
        (OutcomeResult::Deferred, codes::FROZEN)
    );
    wire.confirm(1, ConfirmAction::Delete, 8).await;
    wire.settle().await;
    (world, wire)
}

fn frozen(on: bool) -> proto::Freeze {
    proto::Freeze {
        object_ids: vec![id(1)],
        reason: "many deletions".to_owned(),
        on,
    }
}

fn is_going(world: &World) -> bool {
    live(&world.member, 1)["metadata"]["deletionTimestamp"].is_string()
}

#[tokio::test(start_paused = true)]
async fn a_frozen_deletion_waits_although_it_is_confirmed_and_other_orders_go_on() {
    let (world, mut wire) = frozen_deletion().await;
    wire.apply(position(1, 9), vec![item(2, 9)]).await;
    assert_eq!(wire.outcome(2).await.result(), OutcomeResult::Applied);
    assert!(!is_going(&world));
    wire.say(Heard::Freeze(frozen(false))).await;
    assert_eq!(wire.outcome(1).await.result(), OutcomeResult::Deferred);
    assert!(is_going(&world));
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_freeze_outlives_the_agent_and_the_hub_and_ends_with_a_welcome_that_names_none() {
    let (world, wire) = frozen_deletion().await;
    drop(wire);
    let (member, journal) = world.crash().await;
    let world = World::with(member, journal);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!is_going(&world), "nobody has thawed it");
    let (mut wire, _) = world.dial().await;
    let still = proto::Welcome {
        freeze: Some(frozen(true)),
        ..crate::link::testing::welcome(position(1, 9), SyncMode::Resume)
    };
    wire.say(Heard::Welcome(still)).await;
    wire.settle().await;
    assert!(!is_going(&world));
    wire.hang_up().await;
    let mut wire = world.open(position(1, 9), SyncMode::Resume).await;
    assert_eq!(wire.outcome(1).await.result(), OutcomeResult::Deferred);
    assert!(is_going(&world));
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn keep_leaves_the_object_as_it_is() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![item(1, 5)]).await;
    wire.outcome(1).await;
    let before = world.member.all();
    wire.apply(position(1, 8), vec![tombstone(item(1, 5), 8)])
        .await;
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
    wire.apply(position(1, 5), vec![rerc(1, 5), rerc(2, 5)])
        .await;
    wire.outcome(1).await;
    wire.outcome(2).await;
    let before = world.member.all();
    let mut wrong = tombstone(rerc(1, 5), 9);
    wrong.object_id = id(7);
    wire.apply(position(1, 9), vec![wrong, tombstone(rerc(2, 5), 4)])
        .await;
    let outcome = wire.outcome(2).await;
    assert_eq!(
        (outcome.result(), outcome.code.as_str()),
        (OutcomeResult::Nack, codes::BAD_TOMBSTONE)
    );
    // Never applied here: there is nothing to wait for, and what has the name stays.
    assert_eq!(wire.outcome(7).await.result(), OutcomeResult::Noop);
    assert_eq!(world.member.all(), before);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn absence_from_a_full_sync_deletes_nothing() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![item(1, 5), rerc(2, 5)])
        .await;
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
async fn another_object_that_took_the_name_since_is_left_and_the_deletion_is_done() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![item(1, 5)]).await;
    wire.outcome(1).await;
    let ours = world.member.lose(Kind::Database, "db-1");
    world.member.put(Kind::Database, "db-1", ours.clone());
    world.member.strip(Kind::Database, "db-1");
    wire.apply(position(1, 8), vec![tombstone(item(1, 5), 8)])
        .await;
    let outcome = wire.outcome(1).await;
    assert_eq!(outcome.result(), OutcomeResult::Noop, "{outcome:?}");
    let left = world.member.object(Kind::Database, "db-1").unwrap();
    assert_ne!(left["metadata"]["uid"], ours["metadata"]["uid"]);
    assert_eq!(left["metadata"]["deletionTimestamp"], json!(null));
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_lost_its_annotation_is_not_taken_for_gone() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![item(1, 5)]).await;
    wire.outcome(1).await;
    world.member.strip(Kind::Database, "db-1");
    wire.apply(position(1, 8), vec![tombstone(item(1, 5), 8)])
        .await;
    let outcome = wire.outcome(1).await;
    assert_eq!(
        (outcome.result(), outcome.code.as_str()),
        (OutcomeResult::Nack, codes::BAD_TOMBSTONE)
    );
    world.shut_down().await;
}

async fn sees(world: &World, object: &serde_json::Value, gone: bool) {
    let seen = Command::Seen {
        kind: Kind::Database,
        object: Box::new(serde_json::from_value(object.clone()).unwrap()),
        gone,
    };
    world.commands.send(seen).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_after_a_restart_is_put_back() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![item(1, 5)]).await;
    wire.outcome(1).await;
    wire.apply(position(1, 8), vec![tombstone(item(1, 5), 8)])
        .await;
    wire.outcome(1).await;
    wire.settle().await;
    let (member, journal) = world.crash().await;
    let world = World::with(member, journal);
    let there = world.member.object(Kind::Database, "db-1").unwrap();
    sees(&world, &there, false).await;
    let mut wire = world.open(position(1, 8), SyncMode::Resume).await;
    wire.confirm(1, ConfirmAction::Keep, 0).await;
    wire.settle().await;
    let gone = world.member.lose(Kind::Database, "db-1");
    sees(&world, &gone, true).await;
    let outcome = wire.outcome(1).await;
    assert_eq!(outcome.result(), OutcomeResult::Applied, "{outcome:?}");
    assert!(world.member.object(Kind::Database, "db-1").is_some());
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_waited_under_a_former_store_is_put_back_at_once() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![item(1, 5)]).await;
    wire.outcome(1).await;
    wire.apply(position(1, 8), vec![tombstone(item(1, 5), 8)])
        .await;
    // It waits for a confirmation, and is looked at again after a minute.
    wire.outcome(1).await;
    let adopt = proto::Confirm {
        action: ConfirmAction::Adopt.into(),
        approval: "admin".to_owned(),
        ..Default::default()
    };
    wire.say(Heard::Confirm(adopt)).await;
    wire.settle().await;
    let (begun, gone) = (Instant::now(), world.member.lose(Kind::Database, "db-1"));
    sees(&world, &gone, true).await;
    wire.outcome(1).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(world.member.object(Kind::Database, "db-1").is_some());
    world.shut_down().await;
}
