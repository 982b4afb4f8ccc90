use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::app::reports::Report;
use crate::app::testing::{LAB_1, TestHub, database, uid};
use crate::app::writes::Manner;
use crate::domain::cluster::Presence;
use crate::store::records::{OutcomeKind, StoredObservation, StoredOutcome};
use crate::tasks::Task as _;
use crate::tasks::plan::Planning;

/// One database on one member, a minute after it was created.
async fn world() -> TestHub {
    let hub = TestHub::new().await;
    hub.member("eu", LAB_1).await;
    let new = database("shop", &["eu"]);
    let made = hub.app.create_database(&new, &Manner::default()).await;
    made.unwrap();
    hub.clock.advance(SignedDuration::from_mins(1));
    hub
}

async fn found(hub: &TestHub) -> Vec<(&'static str, Truth, Timestamp)> {
    let view = hub.app.database_view(&Scope::all(), "shop").await.unwrap();
    let found = of(&view.unwrap()).into_iter();
    found.map(|it| (it.type_, it.truth, it.since)).collect()
}

async fn plan(hub: &TestHub) {
    let mut planning = Planning::new(std::sync::Arc::clone(&hub.app));
    while planning.activate().await.unwrap() == crate::tasks::Outcome::Progressed {}
}

/// The member does what it is told, and says that the database is so.
async fn report(hub: &TestHub, status: &str) {
    let desired = hub.app.desired_of(uid(LAB_1)).await.unwrap().value;
    let mut reports = Vec::new();
    for held in desired {
        let (object, as_of) = (held.record.object_id, hub.app.now());
        let outcome = StoredOutcome {
            revision: held.modified,
            result: OutcomeKind::Applied,
            code: String::new(),
            message: String::new(),
            as_of,
        };
        let seen = StoredObservation {
            for_revision: held.modified,
            status: json!({ "status": status }),
            links: Vec::new(),
            as_of,
        };
        reports.push((object, Report::Outcome(outcome)));
        reports.push((object, Report::Observation(seen)));
    }
    hub.app.report(uid(LAB_1), &reports).await.unwrap();
}

#[tokio::test]
async fn a_step_keeps_the_time_at_which_it_turned_until_it_turns_again_and_after_a_start() {
    let hub = world().await;
    let created = hub.app.now() - SignedDuration::from_mins(1);
    let none = [
        ("Planned", Truth::False, created),
        ("Delivered", Truth::False, created),
        ("Active", Truth::False, created),
    ];
    assert_eq!(found(&hub).await, none);
    assert_eq!(hub.app.note_turns().await.unwrap(), 0, "so it begins");

    plan(&hub).await;
    let at_plan = hub.app.now();
    assert_eq!(hub.app.note_turns().await.unwrap(), 1);
    hub.clock.advance(SignedDuration::from_mins(1));
    hub.app
        .presence(uid(LAB_1), Presence::Connected, 1)
        .await
        .unwrap();
    report(&hub, "active").await;
    let at_report = hub.app.now();
    assert_eq!(hub.app.note_turns().await.unwrap(), 1);
    assert_eq!(hub.app.note_turns().await.unwrap(), 0, "nothing has turned");
    hub.clock.advance(SignedDuration::from_mins(1));
    report(&hub, "active").await;
    let all = [
        ("Planned", Truth::True, at_plan),
        ("Delivered", Truth::True, at_report),
        ("Active", Truth::True, at_report),
    ];
    assert_eq!(found(&hub).await, all);
    hub.clock.advance(SignedDuration::from_mins(1));
    let hub = hub.restarted_with(hub.store.clone()).await;
    let unheard = ("Active", Truth::Unknown, hub.app.now());
    assert_eq!(found(&hub).await, [all[0], all[1], unheard]);
    assert_eq!(
        hub.app.note_turns().await.unwrap(),
        0,
        "a start turns nothing"
    );
    report(&hub, "active").await;
    assert_eq!(found(&hub).await, all, "it was so all the time");

    report(&hub, "error").await;
    let at_error = hub.app.now();
    let lost = [all[0], all[1], ("Active", Truth::False, at_error)];
    assert_eq!(found(&hub).await, lost, "told before it is remembered");
    assert_eq!(hub.app.note_turns().await.unwrap(), 1);
    hub.clock.advance(SignedDuration::from_mins(1));
    assert_eq!(found(&hub).await, lost);
}
