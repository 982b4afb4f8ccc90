//! The audit log of the hub: shown, exported, verified.

use std::{fs, io::Write as _, path::Path};

use http::{HeaderMap, Method};
use jiff::Timestamp;
use meridian_api::audit::{self, Place, Verified};
use serde_json::{Value, json};

use super::backup::{beside, keep, unwritten};
use crate::{
    args::{AuditCommand, Format},
    client::Hub,
    error::CliError,
    output,
};

/// Records that are asked for at once.
const AT_ONCE: u32 = 1000;
/// What is verified where no file is named.
const THE_HUBS: &str = "the hub's audit log";

/// Does what was typed.
pub(crate) async fn run(hub: &Hub, command: AuditCommand, now: Timestamp) -> Result<(), CliError> {
    match command {
        AuditCommand::List { limit, output } => list(hub, limit, output, now).await,
        AuditCommand::Export { file, force } => export(hub, &file, force).await,
        AuditCommand::Verify { file, noted } => match file {
            Some(file) => verify_file(&file, &noted),
            None => output::print(&told(&checked(&fetch(hub).await?, &noted, THE_HUBS)?)),
        },
    }
}

/// The newest records.
async fn list(hub: &Hub, limit: u32, format: Format, now: Timestamp) -> Result<(), CliError> {
    let mut items = Vec::new();
    let mut next = String::new();
    loop {
        let left = limit.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX));
        if left == 0 {
            break;
        }
        let path = format!("audit?limit={}{next}", left.min(AT_ONCE));
        let mut answer = hub.call(Method::GET, &path, None).await?;
        if let Value::Array(part) = answer["items"].take() {
            items.extend(part);
        }
        let Some(token) = answer["metadata"]["continue"].as_str() else {
            break;
        };
        next = format!("&continue={token}");
    }
    let list = json!({ "kind": "AuditRecordList", "items": items });
    output::show(&list, || output::audit(&items, now), format)
}

/// Writes the whole log into a file, once it is verified.
async fn export(hub: &Hub, path: &Path, force: bool) -> Result<(), CliError> {
    let mut file = beside(path, force)?;
    let log = fetch(hub).await?;
    let verified = checked(&log, &[], THE_HUBS)?;
    file.write_all(log.as_bytes())
        .map_err(|error| unwritten(path, &error))?;
    keep(file, path, force)?;
    let told = told(&verified);
    output::print(&format!("{told}exported into {}\n", path.display()))
}

/// Verifies an exported file.
pub(crate) fn verify_file(path: &Path, noted: &[Place]) -> Result<(), CliError> {
    let log = fs::read_to_string(path).map_err(|source| CliError::File {
        path: path.to_owned(),
        source,
    })?;
    let place = path.display().to_string();
    output::print(&told(&checked(&log, noted, &place)?))
}

async fn fetch(hub: &Hub) -> Result<String, CliError> {
    let mut answer = hub.download("audit/export", HeaderMap::new()).await?;
    let mut log = Vec::new();
    while let Some(piece) = answer.piece().await? {
        log.extend_from_slice(&piece);
    }
    String::from_utf8(log).map_err(|error| CliError::Answer {
        request: "GET /api/v1/audit/export".to_owned(),
        reason: error.to_string(),
    })
}

fn checked(log: &str, noted: &[Place], place: &str) -> Result<Verified, CliError> {
    let verified = audit::verify(log.lines(), noted);
    verified.map_err(|broken| CliError::Broken(format!("{place}: {broken}")))
}

fn told(verified: &Verified) -> String {
    let Verified { after, head } = verified;
    let records = match head.number - after.number {
        0 => "no records".to_owned(),
        1 => format!("1 record, {}", head.number),
        count => format!("{count} records, {} to {}", after.number + 1, head.number),
    };
    format!(
        "verified: {records}; nothing was changed, removed, inserted or moved\nnote this place: {head}\n"
    )
}
