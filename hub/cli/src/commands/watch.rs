//! Prints what changes, for as long as nobody ends it.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::sleep;

use super::object_path;
use crate::{args::Format, client::Hub, error::CliError, kinds::Kind, output};

/// Shortest and longest pause before a watch that ended goes on.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Largest event that is read, bytes.
const LARGEST_EVENT: usize = 16 << 20;

/// Prints a kind, or one object of it, and what becomes of it.
pub(crate) async fn watch(
    hub: &Hub,
    kind: Kind,
    name: Option<&str>,
    format: Format,
) -> Result<(), CliError> {
    let path = name.map_or_else(|| kind.path().to_owned(), |name| object_path(kind, name));
    let path = format!("{path}?watch=true");
    let mut shown = Shown {
        kind,
        format,
        table: output::Growing::new(kind),
        first: Vec::new(),
        seen: None,
    };
    // The first time the person is told what is wrong; later what breaks off is taken up again.
    let mut stands = false;
    let mut pause = PAUSES.0;
    loop {
        let before = shown.seen.clone();
        let told = tell(hub, &path, &mut shown, &mut stands).await;
        match told {
            Ok(()) => {}
            Err(CliError::Problem(problem)) if problem.status == 410 => {
                output::note(&format!("{}; it begins anew", problem.detail));
                shown.seen = None;
            }
            Err(error) if stands && may_pass(&error) => {
                output::note(&format!("{error}; it goes on where it was"));
            }
            Err(error) => return Err(error),
        }
        pause = if shown.seen == before {
            (pause * 2).min(PAUSES.1)
        } else {
            PAUSES.0
        };
        sleep(pause).await;
    }
}

fn may_pass(error: &CliError) -> bool {
    if let CliError::Problem(problem) = error {
        return matches!(problem.status, 429 | 500..);
    }
    matches!(error, CliError::Unreachable { .. })
}

/// One connection, until it ends.
async fn tell(hub: &Hub, path: &str, shown: &mut Shown, stands: &mut bool) -> Result<(), CliError> {
    let from = shown.seen.as_ref();
    let from = from.map(|seen| format!("&resourceVersion={}", super::escaped(seen)));
    let mut told = hub
        .watch(&format!("{path}{}", from.unwrap_or_default()))
        .await?;
    *stands = true;
    let mut events = Events::default();
    while let Some(piece) = told.piece().await? {
        events
            .add(&piece)
            .map_err(|reason| not_understood(path, reason))?;
        while let Some(event) = events.next() {
            let event = event.map_err(|reason| not_understood(path, reason))?;
            shown.take(event)?;
        }
    }
    Ok(())
}

fn not_understood(path: &str, reason: String) -> CliError {
    CliError::Answer {
        request: format!("GET /api/v1/{path}"),
        reason,
    }
}

/// What has been shown.
struct Shown {
    kind: Kind,
    format: Format,
    table: output::Growing,
    /// What was there at the beginning, until all of it is known: it makes the columns as wide as they have to be.
    first: Vec<Value>,
    /// Everything up to here.
    seen: Option<String>,
}

impl Shown {
    fn take(&mut self, event: Event) -> Result<(), CliError> {
        let Event { id, told } = event;
        let (what, object) = (&told["type"], &told["object"]);
        match what.as_str() {
            Some("BOOKMARK") => self.print_first()?,
            Some("ADDED") if self.seen.is_none() && self.format == Format::Table => {
                self.first.push(object.clone());
            }
            _ => self.print(&told)?,
        }
        // Only when it is printed.
        self.seen = id.or(self.seen.take());
        Ok(())
    }

    fn print_first(&mut self) -> Result<(), CliError> {
        if self.seen.is_some() || self.format != Format::Table {
            return Ok(());
        }
        let first = std::mem::take(&mut self.first);
        if first.is_empty() {
            output::note(&format!("There is no such {} yet.", self.kind.noun()));
            return Ok(());
        }
        output::print(&self.table.lines(&first, Timestamp::now()))
    }

    fn print(&mut self, told: &Value) -> Result<(), CliError> {
        let object = &told["object"];
        match self.format {
            Format::Json => output::print(&format!("{told}\n")),
            Format::Yaml => output::print(&format!("---\n{}", output::yaml(told)?)),
            Format::Table if told["type"] == "DELETED" => {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                output::print(&format!("{}/{name} deleted\n", self.kind.noun()))
            }
            Format::Table => {
                let line = std::slice::from_ref(object);
                output::print(&self.table.lines(line, Timestamp::now()))
            }
        }
    }
}

/// A server-sent event.
#[derive(Debug, PartialEq)]
struct Event {
    id: Option<String>,
    told: Value,
}

/// Events out of the pieces in which they come.
#[derive(Debug, Default)]
struct Events(Vec<u8>);

impl Events {
    fn add(&mut self, piece: &Bytes) -> Result<(), String> {
        if self.0.len() + piece.len() > LARGEST_EVENT {
            return Err(format!("an event has more than {LARGEST_EVENT} bytes"));
        }
        self.0.extend_from_slice(piece);
        Ok(())
    }

    /// The next event that is whole. What only says that the hub is there is passed over.
    fn next(&mut self) -> Option<Result<Event, String>> {
        loop {
            let end = self.0.windows(2).position(|two| two == b"\n\n")?;
            let block: Vec<u8> = self.0.drain(..end + 2).collect();
            let block = String::from_utf8_lossy(&block);
            let field = |name: &str| {
                let mut lines = block.lines();
                lines.find_map(|line| line.strip_prefix(name).map(str::trim_start))
            };
            let Some(data) = field("data:") else {
                continue;
            };
            let told = serde_json::from_str(data).map_err(|error| error.to_string());
            let id = field("id:").map(str::to_owned);
            return Some(told.map(|told| Event { id, told }));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_whole_wherever_they_were_cut() {
        let text = ": nothing new\n\nid: 7\ndata: {\"type\":\"ADDED\",\"object\":\"ü\"}\n\ndata: {}\n\nid: 9\ndata: x";
        let expected = [
            Event {
                id: Some("7".to_owned()),
                told: json!({ "type": "ADDED", "object": "ü" }),
            },
            Event {
                id: None,
                told: json!({}),
            },
        ];
        for cut in 0..text.len() {
            let (one, other) = text.as_bytes().split_at(cut);
            let mut events = Events::default();
            let mut read = Vec::new();
            for piece in [one, other] {
                events.add(&Bytes::copy_from_slice(piece)).unwrap();
                while let Some(event) = events.next() {
                    read.push(event.unwrap());
                }
            }
            assert_eq!(read, expected, "cut at {cut}");
        }
    }

    #[test]
    fn an_event_without_an_end_is_not_read_for_ever() {
        let mut events = Events::default();
        let piece = Bytes::from(vec![b'x'; LARGEST_EVENT]);
        events.add(&piece).unwrap();
        assert!(events.add(&Bytes::from_static(b"x")).is_err());
    }
}
