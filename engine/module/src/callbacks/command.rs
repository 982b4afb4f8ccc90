//! Commands: arguments in, reply out.

use std::ffi::c_int;

use valkey_module::raw;

use super::guarded;
use crate::error::Error;
use crate::server::reply::{Reply, send_error};
use crate::server::{Ctx, Flags, OK, text};

/// One call of one command.
pub(crate) struct Invocation<'a> {
    /// The context to call the server with.
    pub(crate) ctx: Ctx,
    /// What surrounds the call.
    pub(crate) flags: Flags,
    arguments: &'a [*mut raw::RedisModuleString],
}

impl<'a> Invocation<'a> {
    /// Number of arguments, the command's name included.
    pub(crate) fn len(&self) -> usize {
        self.arguments.len()
    }

    /// The argument at `place`; 0 is the command's name.
    pub(crate) fn arg(&self, place: usize) -> &'a [u8] {
        // SAFETY: the server keeps its arguments unchanged while the command runs.
        self.arguments
            .get(place)
            .map_or(&[], |argument| unsafe { text::bytes(*argument) })
    }

    /// The arguments from `first` on.
    pub(crate) fn rest(&self, first: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let arguments = self.arguments.get(first..).unwrap_or_default();
        // SAFETY: the server keeps its arguments unchanged while the command runs.
        arguments
            .iter()
            .map(|argument| unsafe { text::bytes(*argument) })
    }
}

/// What a command does.
pub(crate) type Handler = fn(&Invocation<'_>) -> Result<Reply, Error>;

/// A command of the module.
pub(crate) struct Command {
    /// Its name.
    pub(crate) name: &'static std::ffi::CStr,
    /// The native command that the filter renames to this one.
    pub(crate) twin_of: Option<&'static str>,
    /// Number of arguments with the name; negative: at least so many.
    pub(crate) arity: i32,
    /// Flags, as the server spells them.
    pub(crate) flags: &'static std::ffi::CStr,
    /// First key, last key, step.
    pub(crate) keys: (i32, i32, i32),
    /// Categories for access control, as of the native command.
    pub(crate) categories: &'static std::ffi::CStr,
    /// The function that the server calls.
    pub(crate) entry: raw::RedisModuleCmdFunc,
}

/// Whether `given` arguments, the name included, fit an arity.
pub(crate) fn fits(arity: i32, given: usize) -> bool {
    let wanted = arity.unsigned_abs() as usize;
    if arity < 0 {
        given >= wanted
    } else {
        given == wanted
    }
}

/// Runs a command; the body of every entry that `command!` makes.
///
/// # Safety
/// Called by the server with the context and the arguments of one command.
pub(crate) unsafe fn run(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
    arity: i32,
    handler: Handler,
) -> c_int {
    // SAFETY: by the contract of this function.
    let ctx = unsafe { Ctx::new(ctx) };
    let outcome = guarded(|| {
        let count = usize::try_from(argc).unwrap_or(0);
        // SAFETY: the server gives `argc` valid strings at `argv`.
        let arguments = unsafe { std::slice::from_raw_parts(argv, count) };
        let invocation = Invocation {
            ctx,
            flags: ctx.flags(),
            arguments,
        };
        if !fits(arity, count) {
            let name = String::from_utf8_lossy(invocation.arg(0)).into_owned();
            return Err(Error::Arity { name });
        }
        handler(&invocation)
    });
    match outcome {
        Some(Ok(reply)) => reply.send(ctx),
        Some(Err(error)) => send_error(ctx, &error.to_string()),
        None => {
            ctx.warn("a command of the module crdt panicked; all writes are refused until this server restarts");
            send_error(ctx, &Error::Broken.to_string());
        }
    }
    OK
}

/// One line of the command table.
macro_rules! command {
    ($name:literal $(= $twin:literal)?, $arity:literal, $flags:literal, $keys:expr, $categories:literal, $handler:path) => {
        $crate::callbacks::command::Command {
            name: $name,
            twin_of: [$($twin,)?].first().copied(),
            arity: $arity,
            flags: $flags,
            keys: $keys,
            categories: $categories,
            entry: {
                unsafe extern "C" fn entry(
                    ctx: *mut ::valkey_module::raw::RedisModuleCtx,
                    argv: *mut *mut ::valkey_module::raw::RedisModuleString,
                    argc: ::std::ffi::c_int,
                ) -> ::std::ffi::c_int {
                    // SAFETY: only the server calls this function, with a command's context and arguments.
                    unsafe { $crate::callbacks::command::run(ctx, argv, argc, $arity, $handler) }
                }
                Some(entry)
            },
        }
    };
}
pub(crate) use command;
