//! What the node asks of its shard, and what the append-only file and the primary replay.

mod config;
mod exchange;
mod fence;

pub(super) use config::config;
pub(super) use exchange::{apply, clock, digest, effect, pull, report};
pub(super) use fence::fence;

use crate::callbacks::command::Invocation;
use crate::callbacks::filter::FILTER;
use crate::error::Error;
use crate::server::client::Client;

/// Only the internal user on the Unix socket, the append-only file and the primary's link may run the present command.
fn admit(call: &Invocation<'_>) -> Result<(), Error> {
    if call.flags.replayed() {
        return Ok(());
    }
    let filter = FILTER.get().ok_or(Error::Reentered)?;
    let client = Client::by_id(call.ctx.client_id());
    let operator = client
        .zip(filter.as_ref())
        .is_some_and(|(client, filter)| filter.is_operator(call.ctx, client));
    if operator {
        return Ok(());
    }
    Err(Error::Internal {
        command: String::from_utf8_lossy(call.arg(0)).to_ascii_lowercase(),
    })
}

/// An argument that is a number.
fn number<T: std::str::FromStr>(
    command: &'static str,
    call: &Invocation<'_>,
    place: usize,
    what: &'static str,
) -> Result<T, Error> {
    let text = String::from_utf8_lossy(call.arg(place)).into_owned();
    text.parse().map_err(|_| Error::Argument {
        command,
        place,
        what,
        found: format!("'{text}' is not such a number"),
    })
}
