//! Effects and clocks on their way: from peers, to peers, from the file, from the primary.

use meridian_crdt::{
    ApplyError, Batch, Clock, DecodeError, Effect, Incarnation, InstanceId, Origin, PullError,
    Replica, Write,
};

use super::{admit, number};
use crate::callbacks;
use crate::callbacks::command::Invocation;
use crate::commands::APPLY;
use crate::digest;
use crate::error::Error;
use crate::server;
use crate::server::reply::Reply;
use crate::shard::Shard;
use crate::view::NativeView;
use crate::write::{Writer, hold};

/// The peer asked for effects that the backlog no longer has.
const BACKLOG_GONE: &str = "BACKLOGGONE";
/// The source's clock runs ahead.
const FUTURE: &str = "CRDTFUTURE";
/// Bytes that this release cannot read.
const FORMAT: &str = "CRDTFORMAT";

/// `crdt.e effect`: one local write of this server's past, or of its primary.
pub(crate) fn effect(call: &Invocation<'_>) -> Result<Reply, Error> {
    if !call.flags.replayed() {
        return Err(Error::ReplayOnly {
            command: "crdt.e".into(),
        });
    }
    replay(call, Ok(vec![call.arg(1)]))
}

/// `CRDT.APPLY source batch`: what another region sent; answers how many effects were new.
pub(crate) fn apply(call: &Invocation<'_>) -> Result<Reply, Error> {
    admit(call)?;
    let source = InstanceId(number("crdt.apply", call, 1, "source instance id")?);
    let batch = Batch::decode(call.arg(2)).map_err(|error| format(&error));
    if call.flags.replayed() {
        return replay(call, batch.map(|batch| batch.effects));
    }
    let batch = batch?;
    if call.flags.replica() {
        return Err(Error::Replica);
    }
    let mut shard = hold()?;
    shard.enter(None);
    let replica = configured(&mut shard)?;
    let mut view = NativeView::new(call.ctx);
    match replica.apply_batch(&mut view, server::now_ms(), source, &batch) {
        Ok(applied) => {
            if applied.done > 0 {
                call.ctx.replicate_verbatim();
            }
            Ok(Reply::Integer(applied.done.cast_signed()))
        }
        Err(failed) => {
            let included = usize::try_from(failed.applied.done + failed.applied.duplicates)
                .unwrap_or(usize::MAX);
            if failed.applied.done > 0 {
                let prefix = Batch {
                    effects: batch.effects.into_iter().take(included).collect(),
                    more: false,
                };
                if !call.ctx.replicate_two(APPLY, call.arg(1), &prefix.encode()) {
                    callbacks::stop_writes();
                }
            }
            let text = format!("source instance {source}: {failed}");
            Err(match failed.error {
                ApplyError::Future { .. } => Error::Coded { code: FUTURE, text },
                ApplyError::Decode(_) => Error::Coded { code: FORMAT, text },
                _ => Error::Engine(text),
            })
        }
    }
}

/// Applies effects of the append-only file or of the primary. The server does not ask whether that went well, so a failure
/// stops all writes: what follows would build on other values than the file or the primary has.
fn replay<B: AsRef<[u8]>>(
    call: &Invocation<'_>,
    effects: Result<Vec<B>, Error>,
) -> Result<Reply, Error> {
    let outcome = effects.and_then(|effects| {
        let mut shard = hold()?;
        let replica = configured(&mut shard)?;
        for bytes in &effects {
            let effect = Effect::decode(bytes.as_ref()).map_err(engine)?;
            replica
                .replay(&mut NativeView::new(call.ctx), &effect)
                .map_err(engine)?;
        }
        Ok(Reply::count(effects.len()))
    });
    match outcome {
        Ok(reply) => {
            call.ctx.replicate_verbatim();
            Ok(reply)
        }
        Err(error) => {
            callbacks::stop_writes();
            call.ctx.warn(&format!(
                "an effect of the append-only file or of the primary could not be applied: {error}; all writes are refused \
                 until this server restarts or is replaced"
            ));
            Err(error)
        }
    }
}

