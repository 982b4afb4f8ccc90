//! One session with the hub: `init` (Hello, Welcome), `run` (one loop), cleanup. Generic over where frames come from
//! and go to, so that tests play the hub with two channels.
//!
//! The session decides nothing about objects: it hands orders to the applier and sends what the outbox holds. It keeps
//! time by the monotonic clock only; the wall clocks of both sides are compared for people and used for nothing.

use std::{collections::VecDeque, time::Duration};

use futures::{Stream, StreamExt as _};
use meridian_api::link::{
    self, Position as StorePosition, codes,
    proto::{self, HubFrame, agent_frame::Frame as Say, hub_frame::Frame as Heard},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    applier::{Command, Mode, Taken},
    outbox::Outbox,
};

mod frames;

/// How long the hub may take for its Welcome.
pub const WELCOME_WITHIN: Duration = Duration::from_secs(15);
/// How long the hub may take to make room for one frame.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// Bounds of what the hub may ask for as heartbeat and as longest silence.
const BEAT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
const IDLE: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(180));

/// What a session is made with.
#[derive(Debug)]
pub struct Context {
    /// UID of the namespace kube-system.
    pub kube_system_uid: String,
    /// Random per start of this process.
    pub instance_id: String,
    /// Version of the agent.
    pub agent_version: String,
    /// What waits to be sent.
    pub outbox: Outbox,
    /// To the applier.
    pub applier: mpsc::Sender<Command>,
    /// Revision up to which every order has an outcome.
    pub applied: watch::Receiver<u64>,
    /// Gets every trust bundle that the hub sends.
    pub trust: watch::Sender<Option<proto::TrustBundle>>,
    /// Gets the wall clocks of the hub and of this machine at each Welcome, milliseconds since 1970.
    pub clocks: watch::Sender<Option<(i64, i64)>>,
    /// Gets the reason while the hub is only observed.
    pub observing: watch::Sender<Option<String>>,
    /// Gets answers to local wishes.
    pub answers: mpsc::Sender<proto::Confirm>,
    /// The wall clock in milliseconds since 1970.
    pub wall_ms: fn() -> i64,
    /// Random numbers in `[0, 1)`.
    pub random: fn() -> f64,
    /// The agent's namespace.
    pub namespace: String,
}

/// How a session ended.
#[derive(Debug)]
pub struct Ended {
    /// How long it had been welcomed; zero if it never was.
    pub lasted: Duration,
    /// The hub's advice for the next connection.
    pub reconnect: Option<proto::Reconnect>,
    /// Why.
    pub why: Why,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// The agent stops.
    #[error("the agent stops")]
    Cancelled,
    /// The session goes on over another connection.
    #[error("the session moves to another connection")]
    Moved,
    /// The hub asks to come back later.
    #[error("the hub drains: {}", .0.reason)]
    Drained(proto::Drain),
    /// The hub said Bye.
    #[error("the hub ended the session ({code}): {message}")]
    Bye {
        /// One of [`codes`].
        code: String,
        /// For people.
        message: String,
    },
    /// The hub was silent for too long.
    #[error("the hub was silent for {} s", .0.as_secs())]
    Idle(Duration),
    /// The hub took nothing for too long.
    #[error("the hub took no frame for {} s", .0.as_secs())]
    Stalled(Duration),
    /// The stream broke.
    #[error("the stream to the hub broke: {0}")]
    Broken(tonic::Status),
    /// The stream ended without a word.
    #[error("the hub closed the stream")]
    Closed,
    /// The hub broke the protocol.
    #[error("the hub broke the protocol: {0}")]
    Protocol(String),
    /// Something in this cluster is in the way.
    #[error("{0}")]
    Local(String),
}

/// Who may end a session from this side.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    /// The agent stops, or leaves this hub.
    pub cancel: CancellationToken,
    /// Another connection stands, over which the next session begins at once.
    pub moved: CancellationToken,
}

/// Runs one session over `inbound` and `outbound` until it ends, and says how it ended.
pub async fn run<S>(
    inbound: S,
    outbound: mpsc::Sender<proto::AgentFrame>,
    context: &Context,
    ends: &Ends,
) -> Ended
where
    S: Stream<Item = Result<HubFrame, tonic::Status>> + Send,
{
    let mut inbound = Box::pin(inbound);
    let lines = Lines { outbound, context };
    let welcome = tokio::select! {
        biased;
        () = ends.cancel.cancelled() => return Ended { lasted: Duration::ZERO, reconnect: None, why: Why::Cancelled },
        welcome = lines.init(&mut inbound) => welcome,
    };
    let welcome = match welcome {
        Ok(welcome) => welcome,
        Err(why) => {
            return Ended {
                lasted: Duration::ZERO,
                reconnect: None,
                why,
            };
        }
    };
    let reconnect = welcome.reconnect;
    let since = Instant::now();
    let why = Open::new(lines, &welcome).run(&mut inbound, ends).await;
    Ended {
        lasted: since.elapsed(),
        reconnect,
        why,
    }
}

