//! Native commands, run without being propagated.

use std::ffi::CStr;

use valkey_module::raw;

use super::text::Text;
use super::{Ctx, api};

/// The reply of a native command.
pub(crate) struct Native(*mut raw::RedisModuleCallReply);

impl Native {
    /// Runs `command arguments…`. Nothing of it goes to the append-only file or the replicas; the module's own filter does not
    /// see it. `None` if the server knows no such command.
    pub(crate) fn run(ctx: Ctx, command: &CStr, arguments: &[&[u8]]) -> Option<Self> {
        let (ctx, command) = (ctx.raw(), command.as_ptr());
        // "E" asks for errors as replies. "b" takes a pointer and a length and makes a string that nobody else holds, which the
        // server may then store in its compact forms; the longer lists, with "v", are of elements that it copies anyway.
        let reply = match *arguments {
            // SAFETY: the format fits the arguments, which live until the call returns.
            [one] => unsafe {
                api!(RedisModule_Call)(ctx, command, c"bE".as_ptr(), one.as_ptr(), one.len())
            },
            // SAFETY: as above.
            [one, two] => unsafe {
                let format = c"bbE".as_ptr();
                api!(RedisModule_Call)(
                    ctx,
                    command,
                    format,
                    one.as_ptr(),
                    one.len(),
                    two.as_ptr(),
                    two.len(),
                )
            },
            _ => {
                let texts: Vec<Text> = arguments
                    .iter()
                    .map(|argument| Text::new(argument))
                    .collect();
                let pointers: Vec<_> = texts.iter().map(Text::raw).collect();
                // SAFETY: "v" takes an array of strings and its length, both living until the call returns.
                unsafe {
                    api!(RedisModule_Call)(
                        ctx,
                        command,
                        c"vE".as_ptr(),
                        pointers.as_ptr(),
                        pointers.len(),
                    )
                }
            }
        };
        (!reply.is_null()).then(|| Self(reply))
    }

    /// A borrowed look at the reply.
    pub(crate) fn value(&self) -> Value<'_> {
        Value {
            reply: self.0,
            lifetime: std::marker::PhantomData,
        }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: the reply came from Call and is freed once, at its root.
        unsafe { api!(RedisModule_FreeCallReply)(self.0) };
    }
}

/// A reply or a part of one.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a> {
    reply: *mut raw::RedisModuleCallReply,
    lifetime: std::marker::PhantomData<&'a ()>,
}

impl<'a> Value<'a> {
    fn kind(self) -> isize {
        // SAFETY: the reply lives as long as the borrow of its root.
        let kind = unsafe { api!(RedisModule_CallReplyType)(self.reply) };
        kind as isize
    }

    /// The integer, if it is one.
    pub(crate) fn integer(self) -> Option<i64> {
        if self.kind() != raw::REDISMODULE_REPLY_INTEGER {
            return None;
        }
        // SAFETY: as for `kind`; the reply is an integer.
        Some(unsafe { api!(RedisModule_CallReplyInteger)(self.reply) })
    }

    /// The bytes of a string, status or error.
    pub(crate) fn bytes(self) -> Option<&'a [u8]> {
        let mut length = 0_usize;
        // SAFETY: as for `kind`; for other types the server answers with null.
        let start = unsafe { api!(RedisModule_CallReplyStringPtr)(self.reply, &raw mut length) };
        if start.is_null() {
            return None;
        }
        // SAFETY: the bytes belong to the reply, which lives for 'a.
        Some(unsafe { std::slice::from_raw_parts(start.cast(), length) })
    }

    /// The bytes, if the reply is an error.
    pub(crate) fn error(self) -> Option<&'a [u8]> {
        if self.kind() == raw::REDISMODULE_REPLY_ERROR {
            self.bytes()
        } else {
            None
        }
    }

    /// The elements of a list or set; none for anything else.
    pub(crate) fn elements(self) -> impl Iterator<Item = Value<'a>> {
        let kind = self.kind();
        let is_array = kind == raw::REDISMODULE_REPLY_ARRAY;
        let is_set = kind == raw::REDISMODULE_REPLY_SET;
        let length = if is_array || is_set {
            // SAFETY: as for `kind`.
            unsafe { api!(RedisModule_CallReplyLength)(self.reply) }
        } else {
            0
        };
        (0..length).filter_map(move |index| {
            // SAFETY: the index is below the length of the list or set.
            let element = unsafe {
                if is_array {
                    api!(RedisModule_CallReplyArrayElement)(self.reply, index)
                } else {
                    api!(RedisModule_CallReplySetElement)(self.reply, index)
                }
            };
            (!element.is_null()).then_some(Value {
                reply: element,
                lifetime: std::marker::PhantomData,
            })
        })
    }
}
