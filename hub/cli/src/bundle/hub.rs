//! `meridian hub support-bundle`: what somebody needs who was not there, of the hub. What is written are listed fields of what the
//! hub answers; texts and the lines of its log go through [`scrub`].

use std::path::PathBuf;

use http::{HeaderMap, Method};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    archive::Archive,
    kinds,
    redact::{self, Fields},
    scrub,
};
use crate::{client::Hub, error::CliError, output};

/// Newest records of the audit log that are taken.
const RECORDS: &str = "500";
/// Largest page of metrics that is taken, bytes.
const PAGE: usize = 4 << 20;

/// One answer of the hub.
struct Part {
    file: &'static str,
    path: String,
    /// Where the list is of which each element has these fields; empty if it is no list.
    list: &'static str,
    fields: Vec<String>,
}

fn part(file: &'static str, path: &str, list: &'static str, fields: &[&str]) -> Part {
    let fields = fields.iter().map(|field| (*field).to_owned());
    Part {
        file,
        path: path.to_owned(),
        list,
        fields: fields.collect(),
    }
}

/// Fields of a session, and those of a task.
const SESSION: &[&str] = &[
    "cluster",
    "uid",
    "epoch",
    "since",
    "heardAt",
    "certificateEnds",
    "mode",
    "waitingObjects",
    "unansweredObjects",
    "unacknowledgedBatches",
    "freeBatches",
    "sentTo",
    "answeredTo",
    "clockAheadMs",
];
const TASK: &[&str] = &[
    "name",
    "activations",
    "lastRun",
    "tookMs",
    "result",
    "nextRunBy",
    "lastError",
    "lastErrorAt",
];
/// Settings of the hub, of which none is a secret or names a file with one.
const SETTINGS: &[&str] = &[
    "version",
    "store",
    "webListen",
    "linkListen",
    "advertiseLink",
    "advertiseWeb",
    "replicaWeb",
    "trustDomain",
    "auditKeep",
    "limitRequests",
    "limitRefusals",
    "approveClusters",
    "caMargin",
    "signIn",
    "logFormat",
];

/// Fields of a record of the audit log, and those of the hub.
const RECORD: &[&str] = &[
    "number",
    "event.at",
    "event.actor.kind",
    "event.actor.name",
    "event.address",
    "event.via",
    "event.request",
    "event.trace",
    "event.verb",
    "event.kind",
    "event.name",
    "event.project",
    "event.left",
    "event.outcome",
    "event.reason",
    "event.revision",
    "event.unrecorded",
];
const HUB: &[&str] = &[
    "storeId",
    "term",
    "incarnation",
    "role",
    "mode",
    "doubts.raisedBy",
    "doubts.reason",
    "doubts.since",
];

/// Everything that is asked for.
fn parts() -> Vec<Part> {
    let api = |name: &str| format!("/api/v1/{name}");
    let mut databases = kinds::active_active();
    databases.push("status".to_owned());
    vec![
        part("settings", "/debug/settings", "", SETTINGS),
        part("hub", &api("hub"), "", HUB),
        part(
            "authority",
            &api("hub/ca"),
            "",
            &[
                "version",
                "stage",
                "since",
                "roots.fingerprint",
                "roots.endsAt",
                "serving",
                "members",
                "waitsFor",
            ],
        ),
        part("clusters", &api("clusters"), "items", &["status"]),
        part(
            "remoteclusters",
            &api("remoteclusters"),
            "items",
            &["spec", "status"],
        ),
        Part {
            fields: databases,
            ..part("databases", &api("activeactivedatabases"), "items", &[])
        },
        part(
            "freezes",
            &api("freezes"),
            "items",
            &["list", "cluster", "since", "reason", "deletions"],
        ),
        part(
            "lostclusters",
            &api("lostclusters"),
            "items",
            &["name", "declaredAt", "databases", "residue"],
        ),
        part("sessions", "/debug/sessions", "sessions", SESSION),
        part("tasks", "/debug/tasks", "tasks", TASK),
        part("log", "/debug/log", "", &["filter", "usual", "until"]),
        part(
            "audit",
            &format!("/api/v1/audit?limit={RECORDS}"),
            "items",
            RECORD,
        ),
    ]
}

impl Part {
    fn kept(&self, answer: &Value) -> Value {
        let fields = Fields::new(&self.fields);
        if self.list.is_empty() {
            return redact::object(answer, &fields);
        }
        let all = answer[self.list].as_array().into_iter().flatten();
        all.map(|one| redact::object(one, &fields)).collect()
    }
}

/// Writes the bundle; what could not be read stands in its manifest.
pub(crate) async fn run(hub: &Hub, file: Option<PathBuf>, now: Timestamp) -> Result<(), CliError> {
    let name = format!("meridian-hub-support-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let path = file.unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    // A hub that does not answer this answers nothing: there is no bundle then.
    hub.call(Method::GET, "hub", None).await?;
    let mut archive = Archive::create(&path, &name, now)?;
    let (mut files, mut missing) = (Vec::new(), Vec::new());
    for part in parts() {
        match hub.call_at(Method::GET, &part.path, None).await {
            Ok(answer) => {
                let text = format!("{:#}\n", part.kept(&answer));
                let name = format!("{}.json", part.file);
                archive.add(&name, text.as_bytes())?;
                files.push(name);
            }
            Err(error) => lacks(part.file, &error, &mut missing),
        }
    }
    let lines = hub.call_at(Method::GET, "/debug/log/lines", None).await;
    let lines = lines.map(|answer| output::log_lines(&answer));
    for (name, text) in [("log.txt", lines), ("metrics.txt", metrics(hub).await)] {
        match text {
            Ok(text) => {
                archive.add(name, scrub::text(&text).as_bytes())?;
                files.push(name.to_owned());
            }
            Err(error) => lacks(name, &error, &mut missing),
        }
    }
    let manifest = json!({
        "format": 1,
        "program": { "name": "meridian", "version": env!("CARGO_PKG_VERSION") },
        "madeAt": now.to_string(),
        "files": files,
        "missing": missing,
        "leftOut": "Of every answer listed fields are here; the names of the others stand in leftOut. Tokens, keys and certificates \
                    were not asked for. What looks like a secret in texts and in the log was replaced.",
    });
    archive.add("manifest.json", format!("{manifest:#}\n").as_bytes())?;
    archive.finish()?;
    output::print(&format!("{}\n", path.display()))
}

fn lacks(what: &str, error: &CliError, missing: &mut Vec<Value>) {
    let why = scrub::text(&error.to_string());
    output::note(&format!("{what}: not read: {why}"));
    missing.push(json!({ "what": what, "why": why }));
}

async fn metrics(hub: &Hub) -> Result<String, CliError> {
    let mut page = hub.download_at("/metrics", HeaderMap::new()).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = page.piece().await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > PAGE {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_answer_only_listed_fields_are_kept() {
        let canary = "CANARY-0f3c";
        for part in parts() {
            let mut one = json!({
                "metadata": { "name": "x", "annotations": { "note": canary } },
                "spec": { "globalConfigurations": { "password": canary }, "token": canary },
                "status": { "token": canary, "password": canary, "data": canary },
                "event": { "actor": { "id": canary } },
                "members": [{ "token": canary }],
            });
            for field in [
                "secret",
                "token",
                "join",
                "rootsPem",
                "key",
                "oidcClientSecret",
            ] {
                one[field] = json!(canary);
            }
            let answer = match part.list {
                "" => one,
                list => json!({ list: [one] }),
            };
            let kept = part.kept(&answer).to_string();
            assert!(!kept.contains(canary), "{}: {kept}", part.file);
        }
    }
}
