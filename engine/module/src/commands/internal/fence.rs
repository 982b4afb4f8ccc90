//! `CRDT.FENCE`: the permissions of the node.

use super::admit;
use crate::callbacks::command::Invocation;
use crate::error::Error;
use crate::fence::{Deadline, Epoch, PermitError};
use crate::gate::{self, GATE, Gate};
use crate::number;
use crate::server;
use crate::server::reply::Reply;

/// `CRDT.FENCE PERMIT epoch deadline|forever`, `CRDT.FENCE REVOKE epoch` and `CRDT.FENCE STATUS`. A deadline is in
/// milliseconds of CLOCK_BOOTTIME.
pub(crate) fn fence(call: &Invocation<'_>) -> Result<Reply, Error> {
    admit(call)?;
    let mut held = GATE.get().ok_or(Error::Reentered)?;
    let gate = held.as_mut().ok_or(Error::NoFence)?;
    match (call.arg(1).to_ascii_uppercase().as_slice(), call.len()) {
        (b"PERMIT", 4) => {
            let (epoch, deadline) = (epoch(call)?, deadline(call)?);
            gate.permit(call.ctx, epoch, deadline).map_err(|error| {
                let code = match error {
                    PermitError::Stale { .. } | PermitError::Revoked { .. } => "STALE",
                    PermitError::Zero | PermitError::Replica => "ERR",
                };
                let text = error.to_string();
                Error::Coded { code, text }
            })?;
            Ok(Reply::Ok)
        }
        (b"REVOKE", 3) => {
            let ended = gate.revoke(call.ctx, epoch(call)?);
            drop(held);
            if ended {
                gate::forsake(call.ctx);
            }
            Ok(Reply::Ok)
        }
        (b"STATUS", 2) => Ok(status(gate)),
        _ => Err(Error::Syntax),
    }
}

/// What is known of permissions, in numbers: deadline -1 stands for no end, 0 for no permission.
fn status(gate: &Gate) -> Reply {
    let fence = &gate.fence;
    let now = server::boot_ms();
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let deadline = match fence.deadline() {
        None => 0,
        Some(Deadline::Forever) => -1,
        Some(Deadline::At(end)) => number(end),
    };
    Reply::Map(vec![
        ("epoch", number(fence.epoch())),
        ("revoked", number(fence.revoked())),
        ("deadline", deadline),
        ("now", number(now)),
        ("writable", i64::from(fence.writable(now))),
        ("ever", i64::from(fence.ever())),
    ])
}

fn epoch(call: &Invocation<'_>) -> Result<Epoch, Error> {
    let found = number::integer(call.arg(2)).and_then(|epoch| Epoch::try_from(epoch).ok());
    found.ok_or_else(|| wrong(call, 2, "epoch", "a number from 1 to 2^63 - 1"))
}

fn deadline(call: &Invocation<'_>) -> Result<Deadline, Error> {
    if call.arg(3).eq_ignore_ascii_case(b"forever") {
        return Ok(Deadline::Forever);
    }
    let found = number::integer(call.arg(3)).and_then(|end| u64::try_from(end).ok());
    found.map(Deadline::At).ok_or_else(|| {
        let expected = "milliseconds since the machine was booted, or forever";
        wrong(call, 3, "deadline", expected)
    })
}

fn wrong(call: &Invocation<'_>, place: usize, what: &'static str, expected: &str) -> Error {
    let found = String::from_utf8_lossy(call.arg(place)).into_owned();
    Error::Argument {
        command: "crdt.fence",
        place,
        what,
        found: format!("'{found}', expected {expected}"),
    }
}
