//! The processes of a node: each a [`supervisor`](crate::supervisor) state machine, plus the I/O that its actions ask for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use meridian_api::version::Series;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use tracing::{error, info, warn};

use super::Config;
use super::attention::Attention;
use super::shards::{self, ShardError};
use super::socket::UnitReport;
use crate::backoff::RESTART;
use crate::clock;
use crate::desired::{DesiredShard, DesiredState, ShardName, Unreadable};
use crate::supervisor::{Action, Event, Phase, attempts_after, deadline, next};

/// The child holds nothing that needs long to put away.
const CHILD_GRACE: Duration = Duration::from_secs(3);

/// Where the child learns the topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Source {
    /// `DatabaseTopology` objects of this pod's cluster.
    Kubernetes,
    /// The file that `standalone` wrote.
    Standalone,
    /// A directory that several nodes without Kubernetes share, in the place of an API server.
    #[value(hide = true)]
    Directory,
}

/// A supervised process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum UnitName {
    /// The child.
    Sync,
    /// A shard.
    Shard(ShardName),
}

impl std::fmt::Display for UnitName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sync => f.write_str("sync"),
            Self::Shard(name) => name.fmt(f),
        }
    }
}

struct Unit {
    phase: Phase,
    starts: u64,
    hangs: u64,
    last_end: Option<String>,
    /// It ended by itself with an error: a shard perhaps because of its files.
    failed: bool,
    shard: Option<Assigned>,
    /// The series of Valkey that was started last.
    runs: Option<Series>,
}

/// What a shard is to be.
struct Assigned {
    /// Whose data it serves.
    owner: String,
    desired: DesiredShard,
    unreadable: Unreadable,
}

/// All processes of a node.
pub(super) struct Units {
    config: Config,
    internal_secret: String,
    program: PathBuf,
    /// To the child.
    attention: Attention,
    units: BTreeMap<UnitName, Unit>,
}

impl Units {
    pub(super) fn new(config: Config, internal_secret: String) -> std::io::Result<Self> {
        let program = std::env::current_exe()?;
        let sync = Unit {
            phase: Phase::Stopped,
            starts: 0,
            hangs: 0,
            last_end: None,
            failed: false,
            shard: None,
            runs: None,
        };
        Ok(Self {
            config,
            internal_secret,
            program,
            attention: Attention::default(),
            units: BTreeMap::from([(UnitName::Sync, sync)]),
        })
    }

    /// Makes the shards what `desired` says.
    ///
    /// # Errors
    /// [`ShardError`] of the last running shard whose files are still the old ones; everything else is done.
    pub(super) fn follow(&mut self, desired: &DesiredState) -> Result<(), ShardError> {
        let mut wanted = BTreeMap::new();
        for (name, database, shard) in desired.shards() {
            let assigned = Assigned {
                owner: database.owner.clone(),
                desired: shard.clone(),
                unreadable: database.unreadable(shard),
            };
            wanted.insert(UnitName::Shard(name), assigned);
        }
        let known: Vec<UnitName> = self.units.keys().cloned().collect();
        for name in known {
            if name != UnitName::Sync && !wanted.contains_key(&name) {
                self.send(&name, Event::Unwant);
            }
        }
        let mut followed = Ok(());
        for (name, shard) in wanted {
            let event = match self.units.get(&name) {
                Some(unit) => match &unit.shard {
                    Some(running)
                        if running.owner == shard.owner
                            && !running.desired.needs_restart(&shard.desired)
                            && !self.needs_server(&name, unit, &shard.desired) =>
                    {
                        Event::Want
                    }
                    Some(_) | None => Event::Restart,
                },
                None => Event::Want,
            };
            let unit = self.units.entry(name.clone()).or_insert(Unit {
                phase: Phase::Stopped,
                starts: 0,
                hangs: 0,
                last_end: None,
                failed: false,
                shard: None,
                runs: None,
            });
            unit.shard = Some(shard);
            if event == Event::Want && matches!(unit.phase, Phase::Running { .. }) {
                followed = self.rewrite(&name).and(followed);
            }
            self.send(&name, event);
        }
        followed
    }

