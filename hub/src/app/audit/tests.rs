use jiff::SignedDuration;
use meridian_api::audit::{Broken, verify};

use super::*;
use crate::app::testing::{LAB_1, LAB_2, TestHub, database};
use crate::app::writes::Manner;
use crate::store::Store as _;

async fn export(hub: &TestHub) -> String {
    String::from_utf8(hub.app.audit_export().await.unwrap()).unwrap()
}

async fn token(hub: &TestHub, name: &str) {
    let hour = SignedDuration::from_hours(1);
    let manner = Manner::default();
    let made = hub.app.create_join_token(name, hour, false, &manner).await;
    made.unwrap();
}

#[tokio::test]
async fn what_is_done_is_written_down_in_its_transaction_with_its_revision() {
    let hub = TestHub::new().await;
    hub.member("lab-1", LAB_1).await;
    hub.member("lab-2", LAB_2).await;
    hub.app.link_all().await.unwrap();
    let (before, _) = hub.app.audit_records(u64::MAX, 1).await.unwrap();
    let wanted = database("shop", &["lab-1", "lab-2"]);
    let manner = Manner::default();
    let made = hub.app.create_database(&wanted, &manner).await.unwrap();
    let pending = hub
        .store
        .list(vec!["/audit-new/".to_owned()])
        .await
        .unwrap();
    assert_eq!(pending.value[0][0].created, made.created, "one transaction");
    assert!(manner.by.trail.is_recorded());
    let (ends, records) = hub.app.audit_records(u64::MAX, 1).await.unwrap();
    let event = &records[0].event;
    assert_eq!(ends.head.number, before.head.number + 1);
    assert_eq!(event.revision, Some(made.created));
    let told = (&*event.verb, &*event.kind, &*event.name, &*event.project);
    assert_eq!(
        told,
        ("create", "Active-Active database", "shop", "default")
    );
    // What is only tried, and what loses, writes nothing down.
    let tried = Manner {
        dry_run: true,
        ..Manner::default()
    };
    hub.app
        .create_join_token("x", SignedDuration::from_hours(1), false, &tried)
        .await
        .unwrap();
    hub.app.create_database(&wanted, &manner).await.unwrap_err();
    let (after, _) = hub.app.audit_records(u64::MAX, 1).await.unwrap();
    assert_eq!(after, ends);
}

#[tokio::test]
async fn the_chain_is_verified_after_the_oldest_were_forgotten_and_another_process_goes_on() {
    let hub = TestHub::new().await;
    for i in 0..70 {
        token(&hub, &format!("lab-{i}")).await;
    }
    while hub.app.link_audit(20).await.unwrap() {}
    let verified = verify(export(&hub).await.lines(), &[]).unwrap();
    assert_eq!((verified.after.number, verified.head.number), (50, 70));
    let kept = records::list(&hub.store, &keys::audits()).await.unwrap();
    assert_eq!(kept.value.len(), 20);
    let hub = hub.restarted_with(hub.store.clone()).await;
    token(&hub, "next").await;
    let again = verify(export(&hub).await.lines(), &[verified.head]).unwrap();
    assert_eq!(again.head.number, 71);
    let (_, page) = hub.app.audit_records(71, 3).await.unwrap();
    let numbers: Vec<_> = page.iter().map(|record| record.number).collect();
    assert_eq!(numbers, [70, 69, 68]);
    let (_, oldest) = hub.app.audit_records(52, 10).await.unwrap();
    assert_eq!(oldest.len(), 1, "51 is the oldest that is kept");
}

#[tokio::test]
async fn pages_go_over_the_borders_of_blocks() {
    let hub = TestHub::new().await;
    let trail = Trail::default();
    for i in 0..1003 {
        let name = i.to_string();
        let deed = Deed::new(Verb::Get, "backup", &name);
        hub.app.record(&trail, &deed).await.unwrap();
    }
    let (ends, page) = hub.app.audit_records(u64::MAX, 1003).await.unwrap();
    let numbers: Vec<_> = page.iter().map(|record| record.number).collect();
    assert_eq!(numbers, (1..=1003).rev().collect::<Vec<_>>());
    assert_eq!(ends.head.number, 1003);
}

#[tokio::test]
async fn a_record_that_is_taken_out_of_the_store_is_told_by_its_number() {
    let hub = TestHub::new().await;
    for i in 0..5 {
        token(&hub, &format!("lab-{i}")).await;
    }
    hub.app.link_all().await.unwrap();
    hub.app
        .commit(Txn::new().delete(keys::audit(3).text()))
        .await
        .unwrap();
    let told = verify(export(&hub).await.lines(), &[]).unwrap_err();
    assert_eq!(told, Broken::Removed { after: 2, found: 4 });
    // Forgetting does not step over the gap.
    while hub.app.link_audit(1).await.unwrap() {}
    let told = verify(export(&hub).await.lines(), &[]).unwrap_err();
    assert_eq!(told, Broken::Removed { after: 2, found: 4 });
}

#[tokio::test]
async fn refusals_that_come_in_crowds_are_counted_and_not_each_written_down() {
    let hub = TestHub::new().await;
    let mut stranger = Trail::default();
    stranger.actor.kind = ActorKind::Unknown;
    let deed = Deed::new(Verb::List, "cluster", "");
    for _ in 0..UNKNOWN.burst + 40 {
        hub.app
            .record_failure(&stranger, &deed, (Outcome::Refused, "unauthorized"))
            .await;
    }
    // One who is known has room of its own.
    let known = Trail::default();
    hub.app
        .record_failure(&known, &deed, (Outcome::Refused, "forbidden"))
        .await;
    let (ends, records) = hub.app.audit_records(u64::MAX, 1000).await.unwrap();
    assert_eq!(ends.head.number, u64::from(UNKNOWN.burst) + 1);
    assert!(records.iter().all(|record| record.event.unrecorded == 0));
    let refusals = Refusals::default();
    let second = Duration::from_secs(1);
    for _ in 0..UNKNOWN.burst {
        assert_eq!(refusals.admit(false, second), Some(0));
    }
    assert_eq!(refusals.admit(false, second), None);
    assert_eq!(refusals.admit(false, second), None);
    assert_eq!(
        refusals.admit(false, second + UNKNOWN.every),
        Some(2),
        "the next one says how many"
    );
}

#[test]
fn what_is_no_name_is_written_down_by_its_length() {
    for name in [
        "mrda.0707070707070707.abc",
        "mrdj%2E0707070707070707%2Eabc",
        "c2VjcmV0",
        "a\nb",
        &"x".repeat(NAME + 1),
    ] {
        let expected = format!("({} bytes that are no name)", name.len());
        assert_eq!(shown(name), expected);
    }
    for name in ["shop.eu", "lab-1", "0707070707070707", ""] {
        assert_eq!(shown(name), name);
    }
}
