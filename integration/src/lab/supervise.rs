//! The supervisor of a unit: process 1 of the unit's process namespace. It sets up the mounts, starts the processes,
//! starts again what ends, and reaps what containers leave behind. `lab up` starts it; nobody calls it by hand.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{WaitOptions, wait};
use tokio::signal::unix::{SignalKind, signal};

use super::enclose::{enclose, enter_control_group};
use super::error::{LabError, Result, file};
use super::files;
use super::unit::{Need, ProcessSpec, Restarts, UnitSpec, hold};

/// How long a process that ended stays down: long enough not to spin, short enough for a cluster to heal at once.
const PAUSE_BEFORE_RESTART: Duration = Duration::from_millis(500);

/// How often the supervisor looks for what a process needs.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs the unit of this file for as long as the process lives. A unit with a control group of its own passes here
/// twice, the second time `enclosed` in it.
pub(crate) async fn supervise(path: &Path, enclosed: bool) -> Result<Infallible> {
    let spec = UnitSpec::read(path)?;
    if let Some(group) = spec.control_group.as_ref().filter(|_| !enclosed) {
        return enter_control_group(group, path);
    }
    enclose(&spec).await?;
    let mut ended =
        signal(SignalKind::child()).map_err(file("listen for ended children of", path))?;
    let mut processes = Processes::new(&spec);
    processes.start_due(Instant::now())?;
    loop {
        let due = processes.next_start();
        tokio::select! {
            _ = ended.recv() => processes.reap(Instant::now())?,
            () = tokio::time::sleep_until(due.unwrap_or_else(far).into()), if due.is_some() => {}
        }
        processes.start_due(Instant::now())?;
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

struct Processes<'a> {
    spec: &'a UnitSpec,
    running: BTreeMap<u32, &'a ProcessSpec>,
    waiting: Vec<(Instant, &'a ProcessSpec)>,
    restarts: Restarts,
}

impl<'a> Processes<'a> {
    fn new(spec: &'a UnitSpec) -> Self {
        let now = Instant::now();
        let waiting = spec
            .processes
            .iter()
            .map(|process| (now, process))
            .collect();
        Self {
            spec,
            running: BTreeMap::new(),
            waiting,
            restarts: Restarts::new(),
        }
    }

    fn next_start(&self) -> Option<Instant> {
        self.waiting.iter().map(|(when, _)| *when).min()
    }

    fn start_due(&mut self, now: Instant) -> Result<()> {
        for (when, process) in std::mem::take(&mut self.waiting) {
            if when > now {
                self.waiting.push((when, process));
            } else if is_held(self.spec, process) || !process.needs.iter().all(is_there) {
                self.waiting.push((now + LOOK_EVERY, process));
            } else {
                let pid = start(self.spec, process)?;
                self.running.insert(pid, process);
            }
        }
        Ok(())
    }

    /// Takes note of every child that ended, also of those that containers left to process 1.
    fn reap(&mut self, now: Instant) -> Result<()> {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let Some(process) = self
                .running
                .remove(&pid.as_raw_nonzero().get().cast_unsigned())
            else {
                continue;
            };
            let count = self.restarts.entry(process.name.clone()).or_default();
            *count += 1;
            report(&format!(
                "{} ended ({status:?}), start {} follows",
                process.name,
                *count + 1
            ));
            self.waiting.push((now + PAUSE_BEFORE_RESTART, process));
            let text = serde_json::to_string(&self.restarts).map_err(|error| LabError::State {
                path: self.spec.path(),
                reason: error.to_string(),
            })?;
            files::write(&self.spec.folder.join("restarts.json"), &text)?;
        }
        Ok(())
    }
}

fn is_held(spec: &UnitSpec, process: &ProcessSpec) -> bool {
    hold(&spec.folder, &process.name).exists()
}

fn is_there(need: &Need) -> bool {
    match need {
        Need::Socket(path) => path.exists(),
        Need::Listener(address) => {
            TcpStream::connect_timeout(address, Duration::from_millis(100)).is_ok()
        }
    }
}

fn start(spec: &UnitSpec, process: &ProcessSpec) -> Result<u32> {
    let path = spec.log(&process.name);
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(file("open", &path))?;
    let errors = log.try_clone().map_err(file("open", &path))?;
    let child = Command::new(&process.program)
        .args(&process.arguments)
        .current_dir(&spec.folder)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(|error| LabError::Command {
            command: process.program.display().to_string(),
            status: "no start".to_owned(),
            stderr: error.to_string(),
        })?;
    // The handle is dropped without a wait: `reap` waits for all children, this one among them.
    Ok(child.id())
}

/// The supervisor's error stream is its log.
fn report(line: &str) {
    use std::io::Write;
    let _log_is_gone = writeln!(std::io::stderr().lock(), "{line}");
}
