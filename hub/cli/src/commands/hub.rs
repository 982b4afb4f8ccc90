//! The hub itself: whether it decides, and the decision that lets it go on.

use std::io::{self, BufRead, IsTerminal};

use http::Method;
use jiff::Timestamp;
use serde_json::Value;

use super::escaped;
use crate::{args::Format, client::Hub, error::CliError, output};

/// What a person types to let a hub go on.
const WORD: &str = "adopt";

/// Shows what the hub is and what it doubts.
pub(crate) async fn status(hub: &Hub, format: Format, now: Timestamp) -> Result<(), CliError> {
    let answer = hub.call(Method::GET, "hub", None).await?;
    output::show(&answer, || output::hub(&answer, now), format)
}

/// Lets a hub that observes go on with the store that it has.
pub(crate) async fn adopt(hub: &Hub, yes: bool, now: Timestamp) -> Result<(), CliError> {
    let before = hub.call(Method::GET, "hub", None).await?;
    if !yes {
        confirm(&before, now)?;
    }
    let after = hub.call(Method::POST, "hub/adopt", None).await?;
    output::print(&output::hub(&after, now))
}

/// Shows the deletions that wait for a person.
pub(crate) async fn freezes(hub: &Hub, format: Format, now: Timestamp) -> Result<(), CliError> {
    let answer = hub.call(Method::GET, "freezes", None).await?;
    output::show(&answer, || output::freezes(&answer, now), format)
}

/// Lets the deletions of exactly this list go on.
pub(crate) async fn release(
    hub: &Hub,
    list: &str,
    dry_run: bool,
    format: Format,
) -> Result<(), CliError> {
    let only_tried = if dry_run { "?dryRun=All" } else { "" };
    let path = format!("freezes/{}/release{only_tried}", escaped(list));
    let answer = hub.call(Method::POST, &path, None).await?;
    output::show(&answer, || output::released(&answer, dry_run), format)
}

/// Shows what would be accepted, and asks for a word that is not given by habit.
fn confirm(hub: &Value, now: Timestamp) -> Result<(), CliError> {
    let meaning = "the hub's present store becomes the truth for every member: what members obeyed beyond it is decided anew";
    if !io::stdin().is_terminal() {
        return Err(CliError::Usage(format!(
            "adopting: {meaning}; give --yes where nobody can be asked"
        )));
    }
    output::note(&format!(
        "{}\nAdopting: {meaning}. Type {WORD:?} to go on:",
        output::hub(hub, now)
    ));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() == WORD {
        Ok(())
    } else {
        Err(CliError::NotConfirmed(format!(
            "found {:?}, expected {WORD:?}",
            answer.trim()
        )))
    }
}
