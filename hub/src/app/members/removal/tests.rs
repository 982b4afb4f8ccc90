mod races;

use super::*;
use crate::app::testing::{AGENT, LAB_1, LAB_2, TestHub, database, rec, uid};
use crate::domain::lineage::Memory;
use crate::store::records::{OutcomeKind, StoredOutcome};
use crate::tasks::plan::Planning;
use crate::tasks::{Outcome, Task as _};

async fn hub() -> TestHub {
    let hub = TestHub::new().await;
    hub.member("eu", LAB_1).await;
    hub.member("us", LAB_2).await;
    hub.app
        .presence(uid(LAB_1), Presence::Connected, 1)
        .await
        .unwrap();
    hub.app
        .presence(uid(LAB_2), Presence::Unreachable, 1)
        .await
        .unwrap();
    hub
}

async fn with_cart() -> TestHub {
    let hub = hub().await;
    let new = database("cart", &["eu", "us"]);
    hub.app
        .create_database(&new, &Manner::default())
        .await
        .unwrap();
    plan(&hub).await;
    hub
}

async fn plan(hub: &TestHub) {
    let mut planning = Planning::new(std::sync::Arc::clone(&hub.app));
    while planning.activate().await.unwrap() == Outcome::Progressed {}
}

/// A member says that it did what it was told.
async fn obeys(hub: &TestHub, cluster: &str) {
    for held in hub.app.desired_of(uid(cluster)).await.unwrap().value {
        let outcome = StoredOutcome {
            revision: held.modified,
            result: OutcomeKind::Applied,
            code: String::new(),
            message: String::new(),
            as_of: hub.app.now(),
        };
        let object = held.record.object_id;
        hub.app
            .outcome(uid(cluster), object, outcome)
            .await
            .unwrap();
    }
}

async fn told(hub: &TestHub, cluster: &str) -> usize {
    hub.app.desired_of(uid(cluster)).await.unwrap().value.len()
}

async fn delete(hub: &TestHub) {
    let manner = Manner::default();
    let deleted = hub
        .app
        .delete_database("cart", Some("cart"), "alice", &manner);
    deleted.await.unwrap();
    plan(hub).await;
}

async fn lose(hub: &TestHub) -> Result<RemovedCluster, AppError> {
    let manner = Manner::default();
    hub.app
        .lose_cluster("us", (Some("us"), "alice"), &manner)
        .await
}

