//! An alarm of the kernel: it interrupts the main thread wherever it is, also one that was stopped and goes on, before that
//! thread executes anything else.

use std::ffi::c_int;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::ptr;

/// The alarm's place among the real-time signals, of which the server uses none. An ordinary one would be shared.
const SIGNAL: c_int = 5;
/// Beyond the descriptors of a server with a million clients.
const MOST_DESCRIPTORS: u64 = 1 << 20;

/// What runs when the alarm goes off: on the main thread, in the middle of anything. It may read clocks and atomics and call
/// what says that it may be called there; it neither allocates nor takes a lock nor panics.
pub(crate) type Action = extern "C" fn(c_int);

/// An alarm that goes off again and again once its time has come. It lives as long as the process.
#[derive(Debug)]
pub(crate) struct Alarm(libc::timer_t);

impl Alarm {
    /// An alarm that is not set. It interrupts the thread that makes it, which must be the server's main thread.
    ///
    /// # Errors
    /// The kernel has no such timer, or somebody else uses the signal.
    pub(crate) fn new(action: Action) -> io::Result<Self> {
        let signal = libc::SIGRTMIN() + SIGNAL;
        install(signal, action)?;
        // SAFETY: all zeros is a valid `sigevent`.
        let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        // SAFETY: takes no argument.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer: libc::timer_t = ptr::null_mut();
        // SAFETY: both pointers are to living values of their types.
        checked(unsafe {
            libc::timer_create(libc::CLOCK_BOOTTIME, &raw mut event, &raw mut timer)
        })?;
        Ok(Self(timer))
    }

    /// Goes off at this time, milliseconds since the machine was booted, and in these steps after it, milliseconds, instead
    /// of what was set before.
    ///
    /// # Errors
    /// As of the kernel.
    pub(crate) fn set(&self, at: u64, step: u64) -> io::Result<()> {
        let times = libc::itimerspec {
            it_interval: span(step),
            it_value: span(at),
        };
        let times = &raw const times;
        // SAFETY: the timer was made by `new` and is never deleted; the times are a living value.
        checked(unsafe { libc::timer_settime(self.0, libc::TIMER_ABSTIME, times, ptr::null_mut()) })
    }

    /// Does not go off until it is set again.
    ///
    /// # Errors
    /// As of the kernel.
    pub(crate) fn stop(&self) -> io::Result<()> {
        self.set(0, 0)
    }
}

fn span(millis: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (millis / 1000).cast_signed(),
        tv_nsec: (millis % 1000 * 1_000_000).cast_signed(),
    }
}

/// Makes `action` the handler of a signal that nobody handles, and lets the signal through.
fn install(signal: c_int, action: Action) -> io::Result<()> {
    // SAFETY: all zeros is a valid `sigaction`: no flags, an empty mask, the default action.
    let mut before: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut new = before;
    new.sa_sigaction = action as libc::sighandler_t;
    // Where the kernel can go on with what was interrupted, it does; the server's wait for events ends early, and it looks.
    new.sa_flags = libc::SA_RESTART;
    // SAFETY: both point to living values; the handler has the signature that goes without SA_SIGINFO.
    checked(unsafe { libc::sigaction(signal, &raw const new, &raw mut before) })?;
    if before.sa_sigaction != libc::SIG_DFL {
        let text = format!("signal {signal} has a handler already");
        return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    }
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` fills the set before it is used.
    let status = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut())
    };
    match status {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn checked(status: c_int) -> io::Result<()> {
    match status {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs what may be run when the alarm goes off, and leaves the number of the last error as whoever was interrupted had it.
pub(crate) fn undisturbed<T>(body: impl FnOnce() -> T) -> T {
    // SAFETY: each thread has its own `errno`, and this is its address.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let kept = unsafe { *errno };
    let outcome = body();
    // SAFETY: as above.
    unsafe { *errno = kept };
    outcome
}

/// Ends every connection of this process; how many. May be called when the alarm goes off. Listening sockets, files, and the
/// three descriptors that a process begins with are left.
pub(crate) fn end_connections() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: fills a living value.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    let end = if known {
        limit.rlim_cur.min(MOST_DESCRIPTORS)
    } else {
        MOST_DESCRIPTORS
    };
    let all = 3..c_int::try_from(end).unwrap_or(c_int::MAX);
    all.map(|descriptor| u64::from(end_connection(descriptor)))
        .sum()
}

/// Ends a connection in both directions, so that nothing more can be written to it; whether it was one. May be called when
/// the alarm goes off. The descriptor stays open and the server's.
pub(crate) fn end_connection(descriptor: c_int) -> bool {
    // SAFETY: takes numbers only.
    is_connection(descriptor) && unsafe { libc::shutdown(descriptor, libc::SHUT_RDWR) == 0 }
}

fn is_connection(descriptor: c_int) -> bool {
    let (mut listens, mut length): (c_int, _) = (0, size_of::<c_int>() as libc::socklen_t);
    // SAFETY: the kernel writes at most `length` bytes to a living value; what is no socket is an error.
    let status = unsafe {
        let (value, length) = ((&raw mut listens).cast(), &raw mut length);
        libc::getsockopt(
            descriptor,
            libc::SOL_SOCKET,
            libc::SO_ACCEPTCONN,
            value,
            length,
        )
    };
    status == 0 && listens == 0
}
