//! One connected agent as a value: `init` reads Hello and lets the session in, `run` welcomes it and speaks until something ends it,
//! and leaving always gives the seat up and writes down that the member is unreachable. Generic over what comes in, so
//! that tests need no network.

mod comparing;
mod end;
mod freezing;
mod inbound;
mod outbound;
mod road;

/// Says to an agent why no version of the protocol is common to both, and notes it where it is the one that is too old.
async fn refused_version(
    context: &Context,
    cluster: ClusterUid,
    hello: &proto::Hello,
    error: NegotiationError,
) -> Result<End, AppError> {
    if matches!(error, NegotiationError::PeerTooOld { .. }) {
        let why = format!("its agent is not let in: {error}");
        let agent = Agent {
            version: &hello.agent_version,
            lacking: Some(&why),
        };
        context.app.note_too_old(cluster, agent).await?;
    }
    Ok(End::bye(codes::VERSION, error))
}

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use meridian_api::ids::{ClusterUid, ObjectId, Revision};
use meridian_api::link::proto::agent_frame::Frame as FromAgent;
use meridian_api::link::proto::hub_frame::Frame;
use meridian_api::link::{NegotiationError, codes, negotiate, proto};
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::sessions::{Seat, Sessions};
use super::wire;
use crate::app::members::{Admission, Agent, Mode};
use crate::app::reign::Reign;
use crate::app::{App, AppError};
use crate::domain::abilities::Abilities;
use crate::domain::cluster::Presence;
use crate::domain::denial::Speaker;
use crate::planner::KINDS;
use comparing::Comparing;
use end::End;
pub(super) use end::busy;
use outbound::Window;

/// Frames that may wait for the network. The session stops reading new work while they do, so this bounds its memory.
pub const OUTGOING: usize = 8;

/// Intervals of a session, by the monotonic clock of each side.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long Hello may take.
    pub hello: Duration,
    /// Between two heartbeats.
    pub beat: Duration,
    /// Silence after which the session ends: three missed heartbeats.
    pub idle: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            hello: Duration::from_secs(10),
            beat: Duration::from_secs(10),
            idle: Duration::from_secs(30),
        }
    }
}

/// What sessions share.
#[derive(Clone, Debug)]
pub struct Context {
    /// Use cases.
    pub app: Arc<App>,
    /// The other sessions.
    pub sessions: Sessions,
    /// Intervals.
    pub timing: Timing,
    /// Cancelled when the hub stops or leads no more: every session says goodbye, whatever it waits for.
    pub stop: CancellationToken,
    /// Cancelled when the time for goodbyes is over: a session that still stands is dropped.
    pub cut: CancellationToken,
}

/// Where a session's frames go.
pub type Outgoing = mpsc::Sender<Result<proto::HubFrame, Status>>;

/// A session that was let in.
struct Session<In> {
    context: Context,
    /// From the certificate: the only identity that counts.
    cluster: ClusterUid,
    /// Until when the certificate is good.
    ends_at: Timestamp,
    /// Root that signed it.
    root: String,
    incoming: In,
    outgoing: Outgoing,
    seat: Seat,
    epoch: u64,
    reign: Reign,
    /// Tells of every doubt and reign since the mode of the session was decided.
    doubts_and_reigns: broadcast::Receiver<()>,
    observing: bool,
    /// The member has still to receive everything, because a person let it follow this store.
    adopting: bool,
    /// While the buckets of the member are compared; until then it has not everything.
    comparing: Option<Comparing>,
    heard: Instant,
    /// What the agent can apply.
    abilities: Abilities,
    window: Window,
    /// Deletions that the member was told to stop.
    frozen: BTreeSet<ObjectId>,
    /// Deletions that the member was not told, because they are frozen.
    withheld: BTreeSet<ObjectId>,
    /// Objects that it was told and has not answered.
    unanswered: road::Unanswered,
    /// Highest revision whose outcome is stored.
    outcomes_to: u64,
    /// Monotonic clock of the agent's last heartbeat.
    echo: i64,
    /// When it was heard.
    echo_at: Instant,
    started: Instant,
}

/// What a session begins with.
struct Opening {
    place: OwnedSemaphorePermit,
    proto: u32,
    admission: Admission,
    hello: proto::Hello,
}

