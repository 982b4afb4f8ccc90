//! Sets: an element stays if anybody added it without having seen its removal.

use meridian_crdt::{Kind, Write};

use super::unique;
use crate::callbacks::command::Invocation;
use crate::error::Error;
use crate::number;
use crate::server::reply::Reply;
use crate::write::Writer;

/// `SADD key member [member …]`. Elements that are there already are written too: it protects them against removals that
/// other regions make meanwhile.
pub(crate) fn sadd(call: &Invocation<'_>) -> Result<Reply, Error> {
    let mut writer = Writer::open(call)?;
    let elements = unique(call.rest(2))
        .into_iter()
        .map(<[u8]>::to_vec)
        .collect();
    writer.write(Write::SetAdd {
        key: call.arg(1).to_vec(),
        elements,
    })?;
    Ok(Reply::count(writer.view.gained))
}

/// `SREM key member [member …]`.
pub(crate) fn srem(call: &Invocation<'_>) -> Result<Reply, Error> {
    let mut writer = Writer::open(call)?;
    let key = call.arg(1);
    writer.require(key, Kind::Set)?;
    let elements = unique(call.rest(2));
    let present = writer.view.members(key, &elements)?;
    let gone: Vec<_> = elements
        .iter()
        .zip(present)
        .filter(|(_, is)| *is)
        .map(|(element, _)| element.to_vec())
        .collect();
    let count = gone.len();
    remove(&mut writer, key, gone)?;
    Ok(Reply::count(count))
}

/// `SPOP key [count]`.
pub(crate) fn spop(call: &Invocation<'_>) -> Result<Reply, Error> {
    let key = call.arg(1);
    if call.len() > 3 {
        return Err(Error::Syntax);
    }
    if call.len() == 2 {
        let mut writer = Writer::open(call)?;
        writer.require(key, Kind::Set)?;
        let popped = writer.view.random_members(key, 1)?;
        remove(&mut writer, key, popped.clone())?;
        return Ok(Reply::optional(popped.into_iter().next()));
    }
    let count = number::integer(call.arg(2))
        .filter(|count| *count >= 0)
        .ok_or(Error::NotPositive)?;
    let mut writer = Writer::open(call)?;
    writer.require(key, Kind::Set)?;
    let popped = writer.view.random_members(key, count)?;
    remove(&mut writer, key, popped.clone())?;
    Ok(Reply::Set(popped))
}

/// `SMOVE source destination member`.
pub(crate) fn smove(call: &Invocation<'_>) -> Result<Reply, Error> {
    let mut writer = Writer::open(call)?;
    let (source, destination, element) = (call.arg(1), call.arg(2), call.arg(3));
    writer.one_slot([source, destination].into_iter())?;
    if !writer.view.exists(source) {
        return Ok(Reply::flag(false));
    }
    writer.require(source, Kind::Set)?;
    writer.require(destination, Kind::Set)?;
    let present = writer.view.members(source, &[element])?.contains(&true);
    if present && source != destination {
        let elements = vec![element.to_vec()];
        let gone = Write::SetRemove {
            key: source.to_vec(),
            elements: elements.clone(),
        };
        let come = Write::SetAdd {
            key: destination.to_vec(),
            elements,
        };
        writer.write_all([gone, come].into_iter())?;
    }
    Ok(Reply::flag(present))
}

fn remove(writer: &mut Writer<'_>, key: &[u8], elements: Vec<Vec<u8>>) -> Result<(), Error> {
    if elements.is_empty() {
        return Ok(());
    }
    writer.write(Write::SetRemove {
        key: key.to_vec(),
        elements,
    })
}
