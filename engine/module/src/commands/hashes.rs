//! Hashes: each field is a register and counter of its own.

use meridian_crdt::{Decimal, Kind, Number, View, Write};

use super::unique;
use crate::callbacks::command::Invocation;
use crate::error::Error;
use crate::number;
use crate::server::reply::Reply;
use crate::write::Writer;

/// `HSET key field value [field value …]`.
pub(crate) fn hset(call: &Invocation<'_>) -> Result<Reply, Error> {
    set_fields(call, "hset").map(Reply::count)
}

/// `HMSET key field value [field value …]`.
pub(crate) fn hmset(call: &Invocation<'_>) -> Result<Reply, Error> {
    set_fields(call, "hmset").map(|_| Reply::Ok)
}

/// Sets the fields; how many of them are new.
fn set_fields(call: &Invocation<'_>, name: &str) -> Result<usize, Error> {
    if !call.len().is_multiple_of(2) {
        return Err(Error::Arity { name: name.into() });
    }
    let mut writer = Writer::open(call)?;
    let key = call.arg(1);
    writer.require(key, Kind::Hash)?;
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (field, value) in call.rest(2).step_by(2).zip(call.rest(3).step_by(2)) {
        match fields.iter_mut().find(|(present, _)| present == field) {
            Some((_, last)) => *last = value.to_vec(),
            None => fields.push((field.to_vec(), value.to_vec())),
        }
    }
    let names: Vec<&[u8]> = fields.iter().map(|(field, _)| field.as_slice()).collect();
    let new = writer
        .view
        .has_fields(key, &names)?
        .iter()
        .filter(|present| !**present)
        .count();
    writer.write(Write::HashSet {
        key: key.to_vec(),
        fields,
    })?;
    Ok(new)
}

/// `HSETNX key field value`.
pub(crate) fn hsetnx(call: &Invocation<'_>) -> Result<Reply, Error> {
    let mut writer = Writer::open(call)?;
    let key = call.arg(1);
    writer.require(key, Kind::Hash)?;
    let absent = writer.view.hash_get(key, call.arg(2))?.is_none();
    if absent {
        let fields = vec![(call.arg(2).to_vec(), call.arg(3).to_vec())];
        writer.write(Write::HashSet {
            key: key.to_vec(),
            fields,
        })?;
    }
    Ok(Reply::flag(absent))
}

/// `HDEL key field [field …]`.
pub(crate) fn hdel(call: &Invocation<'_>) -> Result<Reply, Error> {
    let mut writer = Writer::open(call)?;
    let key = call.arg(1);
    writer.require(key, Kind::Hash)?;
    let names = unique(call.rest(2));
    let present = writer.view.has_fields(key, &names)?;
    let present = names.iter().zip(present).filter(|(_, present)| *present);
    let fields: Vec<_> = present.map(|(field, _)| field.to_vec()).collect();
    let count = fields.len();
    if count > 0 {
        writer.write(Write::HashRemove {
            key: key.to_vec(),
            fields,
        })?;
    }
    Ok(Reply::count(count))
}

/// `HINCRBY key field increment`.
pub(crate) fn hincrby(call: &Invocation<'_>) -> Result<Reply, Error> {
    let delta = number::integer(call.arg(3)).ok_or(Error::NotInteger)?;
    let sum = increment(call, Decimal::from(delta), Number::Integer)?;
    number::integer(&sum)
        .map(Reply::Integer)
        .ok_or(Error::HashNotInteger)
}

/// `HINCRBYFLOAT key field increment`.
pub(crate) fn hincrbyfloat(call: &Invocation<'_>) -> Result<Reply, Error> {
    let delta = Decimal::parse(call.arg(3)).ok_or(Error::NotFloat)?;
    increment(call, delta, Number::Float).map(Reply::Bulk)
}

/// Adds to the number in the field; the text of the sum.
fn increment(call: &Invocation<'_>, delta: Decimal, number: Number) -> Result<Vec<u8>, Error> {
    let mut writer = Writer::open(call)?;
    let (key, field) = (call.arg(1), call.arg(2));
    writer.write(Write::HashIncrement {
        key: key.to_vec(),
        field: field.to_vec(),
        delta,
        number,
    })?;
    Ok(writer.view.hash_get(key, field)?.unwrap_or_default())
}
