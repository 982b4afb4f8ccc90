//! The network between the hub and each agent: streams of bytes in both directions that take their time, are held while a
//! direction is cut, and end for one side before the other hears of it. Within a stream nothing overtakes; streams overtake
//! one another.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use meridian_api::{
    ids::ClusterUid,
    link::proto::{AgentFrame, HubFrame},
};
use prost::Message;
use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    dice::Dice,
    judge::{Judge, SessionId},
    trace::Trace,
    volume::Volume,
};

/// Frames that each end of a stream takes in before the other is held back, as HTTP/2's window does.
const WINDOW: usize = 4;
/// A connection that nobody answers is given up.
const CONNECT: Duration = Duration::from_secs(5);

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToHub,
    ToAgent,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) struct Unreachable;

/// What happens to the packets of one member. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Path(Arc<PathState>);

#[derive(Debug, Default)]
struct PathState {
    faults: Mutex<Faults>,
    mended: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    to_hub: bool,
    to_agent: bool,
    /// The agent's machine takes nothing from its sockets.
    unread: bool,
    slow: bool,
}

impl Path {
    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.0.faults.lock().unwrap()
    }

    /// Holds, or lets go, all that goes one way.
    pub(crate) fn cut(&self, way: Way, cut: bool) {
        match way {
            Way::ToHub => self.faults().to_hub = cut,
            Way::ToAgent => self.faults().to_agent = cut,
        }
        self.0.mended.notify_waiters();
    }

    /// The agent's end reads nothing any more, or reads again.
    pub(crate) fn read_nothing(&self, unread: bool) {
        self.faults().unread = unread;
        self.0.mended.notify_waiters();
    }

    /// Everything takes a second more, or does no more.
    pub(crate) fn slow_down(&self, slow: bool) {
        self.faults().slow = slow;
    }

    fn lets_pass(&self, way: Way) -> bool {
        let faults = self.faults();
        match way {
            Way::ToHub => !faults.to_hub,
            Way::ToAgent => !faults.to_agent && !faults.unread,
        }
    }

    async fn passes(&self, way: Way, dice: &Dice) {
        let most = if self.faults().slow { 1500 } else { 25 };
        sleep(dice.millis(0..most)).await;
        loop {
            let mended = self.0.mended.notified();
            if self.lets_pass(way) {
                return;
            }
            mended.await;
        }
    }
}

/// One end of a connection: what comes in, and where frames go.
pub(crate) struct End<In, Out> {
    pub(crate) id: SessionId,
    pub(crate) incoming: ReceiverStream<Result<In, Status>>,
    pub(crate) outgoing: mpsc::Sender<Out>,
    /// Cancelled: nothing passes any more and nobody is told, as when a middle box forgets the connection.
    pub(crate) forgotten: CancellationToken,
}

/// The agent's end.
pub(crate) type AgentEnd = End<HubFrame, AgentFrame>;
/// The hub's end.
pub(crate) type HubEnd = End<AgentFrame, Result<HubFrame, Status>>;

/// What a connection is made with.
#[derive(Clone)]
pub(crate) struct Wires {
    pub(crate) path: Path,
    pub(crate) cluster: ClusterUid,
    pub(crate) judge: Judge,
    pub(crate) trace: Trace,
}

impl Wires {
    /// The time that a connection takes to be made, or to be given up.
    pub(crate) async fn connect(&self, dice: &Dice) -> Result<(), Unreachable> {
        let there_and_back = async {
            self.path.passes(Way::ToHub, dice).await;
            self.path.passes(Way::ToAgent, dice).await;
        };
        let connected = tokio::time::timeout(CONNECT, there_and_back).await;
        connected.map_err(|_| Unreachable)
    }

