//! The inside of the hub: sessions, tasks and its log.

use http::Method;
use jiff::Timestamp;
use serde_json::json;

use crate::{args::DebugCommand, client::Hub, error::CliError, output};

/// Does what was typed.
pub(crate) async fn run(hub: &Hub, command: DebugCommand, now: Timestamp) -> Result<(), CliError> {
    match command {
        DebugCommand::Sessions { output } => {
            let answer = hub.call_at(Method::GET, "/debug/sessions", None).await?;
            output::show(&answer, || output::sessions(&answer, now), output)
        }
        DebugCommand::Tasks { output } => {
            let answer = hub.call_at(Method::GET, "/debug/tasks", None).await?;
            output::show(&answer, || output::tasks(&answer, now), output)
        }
        DebugCommand::Log {
            filter,
            time,
            reset,
            output,
        } => {
            let change = json!({ "filter": filter, "seconds": time.map(|time| time.as_secs()) });
            let change = (filter.is_some() || reset).then_some(change);
            let method = if change.is_some() {
                Method::PUT
            } else {
                Method::GET
            };
            let answer = hub.call_at(method, "/debug/log", change.as_ref()).await?;
            output::show(&answer, || output::log(&answer, now), output)
        }
        DebugCommand::Lines => {
            let answer = hub.call_at(Method::GET, "/debug/log/lines", None).await?;
            output::print(&output::log_lines(&answer))
        }
    }
}
