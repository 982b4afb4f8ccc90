//! The metadata in snapshots: one auxiliary section in front of the keys, also in the snapshot that a replica gets.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use valkey_module::raw;

use super::guarded;
use super::load::create_data_type;
use crate::server::{Ctx, OK, api};
use crate::shard::{SHARD, Shard};

/// Name of the data type: nine characters, stored in every snapshot. No key ever has it.
const TYPE: &CStr = c"crdt-meta";
/// Layout of the section: one string, the snapshot of `meridian_crdt`, which has a version of its own.
const LAYOUT: c_int = 1;

/// Registers the data type that carries the section.
pub(crate) fn register(ctx: Ctx) -> Option<()> {
    let mut methods = raw::RedisModuleTypeMethods {
        version: u64::from(raw::REDISMODULE_TYPE_METHOD_VERSION),
        rdb_load: Some(no_value),
        rdb_save: None,
        aof_rewrite: None,
        mem_usage: None,
        digest: None,
        free: None,
        aux_load: Some(load),
        aux_save: None,
        aux_save_triggers: raw::REDISMODULE_AUX_BEFORE_RDB as c_int,
        free_effort: None,
        unlink: None,
        copy: None,
        defrag: None,
        mem_usage2: None,
        free_effort2: None,
        unlink2: None,
        copy2: None,
        aux_save2: Some(save),
    };
    create_data_type(ctx, TYPE, LAYOUT, &mut methods)
}

/// No value of this type exists, so a key that claims it makes the load fail.
unsafe extern "C" fn no_value(_io: *mut raw::RedisModuleIO, _layout: c_int) -> *mut c_void {
    ptr::null_mut()
}

/// Writes the section; nothing before the first configuration. Runs in the forked child too, where nothing else runs.
unsafe extern "C" fn save(io: *mut raw::RedisModuleIO, _when: c_int) {
    let saved = guarded(|| {
        let shard = SHARD.get()?;
        let Some(replica) = &shard.replica else {
            return Some(());
        };
        let bytes = replica.snapshot();
        // SAFETY: `io` is the snapshot being written; the server copies the bytes.
        unsafe { api!(RedisModule_SaveStringBuffer)(io, bytes.as_ptr().cast(), bytes.len()) };
        Some(())
    });
    if saved.flatten().is_none() {
        // A snapshot without the metadata would be taken for a good one; a failed one is not.
        eprintln!("module crdt: the metadata could not be saved; this snapshot is given up");
        std::process::abort();
    }
}

/// Reads the section of a snapshot, in place of what was there.
unsafe extern "C" fn load(io: *mut raw::RedisModuleIO, layout: c_int, _when: c_int) -> c_int {
    let loaded = guarded(|| {
        // SAFETY: `io` is the snapshot being read; the context that belongs to it is valid until this function returns.
        let ctx = unsafe { Ctx::new(api!(RedisModule_GetContextFromIO)(io)) };
        let outcome = if layout == LAYOUT {
            restore(io)
        } else {
            Err(format!("layout {layout} is not known"))
        };
        if let Err(reason) = &outcome {
            ctx.warn(&format!(
                "cannot load the metadata of this snapshot: {reason}"
            ));
        }
        outcome.is_ok()
    });
    if loaded == Some(true) {
        OK
    } else {
        raw::REDISMODULE_ERR as c_int
    }
}

fn restore(io: *mut raw::RedisModuleIO) -> Result<(), String> {
    let mut length = 0_usize;
    // SAFETY: `io` is the snapshot being read.
    let start = unsafe { api!(RedisModule_LoadStringBuffer)(io, &raw mut length) };
    if start.is_null() {
        return Err("the snapshot ends inside the metadata".into());
    }
    // SAFETY: the server gave a buffer of this length, ours to free.
    let bytes = unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) }.to_vec();
    // SAFETY: the buffer came from the server's allocator and is not used afterwards.
    unsafe { api!(RedisModule_Free)(start.cast()) };
    let mut shard = SHARD
        .get()
        .ok_or("the module is in the middle of a command")?;
    *shard = Shard::restored(&bytes).map_err(|error| error.to_string())?;
    Ok(())
}