/// Serves one stream of the member with this certificate until it ends.
pub async fn serve<In>(context: Context, speaker: Speaker, incoming: In, outgoing: Outgoing)
where
    In: Stream<Item = Result<proto::AgentFrame, Status>> + Unpin + Send,
{
    let (cut, cluster) = (context.cut.clone(), speaker.cluster);
    tokio::select! {
        biased;
        () = cut.cancelled() => tracing::warn!(%cluster, "a session was cut off"),
        () = speak(context, speaker, incoming, outgoing) => {}
    }
}

async fn speak<In>(context: Context, speaker: Speaker, incoming: In, outgoing: Outgoing)
where
    In: Stream<Item = Result<proto::AgentFrame, Status>> + Unpin + Send,
{
    let farewell = outgoing.clone();
    let (stop, cluster) = (context.stop.clone(), speaker.cluster);
    let (sessions, app) = (context.sessions.clone(), Arc::clone(&context.app));
    // Around all that a session waits for: the store, the member, and a network that takes nothing.
    let begun = tokio::select! {
        biased;
        end = stopped(&stop, &sessions) => Err(end),
        begun = Box::pin(Session::init(context, speaker.clone(), incoming, outgoing)) => begun,
    };
    let end = match begun {
        Ok((mut session, opening)) => {
            let (revoked, superseded) = (
                session.seat.revoked.clone(),
                session.seat.superseded.clone(),
            );
            let end = tokio::select! {
                biased;
                end = stopped(&stop, &sessions) => Some(end),
                () = superseded.cancelled() => Some(End::bye(codes::SUPERSEDED, "a newer session of this cluster took over")),
                () = revoked.cancelled() => None,
                end = session.run(opening) => Some(end),
            };
            let end = match end {
                Some(end) => end,
                None => Box::pin(session.revoked(&speaker)).await,
            };
            Box::pin(session.leave(&end)).await;
            end
        }
        Err(end) => end,
    };
    tracing::info!(%cluster, reason = %end, "a session ended");
    if let Some(frame) = end.farewell(&app.settings().link_addresses) {
        // The agent may be gone already; then nobody misses the goodbye.
        drop(farewell.try_send(frame));
    }
}

async fn stopped(stop: &CancellationToken, sessions: &Sessions) -> End {
    stop.cancelled().await;
    End::Drain(sessions.slot())
}

