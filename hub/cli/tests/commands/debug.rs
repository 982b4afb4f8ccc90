//! Looking into a hub that runs.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_tasks_are_shown_as_tables_and_as_the_hub_says_them() {
    let hub = Hub::start().await;
    let sessions = json!({ "asOf": "2026-01-01T00:00:00Z", "sessions": [{
        "cluster": "eu-1", "since": "2026-01-01T00:00:00Z", "heardAt": "2026-01-01T00:00:00Z", "waitingObjects": 3,
        "unansweredObjects": 2, "unacknowledgedBatches": 1, "sentTo": 77, "clockAheadMs": -12, "mode": "decides",
    }] });
    hub.answers("GET /debug/sessions", 200, sessions.clone());
    let ran = hub.run(&["debug", "sessions"], "").await;
    let cells: Vec<_> = ran
        .stdout
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(
        (cells[0], &cells[3..]),
        ("eu-1", &["3", "2", "1", "77", "-12ms", "decides"][..])
    );
    let ran = hub.run(&["debug", "sessions", "-o", "json"], "").await;
    assert_eq!(
        serde_json::from_str::<Value>(&ran.stdout).unwrap(),
        sessions
    );

    let tasks = json!({ "tasks": [
        { "name": "plan", "activations": 7, "lastRun": "2026-01-01T00:00:00Z", "tookMs": 4, "result": "failed",
          "nextRunBy": "2026-01-01T00:00:30Z", "lastError": "the store is away", "lastErrorAt": "2026-01-01T00:00:00Z" },
        { "name": "audit", "activations": 0 },
    ] });
    hub.answers("GET /debug/tasks", 200, tasks);
    let ran = hub.run(&["debug", "tasks"], "").await;
    for part in ["plan", "4ms", "failed", "the store is away", "audit"] {
        assert!(ran.stdout.contains(part), "{part}: {ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filter_of_the_log_is_shown_changed_for_a_time_and_put_back() {
    let hub = Hub::start().await;
    let usual = json!({ "filter": "info", "usual": "info" });
    let other = json!({ "filter": "debug", "usual": "info", "until": "2999-01-01T00:00:00Z" });
    hub.answers("GET /debug/log", 200, usual);
    hub.answers("PUT /debug/log", 200, other);
    let ran = hub.run(&["debug", "log"], "").await;
    assert!(!ran.stdout.contains("Back"), "{ran:?}");
    let ran = hub
        .run(&["debug", "log", "debug", "--for", "15m"], "")
        .await;
    assert!(ran.stdout.contains("Back"), "{ran:?}");
    let sent = hub.asked().pop().unwrap();
    assert_eq!(sent.line, "PUT /debug/log");
    assert_eq!(sent.body, json!({ "filter": "debug", "seconds": 900 }));
    hub.run(&["debug", "log", "--reset"], "").await;
    let sent = hub.asked().pop().unwrap();
    assert_eq!(sent.body, json!({ "filter": null, "seconds": null }));
    let ran = hub.run(&["debug", "log", "--for", "15m"], "").await;
    assert_eq!(ran.code, 2, "{ran:?}");
}
