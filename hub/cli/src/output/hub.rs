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

/// Each frozen scope, and every deletion that waits in it.
pub(crate) fn freezes(list: &Value, now: Timestamp) -> String {
    let freezes = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    if freezes.is_empty() {
        return "no deletion is frozen\n".to_owned();
    }
    let mut out = String::new();
    for freeze in freezes {
        if !out.is_empty() {
            out.push('\n');
        }
        let since = freeze["since"].as_str().unwrap_or_default();
        line(&mut out, "List", &text(freeze, "/list"));
        line(&mut out, "Scope", &scope(freeze));
        line(&mut out, "Age", &age(since, now));
        line(&mut out, "Why", &text(freeze, "/reason"));
        out.push('\n');
        out.push_str(&deletions(freeze));
    }
    out
}

/// What was released, or would be.
pub(crate) fn released(freeze: &Value, dry_run: bool) -> String {
    let done = if dry_run {
        "would go on (dry run)"
    } else {
        "go on"
    };
    format!(
        "these deletions of {} {done}:\n{}",
        scope(freeze),
        deletions(freeze)
    )
}

fn scope(freeze: &Value) -> String {
    match freeze["cluster"].as_str() {
        Some(name) => format!("cluster {name}"),
        None => "the fleet".to_owned(),
    }
}

fn deletions(freeze: &Value) -> String {
    let row = |one: &Value| {
        let told = one["told"].as_bool().unwrap_or_default();
        vec![
            text(one, "/cluster"),
            text(one, "/kind"),
            text(one, "/namespace"),
            text(one, "/name"),
            text(one, "/approvedBy"),
            if told { "stopped" } else { "not sent" }.to_owned(),
        ]
    };
    let columns = [
        "CLUSTER",
        "KIND",
        "NAMESPACE",
        "NAME",
        "CONFIRMED BY",
        "STATE",
    ];
    let all = freeze["deletions"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    lines(&columns, all.iter().map(row))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_freeze_is_shown_with_the_name_of_its_list_and_every_deletion() {
        let now: Timestamp = "2026-01-02T00:05:00Z".parse().unwrap();
        let deletion = |name: &str, told| {
            json!({ "cluster": "eu-1", "kind": "ActiveActiveInstance", "namespace": "ns",
                "name": name, "approvedBy": "alice", "told": told })
        };
        let freeze = json!({ "list": "5f3a", "since": "2026-01-02T00:00:00Z", "reason": "too many",
            "deletions": [deletion("shop", true), deletion("cart", false)] });
        let shown = freezes(&json!({ "items": [freeze] }), now);
        let parts = [
            "5f3a",
            "the fleet",
            "5m",
            "too many",
            "shop",
            "stopped",
            "cart",
            "not sent",
            "alice",
        ];
        for part in parts {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert_eq!(
            freezes(&json!({ "items": [] }), now),
            "no deletion is frozen\n"
        );
        let tried = released(&freeze, true);
        assert!(
            tried.contains("would go on") && tried.contains("cart"),
            "{tried}"
        );
    }

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
