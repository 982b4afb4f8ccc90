//! Drives one shard's role and permission: carries out what its [`Core`] decides. One task per shared shard, with a connection of
//! its own, so that nothing else that is asked of the shard delays a permission.

pub(super) mod held;
mod orders;
mod view;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::authority::Authority;
use super::exit::{Exit, Following};
use super::internal::Members;
use super::proto::nodes::GrantRequest;
use super::shard::{Shard, ShardAddress, ShardError};
use crate::atomic_file;
use crate::clock;
use crate::kept::{self, Refused};
use crate::permission::{
    Action, Answer, Ask, Core, Duty, Event, Facts, Found, Order, Position, Progress, Read,
};
use crate::secret::replication_password;
use crate::sync::topology::Topology;
use crate::valkey::Replicated;
use held::Held;
pub(super) use view::RoleView;

/// How often the shard's place in replication is looked at, and how soon one that starts is found.
const LOOK: Duration = Duration::from_millis(200);

/// A shard that does not answer within this is not there: its permission ends by itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// A read of the topology that takes longer is worth little.
const READ_PATIENCE: Duration = Duration::from_millis(1_500);

/// Answers on their way: a few members' and a few reads', taken at once.
const ANSWERS: usize = 32;

/// What the task needs to know of its shard; changes while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assigned {
    /// What PID 1 obeys.
    pub(super) duty: Duty,
    /// `metadata.generation` of the topology in which it is.
    pub(super) generation: u64,
    /// The port by which replicas enter, here and on every other node.
    pub(super) port: u16,
    /// They do so by TLS.
    pub(super) by_tls: bool,
    /// Where a replica that does finds the way to its primary.
    pub(super) out: Ipv4Addr,
    /// The node was asked to stop.
    pub(super) stopping: bool,
}

/// Who does not change.
#[derive(Clone)]
pub(super) struct Shared {
    /// The name of this node.
    pub(super) node: String,
    /// The name of the database.
    pub(super) database: String,
    /// The shard within it.
    pub(super) shard: u32,
    /// How to reach it.
    pub(super) address: ShardAddress,
    /// Where its facts are kept.
    pub(super) facts: PathBuf,
    /// Where it is kept how much of the stream is on disk.
    pub(super) held: PathBuf,
    /// The directory of the cluster's internal Secret.
    pub(super) internal: PathBuf,
    /// The other nodes.
    pub(super) members: Arc<Members>,
    /// Who knows the topology.
    pub(super) authority: Arc<dyn Authority>,
    /// By what it and its primary know each other.
    pub(super) following: Following,
    /// Counts changes that deserve to be told at once.
    pub(super) edges: watch::Sender<u64>,
}

struct Roles {
    shared: Shared,
    core: Core,
    port: u16,
    by_tls: bool,
    out: Ipv4Addr,
    /// The way to the primary, if the shard follows by TLS.
    exit: Option<Exit>,
    /// The password that this life of the shard was told.
    password: Option<String>,
    order: Option<(String, u64, u64)>,
    shard: Option<Shard>,
    replicated: Option<Replicated>,
    /// The process that the connection leads to.
    life: Option<String>,
    /// What the files of this life had when it began.
    held: Option<Held>,
    progress: Progress,
    problem: Option<String>,
    /// What this life was started without, until it has a whole copy again.
    without: Option<Refused>,
    /// It was never whole since it began anew.
    unfinished: bool,
    answers: mpsc::Sender<Event>,
    shown: watch::Sender<RoleView>,
}

/// Runs until `stop`.
pub(super) async fn run(
    shared: Shared,
    mut assigned: watch::Receiver<Assigned>,
    shown: watch::Sender<RoleView>,
    stop: CancellationToken,
) {
    let facts: Facts = match atomic_file::read_json(&shared.facts) {
        Ok(facts) => facts.unwrap_or_default(),
        Err(error) => {
            // Without it the shard's life counts as one that has less than it should have: safe, and a person sees why.
            warn!(shard = shared.address.name, error = %crate::run::chain(&error), "what this shard's lives had is unknown");
            Facts::default()
        }
    };
    let (answers, mut answered) = mpsc::channel(ANSWERS);
    let mut roles = Roles {
        port: assigned.borrow().port,
        by_tls: assigned.borrow().by_tls,
        out: assigned.borrow().out,
        exit: None,
        order: None,
        password: None,
        core: Core::new(facts),
        shared,
        shard: None,
        replicated: None,
        life: None,
        held: None,
        progress: Progress::default(),
        problem: None,
        without: None,
        unfinished: false,
        answers,
        shown,
    };
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let first = assigned.borrow_and_update().clone();
    roles.assign(&first).await;
    loop {
        let now = clock::boot_ms();
        let wake = roles
            .core
            .wake(now)
            .map(|at| Duration::from_millis(at.saturating_sub(now)));
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = assigned.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = assigned.borrow_and_update().clone();
                roles.assign(&now).await;
            }
            // The sender is this task's own.
            Some(event) = answered.recv() => roles.feed(event).await,
            () = sleep(wake) => roles.feed(Event::Tick).await,
            _ = look.tick() => roles.look().await,
        }
        roles.show();
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

