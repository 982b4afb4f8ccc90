//! What members do with their identities is in the audit log, with who did it and from where.

use meridian_api::audit::{ActorKind, Event, Outcome, verify};
use uuid::Uuid;

use super::pace::EACH;
use super::*;

/// What was written down after the first `skip` records, the oldest first.
async fn since(hub: &TestHub, skip: u64) -> Vec<Event> {
    let (ends, records) = hub.app.audit_records(u64::MAX, 100).await.unwrap();
    assert!(ends.head.number <= 100);
    let newer = records
        .into_iter()
        .rev()
        .filter(|record| record.number > skip);
    newer.map(|record| record.event).collect()
}

async fn count(hub: &TestHub) -> u64 {
    hub.app
        .audit_records(u64::MAX, 1)
        .await
        .unwrap()
        .0
        .head
        .number
}

fn told(event: &Event) -> (ActorKind, &str, &str, Outcome, &str) {
    assert_eq!(event.kind, "cluster");
    (
        event.actor.kind,
        &event.verb,
        &event.name,
        event.outcome,
        &event.reason,
    )
}

/// Of the member itself, from its address, with the revision in which it was done.
fn done_by_member(event: &Event, verb: &str) {
    let expected = (ActorKind::Member, verb, "lab-1", Outcome::Done, "");
    assert_eq!(told(event), expected);
    assert_eq!((&*event.actor.id, &*event.actor.name), (LAB_1, "lab-1"));
    assert_eq!(event.address, "10.0.0.7");
    assert!(event.revision.is_some());
}

async fn must_verify(hub: &TestHub) {
    let exported = String::from_utf8(hub.app.audit_export().await.unwrap()).unwrap();
    verify(exported.lines(), &[]).unwrap();
}

#[tokio::test]
async fn a_join_a_renewal_and_a_recovery_are_each_written_down_as_the_members() {
    let hub = TestHub::new().await;
    let (device, token) = (Device::new(LAB_1), hub.token("lab-1").await);
    let before = count(&hub).await;
    let joined = device.join(&hub.app, &token, "lab-1").await.unwrap();
    device.renew(&hub.app).await.unwrap();
    let state = joined.cluster.join_state;
    device.recover(&hub.app, &state).await.unwrap();
    let events = since(&hub, before).await;
    assert_eq!(events.len(), 3, "{events:?}");
    for (event, verb) in events.iter().zip(["join", "renew", "recover"]) {
        done_by_member(event, verb);
    }
    must_verify(&hub).await;
}

#[tokio::test]
async fn a_hub_that_learns_a_device_again_writes_down_its_renewal_once() {
    let hub = TestHub::new().await;
    let device = hub.member("lab-1", LAB_1).await;
    let store = crate::store::memory::MemoryStore::new();
    let lost = hub.restarted_with(store).await;
    lost.app
        .admit(device.cluster, AGENT, Memory::default())
        .await
        .unwrap();
    let before = count(&lost).await;
    device.renew(&lost.app).await.unwrap();
    let events = since(&lost, before).await;
    assert_eq!(events.len(), 1);
    assert_eq!((&*events[0].verb, &*events[0].actor.id), ("renew", LAB_1));
}

#[tokio::test]
async fn who_waits_for_a_person_is_written_down_once_however_often_it_asks() {
    let hub = TestHub::new().await;
    let (life, manner) = (SignedDuration::from_hours(1), Manner::default());
    let made = hub.app.create_join_token("lab-1", life, true, &manner);
    let token = made.await.unwrap().token.as_str().to_owned();
    let (device, before) = (Device::new(LAB_1), count(&hub).await);
    for _ in 0..3 {
        device.join(&hub.app, &token, "lab-1").await.unwrap_err();
    }
    let events = since(&hub, before).await;
    assert_eq!(events.len(), 1, "{events:?}");
    done_by_member(&events[0], "ask");
}

