use super::*;
use crate::app::testing::{LAB_1, LAB_2, TestHub, database, uid};
use crate::app::writes::Manner;
use crate::store::records::{OutcomeKind, StoredOutcome};

async fn hub(databases: u32) -> TestHub {
    let hub = TestHub::new().await;
    hub.member("eu", LAB_1).await;
    hub.member("us", LAB_2).await;
    for n in 0..databases {
        let new = database(&format!("db-{n}"), &["eu", "us"]);
        let made = hub.app.create_database(&new, &Manner::default()).await;
        made.unwrap();
    }
    hub
}

async fn settled(planning: &mut Planning) {
    while planning.activate().await.unwrap() == Outcome::Progressed {}
}

async fn applied(hub: &TestHub) {
    for cluster in [LAB_1, LAB_2].map(uid) {
        for held in hub.app.desired_of(cluster).await.unwrap().value {
            let outcome = StoredOutcome {
                revision: held.modified,
                result: OutcomeKind::Applied,
                code: String::new(),
                message: String::new(),
                as_of: hub.app.now(),
            };
            let object = held.record.object_id;
            hub.app.outcome(cluster, object, outcome).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_became_of_orders_is_waited_for_and_read_only_while_something_is_deleted() {
    let hub = hub(3).await;
    let mut planning = Planning::new(Arc::clone(&hub.app));
    settled(&mut planning).await;
    let waits = planning.awaited().waits;
    assert!(!waits.hold(), "nothing is deleted");
    let looked = async |planning: &mut Planning| {
        let before = hub.store.handed_out();
        assert_eq!(planning.activate().await.unwrap(), Outcome::Settled);
        hub.store.handed_out() - before
    };
    let cost = looked(&mut planning).await;
    applied(&hub).await;
    assert_eq!(looked(&mut planning).await, cost, "outcomes are not read");
    let manner = Manner::default();
    let deleted = hub
        .app
        .delete_database("db-1", Some("db-1"), "alice", &manner);
    deleted.await.unwrap();
    settled(&mut planning).await;
    assert!(waits.hold(), "members are asked to delete");
    let mut again = Planning::new(Arc::clone(&hub.app));
    let looked = again.activate().await.unwrap();
    // What came before it waited woke nobody.
    assert_eq!(looked, Outcome::Progressed, "it looks again");
    assert_eq!(again.activate().await.unwrap(), Outcome::Settled);
    applied(&hub).await;
    settled(&mut planning).await;
    hub.app.database("db-1").await.unwrap_err();
    assert!(!waits.hold(), "it is over");
}

#[tokio::test]
async fn every_database_finds_what_is_told_of_it_and_the_rest_is_of_none() {
    let hub = hub(5).await;
    let planning = Planning::new(Arc::clone(&hub.app));
    let seen = planning.read().await.unwrap();
    let plan = planner::plan(&seen.input);
    let mut told = Told::of(&plan);
    for held in &seen.databases {
        let mine = told.take(&held.record);
        assert_eq!(mine.len(), 4, "a database and an instance for two members");
        assert!(mine.is_sorted_by_key(|(place, _)| **place));
        let of_it = [held.record.object_id, held.record.instance_object_id];
        assert!(mine.iter().all(|((_, object), _)| of_it.contains(object)));
    }
    assert_eq!(told.rest().len(), 4, "two remote clusters for two members");
}