/// `CRDT.PULL clock requester bytes [incarnation]`: effects that the requester's clock lacks, and whether there are more.
///
/// The requester lacks nothing of the life it is living. If it names that life, writes that it made after it sent its clock
/// are not sent back to it.
pub(crate) fn pull(call: &Invocation<'_>) -> Result<Reply, Error> {
    admit(call)?;
    let mut theirs = clock_in(call.arg(1))?;
    let requester = InstanceId(number("crdt.pull", call, 2, "requester instance id")?);
    let bytes: usize = number("crdt.pull", call, 3, "most bytes")?;
    match call.len() {
        4 => {}
        5 => theirs.raise(life(call, 4, requester)?, u64::MAX),
        _ => return Err(Error::Syntax),
    }
    let mut shard = hold()?;
    shard.enter(None);
    let pulled = configured(&mut shard)?.pull(requester, &theirs, bytes);
    let batch = pulled.map_err(|error| match error {
        PullError::BacklogGone { .. } => Error::Coded {
            code: BACKLOG_GONE,
            text: error.to_string(),
        },
        PullError::NonMember(_) => engine(error),
    })?;
    let blob = if batch.is_empty() {
        Vec::new()
    } else {
        batch.encode()
    };
    Ok(Reply::Array(vec![
        Reply::Bulk(blob),
        Reply::flag(batch.more),
    ]))
}

/// `CRDT.REPORT clock`: this region cannot lose what the clock names. An effect like a write. An empty argument promises
/// nothing: a write for `WAITAOF` to wait for, before anything can be promised.
pub(crate) fn report(call: &Invocation<'_>) -> Result<Reply, Error> {
    admit(call)?;
    let clock = clock_in(call.arg(1))?;
    Writer::open(call)?.write(Write::Report { clock })?;
    Ok(Reply::Ok)
}

/// `CRDT.CLOCK`: what this shard has received and written, for machines and as JSON.
pub(crate) fn clock(call: &Invocation<'_>) -> Result<Reply, Error> {
    admit(call)?;
    let mut shard = hold()?;
    let clock = configured(&mut shard)?.clock();
    Ok(Reply::Array(vec![
        Reply::Bulk(clock.encode()),
        Reply::Bulk(clock.to_string().into_bytes()),
    ]))
}

/// `CRDT.DIGEST`: 64 hexadecimal digits, the first half over all values, the second over the clock.
pub(crate) fn digest(call: &Invocation<'_>) -> Result<Reply, Error> {
    admit(call)?;
    let shard = hold()?;
    let clock = shard
        .replica
        .as_ref()
        .map(|replica| replica.clock().clone())
        .unwrap_or_default();
    Ok(Reply::Bulk(
        digest::of(&mut NativeView::new(call.ctx), &clock)?.into_bytes(),
    ))
}

/// A life of `instance`, its incarnation written as in `INFO crdt`.
fn life(call: &Invocation<'_>, place: usize, instance: InstanceId) -> Result<Origin, Error> {
    let text = String::from_utf8_lossy(call.arg(place)).into_owned();
    let bits = u64::from_str_radix(&text, 16).map_err(|_| Error::Argument {
        command: "crdt.pull",
        place,
        what: "incarnation",
        found: format!("'{text}' is not a hexadecimal number of 64 bits"),
    })?;
    Ok(Origin {
        instance,
        incarnation: Incarnation(bits),
    })
}

fn configured(shard: &mut Shard) -> Result<&mut Replica, Error> {
    shard.replica.as_mut().ok_or(Error::NotConfigured)
}

/// A clock as clients send it; no bytes stand for the clock of a shard that has seen nothing.
fn clock_in(bytes: &[u8]) -> Result<Clock, Error> {
    if bytes.is_empty() {
        return Ok(Clock::new());
    }
    Clock::decode(bytes).map_err(|error| format(&error))
}

fn format(error: &DecodeError) -> Error {
    Error::Coded {
        code: FORMAT,
        text: error.to_string(),
    }
}

fn engine(error: impl ToString) -> Error {
    Error::Engine(error.to_string())
}