impl Roles {
    async fn assign(&mut self, assigned: &Assigned) {
        let duty = assigned.duty.clone();
        self.port = assigned.port;
        self.by_tls = assigned.by_tls;
        self.out = assigned.out;
        self.order = Some((duty.uid.clone(), duty.epoch, assigned.generation));
        self.feed(Event::Obeys(duty)).await;
        if assigned.stopping {
            self.feed(Event::Stopping).await;
        }
    }

    /// Hands `event` to the core and does what follows, until nothing does.
    async fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.core.handle(clock::boot_ms(), event) {
                match action {
                    Action::Ask(ask) => self.ask(ask),
                    Action::Do(order) => events.extend(self.carry_out(order).await),
                }
            }
        }
    }

    /// Finds the shard, or looks at it.
    async fn look(&mut self) {
        let event = match &self.shard {
            Some(shard) => match timely(&self.shared.address.name, shard.replicated()).await {
                Ok(replicated) => {
                    let replicated = self.seen(replicated);
                    let moved = match self.keep_password().await {
                        Ok(()) => self.follow_at_its_port(&replicated).await,
                        failed => failed,
                    };
                    let position = replicated.position.clone();
                    let news = self.replicated.as_ref().map(|r| &r.position) != Some(&position);
                    self.progress.saw(clock::boot_ms(), &replicated);
                    self.replicated = Some(replicated);
                    match moved {
                        Ok(()) => news.then_some(Event::Seen(position)),
                        Err(error) => Some(self.lost(&error)),
                    }
                }
                Err(error) => Some(self.lost(&error)),
            },
            None => self.connect().await,
        };
        if let Some(event) = event {
            self.feed(event).await;
        }
    }

    async fn connect(&mut self) -> Option<Event> {
        let found = timely(&self.shared.address.name, async {
            let shard = Shard::connect(&self.shared.address).await?;
            let (life, replicated) = shard.life().await?;
            let from_files = shard.appends().await?;
            Ok((shard, life, replicated, from_files))
        });
        match found.await {
            Ok((shard, life, replicated, from_files)) => {
                self.life = Some(life.id.clone());
                self.password = None;
                self.held = from_files.then(|| held::read(&self.shared.held)).flatten();
                info!(shard = self.shared.address.name, life = life.id, position = ?life.position, "is there");
                self.shard = Some(shard);
                self.replicated = Some(replicated);
                self.problem = None;
                self.without = kept::refused(&self.shared.address.refused);
                self.unfinished = self.shared.address.unfinished.exists();
                Some(Event::Up(life))
            }
            Err(error) => {
                let refused = kept::refused(&self.shared.address.refused);
                let stays_away = refused.as_ref().is_some_and(|r| r.aside.is_none());
                let text = refused.map_or_else(|| crate::run::chain(&error), |r| r.text());
                let news = self.problem.as_ref() != Some(&text);
                self.problem = Some(text);
                (news && stays_away).then_some(Event::Refused)
            }
        }
    }

    fn lost(&mut self, error: &ShardError) -> Event {
        let text = crate::run::chain(error);
        warn!(
            shard = self.shared.address.name,
            error = text,
            "is not reached any more"
        );
        self.shard = None;
        self.replicated = None;
        self.problem = Some(text);
        Event::Down
    }

    fn ask(&self, ask: Ask) {
        let (shared, answers) = (self.shared.clone(), self.answers.clone());
        // Bounded by the patience of each question; the answer to one that nobody waits for any more is dropped.
        drop(tokio::spawn(async move {
            let event = match ask {
                Ask::Grant {
                    round,
                    member,
                    uid,
                    epoch,
                } => Event::Granted {
                    round,
                    answer: grant(&shared, &member, uid, epoch).await,
                    member,
                },
                Ask::Read { round } => Event::Read {
                    round,
                    found: read(&shared).await,
                },
            };
            let _ended = answers.send(event).await;
        }));
    }

    /// Who follows by TLS follows the primary at the end of the way.
    fn seen(&self, replicated: Replicated) -> Replicated {
        match &self.exit {
            Some(exit) => exit.seen_through(replicated),
            None => replicated,
        }
    }

    fn show(&mut self) {
        let now = clock::boot_ms();
        let mut core = self.core.view(now);
        let counted = self.progress.count(&core.members, self.replicated.as_ref());
        core.counts.retain(|member| counted.contains(member));
        let problem = self.problem(core.complete);
        self.note_if_finished(core.complete);
        let view = RoleView {
            order: self.order.clone(),
            view: core,
            behind: self.progress.behind(now, self.replicated.as_ref()),
            replicated: self.replicated.clone(),
            held: self.held.clone(),
            life: self.life.clone().filter(|_| self.shard.is_some()),
            problem,
        };
        let mut edge = false;
        self.shown.send_if_modified(|shown| {
            edge = shown.turned_into(&view);
            std::mem::replace(shown, view.clone()) != view
        });
        if edge {
            self.shared.edges.send_modify(|count| *count += 1);
        }
    }

    /// Until it is noted, what becomes of its files is decided as if they were half a copy.
    fn note_if_finished(&mut self, complete: bool) {
        if !(self.unfinished && complete) {
            return;
        }
        // If it fails, the next connection finds the note again.
        self.unfinished = false;
        if let Err(error) = kept::finished(&self.shared.address.unfinished) {
            let error = crate::run::chain(&error);
            warn!(
                shard = self.shared.address.name,
                error, "is whole, and it cannot be noted"
            );
        }
    }

    fn problem(&self, complete: bool) -> Option<String> {
        if self.problem.is_some() {
            return self.problem.clone();
        }
        if let Some(without) = self.without.as_ref().filter(|_| !complete) {
            return Some(without.text());
        }
        replication_password(&self.shared.internal)
            .is_none()
            .then(|| {
                format!(
                    "no replication: {}/replication-password is not there; the agent makes the Secret of that directory",
                    self.shared.internal.display()
                )
            })
    }
}

