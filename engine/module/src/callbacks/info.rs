//! The section `crdt` of INFO.

use std::ffi::c_int;

use valkey_module::raw;

use super::filter::FILTER;
use super::guarded;
use crate::arguments::Engine;
use crate::fence::Deadline;
use crate::gate::{GATE, departure};
use crate::server::{self, Ctx, OK, api, c_text};
use crate::shard::SHARD;

/// Registers the section.
pub(crate) fn register(ctx: Ctx) -> Option<()> {
    // SAFETY: the context is valid; the callback lives as long as the module, which cannot be unloaded.
    let status = unsafe { api!(RedisModule_RegisterInfoFunc)(ctx.raw(), Some(on_info)) };
    (status == OK).then_some(())
}

/// Names and values, as the server prints them with the module's name in front.
type Fields = Vec<(&'static str, String)>;

/// The fence, if there is one.
fn fence() -> Option<Fields> {
    let gate = GATE.get()?;
    let Some(gate) = gate.as_ref() else {
        return Some(vec![("fence", "off".into())]);
    };
    let fence = &gate.fence;
    let flag = |value: bool| u8::from(value).to_string();
    let deadline = match fence.deadline() {
        None => "none".into(),
        Some(Deadline::Forever) => "forever".into(),
        Some(Deadline::At(end)) => end.to_string(),
    };
    Some(vec![
        ("fence", "on".into()),
        ("fence_epoch", fence.epoch().to_string()),
        ("fence_revoked", fence.revoked().to_string()),
        ("fence_deadline", deadline),
        ("fence_writable", flag(fence.writable(server::boot_ms()))),
        ("fence_ever", flag(fence.ever())),
        ("fence_refused_writes", gate.refused.to_string()),
        ("fence_disconnected_clients", gate.disconnected.to_string()),
        ("fence_ended_connections", departure::ended().to_string()),
    ])
}

/// The Active-Active database.
fn engine() -> Option<Fields> {
    let shard = SHARD.get()?;
    let Some(replica) = &shard.replica else {
        return Some(vec![
            ("engine", "crdt".into()),
            ("config_version", "0".into()),
        ]);
    };
    let (config, stats) = (replica.config(), replica.stats());
    let list = |ids: &std::collections::BTreeSet<_>| {
        ids.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    Some(vec![
        ("engine", "crdt".into()),
        ("config_version", config.version.to_string()),
        ("slots", "0-16383".into()),
        ("replid", config.instance.to_string()),
        ("members", list(&config.members)),
        ("ghosts", list(&config.ghosts)),
        (
            "incarnation",
            replica
                .incarnation()
                .map_or_else(String::new, |life| format!("{:016x}", life.0)),
        ),
        ("clock", replica.clock().to_string()),
        ("ovc", replica.stable().to_string()),
        ("written", stats.written.to_string()),
        ("effect_reqs", stats.applied.to_string()),
        ("ovc_filtered_effect_reqs", stats.duplicates.to_string()),
        ("refused_effect_reqs", stats.refused.to_string()),
        ("gc_pending", stats.unstable_keys.to_string()),
        ("gc_collected", stats.collected.to_string()),
        ("gc_waiting_removals", stats.waiting_removals.to_string()),
        ("backlog_effects", stats.log_effects.to_string()),
        ("backlog_bytes", stats.log_bytes.to_string()),
    ])
}

unsafe extern "C" fn on_info(info: *mut raw::RedisModuleInfoCtx, for_crash_report: c_int) {
    if for_crash_report != 0 {
        return;
    }
    guarded(|| {
        // SAFETY: the context is valid until this function returns; the server prefixes the module's name itself.
        unsafe { api!(RedisModule_InfoAddSection)(info, std::ptr::null()) };
        let mode = FILTER
            .get()
            .and_then(|filter| Some(filter.as_ref()?.mode.engine));
        let engine = match mode {
            Some(Engine::None) => Some(vec![("engine", "none".into())]),
            Some(Engine::Crdt) | None => engine(),
        };
        for (name, value) in [engine, fence()].into_iter().flatten().flatten() {
            let (name, value) = (c_text(name), c_text(&value));
            // SAFETY: as above; the server copies both strings.
            unsafe { api!(RedisModule_InfoAddFieldCString)(info, name.as_ptr(), value.as_ptr()) };
        }
    });
}
