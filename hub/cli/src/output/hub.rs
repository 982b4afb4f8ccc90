//! The hub itself.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

use super::{age, describe::line, table::lines, text};

/// What the hub is, and each doubt that keeps it from deciding.
pub(crate) fn hub(hub: &Value, now: Timestamp) -> String {
    let mut out = String::new();
    for (label, pointer) in [
        ("Mode", "/mode"),
        ("Replica", "/role"),
        ("Store", "/storeId"),
        ("Term", "/term"),
        ("Incarnation", "/incarnation"),
    ] {
        line(&mut out, label, &text(hub, pointer));
    }
    let doubts = hub["doubts"].as_array().map_or(&[][..], Vec::as_slice);
    if !doubts.is_empty() {
        let row = |doubt: &Value| {
            let since = doubt["since"].as_str().unwrap_or_default();
            vec![
                text(doubt, "/raisedBy"),
                age(since, now),
                text(doubt, "/reason"),
            ]
        };
        let columns = ["RAISED BY", "AGE", "REASON"];
        // Writing to a String cannot fail.
        let _ = write!(out, "\n{}", lines(&columns, doubts.iter().map(row)));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_hub_that_observes_says_who_doubts_it_and_since_when() {
        let now: Timestamp = "2026-01-02T00:05:00Z".parse().unwrap();
        let reason = "it obeyed revision 9, the store ends at 4";
        let observing = json!({
            "storeId": "s", "term": 3, "incarnation": "i", "mode": "observes",
            "doubts": [{ "raisedBy": "eu-1", "reason": reason, "since": "2026-01-02T00:00:00Z" }],
        });
        let shown = hub(&observing, now);
        for part in ["observes", "eu-1", "5m", reason] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let deciding = json!({ "mode": "decides", "term": 3, "doubts": [] });
        assert!(!hub(&deciding, now).contains("RAISED BY"));
    }
}
