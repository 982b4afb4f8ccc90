//! PID 1 of a node: starts and restarts the shards and the one child, reaps what dies, answers probes, stops in order.
//!
//! It is single-threaded, knows no TLS and no Kubernetes, and decides nothing but whether to follow an order
//! ([`crate::desired::obey()`]). What it accepted is on disk, so it starts the shards again without asking anybody.

mod attention;
mod probes;
mod shards;
mod socket;
mod units;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::atomic_file::{self, FileError};
use crate::clock;
use crate::desired::{DesiredState, Refusal, Role, ShardName, obey};
use crate::layout::{Layout, SocketPathTooLong};
use crate::lock::{Lock, LockError};
use crate::secret::{self, SecretError};
use crate::supervisor::Event;
use crate::valkey::Servers;

pub use socket::{AskError, OrderNumbers, Report, Request, UnitReport, Verb, ask};
pub use units::Source;
use units::{UnitName, Units};

/// Requests wait for the loop, which never blocks: a few are plenty.
const REQUEST_QUEUE: usize = 16;

/// How long the node waits for its primaries to be moved before it stops them where they are. With the grace of the shards it stays
/// below the 60 s that an eviction may take.
const HAND_OVER: Duration = Duration::from_secs(30);

/// How PID 1 runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything lies.
    pub layout: Layout,
    /// Where probes are served; `None`: nowhere.
    pub probe_listen: Option<SocketAddr>,
    /// The programs of shards.
    pub servers: Servers,
    /// The module of Active-Active shards.
    pub module: PathBuf,
    /// Where the child learns the topology.
    pub source: Source,
    /// The directory of the Secret that the nodes of a cluster share.
    pub internal: PathBuf,
    /// `true`: shards log into their own directories.
    pub shards_log_to_file: bool,
    /// How long a shard may take for an orderly stop.
    pub grace: Duration,
}

