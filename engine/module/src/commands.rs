//! The commands of the module, one line each.

mod hashes;
mod internal;
mod keys;
mod refused;
mod sets;
mod strings;

use std::ffi::CStr;

use crate::callbacks::command::{Command, command};

/// Carries one local write to the append-only file and the replicas.
pub(crate) const EFFECT: &CStr = c"crdt.e";
/// Carries what another region sent.
pub(crate) const APPLY: &CStr = c"crdt.apply";
/// What the filter turns refused commands into.
pub(crate) const REFUSED: &CStr = c"crdt.refused";

const NONE: (i32, i32, i32) = (0, 0, 0);
const FIRST: (i32, i32, i32) = (1, 1, 1);
const ALL: (i32, i32, i32) = (1, -1, 1);

/// The commands of an Active-Active shard: twins of native writes first (name, native name, arity, flags, keys, categories as of the native command),
/// then the module's own.
#[rustfmt::skip]
pub(crate) static COMMANDS: &[Command] = &[
    command!(c"crdt.set" = "set", -3, c"write deny-oom", FIRST, c"write string slow", strings::set),
    command!(c"crdt.setnx" = "setnx", 3, c"write deny-oom fast", FIRST, c"write string fast", strings::setnx),
    command!(c"crdt.getset" = "getset", 3, c"write deny-oom fast", FIRST, c"write string fast", strings::getset),
    command!(c"crdt.getdel" = "getdel", 2, c"write fast", FIRST, c"write string fast", strings::getdel),
    command!(c"crdt.mset" = "mset", -3, c"write deny-oom", (1, -1, 2), c"write string slow", strings::mset),
    command!(c"crdt.append" = "append", 3, c"write deny-oom fast", FIRST, c"write string fast", strings::append),
    command!(c"crdt.setrange" = "setrange", 4, c"write deny-oom", FIRST, c"write string slow", strings::setrange),
    command!(c"crdt.incr" = "incr", 2, c"write deny-oom fast", FIRST, c"write string fast", strings::incr),
    command!(c"crdt.decr" = "decr", 2, c"write deny-oom fast", FIRST, c"write string fast", strings::decr),
    command!(c"crdt.incrby" = "incrby", 3, c"write deny-oom fast", FIRST, c"write string fast", strings::incrby),
    command!(c"crdt.decrby" = "decrby", 3, c"write deny-oom fast", FIRST, c"write string fast", strings::decrby),
    command!(c"crdt.incrbyfloat" = "incrbyfloat", 3, c"write deny-oom fast", FIRST, c"write string fast", strings::incrbyfloat),
    command!(c"crdt.sadd" = "sadd", -3, c"write deny-oom fast", FIRST, c"write set fast", sets::sadd),
    command!(c"crdt.srem" = "srem", -3, c"write fast", FIRST, c"write set fast", sets::srem),
    command!(c"crdt.spop" = "spop", -2, c"write fast", FIRST, c"write set fast", sets::spop),
    command!(c"crdt.smove" = "smove", 4, c"write fast", (1, 2, 1), c"write set fast", sets::smove),
    command!(c"crdt.hset" = "hset", -4, c"write deny-oom fast", FIRST, c"write hash fast", hashes::hset),
    command!(c"crdt.hmset" = "hmset", -4, c"write deny-oom fast", FIRST, c"write hash fast", hashes::hmset),
    command!(c"crdt.hsetnx" = "hsetnx", 4, c"write deny-oom fast", FIRST, c"write hash fast", hashes::hsetnx),
    command!(c"crdt.hdel" = "hdel", -3, c"write fast", FIRST, c"write hash fast", hashes::hdel),
    command!(c"crdt.hincrby" = "hincrby", 4, c"write deny-oom fast", FIRST, c"write hash fast", hashes::hincrby),
    command!(c"crdt.hincrbyfloat" = "hincrbyfloat", 4, c"write deny-oom fast", FIRST, c"write hash fast", hashes::hincrbyfloat),
    command!(c"crdt.del" = "del", -2, c"write", ALL, c"keyspace write slow", keys::del),
    command!(c"crdt.unlink" = "unlink", -2, c"write fast", ALL, c"keyspace write fast", keys::del),

    command!(c"crdt.e", 2, c"write deny-script", NONE, c"admin dangerous slow", internal::effect),
    command!(c"crdt.apply", 3, c"write deny-script", NONE, c"admin dangerous slow", internal::apply),
    command!(c"crdt.report", 2, c"write deny-script", NONE, c"admin dangerous slow", internal::report),
    command!(c"crdt.config", -2, c"admin may-replicate deny-script", NONE, c"admin dangerous slow", internal::config),
    command!(c"crdt.clock", 1, c"admin readonly deny-script fast", NONE, c"admin dangerous fast", internal::clock),
    command!(c"crdt.pull", -4, c"admin readonly deny-script", NONE, c"admin dangerous slow", internal::pull),
    command!(c"crdt.digest", 1, c"admin readonly deny-script", NONE, c"admin dangerous slow", internal::digest),
];

/// Commands of every shard, whatever its values mean.
#[rustfmt::skip]
pub(crate) static ALWAYS: &[Command] = &[
    command!(c"crdt.fence", -2, c"admin deny-script allow-stale allow-busy", NONE, c"admin dangerous slow", internal::fence),
    command!(c"crdt.refused", -1, c"allow-loading allow-stale fast", NONE, c"connection fast", refused::refused),
];

/// The arguments without repetitions, in their order.
fn unique<'a>(arguments: impl Iterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    let mut seen = std::collections::BTreeSet::new();
    arguments
        .filter(|argument| seen.insert(*argument))
        .collect()
}
