//! Objects in columns.

use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use jiff::Timestamp;
use serde_json::Value;

use super::{age, as_of, remaining, text};
use crate::kinds::Kind;

/// Turns an object into the cells of its line.
type Row = fn(&Value, Timestamp) -> Vec<String>;

/// Objects of one kind, one line each.
pub(crate) fn table(kind: Kind, objects: &[Value], now: Timestamp) -> String {
    let (columns, row) = layout(kind);
    lines(columns, objects.iter().map(|object| row(object, now)))
}

/// The columns of a kind, and how they are filled.
fn layout(kind: Kind) -> (&'static [&'static str], Row) {
    match kind {
        Kind::Cluster => (
            &["NAME", "STATE", "SINCE", "RECS", "AS OF", "AGENT", "AGE"],
            cluster,
        ),
        Kind::Token => (
            &["NAME", "CLUSTER", "EXPIRES", "USED BY", "APPROVAL", "AGE"],
            token,
        ),
        Kind::ApiToken => (
            &[
                "NAME",
                "HOLDER",
                "ROLE",
                "PROJECTS",
                "EXPIRES",
                "LAST USED",
                "AGE",
            ],
            api_token,
        ),
        Kind::RemoteCluster => (
            &[
                "NAME",
                "CLUSTER",
                "STATE",
                "REC",
                "REC STATE",
                "ADDRESS",
                "AS OF",
            ],
            remote_cluster,
        ),
        Kind::ActiveActiveDatabase => (
            &[
                "NAME",
                "STATUS",
                "SPEC STATUS",
                "REPLICATION",
                "PARTICIPANTS",
                "AGE",
            ],
            database,
        ),
    }
}

/// Lines that are printed one after the other, below one header. Columns are as wide as the widest cell so far.
#[derive(Debug)]
pub(crate) struct Growing {
    kind: Kind,
    widths: Vec<usize>,
}

impl Growing {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            widths: Vec::new(),
        }
    }

    /// The next lines, with the header before the first of all.
    pub(crate) fn lines(&mut self, objects: &[Value], now: Timestamp) -> String {
        let (columns, row) = layout(self.kind);
        let header = columns.iter().map(|&column| column.to_owned()).collect();
        let header = self.widths.is_empty().then_some(header);
        self.widths.resize(columns.len(), 0);
        let rows = objects.iter().map(|object| row(object, now));
        let rows: Vec<Vec<String>> = header.into_iter().chain(rows).collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&self.widths);
            let cells: Vec<_> = cells
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            format!("{}\n", cells.join("  ").trim_end())
        };
        rows.iter().map(line).collect()
    }
}

/// Columns without lines between them.
pub(super) fn lines(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(columns);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.add_rows(rows);
    format!("{}\n", table.trim_fmt())
}

fn created(object: &Value, now: Timestamp) -> String {
    match object
        .pointer("/metadata/creationTimestamp")
        .and_then(Value::as_str)
    {
        Some(time) => age(time, now),
        None => "-".to_owned(),
    }
}

fn cluster(object: &Value, now: Timestamp) -> Vec<String> {
    let recs = &object["status"]["recs"];
    let names = recs["value"].as_array().map(|recs| {
        let names: Vec<_> = recs
            .iter()
            .map(|rec| {
                format!(
                    "{}/{} {}",
                    text(rec, "/namespace"),
                    text(rec, "/name"),
                    text(rec, "/state")
                )
            })
            .collect();
        names.join(", ")
    });
    let since = match object.pointer("/status/since").and_then(Value::as_str) {
        Some(time) => age(time, now),
        None => "-".to_owned(),
    };
    vec![
        text(object, "/metadata/name"),
        state(object),
        since,
        names
            .filter(|names| !names.is_empty())
            .unwrap_or_else(|| "-".to_owned()),
        as_of(recs, now),
        text(object, "/status/agentVersion"),
        created(object, now),
    ]
}

/// Whether the member has a session, and what keeps it from one.
fn state(cluster: &Value) -> String {
    let conditions = cluster.pointer("/status/conditions");
    let conditions = conditions.and_then(Value::as_array).into_iter().flatten();
    let held: Vec<_> = conditions
        .filter(|one| one["status"] == "True")
        .filter_map(|one| one["type"].as_str())
        .collect();
    let state = text(cluster, "/status/state");
    if held.is_empty() {
        return state;
    }
    format!("{state} ({})", held.join(", "))
}

/// Who approved, whose words are to be compared, or that nobody has asked yet.
fn approval(token: &Value) -> String {
    let Some(approval) = token.pointer("/status/approval") else {
        return "-".to_owned();
    };
    let told = |field| approval[field].as_str();
    match (told("approvedBy"), told("words")) {
        (Some(by), _) => format!("by {by}"),
        (None, Some(words)) => format!("waits: {words}"),
        (None, None) => "required".to_owned(),
    }
}

fn token(object: &Value, now: Timestamp) -> Vec<String> {
    vec![
        text(object, "/metadata/name"),
        text(object, "/spec/clusterName"),
        remaining(&text(object, "/status/expiresAt"), now),
        text(object, "/status/usedBy"),
        approval(object),
        created(object, now),
    ]
}

