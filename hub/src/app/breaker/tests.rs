use jiff::SignedDuration;
use meridian_api::ids::PlanNumber;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::app::testing::{LAB_1, LAB_2, TestHub, uid};
use crate::domain::desired::Action;
use crate::domain::lineage::Memory;

fn id(n: u8) -> ObjectId {
    ObjectId::new(Uuid::from_u128(u128::from(n))).unwrap()
}

/// Wants a database on a member, or its deletion.
async fn want(hub: &TestHub, cluster: &str, n: u8, deleted: bool) {
    let action = if deleted {
        Action::Delete {
            approval: "alice".to_owned(),
            reason: "r".to_owned(),
        }
    } else {
        Action::Upsert {
            body: json!({ "spec": n }),
        }
    };
    let desired = Desired {
        object_id: id(n),
        api_version: "meridian.dev/v1alpha1".to_owned(),
        kind: "ActiveActiveInstance".to_owned(),
        namespace: "db".to_owned(),
        name: format!("db-{n}"),
        data_bearing: true,
        after: Vec::new(),
        trace: None,
        plan_number: PlanNumber(1),
        action,
    };
    let key = keys::desired(uid(cluster), id(n));
    let txn = Txn::new().put_record(&key, &desired).unwrap();
    hub.app.commit(txn).await.unwrap();
}

/// Two members: databases 1 to 9 on the first, 11 to 60 on the second.
async fn hub() -> TestHub {
    let hub = TestHub::new().await;
    hub.member("lab-1", LAB_1).await;
    hub.member("lab-2", LAB_2).await;
    for n in 1..=9 {
        want(&hub, LAB_1, n, false).await;
    }
    for n in 11..=60 {
        want(&hub, LAB_2, n, false).await;
    }
    hub
}

/// Deletes a database of a member: whether the member may be told.
async fn delete(hub: &TestHub, cluster: &str, n: u8) -> bool {
    want(hub, cluster, n, true).await;
    is_let(hub, cluster, n).await
}

async fn is_let(hub: &TestHub, cluster: &str, n: u8) -> bool {
    let asked = BTreeSet::from([id(n)]);
    let leave = hub.app.may_delete(uid(cluster), &asked).await.unwrap();
    assert_eq!(leave.granted.is_empty(), leave.frozen.is_some());
    leave.granted == asked
}

async fn frozen_member() -> TestHub {
    let hub = hub().await;
    for n in 1..=3 {
        assert!(delete(&hub, LAB_1, n).await);
    }
    assert!(!delete(&hub, LAB_1, 4).await);
    hub
}

async fn verbs(hub: &TestHub) -> Vec<(String, String, String)> {
    while hub.app.link_audit(1000).await.unwrap() {}
    let (_, records) = hub.app.audit_records(u64::MAX, 50).await.unwrap();
    let events = records.into_iter().map(|record| record.event);
    let of_freezes = events.filter(|event| event.kind == KIND);
    of_freezes
        .map(|event| (event.verb, event.name, event.actor.name))
        .collect()
}

#[tokio::test]
async fn a_member_is_frozen_alone_and_others_go_on() {
    let hub = frozen_member().await;
    assert!(delete(&hub, LAB_2, 11).await, "another member goes on");
    let freezes = hub.app.freezes().await.unwrap();
    let [freeze] = freezes.as_slice() else {
        panic!("{freezes:?}")
    };
    assert_eq!(freeze.cluster_name.as_deref(), Some("lab-1"));
    let told: Vec<_> = freeze
        .deletions
        .iter()
        .map(|one| (one.desired.name.as_str(), one.told))
        .collect();
    assert_eq!(
        told,
        [
            ("db-1", true),
            ("db-2", true),
            ("db-3", true),
            ("db-4", false)
        ]
    );
    assert_eq!(verbs(&hub).await.len(), 1, "it is written down once");
    assert!(!delete(&hub, LAB_1, 5).await);
    assert_eq!(verbs(&hub).await.len(), 1, "it is written down once");
    assert_eq!(hub.app.frozen_scopes().await.unwrap(), 1);
}

#[tokio::test]
async fn one_in_ten_of_the_fleet_freezes_the_fleet() {
    let hub = hub().await;
    // 59 databases: five of them may go.
    for n in [11, 12, 13, 1, 2] {
        let cluster = if n < 10 { LAB_1 } else { LAB_2 };
        assert!(delete(&hub, cluster, n).await);
    }
    assert!(!delete(&hub, LAB_1, 3).await);
    let freezes = hub.app.freezes().await.unwrap();
    assert_eq!((freezes.len(), freezes[0].scope), (1, Scope::Fleet));
    assert_eq!(freezes[0].deletions.len(), 6);
    for cluster in [LAB_1, LAB_2] {
        let held_back = hub.app.held_back(uid(cluster)).await.unwrap().unwrap();
        assert_eq!(held_back.objects.len(), 3);
    }
}

#[tokio::test]
async fn a_freeze_outlives_the_hub() {
    let hub = frozen_member().await;
    hub.clock.advance(SignedDuration::from_hours(48));
    let again = hub.restarted_with(hub.store.clone()).await;
    assert!(!is_let(&again, LAB_1, 1).await);
    assert_eq!(again.app.freezes().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_person_releases_exactly_the_list_that_was_seen() {
    let hub = frozen_member().await;
    let manner = Manner::default();
    let seen = hub.app.freezes().await.unwrap().remove(0).list;
    assert!(!delete(&hub, LAB_1, 5).await, "it comes after the look");
    let old = hub.app.release_freeze(&seen, "bob", &manner).await;
    let grown = hub.app.freezes().await.unwrap().remove(0).list;
    assert!(
        matches!(&old, Err(AppError::Changed(told)) if told.contains(&grown)),
        "{old:?}"
    );
    let tried = Manner {
        dry_run: true,
        ..Manner::default()
    };
    let tried = hub.app.release_freeze(&grown, "bob", &tried).await.unwrap();
    assert_eq!(tried.deletions.len(), 5);
    assert!(!is_let(&hub, LAB_1, 1).await, "it was only tried");
    hub.app
        .release_freeze(&grown, "bob", &manner)
        .await
        .unwrap();
    // The fleet has a limit of its own, and counted the first three.
    hub.clock.advance(SignedDuration::from_hours(2));
    for n in 1..=8 {
        assert!(
            delete(&hub, LAB_1, n).await,
            "{n}: five were seen, three more may go"
        );
    }
    assert!(!delete(&hub, LAB_1, 9).await);
    let told = verbs(&hub).await;
    let told: Vec<_> = told
        .iter()
        .map(|(verb, name, _)| (&**verb, &**name))
        .collect();
    assert_eq!(
        told,
        [
            ("freeze", "lab-1"),
            ("release", "lab-1"),
            ("freeze", "lab-1")
        ]
    );
}

#[tokio::test]
async fn nothing_is_released_where_nothing_is_frozen_or_the_hub_observes() {
    let manner = Manner::default();
    let nothing = hub().await.app.release_freeze("5f", "bob", &manner).await;
    assert!(
        matches!(nothing, Err(AppError::NotFound { .. })),
        "{nothing:?}"
    );
    let hub = frozen_member().await;
    let list = hub.app.freezes().await.unwrap().remove(0).list;
    let doubt = hub
        .app
        .raise_doubt(Txn::new(), uid(LAB_1), "r".to_owned(), Memory::default());
    doubt.await.unwrap();
    let observing = hub.app.release_freeze(&list, "bob", &manner).await;
    assert!(
        matches!(observing, Err(AppError::Observing(_))),
        "{observing:?}"
    );
}
