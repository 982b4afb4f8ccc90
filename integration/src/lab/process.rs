//! Processes of the lab: who they are, whether they live, how they end. A process is known by its pid, the moment of
//! its start and the machine's boot, so that a pid which the system gave to somebody else is never touched.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::error::{LabError, Result, file};

/// A process that can be told from a later one with the same pid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// Its pid as the machine sees it.
    pub pid: u32,
    /// When it started, in clock ticks since the machine's boot.
    pub started: u64,
    /// Which boot of the machine that was.
    pub boot: String,
}

impl ProcessRecord {
    /// The record of a living process; `None` if there is none with this pid.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let stat = Stat::parse(&stat)?;
        (stat.state != 'Z').then(|| Self {
            pid,
            started: stat.started,
            boot: boot_id(),
        })
    }

    /// Whether this very process still runs (one that ended but was not waited for does not).
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Sends a signal to this very process. Returns whether it was there to get it.
    #[must_use]
    pub fn signal(&self, signal: Signal) -> bool {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return false;
        };
        // The descriptor holds on to whatever has the pid now; only then is it compared, so nobody slips in between.
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else {
            return false;
        };
        self.is_alive() && pidfd_send_signal(descriptor, signal).is_ok()
    }

    /// Reads a record that [`ProcessRecord::write`] wrote; `None` if there is no such file.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file("read", path)(error)),
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|error| LabError::State {
                    path: path.to_owned(),
                    reason: error.to_string(),
                }),
        }
    }

    /// Writes the record so that a reader finds all of it or nothing.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self).map_err(|error| LabError::State {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        super::files::write(path, &text)
    }
}

struct Stat {
    state: char,
    started: u64,
}

impl Stat {
    /// Reads `/proc/PID/stat`: the name in parentheses may itself hold spaces and parentheses (proc(5), fields 3 and 22).
    fn parse(text: &str) -> Option<Self> {
        let rest = &text[text.rfind(')')? + 1..];
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let started = fields.nth(18)?.parse().ok()?;
        Some(Self { state, started })
    }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// All pids of the machine.
pub(crate) fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The number of a process's namespace of this kind (`net`, `pid`), while it has one. The kernel gives the number of a
/// namespace that is gone to the next one made.
pub(crate) fn namespace_of(pid: u32, kind: &str) -> Option<String> {
    fs::read_link(format!("/proc/{pid}/ns/{kind}"))
        .ok()
        .map(|link| link.to_string_lossy().into_owned())
}

/// The number of the network namespace of this name.
pub(crate) fn network_namespace(name: &str) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(format!("/run/netns/{name}")).ok()?;
    Some(format!("net:[{}]", metadata.ino()))
}

/// The living processes in the network namespace of this name.
#[must_use]
pub(crate) fn in_network_namespace(name: &str) -> Vec<u32> {
    let Some(wanted) = network_namespace(name) else {
        return Vec::new();
    };
    pids()
        .into_iter()
        .filter(|pid| namespace_of(*pid, "net").as_deref() == Some(&wanted))
        .collect()
}

/// A process of a unit, as the machine sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningProcess {
    /// Name of its program.
    pub name: String,
    /// Which process it is.
    pub process: ProcessRecord,
    /// Resident memory in bytes.
    pub resident: u64,
    /// Its pid as it sees it itself; the first process of a container has 1.
    pub inner: u32,
}

/// What runs in a network namespace, with its memory.
#[must_use]
pub(crate) fn running_in(namespace: &str) -> Vec<RunningProcess> {
    in_network_namespace(namespace)
        .into_iter()
        .filter_map(running)
        .collect()
}

/// The processes in the containers of a pod of the lab whose control groups lie below `group`.
#[must_use]
pub(crate) fn of_pod(group: &str, pod: &str) -> Vec<RunningProcess> {
    let of_lab = format!(":/{group}/");
    pids()
        .into_iter()
        .filter(|pid| {
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"));
            groups.is_ok_and(|groups| groups.contains(&of_lab))
        })
        .filter(|pid| {
            // A container has the name of its pod in this file; what belongs to the node has the machine's.
            let host = fs::read_to_string(format!("/proc/{pid}/root/etc/hostname"));
            host.is_ok_and(|host| host.trim() == pod)
        })
        .filter_map(running)
        .collect()
}

fn running(pid: u32) -> Option<RunningProcess> {
    let process = ProcessRecord::of(pid)?;
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    // Valkey writes more than its name here, after a space.
    let name = Path::new(command.split(['\0', ' ']).next()?)
        .file_name()?
        .to_string_lossy()
        .into_owned();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(RunningProcess {
        name,
        resident: resident_bytes(&status)?,
        inner: inner_pid(&status)?,
        process,
    })
}

/// The pid that a process has in its own process namespace.
fn inner_pid(status: &str) -> Option<u32> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().last()?.parse().ok()
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim()
        .strip_suffix(" kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let line =
            "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 98765 1000 200 184467";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.state, stat.started), ('S', 98765));
    }

    #[test]
    fn a_record_with_another_start_is_another_process_and_gets_no_signal() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let record = ProcessRecord::of(child.id()).unwrap();
        let reused = ProcessRecord {
            started: record.started + 1,
            ..record.clone()
        };
        let other_boot = ProcessRecord {
            boot: "another".to_owned(),
            ..record.clone()
        };
        assert!(!reused.signal(Signal::KILL) && !other_boot.signal(Signal::KILL));
        assert!(record.is_alive(), "the process with the reused pid was hit");
        assert!(record.signal(Signal::KILL));
        child.wait().unwrap();
        assert!(!record.is_alive());
    }

    #[test]
    fn an_ended_process_that_nobody_waited_for_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while ProcessRecord::of(child.id()).is_some() {
            assert!(Instant::now() < deadline, "`true` runs on");
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }

    #[test]
    fn the_innermost_pid_is_the_last_of_its_line() {
        assert_eq!(inner_pid("Pid:\t77\nNSpid:\t77\t12\t1\n"), Some(1));
        assert_eq!(inner_pid("Pid:\t77\n"), None);
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(
            resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"),
            Some(2_097_152)
        );
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }
}