fn api_token(object: &Value, now: Timestamp) -> Vec<String> {
    let projects = object.pointer("/spec/projects").and_then(Value::as_array);
    let projects = projects.map(|projects| {
        let names: Vec<_> = projects.iter().filter_map(Value::as_str).collect();
        names.join(",")
    });
    let expires = match text(object, "/status/expiresAt").as_str() {
        "-" => "never".to_owned(),
        end => remaining(end, now),
    };
    let last_use = match text(object, "/status/lastUsedAt").as_str() {
        "-" => "never".to_owned(),
        time => format!("{} ago", age(time, now)),
    };
    vec![
        text(object, "/metadata/name"),
        text(object, "/spec/holder"),
        text(object, "/spec/role"),
        projects.unwrap_or_else(|| "all".to_owned()),
        expires,
        last_use,
        created(object, now),
    ]
}

fn remote_cluster(object: &Value, now: Timestamp) -> Vec<String> {
    let rec = &object["status"]["rec"];
    vec![
        text(object, "/metadata/name"),
        text(object, "/status/cluster"),
        text(object, "/status/state"),
        format!(
            "{}/{}",
            text(object, "/spec/recNamespace"),
            text(object, "/spec/recName")
        ),
        text(rec, "/value/state"),
        text(rec, "/value/replicationAddress"),
        as_of(rec, now),
    ]
}

fn database(object: &Value, now: Timestamp) -> Vec<String> {
    let participants = object
        .pointer("/spec/participatingClusters")
        .and_then(Value::as_array);
    let names: Vec<_> = participants
        .into_iter()
        .flatten()
        .map(|participant| text(participant, "/name"))
        .collect();
    vec![
        text(object, "/metadata/name"),
        text(object, "/status/status"),
        text(object, "/status/specStatus"),
        replication(object),
        names.join(","),
        created(object, now),
    ]
}

/// Absent means that nobody knows, which is not `up`.
pub(super) fn replication(object: &Value) -> String {
    match text(object, "/status/replicationStatus").as_str() {
        "-" => "unknown".to_owned(),
        known => known.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_database_that_nobody_reported_is_not_shown_as_up() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let object = json!({
            "metadata": { "name": "cart", "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "participatingClusters": [{ "name": "eu-1" }, { "name": "us-1" }] },
        });
        let shown = table(Kind::ActiveActiveDatabase, &[object], now);
        let lines: Vec<_> = shown
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .collect();
        assert_eq!(
            lines[0],
            [
                "NAME",
                "STATUS",
                "SPEC",
                "STATUS",
                "REPLICATION",
                "PARTICIPANTS",
                "AGE"
            ]
        );
        assert_eq!(lines[1], ["cart", "-", "-", "unknown", "eu-1,us-1", "60s"]);
    }

    #[test]
    fn a_token_of_the_web_api_shows_what_it_is_for_and_when_it_was_used() {
        let now = "2026-01-01T02:00:00Z".parse().unwrap();
        let object = json!({
            "metadata": { "name": "07", "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "holder": "ci", "role": "operator", "projects": ["bank", "shop"] },
            "status": { "expiresAt": "2026-01-02T02:00:00Z", "lastUsedAt": "2026-01-01T01:00:00Z" },
        });
        let old =
            json!({ "metadata": { "name": "08" }, "spec": { "holder": "admin", "role": "admin" } });
        let shown = table(Kind::ApiToken, &[object, old], now);
        let lines: Vec<_> = shown
            .lines()
            .skip(1)
            .map(str::split_whitespace)
            .map(Vec::from_iter)
            .collect();
        assert_eq!(
            lines[0],
            [
                "07",
                "ci",
                "operator",
                "bank,shop",
                "in",
                "24h",
                "60m",
                "ago",
                "2h"
            ]
        );
        assert_eq!(
            lines[1],
            ["08", "admin", "admin", "all", "never", "never", "-"]
        );
    }

    #[test]
    fn a_cluster_shows_its_recs_with_the_age_of_the_report() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let object = json!({
            "metadata": { "name": "eu-1", "creationTimestamp": "2026-01-01T00:00:00Z" },
            "status": {
                "state": "Unreachable", "since": "2026-01-01T00:00:30Z", "agentVersion": "0.1.0",
                "recs": {
                    "value": [{ "namespace": "a", "name": "rec", "state": "Running" }],
                    "asOf": "2026-01-01T00:00:50Z", "stale": true,
                },
            },
        });
        let shown = table(Kind::Cluster, &[object], now);
        assert!(
            shown.contains("a/rec Running  10s ago, not connected"),
            "{shown}"
        );
    }

    #[test]
    fn a_cluster_that_is_let_in_no_more_says_so_beside_its_state() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let cluster = |status: &str| {
            json!({
                "metadata": { "name": "eu-1" },
                "status": {
                    "state": "Unreachable",
                    "conditions": [{ "type": "Quarantined", "status": status }],
                },
            })
        };
        let shown = table(Kind::Cluster, &[cluster("True")], now);
        assert!(shown.contains("Unreachable (Quarantined)"), "{shown}");
        let shown = table(Kind::Cluster, &[cluster("False")], now);
        assert!(!shown.contains("Quarantined"), "{shown}");
    }

    #[test]
    fn a_token_shows_the_words_to_compare_until_somebody_approved() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let shown = |approval: Value| {
            let token = json!({
                "metadata": { "name": "07" },
                "spec": { "clusterName": "eu-1" },
                "status": { "expiresAt": "2026-01-01T00:02:00Z", "approval": approval },
            });
            table(Kind::Token, &[token], now)
        };
        assert!(shown(json!({})).contains("required"));
        let words = "lusab babad gutih tugad hosum";
        let waits = shown(json!({ "words": words }));
        assert!(waits.contains(&format!("waits: {words}")), "{waits}");
        let granted = shown(json!({ "words": words, "approvedBy": "alice" }));
        assert!(granted.contains("by alice"), "{granted}");
    }
}
