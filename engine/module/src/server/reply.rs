//! Replies to clients.

use super::{Ctx, api, c_text};

/// What a command answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// `+OK`.
    Ok,
    /// An integer.
    Integer(i64),
    /// A binary-safe string.
    Bulk(Vec<u8>),
    /// Nothing: `$-1` or `_`.
    Null,
    /// A list.
    Array(Vec<Reply>),
    /// Names with numbers: a flat list for clients of the older protocol.
    Map(Vec<(&'static str, i64)>),
    /// A set: a list for clients of the older protocol.
    Set(Vec<Vec<u8>>),
}

impl Reply {
    /// A flag as 0 or 1.
    pub(crate) fn flag(value: bool) -> Self {
        Self::Integer(i64::from(value))
    }

    /// A count; the server's containers never reach the limit.
    pub(crate) fn count(value: usize) -> Self {
        Self::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// A string, or nothing.
    pub(crate) fn optional(value: Option<Vec<u8>>) -> Self {
        value.map_or(Self::Null, Self::Bulk)
    }

    /// Writes the reply to the client of `ctx`.
    pub(crate) fn send(&self, ctx: Ctx) {
        match self {
            // SAFETY: the context belongs to a command; the server copies the string.
            Self::Ok => unsafe {
                api!(RedisModule_ReplyWithSimpleString)(ctx.raw(), c"OK".as_ptr())
            },
            // SAFETY: the context belongs to a command.
            Self::Integer(value) => unsafe {
                api!(RedisModule_ReplyWithLongLong)(ctx.raw(), *value)
            },
            Self::Bulk(bytes) => send_bulk(ctx, bytes),
            // SAFETY: the context belongs to a command.
            Self::Null => unsafe { api!(RedisModule_ReplyWithNull)(ctx.raw()) },
            Self::Array(items) => {
                // SAFETY: the context belongs to a command; as many elements follow as announced.
                unsafe { api!(RedisModule_ReplyWithArray)(ctx.raw(), length(items.len())) };
                items.iter().for_each(|item| item.send(ctx));
                0
            }
            Self::Map(pairs) => {
                // SAFETY: the context belongs to a command; as many pairs follow as announced.
                unsafe { api!(RedisModule_ReplyWithMap)(ctx.raw(), length(pairs.len())) };
                for (name, value) in pairs {
                    send_bulk(ctx, name.as_bytes());
                    Self::Integer(*value).send(ctx);
                }
                0
            }
            Self::Set(items) => {
                // SAFETY: the context belongs to a command; as many elements follow as announced.
                unsafe { api!(RedisModule_ReplyWithSet)(ctx.raw(), length(items.len())) };
                for item in items {
                    send_bulk(ctx, item);
                }
                0
            }
        };
    }
}

fn length(value: usize) -> std::ffi::c_long {
    std::ffi::c_long::try_from(value).unwrap_or(std::ffi::c_long::MAX)
}

fn send_bulk(ctx: Ctx, bytes: &[u8]) -> std::ffi::c_int {
    // SAFETY: the context is valid and belongs to a command; the server copies the bytes.
    unsafe {
        api!(RedisModule_ReplyWithStringBuffer)(ctx.raw(), bytes.as_ptr().cast(), bytes.len())
    }
}

/// Answers with an error; `text` starts with its code word.
pub(crate) fn send_error(ctx: Ctx, text: &str) {
    let text = c_text(&text.replace(['\r', '\n'], " "));
    // SAFETY: the context is valid and belongs to a command; the server copies the string.
    unsafe { api!(RedisModule_ReplyWithError)(ctx.raw(), text.as_ptr()) };
}
