//! The answer to commands that the filter lets nobody run.

use crate::callbacks::command::Invocation;
use crate::error::Error;
use crate::policy::{Reason, Refusal};
use crate::server::reply::Reply;

/// `crdt.refused command reason`.
pub(crate) fn refused(call: &Invocation<'_>) -> Result<Reply, Error> {
    let command = String::from_utf8_lossy(call.arg(1));
    let reason = Reason::of_word(call.arg(2));
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