    /// It runs by another Valkey than it should. One that this node does not bring lets it go on as it is.
    fn needs_server(&self, name: &UnitName, unit: &Unit, wanted: &DesiredShard) -> bool {
        let (UnitName::Shard(name), Some(runs)) = (name, unit.runs) else {
            return false;
        };
        match shards::server(&self.config, name, wanted) {
            Ok((series, _)) => series != runs,
            Err(error) => {
                let error = crate::run::chain(&error);
                warn!(shard = %name, error, "it goes on by Valkey {runs}");
                false
            }
        }
    }

    /// Brings the files of a running shard up to date; the child makes the shard read them.
    fn rewrite(&self, name: &UnitName) -> Result<(), ShardError> {
        let UnitName::Shard(shard_name) = name else {
            return Ok(());
        };
        let Some(shard) = self.units.get(name).and_then(|u| u.shard.as_ref()) else {
            return Ok(());
        };
        let secret = &self.internal_secret;
        shards::write_files(&self.config, shard_name, &shard.desired, secret)
    }

    pub(super) fn send_all(&mut self, event: Event) {
        let names: Vec<UnitName> = self.units.keys().cloned().collect();
        for name in names {
            self.send(&name, event);
        }
    }

    /// Feeds one event to one process's state machine and does what it asks.
    pub(super) fn send(&mut self, name: &UnitName, event: Event) {
        let grace = if *name == UnitName::Sync {
            CHILD_GRACE
        } else {
            self.config.grace
        };
        let Some(unit) = self.units.get_mut(name) else {
            return;
        };
        let (phase, action) = next(unit.phase, event, clock::now(), grace);
        unit.phase = phase;
        match action {
            Action::None => {}
            Action::Start => {
                let event = self.start(name);
                self.send(name, event);
            }
            Action::Terminate(pid) => self.signal(name, pid, Signal::TERM),
            Action::Kill(pid) => {
                error!(unit = %name, pid, "did not end in time and is killed; what was not yet on disk is lost");
                self.signal(name, pid, Signal::KILL);
            }
        }
        if matches!(
            self.units.get(name),
            Some(Unit {
                phase: Phase::Stopped,
                ..
            })
        ) && *name != UnitName::Sync
        {
            self.units.remove(name);
        }
    }

    fn start(&mut self, name: &UnitName) -> Event {
        let started = self.spawn(name);
        let Some(unit) = self.units.get_mut(name) else {
            return Event::Tick;
        };
        match started {
            Ok((pid, series)) => {
                unit.starts += 1;
                unit.runs = series;
                if *name == UnitName::Sync {
                    self.attention.heard();
                }
                info!(unit = %name, pid, starts = unit.starts, "started");
                Event::Started { pid }
            }
            Err(e) => {
                let reason = crate::run::chain(e.as_ref());
                error!(unit = %name, error = reason, "cannot be started");
                unit.last_end = Some(reason);
                Event::Ended {
                    wait: restart_wait(&unit.phase),
                }
            }
        }
    }

    /// The process, and the series of Valkey that it becomes if it is a shard.
    fn spawn(&self, name: &UnitName) -> Result<(i32, Option<Series>), Box<dyn std::error::Error>> {
        let mut command = Command::new(&self.program);
        let mut runs = None;
        let layout = &self.config.layout;
        match name {
            UnitName::Sync => {
                command
                    .arg("sync")
                    .arg("--dir")
                    .arg(layout.data())
                    .arg("--run-dir")
                    .arg(layout.run());
                command.arg("--source").arg(match self.config.source {
                    Source::Kubernetes => "kubernetes",
                    Source::Standalone => "standalone",
                    Source::Directory => "directory",
                });
                command.arg("--internal-dir").arg(&self.config.internal);
            }
            UnitName::Shard(shard_name) => {
                let unit = self.units.get(name);
                let shard = unit
                    .and_then(|unit| unit.shard.as_ref())
                    .ok_or("it has no configuration: this is a defect of the supervisor")?;
                let (series, program) = shards::prepare(
                    &self.config,
                    shard_name,
                    &shard.owner,
                    &shard.desired,
                    &self.internal_secret,
                )?;
                runs = Some(series);
                let files = layout.shard(shard_name.as_str());
                command
                    .arg("shard")
                    .arg("--dir")
                    .arg(files.directory)
                    .arg("--valkey-server")
                    .arg(program)
                    .arg("--unreadable")
                    .arg(word(&shard.unreadable))
                    .arg("--keeps")
                    .arg(word(&shard.desired.persistence.keeps()));
                if unit.is_some_and(|unit| unit.failed) {
                    command.arg("--examine");
                }
            }
        }
        let child = command.stdin(Stdio::null()).spawn()?;
        Ok((i32::try_from(child.id())?, runs))
    }

