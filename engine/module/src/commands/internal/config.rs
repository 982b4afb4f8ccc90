//! `CRDT.CONFIG`: who takes part.

use std::collections::BTreeSet;

use meridian_crdt::{Config, InstanceId, Limits, Replica};

use super::{admit, number};
use crate::callbacks::command::Invocation;
use crate::error::Error;
use crate::server::reply::Reply;
use crate::write::hold;

/// `CRDT.CONFIG SET instance version members [GHOSTS ids]` and `CRDT.CONFIG GET`. Lists are separated by commas.
pub(crate) fn config(call: &Invocation<'_>) -> Result<Reply, Error> {
    admit(call)?;
    match call.arg(1).to_ascii_uppercase().as_slice() {
        b"SET" => set(call),
        b"GET" if call.len() == 2 => get(),
        _ => Err(Error::Syntax),
    }
}

fn set(call: &Invocation<'_>) -> Result<Reply, Error> {
    if call.flags.replica() && !call.flags.replayed() {
        return Err(Error::Replica);
    }
    let ghosts = match call.len() {
        5 => BTreeSet::new(),
        7 if call.arg(5).eq_ignore_ascii_case(b"GHOSTS") => ids(call, 6, "ghosts")?,
        _ => return Err(Error::Syntax),
    };
    let config = Config {
        instance: InstanceId(number("crdt.config", call, 2, "instance id")?),
        version: number("crdt.config", call, 3, "configuration version")?,
        members: ids(call, 4, "members")?,
        ghosts,
    };
    let mut shard = hold()?;
    let refused = |error: meridian_crdt::ConfigError| Error::Engine(error.to_string());
    match &mut shard.replica {
        Some(replica) if *replica.config() == config => return Ok(Reply::Ok),
        Some(replica) => replica.configure(config).map_err(refused)?,
        None => shard.replica = Some(Replica::new(config, Limits::default()).map_err(refused)?),
    }
    call.ctx.replicate_verbatim();
    Ok(Reply::Ok)
}

fn ids(
    call: &Invocation<'_>,
    place: usize,
    what: &'static str,
) -> Result<BTreeSet<InstanceId>, Error> {
    let text = String::from_utf8_lossy(call.arg(place)).into_owned();
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts
        .map(|part| part.trim().parse().map(InstanceId))
        .collect::<Result<_, _>>()
        .map_err(|_| Error::Argument {
            command: "crdt.config",
            place,
            what,
            found: format!("'{text}' is not a list of instance ids separated by commas"),
        })
}

/// The configuration in force as alternating names and values, nothing before the first.
fn get() -> Result<Reply, Error> {
    let shard = hold()?;
    let Some(replica) = &shard.replica else {
        return Ok(Reply::Null);
    };
    let config = replica.config();
    let list = |ids: &BTreeSet<InstanceId>| {
        ids.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    let fields = [
        ("instance", config.instance.to_string()),
        ("version", config.version.to_string()),
        ("members", list(&config.members)),
        ("ghosts", list(&config.ghosts)),
    ];
    let texts = fields
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value]);
    Ok(Reply::Array(
        texts.map(|text| Reply::Bulk(text.into_bytes())).collect(),
    ))
}
