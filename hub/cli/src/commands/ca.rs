//! The certificate authority: its roots, and the steps by which they are exchanged.

use http::Method;
use jiff::Timestamp;
use serde_json::json;

use crate::{
    args::{CaCommand, Format},
    client::Hub,
    error::CliError,
    output,
};

/// Does what was typed.
pub(crate) async fn run(hub: &Hub, command: CaCommand, now: Timestamp) -> Result<(), CliError> {
    let (word, step) = match command {
        CaCommand::Status { output } => {
            let answer = hub.call(Method::GET, "hub/ca", None).await?;
            return output::show(&answer, || output::ca(&answer, now), output);
        }
        CaCommand::Roots => {
            let answer = hub.call(Method::GET, "hub/ca", None).await?;
            return output::print(answer["rootsPem"].as_str().unwrap_or_default());
        }
        CaCommand::Rotate(step) => ("rotate", step),
        CaCommand::Advance(step) => ("advance", step),
        CaCommand::Abort(step) => ("abort", step),
    };
    let dry_run = if step.dry_run { "?dryRun=All" } else { "" };
    let path = format!("hub/ca/{word}{dry_run}");
    let body = json!({ "evenWithout": step.even_without });
    let answer = hub.call(Method::POST, &path, Some(&body)).await?;
    if step.dry_run {
        output::note("nothing was done; it would be so:");
    }
    output::show(&answer, || output::ca(&answer, now), Format::Table)
}
