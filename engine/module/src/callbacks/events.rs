//! Changes of the server that the module follows.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};

use valkey_module::raw;

use super::filter::FILTER;
use super::{guarded, load, role};
use crate::arguments::Engine;
use crate::gate::{self, GATE};
use crate::number;
use crate::policy::Mode;
use crate::server::native::Native;
use crate::server::{self, Ctx, OK, api};
use crate::shard::{self, SHARD};

/// Longest time that one turn of the server's clock (ten a second) spends on forgetting, microseconds.
const SWEEP_MICROS: u64 = 3_000;
/// Keys between two looks at the time.
const SWEEP_KEYS: usize = 256;

/// Turns of the server's clock between two looks at the memory limit.
const LOOK_AT_LIMIT: u64 = 50;

/// Subscribes to those that matter in this mode.
pub(crate) fn register(ctx: Ctx, mode: Mode) -> Option<()> {
    subscribe(
        ctx,
        raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED,
        on_role,
    )?;
    subscribe(ctx, raw::REDISMODULE_EVENT_MODULE_CHANGE, on_modules)?;
    if mode.fence {
        subscribe(ctx, raw::REDISMODULE_EVENT_EVENTLOOP, on_turn)?;
    }
    if mode.engine == Engine::None {
        return Some(());
    }
    subscribe(ctx, raw::REDISMODULE_EVENT_LOADING, on_loading)?;
    subscribe(ctx, raw::REDISMODULE_EVENT_CLIENT_CHANGE, on_client)?;
    subscribe(ctx, raw::REDISMODULE_EVENT_CRON_LOOP, on_cron)
}

type Callback =
    unsafe extern "C" fn(*mut raw::RedisModuleCtx, raw::RedisModuleEvent, u64, *mut c_void);

fn subscribe(ctx: Ctx, id: u64, callback: Callback) -> Option<()> {
    let event = raw::RedisModuleEvent { id, dataver: 1 };
    // SAFETY: the context is valid; the callback lives as long as the module, which cannot be unloaded.
    let status =
        unsafe { api!(RedisModule_SubscribeToServerEvent)(ctx.raw(), event, Some(callback)) };
    (status == OK).then_some(())
}

/// Promotion and demotion both end the life under way, and demotion the permission.
unsafe extern "C" fn on_role(
    ctx: *mut raw::RedisModuleCtx,
    _: raw::RedisModuleEvent,
    role: u64,
    _: *mut c_void,
) {
    guarded(|| {
        let replica = role == raw::REDISMODULE_EVENT_REPLROLECHANGED_NOW_REPLICA;
        role::set_replica(replica);
        if let Some(mut gate) = GATE.get()
            && let Some(gate) = gate.as_mut()
        {
            // SAFETY: the server gives a context that is valid until this function returns.
            gate.follow(unsafe { Ctx::new(ctx) }, replica);
        }
        if let Some(mut shard) = SHARD.get() {
            shard.end_life();
        }
    });
}

/// A snapshot replaces everything, also if it has no metadata in it.
unsafe extern "C" fn on_loading(
    _: *mut raw::RedisModuleCtx,
    _: raw::RedisModuleEvent,
    phase: u64,
    _: *mut c_void,
) {
    let starts = [
        raw::REDISMODULE_SUBEVENT_LOADING_RDB_START,
        raw::REDISMODULE_SUBEVENT_LOADING_AOF_START,
        raw::REDISMODULE_SUBEVENT_LOADING_REPL_START,
    ];
    guarded(|| {
        if starts.contains(&phase)
            && let Some(mut shard) = SHARD.get()
        {
            shard.clear();
        }
    });
}

/// Commands came or went.
unsafe extern "C" fn on_modules(
    ctx: *mut raw::RedisModuleCtx,
    _: raw::RedisModuleEvent,
    _: u64,
    _: *mut c_void,
) {
    // SAFETY: the server gives a context that is valid until this function returns.
    guarded(|| load::refresh(unsafe { Ctx::new(ctx) }));
}

/// The event loop is about to send replies and sleep, or woke up.
unsafe extern "C" fn on_turn(
    ctx: *mut raw::RedisModuleCtx,
    _: raw::RedisModuleEvent,
    phase: u64,
    _: *mut c_void,
) {
    // SAFETY: the server gives a context that is valid until this function returns.
    guarded(|| gate::turn(unsafe { Ctx::new(ctx) }, phase == gate::REPLIES_LEAVE));
}

/// A client that is gone queues nothing any more.
unsafe extern "C" fn on_client(
    _: *mut raw::RedisModuleCtx,
    _: raw::RedisModuleEvent,
    change: u64,
    client: *mut c_void,
) {
    if change != raw::REDISMODULE_SUBEVENT_CLIENT_CHANGE_DISCONNECTED {
        return;
    }
    guarded(|| {
        // SAFETY: for this event the server gives a client description that is valid until this function returns.
        let id = unsafe { (*client.cast::<raw::RedisModuleClientInfo>()).id };
        if let Some(mut filter) = FILTER.get()
            && let Some(filter) = filter.as_mut()
        {
            filter.queues.close(id);
        }
    });
}

/// Forgets stable metadata, a little at a time, and follows the memory limit.
unsafe extern "C" fn on_cron(
    ctx: *mut raw::RedisModuleCtx,
    _: raw::RedisModuleEvent,
    _: u64,
    _: *mut c_void,
) {
    static TURN: AtomicU64 = AtomicU64::new(0);
    guarded(|| {
        if TURN
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(LOOK_AT_LIMIT)
        {
            // SAFETY: the server gives a context that is valid until this function returns.
            limit_backlog(unsafe { Ctx::new(ctx) });
        }
        if let Some(mut shard) = SHARD.get()
            && let Some(replica) = &mut shard.replica
        {
            let end = server::monotonic_micros() + SWEEP_MICROS;
            while replica.collect(SWEEP_KEYS) && server::monotonic_micros() < end {}
        }
    });
}

/// The effects kept for peers share the server's memory limit with the values.
fn limit_backlog(ctx: Ctx) {
    let Some(reply) = Native::run(ctx, c"CONFIG", &[b"GET", b"maxmemory"]) else {
        return;
    };
    let limit = reply
        .value()
        .elements()
        .nth(1)
        .and_then(|value| number::integer(value.bytes()?));
    if let Some(limit) = limit.and_then(|limit| u64::try_from(limit).ok())
        && let Some(mut shard) = SHARD.get()
    {
        shard.limit_backlog(shard::backlog(limit));
    }
}
