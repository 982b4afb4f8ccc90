//! The certificate authority.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

use super::{age, describe::line, table::lines, text};

/// The roots, and who holds up the next step.
pub(crate) fn ca(ca: &Value, now: Timestamp) -> String {
    let mut out = String::new();
    let since = age(ca["since"].as_str().unwrap_or_default(), now);
    let stage = format!(
        "{}, version {}, since {since}",
        text(ca, "/stage"),
        text(ca, "/version")
    );
    line(&mut out, "Stage", &stage);
    let roots = ca["roots"].as_array().map_or(&[][..], Vec::as_slice);
    for (number, root) in roots.iter().enumerate() {
        let part = if number == 0 { "signs" } else { "is trusted" };
        let root = format!(
            "{} until {}",
            text(root, "/fingerprint"),
            text(root, "/endsAt")
        );
        line(
            &mut out,
            if number == 0 { "Root" } else { "" },
            &format!("{part}: {root}"),
        );
    }
    let waits = ca["waitsFor"].as_array().map_or(&[][..], Vec::as_slice);
    for reason in waits.iter().filter_map(Value::as_str) {
        line(&mut out, "Waits for", reason);
    }
    let members = ca["members"].as_array().map_or(&[][..], Vec::as_slice);
    if !members.is_empty() {
        let row = |member: &Value| {
            let said = member["asOf"].as_str().unwrap_or_default();
            let behind = member["behind"]
                .as_str()
                .unwrap_or("ready for the next step");
            vec![
                text(member, "/name"),
                text(member, "/version"),
                age(said, now),
                behind.to_owned(),
            ]
        };
        let columns = ["MEMBER", "VERSION", "AGE", "NEXT STEP"];
        // Writing to a String cannot fail.
        let _ = write!(out, "\n{}", lines(&columns, members.iter().map(row)));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_holds_up_the_next_step_is_shown_with_the_reason() {
        let now: Timestamp = "2026-01-02T00:05:00Z".parse().unwrap();
        let shown = ca(
            &json!({
                "version": 2, "stage": "introduced", "since": "2026-01-02T00:00:00Z",
                "roots": [{ "fingerprint": "sha256:a", "endsAt": "2036-01-01T00:00:00Z" }, { "fingerprint": "sha256:b" }],
                "waitsFor": ["not before noon"],
                "members": [
                    { "name": "eu-1", "version": 2, "asOf": "2026-01-02T00:04:00Z" },
                    { "name": "us-1", "behind": "it was not connected" },
                ],
            }),
            now,
        );
        for part in [
            "introduced",
            "signs: sha256:a",
            "is trusted: sha256:b",
            "not before noon",
            "ready",
            "it was not connected",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