/// A shard that does not answer in time is treated as one that is not there.
async fn timely<T>(
    shard: &str,
    asked: impl Future<Output = Result<T, ShardError>>,
) -> Result<T, ShardError> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(ShardError::Gone {
            shard: shard.to_owned(),
            command: "its role",
            source: std::io::Error::from(std::io::ErrorKind::TimedOut).into(),
        }),
    }
}

async fn grant(shared: &Shared, member: &str, uid: String, epoch: u64) -> Answer {
    let request = GrantRequest {
        database: shared.database.clone(),
        topology_uid: uid,
        shard: shared.shard,
        epoch,
        primary: shared.node.clone(),
        requester: shared.node.clone(),
    };
    match shared.members.grant(member, request).await {
        Ok(reply) if reply.granted => Answer::Granted,
        Ok(reply) => {
            info!(
                shard = shared.address.name,
                member,
                reason = reply.reason,
                "does not grant"
            );
            // Who obeys a later epoch knows of a primary, or of a candidate, that this one does not know of.
            let known = reply.fenced_epoch.max(reply.epoch);
            Answer::Refused {
                fenced: (known > epoch).then_some(known),
            }
        }
        Err(error) => {
            info!(
                shard = shared.address.name,
                member,
                error = crate::run::chain(&error),
                "does not grant"
            );
            Answer::Failed
        }
    }
}

async fn read(shared: &Shared) -> Found {
    let asked = tokio::time::timeout(READ_PATIENCE, shared.authority.read(&shared.database));
    match asked.await {
        Ok(Ok(topology)) => shown_to(&topology, shared),
        Ok(Err(error)) => {
            info!(shard = shared.address.name, %error, "the topology was not read");
            Found::Nothing
        }
        Err(_elapsed) => {
            info!(
                shard = shared.address.name,
                "the topology was not read in time"
            );
            Found::Nothing
        }
    }
}

fn shown_to(topology: &Topology, shared: &Shared) -> Found {
    let spec = &topology.spec;
    let Some(shard) = spec
        .shards
        .iter()
        .find(|s| u32::try_from(s.id) == Ok(shared.shard))
    else {
        return Found::Nothing;
    };
    Found::Topology(Read {
        uid: topology.uid.clone(),
        epoch: topology.epoch(),
        fence: spec
            .fence
            .as_ref()
            .and_then(|fence| u64::try_from(fence.epoch).ok()),
        leads: shard.primary.as_ref() == Some(&shared.node),
        in_sync: shard.in_sync.iter().cloned().collect(),
    })
}