    /// The two ends of a new connection to a hub over this volume.
    pub(crate) fn open(&self, id: SessionId, volume: &Volume, dice: &Dice) -> (AgentEnd, HubEnd) {
        let (agent_out, agent_sent) = mpsc::channel(WINDOW);
        let (hub_in, hub_read) = mpsc::channel(WINDOW);
        let (hub_out, hub_sent) = mpsc::channel(meridian_hub::link::session::OUTGOING);
        let (agent_in, agent_read) = mpsc::channel(WINDOW);
        let forgotten = CancellationToken::new();
        let pump = |way| Pump {
            wires: self.clone(),
            id,
            way,
            dice: dice.fork(),
        };
        let held = forgotten.clone();
        let (to_hub, to_agent) = (pump(Way::ToHub), pump(Way::ToAgent));
        tokio::spawn(async move {
            let carried = to_hub.carry_to_hub(agent_sent, hub_in);
            for_ever_unless_forgotten(carried, held).await;
        });
        let (held, volume) = (forgotten.clone(), volume.clone());
        tokio::spawn(async move {
            let carried = to_agent.carry_to_agent(hub_sent, agent_in, &volume);
            for_ever_unless_forgotten(carried, held).await;
        });
        let agent = End {
            id,
            incoming: ReceiverStream::new(agent_read),
            outgoing: agent_out,
            forgotten: forgotten.clone(),
        };
        let hub = End {
            id,
            incoming: ReceiverStream::new(hub_read),
            outgoing: hub_out,
            forgotten,
        };
        (agent, hub)
    }
}

/// The ends of a forgotten stream stay open, and hear nothing.
async fn for_ever_unless_forgotten<E>(carried: impl Future<Output = E>, gone: CancellationToken) {
    tokio::pin!(carried);
    tokio::select! {
        biased;
        () = gone.cancelled() => {}
        _ends = &mut carried => return,
    }
    // Longer than any session waits for a sign of life; then both ends have given it up.
    sleep(Duration::from_secs(3600)).await;
}

/// Carries one direction.
struct Pump {
    wires: Wires,
    id: SessionId,
    way: Way,
    dice: Dice,
}

impl Pump {
    async fn carry_to_hub(
        self,
        mut from: mpsc::Receiver<AgentFrame>,
        to: mpsc::Sender<Result<AgentFrame, Status>>,
    ) {
        let Wires { judge, cluster, .. } = &self.wires;
        while let Some(frame) = self.next(&mut from, &to).await {
            judge.agent_says(*cluster, &frame);
            let frame: AgentFrame = self.through_the_wire(&frame).await;
            judge.hub_hears(self.id, *cluster, &frame);
            self.wires
                .trace
                .note(self.id, format_args!("> {}", said(&frame)));
            if to.send(Ok(frame)).await.is_err() {
                break;
            }
        }
        self.end(&to).await;
    }

    async fn carry_to_agent(
        self,
        mut from: mpsc::Receiver<Result<HubFrame, Status>>,
        to: mpsc::Sender<Result<HubFrame, Status>>,
        volume: &Volume,
    ) {
        let Wires { judge, cluster, .. } = &self.wires;
        loop {
            let fresh = from.is_empty();
            let Some(frame) = self.next(&mut from, &to).await else {
                break;
            };
            let frame = match frame {
                Ok(frame) => frame,
                Err(status) => {
                    drop(to.send(Err(status)).await);
                    break;
                }
            };
            judge.hub_says(self.id, *cluster, volume, (&frame, fresh));
            let frame: HubFrame = self.through_the_wire(&frame).await;
            judge.agent_hears(*cluster, &frame);
            self.wires
                .trace
                .note(self.id, format_args!("< {}", heard(&frame)));
            if to.send(Ok(frame)).await.is_err() {
                break;
            }
        }
        self.end(&to).await;
    }

    /// The next frame, until the sender or the reader is gone.
    async fn next<F, T>(&self, from: &mut mpsc::Receiver<F>, to: &mpsc::Sender<T>) -> Option<F> {
        tokio::select! {
            biased;
            frame = from.recv() => frame,
            () = to.closed() => None,
        }
    }

    async fn through_the_wire<F: Message + Default>(&self, frame: &F) -> F {
        let bytes = frame.encode_to_vec();
        self.wires.path.passes(self.way, &self.dice).await;
        F::decode(bytes.as_slice()).unwrap()
    }

    /// The news that a stream ended travels as well: behind everything that was sent, or back to the sender.
    async fn end<T>(&self, to: &mpsc::Sender<T>) {
        let way = match (to.is_closed(), self.way) {
            (false, way) => way,
            (true, Way::ToHub) => Way::ToAgent,
            (true, Way::ToAgent) => Way::ToHub,
        };
        self.wires.path.passes(way, &self.dice).await;
    }
}