/// The way out, and what both phases share.
struct Lines<'a> {
    outbound: mpsc::Sender<proto::AgentFrame>,
    context: &'a Context,
}

impl Lines<'_> {
    async fn say(&self, frame: Say) -> Result<(), Why> {
        let sent = timeout(
            TAKEN_WITHIN,
            self.outbound.send(proto::AgentFrame { frame: Some(frame) }),
        )
        .await;
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_closed)) => Err(Why::Closed),
            Err(_late) => Err(Why::Stalled(TAKEN_WITHIN)),
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Why> {
        let stopped = || Why::Local("the applier has stopped".to_owned());
        let (reply, answer) = oneshot::channel();
        self.context
            .applier
            .send(command(reply))
            .await
            .map_err(|_closed| stopped())?;
        answer.await.map_err(|_closed| stopped())
    }

    /// Hello, Welcome, and the decision whether this hub is obeyed.
    async fn init<S>(&self, inbound: &mut S) -> Result<proto::Welcome, Why>
    where
        S: Stream<Item = Result<HubFrame, tonic::Status>> + Unpin,
    {
        self.hello().await?;
        let first = timeout(WELCOME_WITHIN, inbound.next())
            .await
            .map_err(|_late| Why::Idle(WELCOME_WITHIN))?;
        let welcome = match first {
            None => return Err(Why::Closed),
            Some(Err(status)) => return Err(Why::Broken(status)),
            Some(Ok(HubFrame {
                frame: Some(Heard::Welcome(welcome)),
            })) => welcome,
            Some(Ok(HubFrame {
                frame: Some(Heard::Bye(bye)),
            })) => {
                return Err(Why::Bye {
                    code: bye.code,
                    message: bye.message,
                });
            }
            Some(Ok(HubFrame {
                frame: Some(Heard::Drain(drain)),
            })) => return Err(Why::Drained(drain)),
            Some(Ok(_)) => return self.broken("the first frame was no Welcome").await,
        };
        if !(link::PROTO_MIN..=link::PROTO_MAX).contains(&welcome.proto) {
            return self
                .broken(&format!(
                    "it chose protocol version {}, which was not offered",
                    welcome.proto
                ))
                .await;
        }
        self.judge(&welcome).await?;
        let ours_ms = (self.context.wall_ms)();
        self.context
            .clocks
            .send_replace(Some((welcome.wall_ms, ours_ms)));
        self.context.outbox.rewind();
        Ok(welcome)
    }

    async fn hello(&self) -> Result<(), Why> {
        let standing = self.ask(Command::Standing).await?.map_err(Why::Local)?;
        let outbox = &self.context.outbox;
        let pending_outcomes = outbox.pending_outcomes();
        outbox.outcomes_sent();
        self.say(Say::Hello(proto::Hello {
            proto_min: link::PROTO_MIN,
            proto_max: link::PROTO_MAX,
            agent_version: self.context.agent_version.clone(),
            features: super::kinds::Kind::ALL
                .iter()
                .map(|kind| format!("kind/{kind}"))
                .collect(),
            kube_system_uid: self.context.kube_system_uid.clone(),
            instance_id: self.context.instance_id.clone(),
            last: standing.last,
            seen: standing.seen,
            digest: standing.digest.into(),
            pending_outcomes,
            mono_ms: frames::mono_ms(Instant::now()),
            wall_ms: (self.context.wall_ms)(),
        }))
        .await
    }

    async fn judge(&self, welcome: &proto::Welcome) -> Result<(), Why> {
        let head = match StorePosition::required("Welcome.head", welcome.head.as_ref()) {
            Ok(head) => head.into(),
            Err(error) => return self.broken(&error.to_string()).await,
        };
        let observe = frames::observe_reason(welcome);
        let mode = self
            .ask(|reply| Command::Welcome {
                head,
                observe,
                freeze: welcome.freeze.clone(),
                reply,
            })
            .await?;
        let observing = match mode {
            Mode::Obey => {
                tracing::info!(hub_mode = ?welcome.mode(), session = welcome.session_id, "welcomed by the hub");
                None
            }
            Mode::Observe(reason) => {
                tracing::warn!(
                    reason,
                    session = welcome.session_id,
                    "welcomed by the hub, only to observe"
                );
                Some(reason)
            }
        };
        self.context.observing.send_replace(observing);
        Ok(())
    }

    async fn broken<T>(&self, what: &str) -> Result<T, Why> {
        let bye = proto::Bye {
            code: codes::PROTOCOL_ERROR.to_owned(),
            message: what.to_owned(),
        };
        // Whether the hub still hears it changes nothing: the session ends.
        let _unheard = self.say(Say::Bye(bye)).await;
        Err(Why::Protocol(what.to_owned()))
    }
}

