//! Strings: one register and counter per key.

use meridian_crdt::{Decimal, Kind, Number, View, Write};

use crate::callbacks::command::Invocation;
use crate::error::Error;
use crate::number;
use crate::server::reply::Reply;
use crate::write::Writer;

/// Longest string that the server takes, bytes (its default of `proto-max-bulk-len`).
const LONGEST: usize = 512 << 20;

/// The options of SET.
#[derive(Debug, Default, PartialEq)]
struct SetOptions {
    only_if_absent: bool,
    only_if_present: bool,
    give_old: bool,
}

impl SetOptions {
    fn parse<'a>(options: impl Iterator<Item = &'a [u8]>) -> Result<Self, Error> {
        let mut parsed = Self::default();
        for option in options {
            match option.to_ascii_uppercase().as_slice() {
                b"NX" => parsed.only_if_absent = true,
                b"XX" => parsed.only_if_present = true,
                b"GET" => parsed.give_old = true,
                word @ (b"EX" | b"PX" | b"EXAT" | b"PXAT" | b"KEEPTTL" | b"IFEQ") => {
                    let option = String::from_utf8_lossy(word).into_owned();
                    return Err(Error::Option {
                        command: "set",
                        option,
                    });
                }
                _ => return Err(Error::Syntax),
            }
        }
        if parsed.only_if_absent && parsed.only_if_present {
            Err(Error::Syntax)
        } else {
            Ok(parsed)
        }
    }
}

/// `SET key value [NX|XX] [GET]`.
pub(crate) fn set(call: &Invocation<'_>) -> Result<Reply, Error> {
    let options = SetOptions::parse(call.rest(3))?;
    let mut writer = Writer::open(call)?;
    let key = call.arg(1);
    if options == SetOptions::default() {
        writer.write(set_to(key, call.arg(2)))?;
        return Ok(Reply::Ok);
    }
    let old = if options.give_old {
        writer.string(key)?
    } else {
        None
    };
    let present = writer.view.exists(key);
    let wanted = !(options.only_if_absent && present || options.only_if_present && !present);
    if wanted {
        writer.write(set_to(key, call.arg(2)))?;
    }
    Ok(match (options.give_old, wanted) {
        (true, _) => Reply::optional(old),
        (false, true) => Reply::Ok,
        (false, false) => Reply::Null,
    })
}

/// `SETNX key value`.
pub(crate) fn setnx(call: &Invocation<'_>) -> Result<Reply, Error> {
    let mut writer = Writer::open(call)?;
    let absent = !writer.view.exists(call.arg(1));
    if absent {
        writer.write(set_to(call.arg(1), call.arg(2)))?;
    }
    Ok(Reply::flag(absent))
}

/// `GETSET key value`.
pub(crate) fn getset(call: &Invocation<'_>) -> Result<Reply, Error> {
    let mut writer = Writer::open(call)?;
    let old = writer.string(call.arg(1))?;
    writer.write(set_to(call.arg(1), call.arg(2)))?;
    Ok(Reply::optional(old))
}

/// `GETDEL key`.
pub(crate) fn getdel(call: &Invocation<'_>) -> Result<Reply, Error> {
    let mut writer = Writer::open(call)?;
    let old = writer.string(call.arg(1))?;
    if old.is_some() {
        writer.write(Write::Delete {
            keys: vec![call.arg(1).to_vec()],
        })?;
    }
    Ok(Reply::optional(old))
}

/// `MSET key value [key value …]`.
pub(crate) fn mset(call: &Invocation<'_>) -> Result<Reply, Error> {
    if call.len().is_multiple_of(2) {
        return Err(Error::Arity {
            name: "mset".into(),
        });
    }
    let mut writer = Writer::open(call)?;
    writer.one_slot(call.rest(1).step_by(2))?;
    let pairs = call.rest(1).step_by(2).zip(call.rest(2).step_by(2));
    writer.write_all(pairs.map(|(key, value)| set_to(key, value)))?;
    Ok(Reply::Ok)
}

/// `APPEND key value`: the whole result is what the other regions get.
pub(crate) fn append(call: &Invocation<'_>) -> Result<Reply, Error> {
    let mut writer = Writer::open(call)?;
    let mut value = writer.string(call.arg(1))?.unwrap_or_default();
    if value.len() + call.arg(2).len() > LONGEST {
        return Err(Error::TooLong);
    }
    value.extend_from_slice(call.arg(2));
    writer.write(set_to(call.arg(1), &value))?;
    Ok(Reply::count(value.len()))
}

/// `SETRANGE key offset value`: the whole result is what the other regions get.
pub(crate) fn setrange(call: &Invocation<'_>) -> Result<Reply, Error> {
    let offset = number::integer(call.arg(2)).ok_or(Error::NotInteger)?;
    let offset = usize::try_from(offset).map_err(|_| Error::Offset)?;
    let mut writer = Writer::open(call)?;
    let mut value = writer.string(call.arg(1))?.unwrap_or_default();
    let part = call.arg(3);
    if part.is_empty() {
        return Ok(Reply::count(value.len()));
    }
    let end = offset
        .checked_add(part.len())
        .filter(|end| *end <= LONGEST)
        .ok_or(Error::TooLong)?;
    if value.len() < end {
        value.resize(end, 0);
    }
    value[offset..end].copy_from_slice(part);
    writer.write(set_to(call.arg(1), &value))?;
    Ok(Reply::count(value.len()))
}

/// `INCR key`.
pub(crate) fn incr(call: &Invocation<'_>) -> Result<Reply, Error> {
    add(call, 1)
}

/// `DECR key`.
pub(crate) fn decr(call: &Invocation<'_>) -> Result<Reply, Error> {
    add(call, -1)
}

/// `INCRBY key increment`.
pub(crate) fn incrby(call: &Invocation<'_>) -> Result<Reply, Error> {
    add(call, number::integer(call.arg(2)).ok_or(Error::NotInteger)?)
}

/// `DECRBY key decrement`.
pub(crate) fn decrby(call: &Invocation<'_>) -> Result<Reply, Error> {
    let decrement = number::integer(call.arg(2)).ok_or(Error::NotInteger)?;
    add(
        call,
        decrement.checked_neg().ok_or(Error::DecrementOverflow)?,
    )
}

fn add(call: &Invocation<'_>, delta: i64) -> Result<Reply, Error> {
    let sum = increment(call, Decimal::from(delta), Number::Integer)?;
    number::integer(&sum)
        .map(Reply::Integer)
        .ok_or(Error::NotInteger)
}

/// `INCRBYFLOAT key increment`.
pub(crate) fn incrbyfloat(call: &Invocation<'_>) -> Result<Reply, Error> {
    let Some(delta) = Decimal::parse(call.arg(2)) else {
        // The server looks at the key's type before it reads the number.
        Writer::open(call)?.require(call.arg(1), Kind::String)?;
        return Err(Error::NotFloat);
    };
    increment(call, delta, Number::Float).map(Reply::Bulk)
}

/// Adds to the number at the first argument; the text of the sum.
fn increment(call: &Invocation<'_>, delta: Decimal, number: Number) -> Result<Vec<u8>, Error> {
    let mut writer = Writer::open(call)?;
    let key = call.arg(1);
    writer.write(Write::Increment {
        key: key.to_vec(),
        delta,
        number,
    })?;
    Ok(writer.view.string(key)?.unwrap_or_default())
}

fn set_to(key: &[u8], value: &[u8]) -> Write {
    Write::SetString {
        key: key.to_vec(),
        value: value.to_vec(),
    }
}
