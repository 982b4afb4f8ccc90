//! Loading: registers commands, data, events and the filter, and sets what the module cannot do without.

use std::ffi::{CStr, c_char, c_int};
use std::ptr;

use valkey_module::raw;

use super::command::Command;
use super::filter::{FILTER, Filter};
use super::{aux, events, filter, guarded, info, role};
use crate::arguments::{ArgumentError, Arguments, Engine};
use crate::commands::{ALWAYS, COMMANDS, REFUSED};
use crate::gate::{GATE, Gate, GateError};
use crate::policy::{self, Described, Mode, Table};
use crate::server::native::{Native, Value};
use crate::server::text::{self, Text};
use crate::server::{Ctx, OK, api};
use crate::transaction::Queues;

/// Name of the module, and of its section in INFO.
const NAME: &CStr = c"crdt";
/// Version that MODULE LIST shows.
const VERSION: c_int = 1;

/// Settings of the server without which metadata would be lost or values would vanish unseen.
const SETTINGS: &[(&[u8], &[u8])] = &[
    // A rewrite of the append-only file into plain commands would lose the metadata.
    (b"aof-use-rdb-preamble", b"yes"),
    // Expiry and eviction by the server alone would delete keys that the other regions keep.
    (b"import-mode", b"yes"),
];

/// Settings of a shard with a fence: while a script runs, nothing else does, permissions included, until the server calls it
/// slow. That must happen well before a permission ends (three seconds).
const FENCE_SETTINGS: &[(&[u8], &[u8])] = &[(b"busy-reply-threshold", b"1000")];

/// The entry point that the server looks for.
///
/// # Safety
/// Called by the server, once, with the arguments of the `loadmodule` line.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ValkeyModule_OnLoad(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    let name = NAME.as_ptr().cast::<c_char>();
    let version = raw::REDISMODULE_APIVER_1.cast_signed();
    // SAFETY: the first call into the server, with the context it gave; nothing is allocated before it.
    if unsafe { raw::Export_RedisModule_Init(ctx, name, VERSION, version) } != OK {
        return raw::REDISMODULE_ERR as c_int;
    }
    // SAFETY: the server gives `argc` valid strings at `argv`.
    let outcome = guarded(|| unsafe {
        let arguments: Vec<_> = (0..usize::try_from(argc).unwrap_or(0))
            .map(|place| text::bytes(*argv.add(place)))
            .collect();
        load(Ctx::new(ctx), &arguments)
    });
    match outcome {
        Some(Ok(())) => OK,
        Some(Err(reason)) => {
            // SAFETY: the context is valid until this function returns.
            unsafe { Ctx::new(ctx) }.warn(&format!("cannot load: {reason}"));
            raw::REDISMODULE_ERR as c_int
        }
        None => raw::REDISMODULE_ERR as c_int,
    }
}

/// Why the module does not load.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    #[error(transparent)]
    Gate(#[from] GateError),
    #[error("the server refused to register {0}")]
    Register(String),
    #[error("the server did not list its commands, so writes cannot be told from reads")]
    Commands,
    #[error("the server refused CONFIG SET {name} {value}: {reason}")]
    Setting {
        name: String,
        value: String,
        reason: String,
    },
}

fn load(ctx: Ctx, arguments: &[&[u8]]) -> Result<(), LoadError> {
    let arguments = Arguments::parse(arguments)?;
    let mode = Mode {
        engine: arguments.engine,
        fence: arguments.fence,
    };
    // A truncated snapshot fails the load instead of ending the process; keys count as modified when the module says so, not
    // whenever it had them open; what the module replicates are its own commands, which need no check.
    let options = raw::REDISMODULE_OPTIONS_HANDLE_IO_ERRORS
        | raw::REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED
        | raw::VALKEYMODULE_OPTIONS_SKIP_COMMAND_VALIDATION;
    // SAFETY: the context is valid.
    unsafe {
        let options = options.cast_signed();
        api!(RedisModule_SetModuleOptions)(ctx.raw(), options);
    }
    for command in ALWAYS {
        register(ctx, command)?;
    }
    if mode.engine == Engine::Crdt {
        for command in COMMANDS {
            register(ctx, command)?;
        }
        aux::register(ctx).ok_or_else(|| LoadError::Register("the metadata's data type".into()))?;
        for (name, value) in SETTINGS {
            configure(ctx, name, value)?;
        }
    }
    info::register(ctx).ok_or_else(|| LoadError::Register("the INFO section".into()))?;
    events::register(ctx, mode).ok_or_else(|| LoadError::Register("the server events".into()))?;
    role::set_replica(ctx.flags().replica());
    if mode.fence {
        for (name, value) in FENCE_SETTINGS {
            configure(ctx, name, value)?;
        }
        let new = Gate::new(ctx, role::is_replica())?;
        if let Some(mut gate) = GATE.get() {
            *gate = Some(new);
        }
    }
    start_filter(ctx, arguments, mode)
}

