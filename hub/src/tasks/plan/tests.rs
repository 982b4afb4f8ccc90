mod held;
mod tail;

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
    let waits = planning.waits.clone();
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
async fn one_database_that_changes_is_planned_at_the_cost_of_one() {
    let hub = hub(12).await;
    let mut planning = Planning::new(Arc::clone(&hub.app));
    settled(&mut planning).await;
    let before = hub.store.handed_out();
    let new = database("one-more", &["eu", "us"]);
    let made = hub.app.create_database(&new, &Manner::default()).await;
    made.unwrap();
    let created = hub.store.handed_out();
    settled(&mut planning).await;
    let planned = hub.store.handed_out() - created;
    // To create it costs what is read of its participants.
    assert!(planned <= created - before, "{planned} entries were read");
    assert_eq!(planning.view.as_ref().unwrap().changed, Changed::default());
}

#[tokio::test]
async fn a_small_plan_is_one_transaction() {
    let hub = hub(0).await;
    let mut planning = Planning::new(Arc::clone(&hub.app));
    settled(&mut planning).await;
    let new = database("db", &["eu", "us"]);
    let made = hub.app.create_database(&new, &Manner::default()).await;
    made.unwrap();
    let head = async || hub.app.store().list(Vec::new()).await.unwrap().revision;
    let before = head().await;
    settled(&mut planning).await;
    assert_eq!(head().await.0, before.0 + 1);
}

#[tokio::test]
async fn what_a_failed_commit_left_out_is_planned_again() {
    let hub = hub(1).await;
    let mut planning = Planning::new(Arc::clone(&hub.app));
    let view = refreshed(&hub.app, &mut planning.view).await.unwrap();
    let changed = std::mem::take(&mut view.changed);
    // A plan that is looked at, and never written.
    let plan = planner::plan_changed(&view.input, &mut planning.needs, &changed);
    assert!(!plan.is_empty());
    view.counters = Some((Default::default(), Revision(1_000_000)));
    view.changed = changed;
    let refused = planning.activate().await;
    assert!(
        matches!(refused, Err(TaskError::Store(StoreError::Conflict { .. }))),
        "{refused:?}"
    );
    planning.view.as_mut().unwrap().counters = None;
    settled(&mut planning).await;
    let told = hub.app.desired_of(uid(LAB_1)).await.unwrap().value;
    assert_eq!(told.len(), 4);
}

#[tokio::test]
async fn a_planner_that_is_overtaken_by_compaction_reads_everything_again() {
    let hub = hub(1).await;
    let mut planning = Planning::new(Arc::clone(&hub.app));
    settled(&mut planning).await;
    let new = database("one-more", &["eu", "us"]);
    let made = hub.app.create_database(&new, &Manner::default()).await;
    made.unwrap();
    let head = hub.app.store().list(Vec::new()).await.unwrap().revision;
    hub.app.store().compact(head).await.unwrap();
    settled(&mut planning).await;
    let told = hub.app.desired_of(uid(LAB_1)).await.unwrap().value;
    assert_eq!(told.len(), 6);
}
