//! Native values as the readable view of the metadata.
//!
//! Strings and hashes are reached through an open key, which the next operation on the same key uses again. Sets, for which the
//! server has no such interface, and integers, which it keeps in a compact form only if a command stores them, go through native
//! commands that are not propagated.

use std::ffi::CStr;

use meridian_crdt::{Kind, View, ViewError};
use valkey_module::raw;

use crate::error::Error;
use crate::number;
use crate::server::Ctx;
use crate::server::key::OpenKey;
use crate::server::native::Native;

/// Longest value, in bytes, that is remembered after it was set: counters are read again for the reply.
const REMEMBERED: usize = 64;

/// The native values, for the time of one command.
pub(crate) struct NativeView {
    ctx: Ctx,
    open: Option<OpenKey>,
    /// The last string key that was read or set, with its value.
    known: Option<(Vec<u8>, Option<Vec<u8>>)>,
    /// Elements that sets gained by [`View::set_insert`].
    pub(crate) gained: usize,
}

impl NativeView {
    /// Values as the context of a command or event reaches them.
    pub(crate) fn new(ctx: Ctx) -> Self {
        Self {
            ctx,
            open: None,
            known: None,
            gained: 0,
        }
    }

    /// The key, opened if it is not.
    fn at(&mut self, key: &[u8]) -> &mut OpenKey {
        if self.open.as_ref().is_some_and(|open| open.name() != key) {
            self.open = None;
        }
        let ctx = self.ctx;
        self.open.get_or_insert_with(|| OpenKey::open(ctx, key))
    }

    /// The key, opened, if it is absent or of the wanted type.
    fn typed(
        &mut self,
        action: &'static str,
        key: &[u8],
        kind: isize,
    ) -> Result<&mut OpenKey, ViewError> {
        let open = self.at(key);
        let found = open.kind();
        if found == kind || found == raw::REDISMODULE_KEYTYPE_EMPTY {
            return Ok(open);
        }
        Err(ViewError {
            action,
            reason: Error::WrongType.to_string(),
        })
    }

    /// Runs a native command. No key is open meanwhile: the command may change it.
    fn run(
        &mut self,
        action: &'static str,
        command: &CStr,
        arguments: &[&[u8]],
    ) -> Result<Native, ViewError> {
        self.open = None;
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
    pub(crate) fn exists(&mut self, key: &[u8]) -> bool {
        self.at(key).kind() != raw::REDISMODULE_KEYTYPE_EMPTY
    }

    /// Which of the elements are in the set.
    pub(crate) fn members(
        &mut self,
        key: &[u8],
        elements: &[&[u8]],
    ) -> Result<Vec<bool>, ViewError> {
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
    pub(crate) fn random_members(
        &mut self,
        key: &[u8],
        count: i64,
    ) -> Result<Vec<Vec<u8>>, ViewError> {
        let count = count.to_string();
        let reply = self.run(
            "draw elements of a set",
            c"SRANDMEMBER",
            &[key, count.as_bytes()],
        )?;
        Ok(texts(&reply))
    }

    /// Which of the fields are in the hash.
    pub(crate) fn has_fields(
        &mut self,
        key: &[u8],
        fields: &[&[u8]],
    ) -> Result<Vec<bool>, ViewError> {
        let open = self.typed(
            "look up fields of a hash",
            key,
            raw::REDISMODULE_KEYTYPE_HASH,
        )?;
        Ok(fields.iter().map(|field| open.has_field(field)).collect())
    }

    /// The value of a string key that stays as it is.
    pub(crate) fn peek(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        let reply = self.run("read a string", c"GET", &[key])?;
        Ok(reply.value().bytes().map(<[u8]>::to_vec))
    }

    /// All keys, in no order.
    pub(crate) fn all_keys(&mut self) -> Result<Vec<Vec<u8>>, ViewError> {
        Ok(texts(&self.run("list the keys", c"KEYS", &[b"*"])?))
    }

    /// All elements of a set, in no order.
    pub(crate) fn all_members(&mut self, key: &[u8]) -> Result<Vec<Vec<u8>>, ViewError> {
        Ok(texts(&self.run("list a set", c"SMEMBERS", &[key])?))
    }

    /// All fields of a hash, each followed by its value.
    pub(crate) fn all_fields(&mut self, key: &[u8]) -> Result<Vec<Vec<u8>>, ViewError> {
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

fn done(action: &'static str, done: bool) -> Result<(), ViewError> {
    if done {
        Ok(())
    } else {
        Err(ViewError {
            action,
            reason: "the server refused it".into(),
        })
    }
}

impl View for NativeView {
    fn kind(&mut self, key: &[u8]) -> Result<Option<Kind>, ViewError> {
        match self.at(key).kind() {
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
        self.known = None;
        done("delete a key", self.at(key).delete())
    }

    fn string(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        if let Some((known, value)) = &self.known
            && known == key
        {
            return Ok(value.clone());
        }
        let open = self.typed("read a string", key, raw::REDISMODULE_KEYTYPE_STRING)?;
        let value = open.string();
        self.known = Some((key.to_vec(), value.clone()));
        Ok(value)
    }

    fn set_string(&mut self, key: &[u8], value: &[u8]) -> Result<(), ViewError> {
        self.known = None;
        if number::integer(value).is_some() {
            self.run("set a string", c"SET", &[key, value])?;
        } else {
            let open = self.typed("set a string", key, raw::REDISMODULE_KEYTYPE_STRING)?;
            done("set a string", open.set_string(value))?;
        }
        if value.len() <= REMEMBERED {
            self.known = Some((key.to_vec(), Some(value.to_vec())));
        }
        Ok(())
    }

    fn set_insert(&mut self, key: &[u8], element: &[u8]) -> Result<(), ViewError> {
        let reply = self.run("add to a set", c"SADD", &[key, element])?;
        self.gained += usize::from(reply.value().integer() == Some(1));
        Ok(())
    }

    fn set_remove(&mut self, key: &[u8], element: &[u8]) -> Result<(), ViewError> {
        self.run("remove from a set", c"SREM", &[key, element])
            .map(drop)
    }

    fn hash_get(&mut self, key: &[u8], field: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        Ok(self
            .typed("read a field of a hash", key, raw::REDISMODULE_KEYTYPE_HASH)?
            .field(field))
    }

    fn hash_set(&mut self, key: &[u8], field: &[u8], value: &[u8]) -> Result<(), ViewError> {
        self.typed("set a field of a hash", key, raw::REDISMODULE_KEYTYPE_HASH)?
            .set_field(field, value);
        Ok(())
    }

    fn hash_remove(&mut self, key: &[u8], field: &[u8]) -> Result<(), ViewError> {
        self.typed(
            "remove a field of a hash",
            key,
            raw::REDISMODULE_KEYTYPE_HASH,
        )?
        .remove_field(field);
        Ok(())
    }
}
