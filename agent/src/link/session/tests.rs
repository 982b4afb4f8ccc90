use meridian_api::link::proto::{ConfirmAction, OutcomeResult, SyncMode};
use serde_json::json;

mod deletion;
mod lineage;

use super::*;
use crate::link::{
    kinds::{DELETE_APPROVED, Kind},
    testing::{MemoryMember, Wire, World, id, instance, item, position, rerc, tombstone},
};

fn live(member: &MemoryMember, n: u8) -> serde_json::Value {
    member
        .object(Kind::Database, &format!("db-{n}"))
        .expect("the object exists")
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
    assert_eq!(
        object["metadata"]["annotations"]["meridian.dev/object-id"],
        json!(id(1))
    );
    assert_eq!(
        object["metadata"]["annotations"]["meridian.dev/revision"],
        json!("5")
    );
    assert_eq!(world.journal.saved().position().unwrap().revision.0, 5);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_replay_of_everything_changes_nothing() {
    let world = World::new();
    let mut wire = world.open(position(1, 9), SyncMode::Full).await;
    let frames = [
        (position(1, 5), vec![rerc(1, 5)]),
        (position(1, 6), vec![item(2, 6)]),
        (position(1, 9), vec![tombstone(rerc(1, 5), 9)]),
    ];
    for (upto, items) in frames.clone() {
        let seq = wire.apply(upto, items).await;
        wire.ack(seq).await;
        wire.settle().await;
    }
    let (objects, writes) = (world.member.all(), world.member.writes());
    assert_eq!(
        writes,
        [
            "write RedisEnterpriseRemoteCluster db-1",
            "write RedisEnterpriseActiveActiveDatabase db-2",
            "delete RedisEnterpriseRemoteCluster db-1"
        ]
    );
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
    wire.apply(position(1, 7), vec![database, membership, rerc(3, 7)])
        .await;
    assert_eq!(wire.outcome(1).await.result(), OutcomeResult::Applied);
    assert_eq!(
        world.member.writes(),
        [
            "write RedisEnterpriseRemoteCluster db-3",
            "write ActiveActiveInstance db-2",
            "write RedisEnterpriseActiveActiveDatabase db-1"
        ]
    );
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_order_behind_a_held_one_waits_and_an_independent_one_does_not() {
    let world = World::new();
    world.member.put(
        Kind::RemoteCluster,
        "db-3",
        json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}}),
    );
    let mut wire = world.open(position(1, 9), SyncMode::Full).await;
    let mut behind = item(1, 7);
    behind.after = vec![id(3)];
    wire.apply(position(1, 7), vec![behind, rerc(3, 7), item(4, 7)])
        .await;
    let held = wire.outcome(3).await;
    assert_eq!(
        (held.result(), held.code.as_str()),
        (OutcomeResult::Held, codes::FOREIGN_OBJECT)
    );
    assert!(held.message.contains("`Helm`"), "{}", held.message);
    wire.settle().await;
    assert_eq!(
        world.member.writes(),
        ["write RedisEnterpriseActiveActiveDatabase db-4"]
    );
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
    assert_eq!(
        (refused.result(), refused.code.as_str()),
        (OutcomeResult::Nack, codes::UNSUPPORTED)
    );
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
    world
        .commands
        .send(Command::Seen {
            kind: Kind::Instance,
            object,
            gone: true,
        })
        .await
        .unwrap();
    wire.settle().await;
    wire.settle().await;
    assert_eq!(
        world.member.object(Kind::Instance, "db-1").unwrap()["spec"]["instanceId"],
        json!(1)
    );
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_taken_away_after_a_restart_is_made_again_as_it_was() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![instance(1, 5)]).await;
    wire.outcome(1).await;
    wire.settle().await;
    let (member, journal) = world.crash().await;
    let world = World::with(member, journal);
    let before = world.member.object(Kind::Instance, "db-1").unwrap();
    for gone in [false, true] {
        if gone {
            world.member.lose(Kind::Instance, "db-1");
        }
        let object = Box::new(serde_json::from_value(before.clone()).unwrap());
        let seen = Command::Seen {
            kind: Kind::Instance,
            object,
            gone,
        };
        world.commands.send(seen).await.unwrap();
    }
    let mut wire = world.open(position(1, 5), SyncMode::Resume).await;
    wire.outcome(1).await;
    let mut after = world.member.object(Kind::Instance, "db-1").unwrap();
    after["metadata"]["uid"] = before["metadata"]["uid"].clone();
    assert_eq!(after, before);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_while_the_agent_was_away_is_asked_for_from_the_beginning() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.apply(position(1, 5), vec![instance(1, 5)]).await;
    wire.outcome(1).await;
    wire.hang_up().await;
    // The journal is tidied within a moment.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (member, journal) = world.crash().await;
    member.lose(Kind::Instance, "db-1");
    let world = World::with(member, journal);
    let (_, hello) = world.dial().await;
    assert_eq!(hello.last, Some(position(1, 0)));
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_freeze_stops_applying_until_it_ends() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.say(Heard::Freeze(proto::Freeze {
        on: true,
        reason: "many deletions".to_owned(),
        ..Default::default()
    }))
    .await;
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
    assert_eq!(
        (hello.kube_system_uid.as_str(), hello.last),
        ("u1", Some(position(1, 5)))
    );
    wire.say(Heard::Welcome(crate::link::testing::welcome(
        position(1, 5),
        SyncMode::Resume,
    )))
    .await;
    wire.say(Heard::Beat(proto::Beat {
        outcomes_durable_upto: 5,
        ..Default::default()
    }))
    .await;
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
    wire.say(Heard::Beat(proto::Beat {
        mono_ms: 77,
        ..Default::default()
    }))
    .await;
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
    let drain = proto::Drain {
        slot_ms: 700,
        ..Default::default()
    };
    let wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.say(Heard::Drain(drain.clone())).await;
    assert!(matches!(wire.ended().await.why, Why::Drained(found) if found == drain));
    let wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.say(Heard::Bye(proto::Bye {
        code: codes::REVOKED.to_owned(),
        ..Default::default()
    }))
    .await;
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
        Heard::Welcome(proto::Welcome {
            proto: 99,
            ..crate::link::testing::welcome(position(1, 5), SyncMode::Full)
        }),
        Heard::Welcome(proto::Welcome {
            head: None,
            ..crate::link::testing::welcome(position(1, 5), SyncMode::Full)
        }),
    ] {
        let (mut wire, _) = world.dial().await;
        wire.say(first).await;
        assert!(matches!(wire.hear().await, Say::Bye(bye) if bye.code == codes::PROTOCOL_ERROR));
        assert!(matches!(wire.ended().await.why, Why::Protocol(_)));
    }
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.say(Heard::Welcome(crate::link::testing::welcome(
        position(1, 5),
        SyncMode::Full,
    )))
    .await;
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
async fn new_roots_and_answers_to_wishes_are_handed_on() {
    let mut world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    wire.say(Heard::Trust(proto::TrustBundle {
        version: 3,
        ..Default::default()
    }))
    .await;
    let refusal = proto::Confirm {
        intent_id: "w".to_owned(),
        action: ConfirmAction::Refuse.into(),
        ..Default::default()
    };
    wire.say(Heard::Confirm(refusal.clone())).await;
    wire.settle().await;
    assert_eq!(
        world
            .trust
            .borrow_and_update()
            .as_ref()
            .map(|bundle| bundle.version),
        Some(3)
    );
    assert_eq!(world.answers.recv().await, Some(refusal));
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_moves_to_another_connection_says_that_it_comes_back_at_once() {
    let world = World::new();
    let mut wire = world.open(position(1, 5), SyncMode::Full).await;
    world.moved.cancel();
    let Say::Bye(bye) = wire.hear().await else {
        panic!("no Bye")
    };
    assert_eq!(bye.code, codes::RECONNECT);
    assert!(matches!(wire.ended().await.why, Why::Moved));
    world.shut_down().await;
}
