//! Records of the audit log.

use jiff::Timestamp;
use serde_json::Value;

use super::{age, table::lines, text};

const COLUMNS: [&str; 10] = [
    "NUMBER", "AGE", "WHO", "FROM", "VERB", "KIND", "NAME", "PROJECT", "OUTCOME", "REQUEST",
];

/// Records in columns, the newest first.
pub(crate) fn audit(records: &[Value], now: Timestamp) -> String {
    lines(&COLUMNS, records.iter().map(|record| row(record, now)))
}

fn row(record: &Value, now: Timestamp) -> Vec<String> {
    let event = &record["event"];
    let who = match (
        text(event, "/actor/name").as_str(),
        text(event, "/actor/id").as_str(),
    ) {
        ("-", "-") => text(event, "/actor/kind"),
        ("-", id) => format!("{} {id}", text(event, "/actor/kind")),
        (name, "-") => name.to_owned(),
        (name, id) => format!("{name} ({id})"),
    };
    let mut outcome = text(event, "/outcome");
    if let Some(reason) = event["reason"].as_str() {
        outcome = format!("{outcome}: {reason}");
    }
    if let Some(more) = event["unrecorded"].as_u64() {
        outcome = format!("{outcome} (and {more} more before)");
    }
    let at = event["at"].as_str().unwrap_or_default();
    vec![
        text(record, "/number"),
        age(at, now),
        who,
        text(event, "/address"),
        text(event, "/verb"),
        text(event, "/kind"),
        text(event, "/name"),
        text(event, "/project"),
        outcome,
        text(event, "/request"),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_shows_who_did_what_and_what_came_of_it() {
        let now: Timestamp = "2026-01-02T00:05:00Z".parse().unwrap();
        let record = json!({ "number": 7, "event": {
            "at": "2026-01-02T00:00:00Z", "actor": { "kind": "token", "id": "07", "name": "alice" },
            "address": "10.0.0.1", "request": "ff", "verb": "delete", "kind": "cluster", "name": "eu-1",
            "outcome": "refused", "reason": "conflict", "unrecorded": 3,
        } });
        let shown = audit(&[record], now);
        let line = shown.lines().nth(1).unwrap();
        let cells = line.split("  ").map(str::trim);
        let cells: Vec<_> = cells.filter(|cell| !cell.is_empty()).collect();
        let outcome = "refused: conflict (and 3 more before)";
        let expected = [
            "7",
            "5m",
            "alice (07)",
            "10.0.0.1",
            "delete",
            "cluster",
            "eu-1",
            "-",
            outcome,
            "ff",
        ];
        assert_eq!(cells, expected);
    }
}