/// The agent's end of a connection to a hub that says what was recorded, and then is silent.
pub(crate) fn recorded(id: SessionId, frames: Vec<HubFrame>) -> AgentEnd {
    let (send, incoming) = mpsc::channel(frames.len().max(1));
    for frame in frames {
        send.try_send(Ok(frame)).unwrap();
    }
    let (outgoing, mut said) = mpsc::channel(WINDOW);
    tokio::spawn(async move {
        // Until the agent gives the connection up.
        while said.recv().await.is_some() {}
        drop(send);
    });
    End {
        id,
        incoming: ReceiverStream::new(incoming),
        outgoing,
        forgotten: CancellationToken::new(),
    }
}

fn said(frame: &AgentFrame) -> String {
    use meridian_api::link::proto::agent_frame::Frame as Say;
    match frame.frame.as_ref() {
        Some(Say::Hello(hello)) => {
            let last = hello.last.as_ref();
            let last = last.map(|last| (last.term, last.revision));
            format!(
                "Hello, obeyed last {last:?}, {} outcomes",
                hello.pending_outcomes.len()
            )
        }
        Some(Say::Ack(ack)) => format!("Ack {}", ack.seq),
        Some(Say::Outcome(it)) => {
            let id = short(&it.object_id);
            format!(
                "Outcome {id} @{} {:?} {}",
                it.revision,
                it.result(),
                it.code
            )
        }
        Some(Say::Status(it)) => format!("Status {} @{}", short(&it.object_id), it.for_revision),
        Some(Say::Inventory(page)) if page.entries.is_empty() => "Inventory".to_owned(),
        Some(Say::Inventory(page)) => format!("Inventory of {}", page.entries.len()),
        Some(Say::Recs(recs)) => format!("Recs {}", recs.recs.len()),
        Some(Say::LocalIntent(it)) => format!("LocalIntent {:?} {}", it.op(), it.name),
        Some(Say::Beat(_)) => "Beat".to_owned(),
        Some(Say::Bye(bye)) => format!("Bye {}", bye.code),
        None => "nothing that is known".to_owned(),
    }
}

fn heard(frame: &HubFrame) -> String {
    use meridian_api::link::proto::hub_frame::Frame as Heard;
    match frame.frame.as_ref() {
        Some(Heard::Welcome(it)) => {
            let head = it.head.as_ref().map(|head| (head.term, head.revision));
            format!(
                "Welcome {:?} at {head:?}, epoch {}",
                it.mode(),
                it.session_epoch
            )
        }
        Some(Heard::Apply(apply)) => {
            let upto = apply.upto.as_ref().map(|upto| (upto.term, upto.revision));
            let items = apply.items.iter();
            let items = items.map(|it| {
                format!(
                    "{:?} {} {} @{}",
                    it.op(),
                    it.kind,
                    short(&it.object_id),
                    it.revision
                )
            });
            let items: Vec<_> = items.collect();
            format!("Apply {} to {upto:?}: {}", apply.seq, items.join(", "))
        }
        Some(Heard::Confirm(it)) => {
            format!(
                "Confirm {:?} {} @{}",
                it.action(),
                short(&it.object_id),
                it.revision
            )
        }
        Some(Heard::Beat(beat)) => format!("Beat, outcomes to {}", beat.outcomes_durable_upto),
        Some(Heard::Bye(bye)) => format!("Bye {}", bye.code),
        Some(Heard::DigestAsk(_)) => "DigestAsk".to_owned(),
        Some(Heard::Trust(_)) => "Trust".to_owned(),
        Some(Heard::Drain(_)) => "Drain".to_owned(),
        Some(Heard::Freeze(_)) => "Freeze".to_owned(),
        None => "nothing that is known".to_owned(),
    }
}

fn short(id: &str) -> &str {
    id.split('-').next().unwrap_or(id)
}

/// What an impostor says first.
pub(crate) fn hello_of(cluster: &str, instance: &str) -> AgentFrame {
    use meridian_api::link::{PROTO_MAX, PROTO_MIN, proto};
    let hello = proto::Hello {
        proto_min: PROTO_MIN,
        proto_max: PROTO_MAX,
        agent_version: "1".to_owned(),
        kube_system_uid: cluster.to_owned(),
        instance_id: instance.to_owned(),
        ..proto::Hello::default()
    };
    AgentFrame {
        frame: Some(proto::agent_frame::Frame::Hello(hello)),
    }
}
