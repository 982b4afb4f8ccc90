//! Ending everything in a network namespace, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::error::{LabError, Result};
use super::process::{ProcessRecord, in_network_namespace, namespace_of, network_namespace, pids};

/// How long the processes may take to go after SIGKILL.
const LIMIT: Duration = Duration::from_secs(15);

/// Process namespaces by number, each held open. The kernel gives the number of a namespace that is gone to the next
/// one made, which may be another lab's; one that is held open stays, also without processes.
#[derive(Debug, Default)]
struct HeldNamespaces(BTreeMap<String, File>);

impl HeldNamespaces {
    /// Holds the process namespaces of whatever runs in this network namespace, other than the caller's own.
    fn hold_those_in(&mut self, name: &str) {
        let own = namespace_of(std::process::id(), "pid");
        let wanted = network_namespace(name);
        for pid in in_network_namespace(name) {
            let path = format!("/proc/{pid}/ns/pid");
            let (Some(number), Ok(handle)) = (namespace_of(pid, "pid"), File::open(&path)) else {
                continue;
            };
            // The process may have ended before its namespace was held; then number and handle are of anything.
            let is_there_still = namespace_of(pid, "pid").as_ref() == Some(&number)
                && namespace_of(pid, "net") == wanted;
            if is_there_still && own.as_ref().is_some_and(|own| *own != number) {
                self.0.entry(number).or_insert(handle);
            }
        }
    }

    /// Whether the process runs in one of them.
    fn have(&self, pid: u32) -> bool {
        namespace_of(pid, "pid").is_some_and(|number| self.0.contains_key(&number))
    }
}

/// Kills everything that runs in a network namespace, and everything in the process namespaces found there (the
/// containers of a node have network namespaces of their own). Returns when the last of them is gone.
pub(crate) async fn kill_namespace(name: &str) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    let mut held = HeldNamespaces::default();
    loop {
        held.hold_those_in(name);
        let left: BTreeSet<u32> = pids()
            .into_iter()
            .filter(|pid| held.have(*pid))
            .chain(in_network_namespace(name))
            .collect();
        let left: Vec<ProcessRecord> = left.into_iter().filter_map(ProcessRecord::of).collect();
        if left.is_empty() {
            return Ok(());
        }
        for process in &left {
            // One that ended by itself in between is what was wanted.
            let _was_there = process.signal(Signal::KILL);
        }
        if Instant::now() > deadline {
            let pids: Vec<String> = left.iter().map(|process| process.pid.to_string()).collect();
            return Err(LabError::Machine {
                what: format!("processes of {name}"),
                found: format!(
                    "pids {} are still there {} s after SIGKILL",
                    pids.join(", "),
                    LIMIT.as_secs()
                ),
                next: "look at what they wait for in /proc/PID/stack".to_owned(),
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
#[cfg(feature = "lab")]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// The first process of a process namespace of its own, in this network namespace if one is named.
    fn first_process(network: Option<&str>) -> (Child, u32) {
        let mut command = match network {
            Some(name) => {
                let mut command = Command::new("nsenter");
                command.args([&format!("--net=/run/netns/{name}"), "--", "unshare"]);
                command
            }
            None => Command::new("unshare"),
        };
        let parent = command
            .args(["--pid", "--fork", "--kill-child", "--", "sleep", "600"])
            .spawn()
            .unwrap();
        let child = child_of(parent.id());
        (parent, child)
    }

    fn child_of(parent: u32) -> u32 {
        let children = format!("/proc/{parent}/task/{parent}/children");
        let deadline = Instant::now() + LIMIT;
        loop {
            let child = std::fs::read_to_string(&children).unwrap_or_default();
            if let Ok(child) = child.trim().parse() {
                return child;
            }
            assert!(Instant::now() < deadline, "unshare starts nothing");
            std::thread::yield_now();
        }
    }

    fn ip(arguments: &[&str]) {
        assert!(
            Command::new("ip")
                .args(arguments)
                .status()
                .unwrap()
                .success()
        );
    }

    #[test]
    fn a_namespace_made_after_another_ended_is_never_taken_for_it() {
        let name = format!("mlabtest-{}", std::process::id());
        ip(&["netns", "add", &name]);
        let (mut doomed, first) = first_process(Some(&name));
        let mut held = HeldNamespaces::default();
        held.hold_those_in(&name);
        assert!(held.have(first), "the process to be killed is not found");
        assert!(ProcessRecord::of(first).unwrap().signal(Signal::KILL));
        doomed.wait().unwrap();

        let mut others: Vec<(Child, u32)> = (0..20).map(|_| first_process(None)).collect();
        let hit = others.iter().filter(|(_, pid)| held.have(*pid)).count();
        for (parent, first) in &mut others {
            let _was_there = ProcessRecord::of(*first).map(|record| record.signal(Signal::KILL));
            parent.wait().unwrap();
        }
        ip(&["netns", "delete", &name]);
        assert_eq!(hit, 0, "processes of others that would have been killed");
    }
}