/// Why PID 1 could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Pid1Error {
    /// Another process owns the data directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file of ours.
    #[error(transparent)]
    File(#[from] FileError),
    /// No password for the internal user.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A socket path that the system would cut off.
    #[error(transparent)]
    SocketPath(#[from] SocketPathTooLong),
    /// A listener could not be opened.
    #[error("listen on {address} for {purpose}")]
    Listen {
        /// Where.
        address: String,
        /// What for.
        purpose: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Signals cannot be received.
    #[error("install signal handlers")]
    Signals(#[source] std::io::Error),
    /// The path of this program is unknown.
    #[error("find this program's own path, to start its child")]
    OwnPath(#[source] std::io::Error),
}

/// Why an order is not followed whole, so that it is to be repeated.
#[derive(Debug, thiserror::Error)]
enum OrderError {
    /// It could not be read, or not be stored.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is stored, and a running shard has not heard of it.
    #[error("bring the files of a shard up to date")]
    Shard(#[from] shards::ShardError),
}

/// Takes the data directory for this process; nothing below it may be written before.
///
/// # Errors
/// [`Pid1Error`] if another process has it, naming that process.
pub fn hold(layout: &Layout) -> Result<Lock, Pid1Error> {
    atomic_file::make_dir(layout.data())?;
    let command: Vec<String> = std::env::args().take(4).collect();
    let since = clock::rfc3339(clock::wall_ms());
    let holder = format!(
        "process {} ({}, since {since})",
        std::process::id(),
        command.join(" ")
    );
    Ok(Lock::take(&layout.lock(), &holder)?)
}

/// Runs until a signal asks it to stop; returns when every process it started has ended. `_held` is the lock of [`hold`].
///
/// Must run on a current-thread runtime in the main thread: children are told when *that* thread dies.
///
/// # Errors
/// [`Pid1Error`] if it cannot start. Later trouble with shards is logged, reported and retried instead.
pub async fn run(config: Config, _held: Lock) -> Result<(), Pid1Error> {
    let layout = &config.layout;
    for directory in [layout.run().to_owned(), layout.shards()] {
        atomic_file::make_dir(&directory)?;
    }
    let internal_secret = secret::create(&layout.internal_secret())?;
    let obeyed: Option<DesiredState> = atomic_file::read_json(&layout.obeyed())?;

    let (sender, requests) = mpsc::channel(REQUEST_QUEUE);
    let socket = socket::serve(&layout.supervisor_socket(), sender.clone())?;
    let probes = match config.probe_listen {
        Some(address) => Some(
            probes::serve(
                address,
                sender,
                config.layout.clone(),
                config.servers.bundled(),
                internal_secret.clone(),
            )
            .await?,
        ),
        None => None,
    };
    let signals = Signals::new()?;
    let units = Units::new(config.clone(), internal_secret).map_err(Pid1Error::OwnPath)?;
    let mut supervisor = Supervisor {
        informed: obeyed.is_some(),
        obeyed: obeyed.unwrap_or_default(),
        refusals: Vec::new(),
        owed: None,
        course: Course::Serving,
        handing: Vec::new(),
        units,
        config,
    };
    supervisor.start();
    supervisor.serve(requests, signals).await;
    socket.abort();
    if let Some(probes) = probes {
        probes.abort();
    }
    info!("stopped: every process has ended");
    Ok(())
}

struct Signals {
    child: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Pid1Error> {
        let open = |kind| signal(kind).map_err(Pid1Error::Signals);
        Ok(Self {
            child: open(SignalKind::child())?,
            terminate: open(SignalKind::terminate())?,
            interrupt: open(SignalKind::interrupt())?,
        })
    }
}

struct Supervisor {
    config: Config,
    units: Units,
    obeyed: DesiredState,
    refusals: Vec<Refusal>,
    /// Why the newest proposal is not followed although it could be an order.
    owed: Option<String>,
    /// `true` once an order was heard, in this life or an earlier one.
    informed: bool,
    course: Course,
    /// What is to be handed over while it is handing over.
    handing: Vec<ShardName>,
}

/// Where the node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// It serves.
    Serving,
    /// It will stop as soon as others lead what it leads now, or then.
    HandingOver(Instant),
    /// It stops.
    Stopping,
}

fn names(shards: &[ShardName]) -> String {
    let all: Vec<&str> = shards.iter().map(ShardName::as_str).collect();
    all.join(", ")
}

impl Supervisor {
    fn start(&mut self) {
        info!(data = %self.config.layout.data().display(), databases = self.obeyed.databases.len(), "supervising");
        // No shard runs yet: each writes its files when it starts.
        let _none_runs = self.units.follow(&self.obeyed);
        self.units.send(&UnitName::Sync, Event::Want);
    }

    async fn serve(&mut self, mut requests: mpsc::Receiver<Request>, mut signals: Signals) {
        let mut beats = attention::beats();
        loop {
            let hand_over = match self.course {
                Course::HandingOver(until) => Some(until),
                Course::Serving | Course::Stopping => None,
            };
            let deadline = self.units.deadline().into_iter().chain(hand_over).min();
            tokio::select! {
                _ = signals.child.recv() => self.units.reap(),
                _ = signals.terminate.recv() => self.asked_to_stop("SIGTERM"),
                _ = signals.interrupt.recv() => self.asked_to_stop("SIGINT"),
                Some(request) = requests.recv() => self.answer(request),
                () = sleep_until(deadline) => self.tick(),
                _ = beats.tick() => self.units.beat(),
            }
            if self.course == Course::Stopping && self.units.all_ended() {
                return;
            }
        }
    }

    /// Asked once, it first lets others lead; asked again, it stops at once.
    fn asked_to_stop(&mut self, why: &str) {
        let leads = self.could_be_led();
        if self.course != Course::Serving || leads.is_empty() {
            self.stop(why);
            return;
        }
        info!(
            why,
            leads = names(&leads),
            wait_ms = HAND_OVER.as_millis(),
            "waiting for others to lead"
        );
        self.handing = leads;
        self.course = Course::HandingOver(clock::now() + HAND_OVER);
    }

    /// The shards that others could lead in this node's place.
    fn could_be_led(&self) -> Vec<ShardName> {
        let led = self.obeyed.shards();
        led.filter(|(_, _, shard)| shard.could_be_led_elsewhere())
            .map(|(name, ..)| name)
            .collect()
    }

    /// What is not handed over yet. A shard whose successor was lost on the way may find another, so it is waited for as long as this
    /// node leads it.
    fn still_led(&self) -> Vec<ShardName> {
        let led = self.obeyed.shards();
        led.filter(|(name, _, shard)| shard.role == Role::Primary && self.handing.contains(name))
            .map(|(name, ..)| name)
            .collect()
    }

    fn stop(&mut self, why: &str) {
        info!(
            why,
            grace_ms = self.config.grace.as_millis(),
            "stopping shards in order"
        );
        self.course = Course::Stopping;
        self.units.send_all(Event::Unwant);
    }

    fn tick(&mut self) {
        self.units.tick();
        if let Course::HandingOver(until) = self.course
            && clock::now() >= until
        {
            warn!(
                leads = names(&self.still_led()),
                "nobody else leads in time; writes wait until somebody does"
            );
            self.stop("the hand-over took too long");
        }
    }

    fn answer(&mut self, request: Request) {
        let Request { verb, asker, reply } = request;
        self.units.heard(asker);
        match verb {
            Verb::Apply if self.course != Course::Stopping => self.apply(),
            Verb::Apply | Verb::Status => {}
        }
        if matches!(self.course, Course::HandingOver(_)) && self.still_led().is_empty() {
            self.stop("others lead");
        }
        // The asker may have gone; then nobody needs the answer.
        let _gone = reply.send(self.report());
    }

    fn apply(&mut self) {
        let owed = self.adopt().err().map(|error| crate::run::chain(&error));
        if owed != self.owed {
            match &owed {
                Some(error) => error!(
                    error,
                    "the newest orders are not followed whole until they are repeated"
                ),
                None => info!("orders are followed again"),
            }
        }
        self.owed = owed;
    }

    /// Follows the proposal, as far as it is an order.
    fn adopt(&mut self) -> Result<(), OrderError> {
        let Some(proposal) = atomic_file::read_json(&self.config.layout.proposed())? else {
            return Ok(());
        };
        let verdict = obey(&self.obeyed, &proposal);
        for refusal in &verdict.refusals {
            if !self.refusals.contains(refusal) {
                warn!(database = refusal.database, reason = ?refusal.reason, "{}", refusal.message);
            }
        }
        self.refusals = verdict.refusals;
        if verdict.accepted != self.obeyed || !self.informed || self.owed.is_some() {
            // First on disk, then in the world: a role must never be forgotten once it was taken.
            atomic_file::write_json(&self.config.layout.obeyed(), &verdict.accepted)?;
            self.obeyed = verdict.accepted;
            self.informed = true;
            self.units.follow(&self.obeyed)?;
        }
        Ok(())
    }

    fn report(&self) -> Report {
        Report {
            informed: self.informed,
            stopping: self.course != Course::Serving,
            databases: self
                .obeyed
                .databases
                .iter()
                .map(|(name, d)| {
                    let topology_uid = d.topology_uid.clone();
                    (
                        name.clone(),
                        OrderNumbers {
                            topology_uid,
                            epoch: d.epoch,
                            generation: d.generation,
                        },
                    )
                })
                .collect(),
            refusals: self.refusals.clone(),
            owed: self.owed.clone(),
            units: self.units.report(),
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