type Reply = oneshot::Receiver<Taken>;

/// A session after its Welcome.
struct Open<'a> {
    lines: Lines<'a>,
    beat: Duration,
    idle: Duration,
    heard_at: Instant,
    echo: i64,
    /// When it was heard.
    echo_at: Instant,
    waiting: Option<Command>,
    /// Batches handed to the applier, oldest first: it answers in their order.
    acks: VecDeque<(u64, Reply)>,
}

impl<'a> Open<'a> {
    fn new(lines: Lines<'a>, welcome: &proto::Welcome) -> Self {
        let millis = |ms: u32, fallback: u64, (low, high): (Duration, Duration)| {
            let asked = if ms == 0 {
                Duration::from_millis(fallback)
            } else {
                Duration::from_millis(ms.into())
            };
            asked.clamp(low, high)
        };
        Self {
            lines,
            beat: millis(welcome.beat_ms, 10_000, BEAT),
            idle: millis(welcome.idle_ms, 30_000, IDLE),
            heard_at: Instant::now(),
            echo: 0,
            echo_at: Instant::now(),
            waiting: None,
            acks: VecDeque::new(),
        }
    }

    async fn run<S>(mut self, inbound: &mut S, ends: &Ends) -> Why
    where
        S: Stream<Item = Result<HubFrame, tonic::Status>> + Unpin,
    {
        let mut next_beat = self.next_beat();
        loop {
            let outbox = &self.lines.context.outbox;
            let due = outbox.next_due();
            let silent_at = self.heard_at + self.idle;
            // In this order, so that a batch is acknowledged before its outcomes are told, and nothing starves the
            // heartbeat: what comes later is flow-controlled by us, what comes earlier is not.
            tokio::select! {
                biased;
                () = ends.cancel.cancelled() => {
                    return self.leave(codes::SHUTDOWN, "the agent stops", Why::Cancelled).await
                }
                () = ends.moved.cancelled() => {
                    return self.leave(codes::RECONNECT, "the agent comes back at once over another connection", Why::Moved).await
                }
                () = sleep_until(next_beat) => {
                    next_beat = self.next_beat();
                    if let Err(why) = self.say_beat().await { return why }
                }
                (seq, taken) = first_answer(&mut self.acks) => {
                    if let Err(why) = self.acknowledge(seq, taken).await { return why }
                }
                () = outbox.changed() => if let Err(why) = self.drain().await { return why },
                () = sleep_until(due.unwrap_or(silent_at)), if due.is_some() => {
                    if let Err(why) = self.drain().await { return why }
                }
                permit = self.lines.context.applier.reserve(), if self.waiting.is_some() => match permit {
                    Ok(permit) => if let Some(command) = self.waiting.take() { permit.send(command) },
                    Err(_closed) => return Why::Local("the applier has stopped".to_owned()),
                },
                // While the applier has no room nothing more is read: the hub's own flow control then holds it back.
                frame = inbound.next(), if self.waiting.is_none() => {
                    self.heard_at = Instant::now();
                    if let Err(why) = self.hear(frame).await { return why }
                }
                () = sleep_until(silent_at), if self.waiting.is_none() => return Why::Idle(self.idle),
            }
        }
    }

    /// Sends everything that is due.
    async fn drain(&self) -> Result<(), Why> {
        while let Some(frame) = self.lines.context.outbox.next(Instant::now()) {
            self.lines.say(frame).await?;
        }
        Ok(())
    }

    async fn leave(&self, code: &str, message: &str, why: Why) -> Why {
        let bye = proto::Bye {
            code: code.to_owned(),
            message: message.to_owned(),
        };
        let _unheard = self.lines.say(Say::Bye(bye)).await;
        why
    }

    fn next_beat(&self) -> Instant {
        // ± 20 %, so that a fleet does not beat in step.
        Instant::now()
            + self
                .beat
                .mul_f64(0.8 + 0.4 * (self.lines.context.random)().clamp(0.0, 1.0))
    }
}

/// The answer to the oldest batch, which leaves the queue with it. Waits for ever if there is none.
async fn first_answer(acks: &mut VecDeque<(u64, Reply)>) -> (u64, Option<Taken>) {
    let Some((seq, reply)) = acks.front_mut() else {
        return std::future::pending().await;
    };
    let answer = (*seq, reply.await.ok());
    acks.pop_front();
    answer
}

#[cfg(test)]
mod tests;
