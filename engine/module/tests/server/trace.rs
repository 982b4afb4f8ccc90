//! Holds a server between two instructions: after a call into the kernel, before it does anything with the outcome.

use std::ffi::c_int;
use std::mem::{MaybeUninit, size_of};
use std::ptr;

use crate::harness::Server;

/// The main thread of a server, held.
pub struct Held(c_int);

/// Lets the server go on until its main thread comes back from the call `number`, and holds it there. `then` happens while the
/// server is watched, and makes it do that.
pub fn hold_after(server: &Server, number: libc::c_long, then: impl FnOnce()) -> Held {
    let held = Held(server.id());
    held.ask(libc::PTRACE_SEIZE, libc::PTRACE_O_TRACESYSGOOD as usize);
    held.ask(libc::PTRACE_INTERRUPT, 0);
    held.wait();
    held.ask(libc::PTRACE_SYSCALL, 0);
    then();
    let mut entered = None;
    loop {
        let signal = held.wait();
        let mut passed_on = 0;
        if signal == libc::SIGTRAP | 0x80 {
            let call = held.call();
            if call.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
                // SAFETY: at an entry this is the part that the kernel has filled.
                entered = Some(unsafe { call.u.entry.nr });
            } else if entered.take() == u64::try_from(number).ok() {
                return held;
            }
        } else if signal != libc::SIGTRAP {
            passed_on = signal;
        }
        held.ask(libc::PTRACE_SYSCALL, usize::try_from(passed_on).unwrap());
    }
}

impl Held {
    /// Lets it go on by itself.
    pub fn release(self) {
        self.ask(libc::PTRACE_DETACH, 0);
    }

    fn ask(&self, request: libc::c_uint, data: usize) {
        let (address, data) = (ptr::null_mut::<u8>(), data as *mut u8);
        // SAFETY: none of the requests made here reads or writes memory of this process.
        let status = unsafe { libc::ptrace(request, self.0, address, data) };
        let error = std::io::Error::last_os_error();
        assert_eq!(status, 0, "ptrace request {request}: {error}");
    }

    /// The signal by which it came to a stop.
    fn wait(&self) -> c_int {
        let mut status = 0;
        // SAFETY: the kernel writes to a living value.
        let id = unsafe { libc::waitpid(self.0, &raw mut status, libc::__WALL) };
        assert_eq!(id, self.0, "{}", std::io::Error::last_os_error());
        assert!(libc::WIFSTOPPED(status), "the server ended: {status}");
        libc::WSTOPSIG(status)
    }

    /// The call that it has begun or come back from.
    fn call(&self) -> libc::ptrace_syscall_info {
        let mut call = MaybeUninit::<libc::ptrace_syscall_info>::zeroed();
        let size = size_of::<libc::ptrace_syscall_info>();
        // SAFETY: the kernel writes at most `size` bytes to a living value; all zeros is valid for it.
        unsafe {
            let request = libc::PTRACE_GET_SYSCALL_INFO;
            let filled = libc::ptrace(request, self.0, size, call.as_mut_ptr());
            assert!(filled > 0, "{}", std::io::Error::last_os_error());
            call.assume_init()
        }
    }
}