#[tokio::test]
async fn what_was_refused_is_written_down_of_somebody_who_proved_nothing() {
    let hub = TestHub::new().await;
    let device = hub.member("lab-1", LAB_1).await;
    let (stranger, token) = (Device::new(LAB_2), hub.token("lab-2").await);
    let before = count(&hub).await;
    stranger.join(&hub.app, &token, "lab-9").await.unwrap_err();
    stranger.recover(&hub.app, "").await.unwrap_err();
    // It has a certificate of lab-1, and not its device key.
    let thief = Device::new(LAB_1);
    thief.renew(&hub.app).await.unwrap_err();
    let nothing = Recover {
        challenge_id: "none",
        signature: b"",
        csr: b"",
        join_state: b"",
        cluster: "a text of any length, perhaps a secret",
        address: "10.0.0.7",
    };
    hub.app.recover(nothing).await.unwrap_err();
    let events = since(&hub, before).await;
    let (refused, why) = (Outcome::Refused, "unauthorized");
    let expected = [
        (ActorKind::Unknown, "join", "lab-9", refused, why),
        (ActorKind::Unknown, "recover", "", refused, why),
        (ActorKind::Member, "renew", "", refused, why),
        (ActorKind::Unknown, "recover", "", refused, why),
    ];
    assert_eq!(events.iter().map(told).collect::<Vec<_>>(), expected);
    let ids: Vec<_> = events.iter().map(|event| &*event.actor.id).collect();
    assert_eq!(ids, [LAB_2, LAB_2, LAB_1, ""]);
    assert!(events.iter().all(|event| event.address == "10.0.0.7"));
    device.renew(&hub.app).await.unwrap();
    must_verify(&hub).await;
}

#[tokio::test]
async fn a_quarantine_is_the_hubs_own_and_what_it_refuses_says_so() {
    let hub = TestHub::new().await;
    let device = hub.member("lab-1", LAB_1).await;
    drop(hub.member("lab-2", LAB_2).await);
    let before = count(&hub).await;
    device.recover(&hub.app, "used before").await.unwrap_err();
    for turn in 0..8 {
        hub.clock.advance(SignedDuration::from_secs(5));
        let instance = Uuid::from_u128(turn % 2);
        let heard = hub.app.hear_instance(LAB_2.parse().unwrap(), instance);
        assert_eq!(heard.await.is_err(), turn == 7);
    }
    let events = since(&hub, before).await;
    let quarantined = |name| (ActorKind::Hub, "quarantine", name, Outcome::Done, "");
    let refused = Outcome::Refused;
    let expected = [
        quarantined("lab-1"),
        (ActorKind::Unknown, "recover", "", refused, "quarantined"),
        quarantined("lab-2"),
    ];
    assert_eq!(events.iter().map(told).collect::<Vec<_>>(), expected);
    must_verify(&hub).await;
}

#[tokio::test]
async fn a_renewal_that_cannot_be_written_down_is_not_made() {
    let hub = TestHub::new().await;
    let device = hub.member("lab-1", LAB_1).await;
    // Another process leads by now: this one writes nothing.
    let next = hub.restarted_with(hub.store.clone()).await;
    let refused = device.renew(&hub.app).await;
    assert!(matches!(refused, Err(AppError::Store(_))), "{refused:?}");
    let before = count(&next).await;
    device.renew(&next.app).await.unwrap();
    let events = since(&next, before).await;
    assert_eq!((events.len(), &*events[0].verb), (1, "renew"));
}

#[tokio::test]
async fn a_member_that_asks_without_end_fills_neither_the_log_nor_anothers_share() {
    let hub = TestHub::new().await;
    let device = hub.member("lab-1", LAB_1).await;
    let other = hub.member("lab-2", LAB_2).await;
    let before = count(&hub).await;
    for turn in 0..EACH.burst + 20 {
        let renewed = device.renew(&hub.app).await;
        if turn < EACH.burst {
            renewed.unwrap();
        } else {
            assert!(matches!(renewed, Err(AppError::Busy(_))), "{renewed:?}");
        }
    }
    let asked_otherwise = device.recover(&hub.app, "").await;
    assert!(matches!(asked_otherwise, Err(AppError::Busy(_))));
    assert_eq!(count(&hub).await, before + u64::from(EACH.burst));
    other.renew(&hub.app).await.unwrap();
    // Whoever has no device key takes nothing of the owner's share.
    for _ in 0..EACH.burst {
        let stranger = Device::new(LAB_2);
        stranger.recover(&hub.app, "").await.unwrap_err();
    }
    other.renew(&hub.app).await.unwrap();
}
