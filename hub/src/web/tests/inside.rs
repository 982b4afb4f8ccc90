//! What a hub that runs shows of its inside, and to whom.

use std::time::Duration;

use super::*;
use crate::domain::access::grant::Role;
use crate::logging::Logging;
use crate::metrics::TaskResult;
use crate::web::inside::SessionShown;

const LOG: &str = "/debug/log";

/// A hub with one session, and a log of its own.
async fn web() -> (Web, impl Sized) {
    let mut web = Web::with_members().await;
    let now = web.hub.app.now();
    let session = SessionShown {
        cluster: uid(LAB_1),
        epoch: 4,
        since: now,
        heard_at: now,
        certificate_ends: now,
        waiting: 3,
        sent_to: crate::store::Revision(77),
        unacknowledged: 1,
        room: 3,
        unanswered: 2,
        answered_to: 70,
        observes: false,
    };
    let (logging, subscriber) = Logging::new("info", false).unwrap();
    let state = WebState {
        inside: Inside {
            sessions: Some(Arc::new(move || vec![session.clone()])),
            logging: Some(logging),
            settings: Default::default(),
        },
        ..state(&web.hub)
    };
    let activities = state.metrics.activities();
    activities.begins("plan", Duration::from_secs(30));
    let failed = (TaskResult::Failed, Duration::from_millis(7));
    activities.ended("plan", failed, Some("the store is away".to_owned()));
    activities.begins("audit", Duration::from_secs(30));
    web.router = router(state);
    // A filter is changed where something is logged.
    (web, subscriber)
}

#[tokio::test]
async fn sessions_are_shown_with_how_far_they_are_and_tasks_with_their_last_run() {
    let (web, _logs) = web().await;
    let (status, shown) = web.call("GET", "/debug/sessions", None).await;
    assert_eq!(status, 200, "{shown}");
    let session = &shown["sessions"][0];
    for (field, value) in [
        ("cluster", json!("lab-1")),
        ("waitingObjects", json!(3)),
        ("unansweredObjects", json!(2)),
        ("unacknowledgedBatches", json!(1)),
        ("sentTo", json!(77)),
        ("mode", json!("decides")),
    ] {
        assert_eq!(session[field], value, "{field}: {session}");
    }
    let (_, shown) = web.call("GET", "/debug/tasks", None).await;
    let tasks = shown["tasks"].as_array().unwrap();
    assert_eq!((tasks.len(), &tasks[0]["name"]), (2, &json!("audit")));
    assert!(tasks[0].get("lastRun").is_none(), "{shown}");
    assert_eq!(tasks[1]["tookMs"], 7);
    assert_eq!(tasks[1]["lastError"], "the store is away");
    assert!(tasks[1]["nextRunBy"].as_str() > shown["asOf"].as_str());
    // A browser gets a table.
    let text = [("accept", "text/html,*/*;q=0.8")];
    for path in ["/debug/sessions", "/debug/tasks", LOG, "/debug/log/lines"] {
        let token = Some(web.token.as_str());
        let answer = web.ask_with("GET", path, token, None, &text).await;
        let kind = answer.headers()[header::CONTENT_TYPE].to_str().unwrap();
        assert!(kind.starts_with("text/plain"), "{path}: {kind}");
    }
}

#[tokio::test]
async fn a_viewer_sees_sessions_and_tasks_and_the_log_is_for_administrators() {
    let (web, _logs) = web().await;
    let viewer = web.token_of(Role::Viewer, &[]).await;
    let limited = web.token_of(Role::Operator, &["shop"]).await;
    for (path, may) in [
        ("/debug/sessions", 200),
        ("/debug/tasks", 200),
        (LOG, 403),
        ("/debug/log/lines", 403),
        ("/debug/settings", 403),
    ] {
        let answer = web.ask("GET", path, Some(&viewer), None).await;
        assert_eq!(answer.status(), may, "{path}");
        let answer = web.ask("GET", path, Some(&limited), None).await;
        assert_eq!(answer.status(), 403, "{path}: it is about the whole hub");
        let answer = web.ask("GET", path, None, None).await;
        assert_eq!(answer.status(), 401, "{path}");
    }
    let change = json!({ "filter": "debug" });
    let answer = web.ask("PUT", LOG, Some(&viewer), Some(&change)).await;
    assert_eq!(answer.status(), 403);
    let (_, log) = web.call("GET", LOG, None).await;
    assert_eq!(log["filter"], "info");
}

#[tokio::test]
async fn the_filter_of_the_log_is_changed_for_a_time_that_is_shown_and_is_audited() {
    let (web, _logs) = web().await;
    let change = json!({ "filter": "meridian_hub=debug", "seconds": 900 });
    let (status, log) = web.call("PUT", LOG, Some(&change)).await;
    assert_eq!((status, &log["filter"]), (200, &change["filter"]), "{log}");
    assert_eq!(log["usual"], "info");
    assert!(log["until"].is_string(), "{log}");
    let done = web.newest().await;
    assert_eq!(
        (&done["verb"], &done["kind"], &done["outcome"]),
        (
            &json!("update"),
            &json!("inside of the hub"),
            &json!("done")
        )
    );
    for (wrong, field) in [
        (json!({ "filter": "meridian_hub=loud" }), "filter"),
        (json!({ "filter": "" }), "filter"),
        (json!({ "filter": "debug", "seconds": 0 }), "seconds"),
        (json!({ "filter": "debug", "seconds": 86_401 }), "seconds"),
        (json!({ "filter": "debug", "for": 1 }), "body"),
    ] {
        let (status, problem) = web.call("PUT", LOG, Some(&wrong)).await;
        assert_eq!(
            (status, &problem["errors"][0]["field"]),
            (422, &json!(field))
        );
        let (_, log) = web.call("GET", LOG, None).await;
        assert_eq!(log["filter"], "meridian_hub=debug", "{wrong}");
    }
    let (_, log) = web.call("PUT", LOG, Some(&json!({}))).await;
    assert_eq!(log["filter"], "info");
    assert!(log.get("until").is_none(), "{log}");
}
