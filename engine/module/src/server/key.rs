//! A key, opened to read and change its value without the detour over a command.
//!
//! What a native command would do besides is done here too: watched keys are touched and keyspace events are sent.

use std::ffi::{CStr, c_int};
use std::ptr;

use valkey_module::raw;

use super::text::Text;
use super::{Ctx, OK, api};

/// The field is to be removed.
const REMOVE: *mut raw::RedisModuleString = ptr::without_provenance_mut(1);
/// Ends the arguments of the calls for hashes.
const END: *mut raw::RedisModuleString = ptr::null_mut();

/// An open key. Commands must not change it while it is open.
pub(crate) struct OpenKey {
    ctx: Ctx,
    name: Text,
    handle: *mut raw::RedisModuleKey,
}

impl OpenKey {
    /// Opens the key, whether it exists or not.
    pub(crate) fn open(ctx: Ctx, name: &[u8]) -> Self {
        let name = Text::new(name);
        let mode =
            raw::REDISMODULE_READ | raw::REDISMODULE_WRITE | raw::REDISMODULE_OPEN_KEY_NOSTATS;
        // SAFETY: context and name are valid, and the name lives as long as the handle.
        let handle =
            unsafe { api!(RedisModule_OpenKey)(ctx.raw(), name.raw(), mode.cast_signed()) };
        Self {
            ctx,
            name,
            handle: handle.cast(),
        }
    }

    /// The key's name.
    pub(crate) fn name(&self) -> &[u8] {
        self.name.bytes()
    }

    /// The type of the value, as the server numbers it.
    pub(crate) fn kind(&self) -> isize {
        // SAFETY: the key is open.
        let kind = unsafe { api!(RedisModule_KeyType)(self.handle) };
        kind as isize
    }

    /// The value of a string key; nothing for other types. The server ends a compact form of the value (an integer, a short
    /// string) when it is read like this, so this is for values that are about to be replaced.
    pub(crate) fn string(&mut self) -> Option<Vec<u8>> {
        if self.kind() != raw::REDISMODULE_KEYTYPE_STRING {
            return None;
        }
        let mut length = 0_usize;
        // SAFETY: the key is open and holds a string; the bytes are copied before anything else is called.
        unsafe {
            let mode = raw::REDISMODULE_READ.cast_signed();
            let start = api!(RedisModule_StringDMA)(self.handle, &raw mut length, mode);
            if length == 0 || start.is_null() {
                return Some(Vec::new());
            }
            Some(std::slice::from_raw_parts(start.cast::<u8>(), length).to_vec())
        }
    }

    /// Replaces whatever is there by a string.
    pub(crate) fn set_string(&mut self, value: &[u8]) -> bool {
        let value = Text::new(value);
        // SAFETY: the key is open for writing; the server takes a reference of its own.
        let done = unsafe { api!(RedisModule_StringSet)(self.handle, value.raw()) } == OK;
        self.changed(raw::REDISMODULE_NOTIFY_STRING, c"set");
        done
    }

    /// Removes the key.
    pub(crate) fn delete(&mut self) -> bool {
        if self.kind() == raw::REDISMODULE_KEYTYPE_EMPTY {
            return true;
        }
        // SAFETY: the key is open for writing.
        let done = unsafe { api!(RedisModule_UnlinkKey)(self.handle) } == OK;
        self.changed(raw::REDISMODULE_NOTIFY_GENERIC, c"del");
        done
    }

    /// The value of one field of a hash; the key must be a hash or absent.
    pub(crate) fn field(&self, field: &[u8]) -> Option<Vec<u8>> {
        let field = Text::new(field);
        let mut value = END;
        let flags = raw::REDISMODULE_HASH_NONE.cast_signed();
        // SAFETY: the key is open; field and place for the value follow in pairs, then null.
        let value = unsafe {
            api!(RedisModule_HashGet)(self.handle, flags, field.raw(), &raw mut value, END);
            Text::from_raw(value)
        };
        value.map(|value| value.bytes().to_vec())
    }

    /// Whether a hash has the field; the key must be a hash or absent.
    pub(crate) fn has_field(&self, field: &[u8]) -> bool {
        let field = Text::new(field);
        let mut exists: c_int = 0;
        let flags = raw::REDISMODULE_HASH_EXISTS.cast_signed();
        // SAFETY: the key is open; field and place for the answer follow in pairs, then null.
        unsafe { api!(RedisModule_HashGet)(self.handle, flags, field.raw(), &raw mut exists, END) };
        exists != 0
    }

    /// Sets one field of a hash, which is made if the key is absent.
    pub(crate) fn set_field(&mut self, field: &[u8], value: &[u8]) {
        let (field, value) = (Text::new(field), Text::new(value));
        let flags = raw::REDISMODULE_HASH_NONE.cast_signed();
        // SAFETY: the key is open for writing; fields and values follow in pairs, then null; the server copies them.
        unsafe { api!(RedisModule_HashSet)(self.handle, flags, field.raw(), value.raw(), END) };
        self.changed(raw::REDISMODULE_NOTIFY_HASH, c"hset");
    }

    /// Removes one field of a hash, and the key with its last field.
    pub(crate) fn remove_field(&mut self, field: &[u8]) {
        if !self.has_field(field) {
            return;
        }
        let field = Text::new(field);
        let flags = raw::REDISMODULE_HASH_NONE.cast_signed();
        // SAFETY: as for `set_field`; the value 1 stands for removal.
        unsafe { api!(RedisModule_HashSet)(self.handle, flags, field.raw(), REMOVE, END) };
        self.changed(raw::REDISMODULE_NOTIFY_HASH, c"hdel");
        if self.kind() == raw::REDISMODULE_KEYTYPE_EMPTY {
            self.notify(raw::REDISMODULE_NOTIFY_GENERIC, c"del");
        }
    }

    fn changed(&self, class: c_int, event: &CStr) {
        // SAFETY: context and name are valid.
        unsafe { api!(RedisModule_SignalModifiedKey)(self.ctx.raw(), self.name.raw()) };
        self.notify(class, event);
    }

    fn notify(&self, class: c_int, event: &CStr) {
        // SAFETY: context and name are valid; the event is a C string that lives for ever.
        unsafe {
            api!(RedisModule_NotifyKeyspaceEvent)(
                self.ctx.raw(),
                class,
                event.as_ptr(),
                self.name.raw(),
            )
        };
    }
}

impl Drop for OpenKey {
    fn drop(&mut self) {
        // SAFETY: the key was opened by `open` and is closed once.
        unsafe { api!(RedisModule_CloseKey)(self.handle) };
    }
}
