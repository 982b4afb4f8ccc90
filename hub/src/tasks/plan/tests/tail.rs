//! The data of a participant that leaves goes when members say, in their present sessions, that another serves and has read it.

use serde_json::json;

use super::*;
use crate::app::reports::Report;
use crate::domain::cluster::Presence;
use crate::store::records::{LinkReport, StoredObservation};

async fn says(hub: &TestHub, status: &str, (state, lag_ms): (&str, Option<u64>)) {
    let object = hub.app.database("db-0").await.unwrap().record.object_id;
    let told = hub.app.desired_of(uid(LAB_1)).await.unwrap().value;
    let told = told.iter().find(|held| held.record.object_id == object);
    let seen = StoredObservation {
        for_revision: told.unwrap().modified,
        status: json!({ "status": status }),
        links: vec![LinkReport {
            instance_id: 2,
            from: "us".to_owned(),
            state: state.to_owned(),
            last_error: String::new(),
            lag_ms,
            since: hub.app.now(),
        }],
        as_of: hub.app.now(),
    };
    let report = [(object, Report::Observation(seen))];
    hub.app.report(uid(LAB_1), &report).await.unwrap();
}

async fn connects(hub: &TestHub, cluster: &str) {
    let connected = Presence::Connected;
    let connects = hub.app.presence(uid(cluster), connected, 1).await;
    connects.unwrap();
}

/// Whether `us` is told to delete its data.
async fn goes(hub: &TestHub) -> bool {
    let told = hub.app.desired_of(uid(LAB_2)).await.unwrap().value;
    let mut data = told.iter().filter(|held| held.record.data_bearing);
    data.any(|held| held.record.is_tombstone())
}

#[tokio::test]
async fn the_data_of_who_leaves_goes_by_what_those_that_stay_say_now() {
    let hub = hub(1).await;
    let mut planning = Planning::new(Arc::clone(&hub.app));
    settled(&mut planning).await;
    connects(&hub, LAB_1).await;
    connects(&hub, LAB_2).await;
    says(&hub, "active", ("up", Some(3))).await;
    assert!(!planning.tails.hold(), "nobody leaves");
    // What was said to another process was said before.
    let hub = hub.restarted_with(hub.store.clone()).await;
    let mut planning = Planning::new(Arc::clone(&hub.app));
    let manner = Manner::default();
    let shorter = hub.app.change_database("db-0", &manner, |_| {
        let mut new = database("db-0", &["eu"]);
        let confirmed = ("meridian.dev/confirm-removal".to_owned(), "us".to_owned());
        new.annotations.extend([confirmed]);
        Ok(new)
    });
    shorter.await.unwrap();
    settled(&mut planning).await;
    assert!(planning.tails.hold() && !goes(&hub).await);
    for (status, link) in [
        ("pending", ("up", Some(3))),
        ("active", ("stalled", Some(3))),
        ("active", ("up", None)),
        ("active", ("up", Some(2_000))),
    ] {
        says(&hub, status, link).await;
        settled(&mut planning).await;
        assert!(!goes(&hub).await, "{status} {link:?}");
    }
    says(&hub, "active", ("up", Some(3))).await;
    settled(&mut planning).await;
    assert!(goes(&hub).await);
    assert!(!planning.tails.hold(), "nothing more is asked");
}