impl<In> Session<In>
where
    In: Stream<Item = Result<proto::AgentFrame, Status>> + Unpin + Send,
{
    async fn init(
        context: Context,
        speaker: Speaker,
        mut incoming: In,
        outgoing: Outgoing,
    ) -> Result<(Self, Opening), End> {
        let within = context.timing.hello;
        let hello = timeout(within, read_hello(&mut incoming)).await;
        let late = |_| End::bye(codes::PROTOCOL_ERROR, format!("no Hello within {within:?}"));
        let hello = hello.map_err(late)??;
        // Held until the Welcome is said. Whoever says no Hello takes nobody's place.
        let place = context.sessions.place().map_err(End::Busy)?;
        let cluster = speaker.cluster;
        wire::short("hello.kube_system_uid", &hello.kube_system_uid)?;
        if let Err(end) = check_identity(cluster, &hello.kube_system_uid) {
            context.app.tell_impostor(cluster).await;
            return Err(end);
        }
        wire::short("hello.agent_version", &hello.agent_version)?;
        let instance = wire::parse("hello.instance_id", &hello.instance_id)?;
        let memory = wire::memory(&hello)?;
        context.app.must_be_accepted(&speaker).await?;
        let abilities = Abilities::of(&hello.features);
        let proto = match negotiate(hello.proto_min, hello.proto_max) {
            Ok(proto) => proto,
            Err(error) => return Err(refused_version(&context, cluster, &hello, error).await?),
        };
        // Read before the admission: a reign that begins in between ends this session at once.
        let reign = context.app.reign();
        let lacking = abilities.lacking(&KINDS, &hello.agent_version);
        let agent = Agent {
            version: &hello.agent_version,
            lacking: lacking.as_deref(),
        };
        let (admission, doubts_and_reigns) = context.app.admit(cluster, agent, memory).await?;
        context.app.hear_instance(cluster, instance).await?;
        let ends_at = speaker.ends_at;
        let now = context.app.now();
        let seat = context
            .sessions
            .take_seat(speaker.clone(), admission.epoch, now);
        let seat = seat.map_err(|e| End::bye(codes::SUPERSEDED, e))?;
        // Again: from here on who is revoked is told so, and nobody told us of what happened since the first look.
        context.app.must_be_accepted(&speaker).await?;
        context.app.member(cluster).await?;
        let session = Self {
            cluster,
            ends_at,
            root: speaker.root,
            incoming,
            outgoing,
            seat,
            epoch: admission.epoch,
            reign,
            doubts_and_reigns,
            observing: matches!(admission.mode, Mode::Observe(_)),
            adopting: matches!(admission.mode, Mode::Adopt { .. }),
            heard: Instant::now(),
            comparing: None,
            abilities,
            window: Window::default(),
            frozen: BTreeSet::new(),
            withheld: BTreeSet::new(),
            unanswered: Default::default(),
            outcomes_to: 0,
            echo: hello.mono_ms,
            echo_at: Instant::now(),
            started: Instant::now(),
            context,
        };
        let opening = Opening {
            place,
            proto,
            admission,
            hello,
        };
        Ok((session, opening))
    }

    /// What happens now and then is boxed, here and below: thousands of sessions wait most of the time, and each is as large as the
    /// largest of what it holds unboxed.
    async fn run(&mut self, opening: Opening) -> End {
        // What happened since then is told to who asks for changes now.
        if self.context.app.reign() != self.reign {
            return End::new_reign();
        }
        match Box::pin(self.welcome(opening)).await {
            Ok(()) => self.go_on().await,
            Err(end) => end,
        }
    }

    async fn welcome(&mut self, opening: Opening) -> Result<(), End> {
        let Opening {
            place: _place,
            proto,
            admission,
            hello,
        } = opening;
        let app = Arc::clone(&self.context.app);
        app.hear_anew(self.cluster);
        app.presence(self.cluster, Presence::Connected, self.epoch)
            .await?;
        let desired = app.desired_of(self.cluster).await.map_err(AppError::from)?;
        let (mode, since, reason) = match &admission.mode {
            Mode::Resume(since) => (proto::SyncMode::Resume, *since, String::new()),
            Mode::Full | Mode::Adopt { .. } => (proto::SyncMode::Full, Revision(0), String::new()),
            Mode::Observe(reason) => (proto::SyncMode::Observe, Revision(0), reason.clone()),
        };
        self.comparing = comparing::compare(&admission.mode, &hello, &desired.value);
        let mode = match &self.comparing {
            Some(_) => proto::SyncMode::Buckets,
            None => mode,
        };
        let mut welcome = self.welcome_frame(proto, &admission, mode, desired.revision, reason);
        welcome.freeze = self.freeze_at_start().await?;
        self.send(Frame::Welcome(welcome)).await?;
        if let Mode::Adopt { approval } = &admission.mode {
            self.send(outbound::adoption(approval)).await?;
        }
        // Of a member that does not follow this line they speak of revisions of another time.
        if let Mode::Resume(_) = admission.mode {
            for outcome in &hello.pending_outcomes {
                self.on_outcome(outcome).await?;
            }
        }
        self.window.acknowledged_to(since);
        if self.observing {
            return self
                .send(Frame::DigestAsk(proto::DigestAsk {
                    buckets: Vec::new(),
                }))
                .await;
        }
        if self.adopting && desired.value.is_empty() {
            self.settle_adoption().await?;
        }
        let unsettled = app.unsettled(self.cluster, &desired.value).await;
        let unsettled = unsettled.map_err(AppError::from)?;
        let fresh = desired
            .value
            .iter()
            // A deletion may have been frozen, and left out, when the member got as far as it is.
            .filter(|held| {
                let owed = held.modified > since || unsettled.contains(&held.record.object_id);
                (owed && self.comparing.is_none()) || held.record.is_tombstone()
            })
            .map(|held| held.record.object_id);
        self.seat.outbox.mark(fresh, desired.revision);
        self.ask_for_buckets().await
    }

    async fn go_on(&mut self) -> End {
        let mut roots = self.context.app.ca().changes();
        // Hello says nothing about roots. Of the first ones every member has heard when it joined.
        if *roots.borrow_and_update() > 1 {
            roots.mark_changed();
        }
        let timing = self.context.timing;
        let mut beat_at = Instant::now() + self.context.app.random().jittered(timing.beat);
        let outbox = Arc::clone(&self.seat.outbox);
        loop {
            let room = !self.observing && self.window.has_room();
            let step = tokio::select! {
                biased;
                Ok(()) = roots.changed() => Box::pin(self.on_trust()).await,
                _ = self.doubts_and_reigns.recv() => Err(End::new_reign()),
                () = sleep_until(self.heard + timing.idle) => {
                    Err(End::bye(codes::IDLE, format!("nothing was heard for {:?}", timing.idle)))
                }
                frame = self.incoming.next() => Box::pin(self.on_frame(frame)).await,
                () = sleep_until(beat_at) => {
                    beat_at = Instant::now() + self.context.app.random().jittered(timing.beat);
                    match self.over() {
                        Some(end) => Err(end),
                        None => match Box::pin(self.wait_for_pages()).await {
                            Ok(()) => self.beat().await,
                            end => end,
                        },
                    }
                }
                () = outbox.reconsidered() => Box::pin(self.reconsider()).await,
                (pending, whole) = outbox.take(outbound::BATCH), if room => {
                    Box::pin(self.apply(pending, whole)).await
                }
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// The end of a session whose member is let in no more, with the words that it also hears when it comes back.
    async fn revoked(&self, speaker: &Speaker) -> End {
        let app = &self.context.app;
        let accepted = async {
            app.must_be_accepted(speaker).await?;
            app.member(self.cluster).await
        };
        match accepted.await {
            Err(refused) => refused.into(),
            Ok(_) => End::bye(
                codes::NOT_LEADER,
                "the registration is new; say Hello again",
            ),
        }
    }

    /// The end of a session that lasts longer than the certificate that opened it.
    fn over(&self) -> Option<End> {
        let now = self.context.app.now();
        (self.ends_at <= now).then(|| {
            let ended = format!(
                "the certificate of this session ended at {}, the hub's clock says {now}",
                self.ends_at
            );
            End::bye(codes::CERTIFICATE, ended)
        })
    }

    /// Gives up the seat. Only the session that still has it may call the member unreachable.
    async fn leave(self, end: &End) {
        let Self {
            context,
            cluster,
            epoch,
            seat,
            ..
        } = self;
        let (superseded, revoked) = (seat.superseded.is_cancelled(), seat.revoked.is_cancelled());
        drop(seat);
        // Whoever moves to another connection is there in a moment; if not, the next look at presences says so.
        if superseded || matches!(end, End::Moves) {
            return;
        }
        // Of whom is no member any more nothing is written down.
        if revoked && context.app.member(cluster).await.is_err() {
            return;
        }
        tracing::info!(%cluster, epoch, reason = %end, "the cluster is unreachable");
        if let Err(error) = context
            .app
            .presence(cluster, Presence::Unreachable, epoch)
            .await
        {
            tracing::error!(%cluster, error = &error as &dyn std::error::Error, "its absence could not be stored");
        }
    }
}

async fn read_hello<In>(incoming: &mut In) -> Result<proto::Hello, End>
where
    In: Stream<Item = Result<proto::AgentFrame, Status>> + Unpin,
{
    match incoming.next().await {
        None => Err(End::Left("before its Hello".to_owned())),
        Some(Err(status)) => Err(End::Left(status.message().to_owned())),
        Some(Ok(proto::AgentFrame {
            frame: Some(FromAgent::Hello(hello)),
        })) => Ok(hello),
        Some(Ok(_)) => Err(End::bye(
            codes::PROTOCOL_ERROR,
            "the first frame must be Hello",
        )),
    }
}

/// What the body says must be what the certificate says; then the body is not looked at again.
fn check_identity(certified: ClusterUid, claimed: &str) -> Result<(), End> {
    if claimed == certified.to_string() {
        return Ok(());
    }
    tracing::error!(audit = true, %certified, claimed, "a session claimed to be another cluster than its certificate says");
    Err(End::bye(
        codes::IDENTITY_MISMATCH,
        format!("Hello.kube_system_uid is {claimed:?}, the certificate belongs to {certified}"),
    ))
}
