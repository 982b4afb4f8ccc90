//! The inside of the hub.

use jiff::Timestamp;
use serde_json::Value;

use super::{age, describe::line, remaining, table::lines, text};

fn list<'v>(answer: &'v Value, field: &str) -> &'v [Value] {
    answer[field].as_array().map_or(&[][..], Vec::as_slice)
}

/// How long ago; `-` where it never was.
fn ago(one: &Value, field: &str, now: Timestamp) -> String {
    one[field]
        .as_str()
        .map_or("-".to_owned(), |time| age(time, now))
}

/// The sessions.
pub(crate) fn sessions(answer: &Value, now: Timestamp) -> String {
    let columns = [
        "CLUSTER",
        "SINCE",
        "HEARD",
        "WAITING",
        "UNANSWERED",
        "UNACKNOWLEDGED",
        "SENT TO",
        "CLOCK",
        "MODE",
    ];
    let rows = list(answer, "sessions").iter().map(|one| {
        let clock = one["clockAheadMs"].as_i64();
        vec![
            text(one, "/cluster"),
            ago(one, "since", now),
            ago(one, "heardAt", now),
            text(one, "/waitingObjects"),
            text(one, "/unansweredObjects"),
            text(one, "/unacknowledgedBatches"),
            text(one, "/sentTo"),
            clock.map_or("-".to_owned(), |ms| format!("{ms:+}ms")),
            text(one, "/mode"),
        ]
    });
    lines(&columns, rows)
}

/// The background tasks.
pub(crate) fn tasks(answer: &Value, now: Timestamp) -> String {
    let columns = [
        "TASK",
        "RUNS",
        "LAST RUN",
        "TOOK",
        "RESULT",
        "NEXT RUN",
        "LAST ERROR",
    ];
    let rows = list(answer, "tasks").iter().map(|one| {
        let took = one["tookMs"].as_u64();
        let next = one["nextRunBy"].as_str();
        let error = match one["lastError"].as_str() {
            Some(error) => format!("{} ago: {error}", ago(one, "lastErrorAt", now)),
            None => "-".to_owned(),
        };
        vec![
            text(one, "/name"),
            text(one, "/activations"),
            ago(one, "lastRun", now),
            took.map_or("-".to_owned(), |ms| format!("{ms}ms")),
            text(one, "/result"),
            next.map_or("-".to_owned(), |next| remaining(next, now)),
            error,
        ]
    });
    lines(&columns, rows)
}

/// What of the log is written.
pub(crate) fn log(answer: &Value, now: Timestamp) -> String {
    let mut out = String::new();
    line(&mut out, "Filter", &text(answer, "/filter"));
    line(&mut out, "Usual", &text(answer, "/usual"));
    if let Some(until) = answer["until"].as_str() {
        line(&mut out, "Back", &remaining(until, now));
    }
    out
}

/// The newest lines of the log, as they were written.
pub(crate) fn log_lines(answer: &Value) -> String {
    let lines = list(answer, "lines").iter().filter_map(Value::as_str);
    lines.map(|line| format!("{line}\n")).collect()
}