    fn signal(&self, name: &UnitName, pid: i32, signal: Signal) {
        let Some(pid) = Pid::from_raw(pid) else {
            return;
        };
        if let Err(e) = kill_process(pid, signal) {
            warn!(unit = %name, ?signal, error = %e, "the signal was not delivered");
        }
    }

    /// A process has asked something.
    pub(super) fn heard(&mut self, asker: Option<i32>) {
        if asker.is_some() && asker == self.child() {
            self.attention.heard();
        }
    }

    /// About once a second: a child that asks nothing any more is killed, to be started anew as one that ended by itself.
    pub(super) fn beat(&mut self) {
        let Some(pid) = self.child() else {
            self.attention.heard();
            return;
        };
        if !self.attention.beat() {
            return;
        }
        error!(unit = %UnitName::Sync, pid, "asks nothing any more: it is stopped or hangs, and is killed");
        if let Some(unit) = self.units.get_mut(&UnitName::Sync) {
            unit.hangs += 1;
        }
        self.signal(&UnitName::Sync, pid, Signal::KILL);
    }

    /// The child, while it runs and is to run.
    fn child(&self) -> Option<i32> {
        match self.units.get(&UnitName::Sync)?.phase {
            Phase::Running { pid, .. } => Some(pid),
            Phase::Stopped | Phase::Waiting { .. } | Phase::Stopping { .. } => None,
        }
    }

    /// Collects every process that has ended, also orphans that were left to PID 1.
    pub(super) fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            let Some(name) = self
                .units
                .iter()
                .find(|(_, u)| pid_of(&u.phase) == Some(pid))
                .map(|(n, _)| n.clone())
            else {
                continue;
            };
            let Some(unit) = self.units.get_mut(&name) else {
                continue;
            };
            let how = describe(status);
            unit.failed = status.exit_status().is_some_and(|code| code != 0);
            if matches!(unit.phase, Phase::Stopping { .. }) {
                info!(unit = %name, pid, how, "ended as asked");
                if let (UnitName::Shard(shard), Some(0)) = (&name, status.exit_status()) {
                    shards::stopped_in_order(&self.config, shard, pid);
                }
            } else {
                warn!(unit = %name, pid, how, "ended by itself");
            }
            unit.last_end = Some(how);
            let wait = restart_wait(&unit.phase);
            self.send(&name, Event::Ended { wait });
        }
    }

    pub(super) fn tick(&mut self) {
        self.send_all(Event::Tick);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.units
            .values()
            .filter_map(|unit| deadline(&unit.phase))
            .min()
    }

    pub(super) fn all_ended(&self) -> bool {
        self.units.values().all(|unit| unit.phase == Phase::Stopped)
    }

    pub(super) fn report(&self) -> BTreeMap<String, UnitReport> {
        let report = |unit: &Unit| UnitReport {
            state: match unit.phase {
                Phase::Stopped => "stopped",
                Phase::Waiting { .. } => "waiting",
                Phase::Running { .. } => "running",
                Phase::Stopping { .. } => "stopping",
            }
            .to_owned(),
            pid: pid_of(&unit.phase),
            starts: unit.starts,
            hangs: unit.hangs,
            last_end: unit.last_end.clone(),
        };
        self.units
            .iter()
            .map(|(name, unit)| (name.to_string(), report(unit)))
            .collect()
    }
}

/// As the command line of a shard spells it.
fn word(value: &impl clap::ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

fn restart_wait(phase: &Phase) -> Duration {
    RESTART.delay(attempts_after(phase, clock::now()), rand::random())
}

fn pid_of(phase: &Phase) -> Option<i32> {
    match *phase {
        Phase::Running { pid, .. } | Phase::Stopping { pid, .. } => Some(pid),
        Phase::Stopped | Phase::Waiting { .. } => None,
    }
}

fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}
