//! The border to the server's C interface: each function here wraps a call or a few, takes and gives Rust types, and
//! keeps the unsafe code of the other modules small.

pub(crate) mod alarm;
pub(crate) mod client;
pub(crate) mod epoll;
pub(crate) mod key;
pub(crate) mod native;
pub(crate) mod reply;
pub(crate) mod text;

use std::cell::{RefCell, RefMut};
use std::ffi::{CStr, CString, c_int};

use valkey_module::raw;

/// The named function of the server's interface. For use inside `unsafe`: the table of functions is filled before the module's
/// first callback and never written again, so reading it is sound; calling has its own conditions.
macro_rules! api {
    ($name:ident) => {
        match ::valkey_module::raw::$name {
            Some(function) => function,
            None => $crate::server::missing(stringify!($name)),
        }
    };
}
pub(crate) use api;

/// The status of a call that went well.
pub(crate) const OK: c_int = raw::REDISMODULE_OK as c_int;

/// Ends the process: the server lacks a function that the module cannot do without.
#[cold]
pub(crate) fn missing(name: &str) -> ! {
    eprintln!("module crdt: this server has no {name}; Valkey 8.1 or newer is needed");
    std::process::abort();
}

/// State that only the server's main thread touches.
pub(crate) struct MainThread<T>(RefCell<T>);

// SAFETY: the server runs every callback of the module (commands, filter, events, aux data, INFO) on its main thread or in the
// single thread of a forked child; the module starts no thread of its own, and what its alarm runs touches none of it.
unsafe impl<T> Sync for MainThread<T> {}

impl<T> MainThread<T> {
    /// Wraps the initial state.
    pub(crate) const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// The state, unless a caller further up the stack holds it.
    pub(crate) fn get(&self) -> Option<RefMut<'_, T>> {
        self.0.try_borrow_mut().ok()
    }
}

/// Why the server runs the present code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flags(c_int);

impl Flags {
    fn has(self, bit: u32) -> bool {
        self.0 & bit.cast_signed() != 0
    }

    /// A script or function is running.
    pub(crate) fn script(self) -> bool {
        self.has(raw::REDISMODULE_CTX_FLAGS_LUA)
    }

    /// EXEC is running the queued commands of a transaction.
    pub(crate) fn exec(self) -> bool {
        self.has(raw::REDISMODULE_CTX_FLAGS_MULTI)
    }

    /// This server is a replica.
    pub(crate) fn replica(self) -> bool {
        self.has(raw::REDISMODULE_CTX_FLAGS_SLAVE)
    }

    /// The command comes from the primary's replication link or from the append-only file. While the server loads, it runs
    /// no client's command that is not marked for it, and none of the module's that asks for this is.
    pub(crate) fn replayed(self) -> bool {
        self.has(raw::REDISMODULE_CTX_FLAGS_REPLICATED | raw::REDISMODULE_CTX_FLAGS_LOADING)
    }
}

/// The context of one callback.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ctx(*mut raw::RedisModuleCtx);

impl Ctx {
    /// # Safety
    /// `ctx` comes from the server and stays valid while the returned value is used.
    pub(crate) unsafe fn new(ctx: *mut raw::RedisModuleCtx) -> Self {
        Self(ctx)
    }

    /// The pointer itself.
    pub(crate) fn raw(self) -> *mut raw::RedisModuleCtx {
        self.0
    }

    /// What surrounds the present call.
    pub(crate) fn flags(self) -> Flags {
        // SAFETY: the context is valid by the contract of `new`.
        Flags(unsafe { api!(RedisModule_GetContextFlags)(self.0) })
    }

    /// The client that runs the present command.
    pub(crate) fn client_id(self) -> u64 {
        // SAFETY: the context is valid by the contract of `new`.
        unsafe { api!(RedisModule_GetClientId)(self.0) }
    }

    /// Sends `command blob` to the append-only file and the replicas; whether the server took it.
    pub(crate) fn replicate(self, command: &CStr, blob: &[u8]) -> bool {
        let (command, format) = (command.as_ptr(), c"b".as_ptr());
        // SAFETY: "b" takes a pointer and a length, both of the living slice; the server copies the bytes.
        let status = unsafe {
            api!(RedisModule_Replicate)(self.0, command, format, blob.as_ptr(), blob.len())
        };
        status == OK
    }

    /// Sends `command first second` to the append-only file and the replicas; whether the server took it.
    pub(crate) fn replicate_two(self, command: &CStr, first: &[u8], second: &[u8]) -> bool {
        let (command, format) = (command.as_ptr(), c"bb".as_ptr());
        let (one, one_length, two, two_length) =
            (first.as_ptr(), first.len(), second.as_ptr(), second.len());
        // SAFETY: as for `replicate`, twice.
        let status = unsafe {
            api!(RedisModule_Replicate)(self.0, command, format, one, one_length, two, two_length)
        };
        status == OK
    }

    /// Sends the present command as it came to the append-only file and the replicas.
    pub(crate) fn replicate_verbatim(self) {
        // SAFETY: the context is valid by the contract of `new` and belongs to a command.
        unsafe { api!(RedisModule_ReplicateVerbatim)(self.0) };
    }

    /// Warns in the server's log, in one line.
    pub(crate) fn warn(self, line: &str) {
        let line = c_text(line);
        let level = c"warning".as_ptr();
        // SAFETY: the format consumes exactly one C string; all three live until the call returns.
        unsafe { api!(RedisModule_Log)(self.0, level, c"%s".as_ptr(), line.as_ptr()) };
    }
}

/// Milliseconds since the Unix epoch by the server's clock, as of the start of the present command.
pub(crate) fn now_ms() -> u64 {
    // SAFETY: takes no argument and only reads the server's cached time.
    let micros = unsafe { api!(RedisModule_CachedMicroseconds)() };
    u64::try_from(micros).unwrap_or(0) / 1000
}

/// Milliseconds since the machine was booted, time in suspension included: read now, as a process that was stopped would
/// otherwise judge by the time at which it stopped.
pub(crate) fn boot_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}

/// Microseconds of a clock that never goes back, from an arbitrary start.
pub(crate) fn monotonic_micros() -> u64 {
    // SAFETY: takes no argument and reads a clock.
    unsafe { api!(RedisModule_MonotonicMicroseconds)() }
}

/// A C string of `text`; anything from a NUL byte on is cut.
pub(crate) fn c_text(text: &str) -> CString {
    let bytes = text.as_bytes();
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    CString::new(&bytes[..end]).unwrap_or_default()
}
