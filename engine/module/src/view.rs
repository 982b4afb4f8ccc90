//! Native values as the readable view of the metadata.
//!
//! Everything is done by native commands that are not propagated: they keep encodings, notify keyspace events and touch watched
//! keys exactly as a client's own command would.

use std::ffi::CStr;

use meridian_crdt::{Kind, View, ViewError};
use valkey_module::raw;

use crate::error::Error;
use crate::server::native::Native;
use crate::server::text::Text;
use crate::server::{Ctx, api};

/// The native values, for the time of one command.
pub(crate) struct NativeView {
    ctx: Ctx,
}

impl NativeView {
    /// Values as the context of a command or event reaches them.
    pub(crate) fn new(ctx: Ctx) -> Self {
        Self { ctx }
    }

    fn run(
        &self,
        action: &'static str,
        command: &CStr,
        arguments: &[&[u8]],
    ) -> Result<Native, ViewError> {
        let failed = |reason: String| ViewError { action, reason };
        let reply = Native::run(self.ctx, command, arguments)
            .ok_or_else(|| failed("the server knows no such command".into()))?;
        match reply
            .value()
            .error()
            .map(|error| String::from_utf8_lossy(error).into_owned())
        {
            Some(error) => Err(failed(error)),
            None => Ok(reply),
        }
    }
}

/// What commands ask beyond the merge rules.
impl NativeView {
    /// Whether the key exists, of whatever type.
    pub(crate) fn exists(&self, key: &[u8]) -> bool {
        OpenKey::open(self.ctx, &Text::new(key)).kind() != raw::REDISMODULE_KEYTYPE_EMPTY
    }

    /// Which of the elements are in the set.
    pub(crate) fn members(&self, key: &[u8], elements: &[&[u8]]) -> Result<Vec<bool>, ViewError> {
        let reply = self.run(
            "look up elements of a set",
            c"SMISMEMBER",
            &with_key(key, elements),
        )?;
        Ok(reply
            .value()
            .elements()
            .map(|value| value.integer() == Some(1))
            .collect())
    }

    /// At most `count` different elements of the set, drawn at random.
    pub(crate) fn random_members(&self, key: &[u8], count: i64) -> Result<Vec<Vec<u8>>, ViewError> {
        let count = count.to_string();
        let reply = self.run(
            "draw elements of a set",
            c"SRANDMEMBER",
            &[key, count.as_bytes()],
        )?;
        Ok(texts(&reply))
    }

    /// The values of the fields, `None` for those that are absent.
    pub(crate) fn fields(
        &self,
        key: &[u8],
        fields: &[&[u8]],
    ) -> Result<Vec<Option<Vec<u8>>>, ViewError> {
        let reply = self.run("look up fields of a hash", c"HMGET", &with_key(key, fields))?;
        Ok(reply
            .value()
            .elements()
            .map(|value| value.bytes().map(<[u8]>::to_vec))
            .collect())
    }

    /// All keys, in no order.
    pub(crate) fn all_keys(&self) -> Result<Vec<Vec<u8>>, ViewError> {
        Ok(texts(&self.run("list the keys", c"KEYS", &[b"*"])?))
    }

    /// All elements of a set, in no order.
    pub(crate) fn all_members(&self, key: &[u8]) -> Result<Vec<Vec<u8>>, ViewError> {
        Ok(texts(&self.run("list a set", c"SMEMBERS", &[key])?))
    }

    /// All fields of a hash, each followed by its value.
    pub(crate) fn all_fields(&self, key: &[u8]) -> Result<Vec<Vec<u8>>, ViewError> {
        Ok(texts(&self.run("list a hash", c"HGETALL", &[key])?))
    }
}

