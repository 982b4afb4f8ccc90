//! The sockets that the server waits to write to: clients whose replies did not fit. The server tells nobody but the kernel.

use std::ffi::c_int;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;

/// The bit of EPOLLOUT as the kernel prints it.
const OUT: u32 = libc::EPOLLOUT.cast_unsigned();

/// The kernel's list of what the server's event loop waits for.
#[derive(Debug)]
pub(crate) struct Interests(File);

impl Interests {
    /// That of the one event loop of this process.
    ///
    /// # Errors
    /// There is none, more than one, or /proc cannot be read.
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let mut loops = Vec::new();
        for entry in fs::read_dir("/proc/self/fd")? {
            let entry = entry?;
            // Gone meanwhile: that through which the folder is read.
            let Ok(target) = fs::read_link(entry.path()) else {
                continue;
            };
            if target.as_os_str() == "anon_inode:[eventpoll]" {
                loops.push(entry.file_name());
            }
        }
        let [only] = loops.as_slice() else {
            let text = format!(
                "this process has {} event loops, and one is expected",
                loops.len()
            );
            return Err(io::Error::other(text));
        };
        let path = format!("/proc/self/fdinfo/{}", only.to_string_lossy());
        File::open(path).map(Self)
    }

    /// Calls `each` with every descriptor that the event loop waits to write to; false if that could not be read to the end.
    /// Neither allocates nor takes a lock.
    pub(crate) fn waiting(&self, mut each: impl FnMut(c_int)) -> bool {
        let (mut line, mut part) = (Line::default(), [0; 4096]);
        let mut place = 0;
        loop {
            // SAFETY: the kernel writes at most as many bytes as the living array has.
            let read = unsafe {
                libc::pread(
                    self.0.as_raw_fd(),
                    part.as_mut_ptr().cast(),
                    part.len(),
                    place,
                )
            };
            let Ok(length) = usize::try_from(read) else {
                return false;
            };
            if length == 0 {
                return true;
            }
            for byte in part.iter().take(length) {
                if let Some(descriptor) = line.push(*byte) {
                    each(descriptor);
                }
            }
            place += read as libc::off_t;
        }
    }
}

/// The line under way: `tfd:` and a descriptor, `events:` and bits in hexadecimal digits, and more that does not matter.
struct Line {
    bytes: [u8; 64],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            bytes: [0; 64],
            length: 0,
        }
    }
}

impl Line {
    /// The descriptor, at the end of a line that says that it is waited for to be written to.
    fn push(&mut self, byte: u8) -> Option<c_int> {
        if byte != b'\n' {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = byte;
                self.length += 1;
            }
            return None;
        }
        let bytes = self.bytes.get(..self.length);
        self.length = 0;
        let mut words = std::str::from_utf8(bytes?).ok()?.split_ascii_whitespace();
        if words.next() != Some("tfd:") {
            return None;
        }
        let descriptor = words.next()?.parse().ok()?;
        if words.next() != Some("events:") {
            return None;
        }
        let events = u32::from_str_radix(words.next()?, 16).ok()?;
        (events & OUT != 0).then_some(descriptor)
    }
}

#[cfg(test)]
mod tests {
    use std::io::pipe;
    use std::os::fd::AsRawFd as _;

    use super::{Interests, Line};

    #[test]
    fn descriptors_that_are_waited_for_to_be_written_to_are_found() {
        let text = "pos:\t0\nflags:\t02\n\
                    tfd:        5 events:       19 data:                5  pos:0 ino:1 sdev:d\n\
                    tfd:       17 events:       1d data:               11  pos:0 ino:1 sdev:d\n\
                    tfd:      171 events:        4\n\
                    tfd:      nonsense\n";
        let mut line = Line::default();
        let found: Vec<_> = text.bytes().filter_map(|byte| line.push(byte)).collect();
        assert_eq!(found, [17, 171]);
    }

    #[test]
    fn the_kernel_says_so_of_this_process() {
        let (reader, writer) = pipe().unwrap();
        // SAFETY: makes a descriptor.
        let event_loop = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        let interests = Interests::of_this_process().unwrap();
        for (end, events) in [
            (reader.as_raw_fd(), libc::EPOLLIN),
            (writer.as_raw_fd(), libc::EPOLLOUT),
        ] {
            let mut event = libc::epoll_event {
                events: events.cast_unsigned(),
                u64: 0,
            };
            // SAFETY: the event is a living value, the descriptors are open.
            let added =
                unsafe { libc::epoll_ctl(event_loop, libc::EPOLL_CTL_ADD, end, &raw mut event) };
            assert_eq!(added, 0);
        }
        let mut found = Vec::new();
        assert!(interests.waiting(|descriptor| found.push(descriptor)));
        assert_eq!(found, [writer.as_raw_fd()]);
        // SAFETY: closes what was opened above.
        unsafe { libc::close(event_loop) };
        found.clear();
        assert!(!interests.waiting(|descriptor| found.push(descriptor)) || found.is_empty());
    }
}
