//! The answer to commands that the filter lets nobody run.

use crate::callbacks::command::Invocation;
use crate::callbacks::filter::UNSAID;
use crate::error::Error;
use crate::policy::{Reason, Refusal};
use crate::server::reply::Reply;

/// `crdt.refused [command reason]`; without arguments it is about the command that the filter saw last.
pub(crate) fn refused(call: &Invocation<'_>) -> Result<Reply, Error> {
    let unsaid = UNSAID.get().and_then(|mut unsaid| unsaid.take());
    let (command, reason) = unsaid.filter(|_| call.len() < 3).unwrap_or_else(|| {
        let command = String::from_utf8_lossy(call.arg(1)).into_owned();
        (command, Reason::of_word(call.arg(2)))
    });
    let refusal = Refusal {
        command: &command,
        reason,
    };
    if call.flags.script() && matches!(reason, Reason::Fenced(_)) {
        return Err(Error::Coded {
            code: reason.code(),
            text: format!("{refusal}; what this script wrote before it stays"),
        });
    }
    Err(refusal.into())
}