fn with_key<'a>(key: &'a [u8], rest: &[&'a [u8]]) -> Vec<&'a [u8]> {
    std::iter::once(key).chain(rest.iter().copied()).collect()
}

fn texts(reply: &Native) -> Vec<Vec<u8>> {
    reply
        .value()
        .elements()
        .filter_map(|value| value.bytes().map(<[u8]>::to_vec))
        .collect()
}

/// A key, opened for reading.
struct OpenKey(*mut raw::RedisModuleKey);

impl OpenKey {
    fn open(ctx: Ctx, key: &Text) -> Self {
        let mode = raw::REDISMODULE_READ | raw::REDISMODULE_OPEN_KEY_NOTOUCH;
        // SAFETY: context and key are valid; null (no such key) is what the functions below accept too.
        Self(unsafe { api!(RedisModule_OpenKey)(ctx.raw(), key.raw(), mode.cast_signed()) }.cast())
    }

    fn kind(&self) -> isize {
        // SAFETY: the key is open or null.
        let kind = unsafe { api!(RedisModule_KeyType)(self.0) };
        kind as isize
    }

    fn string(&self) -> Option<Vec<u8>> {
        if self.kind() != raw::REDISMODULE_KEYTYPE_STRING {
            return None;
        }
        let mut length = 0_usize;
        // SAFETY: the key is open and holds a string; the bytes are copied before anything else is called.
        unsafe {
            let start = api!(RedisModule_StringDMA)(
                self.0,
                &raw mut length,
                raw::REDISMODULE_READ.cast_signed(),
            );
            if length == 0 || start.is_null() {
                return Some(Vec::new());
            }
            Some(std::slice::from_raw_parts(start.cast::<u8>(), length).to_vec())
        }
    }
}

impl Drop for OpenKey {
    fn drop(&mut self) {
        // SAFETY: the key was opened by `open` and is closed once; null is accepted.
        unsafe { api!(RedisModule_CloseKey)(self.0) };
    }
}

impl View for NativeView {
    fn kind(&mut self, key: &[u8]) -> Result<Option<Kind>, ViewError> {
        match OpenKey::open(self.ctx, &Text::new(key)).kind() {
            raw::REDISMODULE_KEYTYPE_EMPTY => Ok(None),
            raw::REDISMODULE_KEYTYPE_STRING => Ok(Some(Kind::String)),
            raw::REDISMODULE_KEYTYPE_SET => Ok(Some(Kind::Set)),
            raw::REDISMODULE_KEYTYPE_HASH => Ok(Some(Kind::Hash)),
            other => {
                let reason = format!("its type (number {other}) has no merge rule");
                Err(ViewError {
                    action: "tell the kind of a key",
                    reason,
                })
            }
        }
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), ViewError> {
        self.run("delete a key", c"DEL", &[key]).map(drop)
    }

    fn string(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        let open = OpenKey::open(self.ctx, &Text::new(key));
        match open.kind() {
            raw::REDISMODULE_KEYTYPE_EMPTY => Ok(None),
            raw::REDISMODULE_KEYTYPE_STRING => Ok(open.string()),
            _ => Err(ViewError {
                action: "read a string",
                reason: Error::WrongType.to_string(),
            }),
        }
    }

    fn set_string(&mut self, key: &[u8], value: &[u8]) -> Result<(), ViewError> {
        self.run("set a string", c"SET", &[key, value]).map(drop)
    }

    fn set_insert(&mut self, key: &[u8], element: &[u8]) -> Result<(), ViewError> {
        self.run("add to a set", c"SADD", &[key, element]).map(drop)
    }

    fn set_remove(&mut self, key: &[u8], element: &[u8]) -> Result<(), ViewError> {
        self.run("remove from a set", c"SREM", &[key, element])
            .map(drop)
    }

    fn hash_get(&mut self, key: &[u8], field: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        let reply = self.run("read a field of a hash", c"HGET", &[key, field])?;
        Ok(reply.value().bytes().map(<[u8]>::to_vec))
    }

    fn hash_set(&mut self, key: &[u8], field: &[u8], value: &[u8]) -> Result<(), ViewError> {
        self.run("set a field of a hash", c"HSET", &[key, field, value])
            .map(drop)
    }

    fn hash_remove(&mut self, key: &[u8], field: &[u8]) -> Result<(), ViewError> {
        self.run("remove a field of a hash", c"HDEL", &[key, field])
            .map(drop)
    }
}