fn start_filter(ctx: Ctx, arguments: Arguments, mode: Mode) -> Result<(), LoadError> {
    let table = table(ctx, mode)?;
    // SAFETY: a context without a client, made once and kept until the process ends.
    let lasting = unsafe { Ctx::new(api!(RedisModule_GetDetachedThreadSafeContext)(ctx.raw())) };
    let filter = Filter {
        table,
        names: COMMANDS
            .iter()
            .map(|command| Text::new(command.name.to_bytes()))
            .collect(),
        refused: Text::new(REFUSED.to_bytes()),
        mode,
        internal_user: arguments.internal_user,
        replication_user: arguments.replication_user,
        primary_link: None,
        ctx: lasting,
        queues: Queues::default(),
    };
    if let Some(mut place) = FILTER.get() {
        *place = Some(filter);
    }
    // SAFETY: the function lives as long as the module, which cannot be unloaded.
    let registered = unsafe {
        let flags = raw::REDISMODULE_CMDFILTER_NOSELF.cast_signed();
        api!(RedisModule_RegisterCommandFilter)(ctx.raw(), Some(filter::on_command), flags)
    };
    if registered.is_null() {
        Err(LoadError::Register("the command filter".into()))
    } else {
        Ok(())
    }
}

fn register(ctx: Ctx, command: &Command) -> Result<(), LoadError> {
    let refused = || LoadError::Register(command.name.to_string_lossy().into_owned());
    let (first, last, step) = command.keys;
    // SAFETY: name and flags are C strings that live for ever; the entry is a function of this library.
    let created = unsafe {
        let (name, flags) = (command.name.as_ptr(), command.flags.as_ptr());
        api!(RedisModule_CreateCommand)(ctx.raw(), name, command.entry, flags, first, last, step)
    };
    if created != OK {
        return Err(refused());
    }
    // SAFETY: the command was registered just now under this name.
    let status = unsafe {
        let registered = api!(RedisModule_GetCommand)(ctx.raw(), command.name.as_ptr());
        api!(RedisModule_SetCommandACLCategories)(registered, command.categories.as_ptr())
    };
    if status == OK { Ok(()) } else { Err(refused()) }
}

fn configure(ctx: Ctx, name: &[u8], value: &[u8]) -> Result<(), LoadError> {
    let reply = Native::run(ctx, c"CONFIG", &[b"SET", name, value]);
    let error = match &reply {
        None => Some("no CONFIG command".to_owned()),
        Some(reply) => reply
            .value()
            .error()
            .map(|error| String::from_utf8_lossy(error).into_owned()),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match error {
        None => Ok(()),
        Some(reason) => Err(LoadError::Setting {
            name: text(name),
            value: text(value),
            reason,
        }),
    }
}

/// The rules for the commands that the server has now.
fn table(ctx: Ctx, mode: Mode) -> Result<Table, LoadError> {
    let reply = Native::run(ctx, c"COMMAND", &[]).ok_or(LoadError::Commands)?;
    let commands: Option<Vec<_>> = reply.value().elements().map(describe).collect();
    let commands = commands.ok_or(LoadError::Commands)?;
    if !commands.iter().any(|command| command.name == "set") {
        return Err(LoadError::Commands);
    }
    // A twin whose native command takes other arguments than it knows is none.
    Ok(policy::rules(mode, &commands, |native| {
        COMMANDS.iter().position(|twin| {
            twin.twin_of == Some(native.name.as_str()) && i64::from(twin.arity) == native.arity
        })
    }))
}

/// Judges all commands anew, after a module came or went. If that fails, the filter refuses every command.
pub(crate) fn refresh(ctx: Ctx) {
    let mode = FILTER.get().and_then(|filter| Some(filter.as_ref()?.mode));
    let Some(mode) = mode else {
        return;
    };
    let table = table(ctx, mode);
    let Some(mut filter) = FILTER.get() else {
        return;
    };
    match (table, filter.as_mut()) {
        (Ok(table), Some(filter)) => filter.table = table,
        (Ok(_), None) => {}
        (Err(error), _) => {
            ctx.warn(&format!(
                "{error}; every command is refused until this server restarts"
            ));
            *filter = None;
        }
    }
}

/// One element of the reply of COMMAND: name, arity, flags, key positions, …, subcommands in the tenth place.
fn describe(command: Value<'_>) -> Option<Described> {
    let text = |value: Value<'_>| {
        value
            .bytes()
            .map(|bytes| String::from_utf8_lossy(bytes).to_ascii_lowercase())
    };
    let fields: Vec<_> = command.elements().collect();
    Some(Described {
        name: text(*fields.first()?)?,
        arity: fields.get(1)?.integer()?,
        flags: fields.get(2)?.elements().filter_map(text).collect(),
        subcommands: fields
            .get(9)?
            .elements()
            .map(describe)
            .collect::<Option<_>>()?,
    })
}

/// Makes the module's data type; `None` if the server refuses.
pub(crate) fn create_data_type(
    ctx: Ctx,
    name: &CStr,
    version: c_int,
    methods: &mut raw::RedisModuleTypeMethods,
) -> Option<()> {
    // SAFETY: the server copies the methods; the name has the nine characters that it asks for.
    let made = unsafe {
        api!(RedisModule_CreateDataType)(ctx.raw(), name.as_ptr(), version, ptr::from_mut(methods))
    };
    (!made.is_null()).then_some(())
}
