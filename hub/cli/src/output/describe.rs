//! All that is known of one object.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

use super::{age, as_of, table, text, yaml};
use crate::{error::CliError, kinds::Kind};

/// One object for people: header, spec, status, and how old each observation is.
pub(crate) fn describe(kind: Kind, object: &Value, now: Timestamp) -> Result<String, CliError> {
    let mut out = String::new();
    for (label, pointer) in [
        ("Name", "/metadata/name"),
        ("Kind", "/kind"),
        ("Created", "/metadata/creationTimestamp"),
        ("Deleting since", "/metadata/deletionTimestamp"),
        ("Version", "/metadata/resourceVersion"),
    ] {
        if object
            .pointer(pointer)
            .is_some_and(|value| !value.is_null())
        {
            line(&mut out, label, &text(object, pointer));
        }
    }
    section(&mut out, "Spec", &object["spec"])?;
    if kind == Kind::ActiveActiveDatabase {
        database(&mut out, object, now);
    } else {
        section(&mut out, "Status", &object["status"])?;
        if let Some(ahead_ms) = object["status"]["clock"]["value"]["aheadMs"].as_i64() {
            let as_of = as_of(&object["status"]["clock"], now);
            line(
                &mut out,
                "Clock",
                &format!("{}, {as_of}", difference(ahead_ms)),
            );
        }
    }
    conditions(&mut out, &object["status"]["conditions"], now);
    Ok(out)
}

pub(super) fn line(out: &mut String, label: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{:<16}{value}", format!("{label}:"));
}

fn section(out: &mut String, title: &str, value: &Value) -> Result<(), CliError> {
    let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    if !empty {
        let _ = writeln!(out, "{title}:");
        for text in yaml(value)?.lines() {
            let _ = writeln!(out, "  {text}");
        }
    }
    Ok(())
}

/// How far a member's clock is from the hub's.
fn difference(ahead_ms: i64) -> String {
    let apart = ahead_ms.saturating_abs();
    let way = if ahead_ms < 0 { "behind" } else { "ahead of" };
    format!(
        "{}.{} s {way} the hub's",
        apart / 1_000,
        apart % 1_000 / 100
    )
}