fn conflict<T: std::fmt::Debug>(refused: Result<T, AppError>) -> String {
    match refused {
        Err(AppError::Conflict(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_reachable_member_is_removed_when_it_has_confirmed_what_was_to_go() {
    let hub = with_cart().await;
    let manner = Manner::default();
    let wanted = conflict(hub.app.remove_cluster("eu", &manner).await);
    assert!(
        wanted.contains("takes part in cart") && !wanted.contains("--lost"),
        "{wanted}"
    );
    delete(&hub).await;
    let waits = conflict(hub.app.remove_cluster("eu", &manner).await);
    for part in [
        "cart (to go since 2026-11-22T12:00:00Z)",
        "it is connected",
        "--wait",
    ] {
        assert!(waits.contains(part), "{waits}");
    }
    obeys(&hub, LAB_1).await;
    plan(&hub).await;
    hub.app.remove_cluster("eu", &manner).await.unwrap();
    plan(&hub).await;
    assert_eq!(
        told(&hub, LAB_1).await,
        0,
        "nobody waits for its remote clusters"
    );
    assert!(
        hub.app.database("cart").await.is_ok(),
        "the other is still waited for"
    );
}

#[tokio::test]
async fn who_removes_an_unreachable_member_is_told_what_is_waited_for_since_when_and_the_way_out() {
    let hub = with_cart().await;
    let manner = Manner::default();
    let wanted = conflict(hub.app.remove_cluster("us", &manner).await);
    assert!(
        wanted.contains("unreachable since 2026-11-22T12:00:00Z"),
        "{wanted}"
    );
    assert!(
        wanted.contains("meridian cluster remove us --lost"),
        "{wanted}"
    );
    delete(&hub).await;
    let waits = conflict(hub.app.remove_cluster("us", &manner).await);
    for part in ["data of cart", "unreachable since", "remove us --lost"] {
        assert!(waits.contains(part), "{waits}");
    }
}

#[tokio::test]
async fn a_lost_member_is_removed_at_once_and_a_deletion_that_waited_for_it_ends() {
    let hub = with_cart().await;
    delete(&hub).await;
    obeys(&hub, LAB_1).await;
    plan(&hub).await;
    assert!(hub.app.database("cart").await.is_ok(), "it waits for us");
    let removed = lose(&hub).await.unwrap();
    plan(&hub).await;
    assert!(hub.app.database("cart").await.is_err(), "it waits no more");
    assert_eq!(told(&hub, LAB_2).await, 0);
    let lost = removed.lost.unwrap();
    assert!(lost.databases.is_empty(), "it was to be deleted");
    let left: Vec<_> = lost
        .residue
        .iter()
        .map(|one| (one.kind.as_str(), one.name.as_str()))
        .collect();
    for (kind, name) in [
        ("RedisEnterpriseActiveActiveDatabase", "cart"),
        ("ActiveActiveInstance", "cart"),
        ("PersistentVolumeClaim", "redis-enterprise-storage-rec-"),
        ("Secret", "rec"),
        ("RedisEnterpriseRemoteCluster", "eu"),
    ] {
        assert!(left.contains(&(kind, name)), "{kind} {name}: {left:?}");
    }
    let listed = hub.app.lost_clusters().await.unwrap();
    assert_eq!((listed.len(), listed[0].name.as_str()), (1, "us"));
    let (_, records) = hub.app.audit_records(u64::MAX, 100).await.unwrap();
    let record = records
        .iter()
        .find(|record| record.event.verb == "lose")
        .unwrap();
    assert!(
        record
            .event
            .left
            .contains(&"db/ActiveActiveInstance/cart".to_owned()),
        "{:?}",
        record.event.left
    );
}

#[tokio::test]
async fn a_database_goes_on_without_a_lost_member_and_can_be_changed() {
    let hub = with_cart().await;
    let lost = lose(&hub).await.unwrap().lost.unwrap();
    assert_eq!(lost.databases, ["cart".to_owned()].into());
    plan(&hub).await;
    let cart = hub.app.database("cart").await.unwrap().record;
    let key = keys::membership(cart.object_id);
    let membership = records::get(hub.app.store().as_ref(), &key)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(membership.record.ghosts, [2]);
    let manner = Manner::default();
    let labelled = hub.app.change_database("cart", &manner, |_| {
        let mut new = database("cart", &["eu", "us"]);
        new.labels.insert("tier".to_owned(), "1".to_owned());
        Ok(new)
    });
    labelled.await.unwrap();
    let shorter = hub
        .app
        .change_database("cart", &manner, |_| Ok(database("cart", &["eu"])));
    let cart = shorter.await.unwrap().record;
    assert!(cart.removals.is_empty(), "nothing is to be deleted there");
}

#[tokio::test]
async fn a_member_that_answers_is_not_lost_and_nobody_is_lost_by_habit() {
    let hub = hub().await;
    let manner = Manner::default();
    let connected = hub
        .app
        .lose_cluster("eu", (Some("eu"), "alice"), &manner)
        .await;
    assert!(conflict(connected).contains("a member that answers is not lost"));
    for confirm in [None, Some("eu")] {
        let unconfirmed = hub
            .app
            .lose_cluster("us", (confirm, "alice"), &manner)
            .await;
        assert!(conflict(unconfirmed).contains("?confirm=us"));
    }
    let tried = Manner {
        dry_run: true,
        ..Manner::default()
    };
    let seen = hub
        .app
        .lose_cluster("us", (None, "alice"), &tried)
        .await
        .unwrap();
    assert!(!seen.lost.unwrap().residue.is_empty());
    hub.app.member(uid(LAB_2)).await.unwrap();
}

#[tokio::test]
async fn a_lost_member_that_comes_back_is_refused_and_told_why() {
    let hub = TestHub::new().await;
    let device = hub.member("us", LAB_2).await;
    lose(&hub).await.unwrap();
    let explained = |refused: Result<(), AppError>| {
        let Err(AppError::Refused(why)) = refused else {
            panic!("{refused:?}")
        };
        assert!(
            why.contains("declared lost for good") && why.contains("alice"),
            "{why}"
        );
    };
    explained(hub.app.must_not_be_denied(uid(LAB_2)).await);
    explained(device.recover(&hub.app, "state").await.map(drop));
    let token = hub.token("us").await;
    explained(device.join(&hub.app, &token, "us").await.map(drop));
    hub.app.member(uid(LAB_2)).await.unwrap_err();
    let admitted = hub.app.admit(uid(LAB_2), AGENT, Memory::default()).await;
    assert!(
        matches!(admitted, Err(AppError::Refused(_))),
        "its certificate opens nothing"
    );
    // A person may let it in again: as a member that never was one.
    hub.app
        .release("us", "alice", &Manner::default())
        .await
        .unwrap();
    device.join(&hub.app, &token, "us").await.unwrap();
    hub.app
        .inventory(uid(LAB_2), vec![rec("us")])
        .await
        .unwrap();
    assert!(hub.app.lost_clusters().await.unwrap().is_empty());
}