fn database(out: &mut String, object: &Value, now: Timestamp) {
    line(out, "Status", &text(object, "/status/status"));
    line(out, "Spec status", &text(object, "/status/specStatus"));
    line(out, "Replication", &table::replication(object));
    line(out, "GUID", &text(object, "/status/guid"));
    line(out, "Membership", &text(object, "/status/configVersion"));
    line(out, "Plan", &text(object, "/status/planNumber"));
    waits(out, object, now);
    let participants: Vec<&Value> = object["status"]["participants"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    let _ = writeln!(out, "Participants:");
    let rows = participants.iter().map(|participant| {
        let observed = &participant["observed"];
        vec![
            format!("  {}", text(participant, "/name")),
            text(participant, "/cluster"),
            text(participant, "/instanceId"),
            text(observed, "/value/status"),
            table::replication(&serde_json::json!({ "status": observed["value"] })),
            applied(participant),
            as_of(observed, now),
        ]
    });
    out.push_str(&table::lines(
        &[
            "  NAME",
            "CLUSTER",
            "ID",
            "STATUS",
            "REPLICATION",
            "APPLIED",
            "AS OF",
        ],
        rows,
    ));
    for participant in &participants {
        if let Some(message) = participant["message"]
            .as_str()
            .filter(|message| !message.is_empty())
        {
            let _ = writeln!(out, "  {}: {message}", text(participant, "/name"));
        }
    }
    links(out, &participants, now);
}

/// What the planner waits for, and since when.
fn waits(out: &mut String, object: &Value, now: Timestamp) {
    let lines = object["status"]["waitsFor"].as_array();
    let since = object["status"]["waitsSince"].as_str();
    let since = since.map_or_else(String::new, |since| format!(" ({})", age(since, now)));
    for told in lines.into_iter().flatten().filter_map(Value::as_str) {
        line(out, "Planner", &format!("{told}{since}"));
    }
}

/// Whether the member has what the hub wants there.
fn applied(participant: &Value) -> String {
    match (
        participant["desiredRevision"].as_u64(),
        participant["appliedRevision"].as_u64(),
    ) {
        (None, _) => "-".to_owned(),
        (Some(desired), Some(applied)) if applied >= desired => "yes".to_owned(),
        (Some(_), Some(applied)) => format!("no, has {applied}"),
        (Some(_), None) => "no".to_owned(),
    }
}

fn links(out: &mut String, participants: &[&Value], now: Timestamp) {
    let mut rows = Vec::new();
    for participant in participants {
        let row = &participant["links"];
        for link in row["value"].as_array().into_iter().flatten() {
            let lag = link["lagMs"]
                .as_u64()
                .map_or_else(|| "unknown".to_owned(), |lag| format!("{lag} ms"));
            rows.push(vec![
                format!("  {}", text(link, "/from")),
                text(participant, "/name"),
                text(link, "/state"),
                lag,
                text(link, "/since"),
                as_of(row, now),
                text(link, "/lastError"),
            ]);
        }
    }
    if !rows.is_empty() {
        let _ = writeln!(out, "Links:");
        let columns = [
            "  FROM",
            "TO",
            "STATE",
            "LAG",
            "SINCE",
            "AS OF",
            "LAST ERROR",
        ];
        out.push_str(&table::lines(&columns, rows.into_iter()));
    }
}

fn conditions(out: &mut String, conditions: &Value, now: Timestamp) {
    let rows: Vec<_> = conditions
        .as_array()
        .into_iter()
        .flatten()
        .map(|condition| {
            let since = condition["lastTransitionTime"]
                .as_str()
                .map_or_else(|| "-".to_owned(), |time| age(time, now));
            vec![
                format!("  {}", text(condition, "/type")),
                text(condition, "/status"),
                since,
                text(condition, "/reason"),
                text(condition, "/message"),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let _ = writeln!(out, "Conditions:");
        out.push_str(&table::lines(
            &["  TYPE", "STATUS", "SINCE", "REASON", "MESSAGE"],
            rows.into_iter(),
        ));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_participant_and_link_is_shown_with_the_age_of_what_is_known() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let object = json!({
            "kind": "RedisEnterpriseActiveActiveDatabase",
            "metadata": { "name": "cart" },
            "spec": { "globalConfigurations": { "memorySize": "1GB" } },
            "status": {
                "status": "active", "guid": "g", "configVersion": 3,
                "participants": [
                    {
                        "name": "eu-1", "cluster": "eu", "instanceId": 1,
                        "desiredRevision": 9, "appliedRevision": 9,
                        "observed": {
                            "value": { "status": "active", "replicationStatus": "up" },
                            "asOf": "2026-01-01T00:00:55Z", "stale": false,
                        },
                        "links": {
                            "value": [{ "from": "us-1", "instanceId": 2, "state": "up", "lagMs": 4,
                                "since": "2026-01-01T00:00:00Z" }],
                            "asOf": "2026-01-01T00:00:58Z", "stale": false,
                        },
                    },
                    {
                        "name": "us-1", "cluster": "us", "instanceId": 2, "desiredRevision": 9, "appliedRevision": 7,
                        "message": "namespace databases does not exist",
                    },
                ],
                "conditions": [{ "type": "Ready", "status": "False", "reason": "Waiting", "message": "for us-1" }],
            },
        });
        let shown = describe(Kind::ActiveActiveDatabase, &object, now).unwrap();
        let words: Vec<String> = shown
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for wanted in [
            "memorySize: 1GB",
            "Replication: unknown",
            "eu-1 eu 1 active up yes 5s ago",
            "us-1 us 2 - unknown no, has 7 never",
            "us-1: namespace databases does not exist",
            "us-1 eu-1 up 4 ms 2026-01-01T00:00:00Z 2s ago -",
            "Ready False - Waiting for us-1",
        ] {
            assert!(
                words.iter().any(|line| line == wanted),
                "no line {wanted:?} in\n{shown}"
            );
        }
    }
}
