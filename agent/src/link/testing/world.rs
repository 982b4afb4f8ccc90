//! An agent's link over in-memory streams: the test plays the hub.

use std::time::Duration;

use meridian_api::link::proto::{
    self, HubFrame, agent_frame::Frame as Say, hub_frame::Frame as Heard,
};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{MemoryJournal, MemoryMember};
use crate::link::{
    applier::{Applier, Command, Setup},
    kinds::Kind,
    order::Order,
    outbox::Outbox,
    session::{self, Context, Ended, Ends},
};

pub(in crate::link) const STORE: &str = "00000000-0000-4000-9000-000000000001";

pub(in crate::link) fn id(n: u8) -> String {
    format!("00000000-0000-4000-8000-0000000000{n:02x}")
}

/// A position of the store `STORE`.
pub(in crate::link) fn position(term: u64, revision: u64) -> proto::StorePosition {
    proto::StorePosition {
        store_id: STORE.to_owned(),
        term,
        incarnation: 1,
        revision,
    }
}

/// An order for the REAADB `db-<n>`.
pub(in crate::link) fn item(n: u8, revision: u64) -> proto::Item {
    of_kind(Kind::Database, n, revision, &json!({"revision": revision}))
}

/// An order for the `ActiveActiveInstance` `db-<n>`.
pub(in crate::link) fn instance(n: u8, revision: u64) -> proto::Item {
    of_kind(
        Kind::Instance,
        n,
        revision,
        &json!({"instanceId": n, "configVersion": revision}),
    )
}

/// An order for the RERC `db-<n>`.
pub(in crate::link) fn rerc(n: u8, revision: u64) -> proto::Item {
    of_kind(Kind::RemoteCluster, n, revision, &json!({"recName": "rec"}))
}

fn of_kind(kind: Kind, n: u8, revision: u64, spec: &Value) -> proto::Item {
    let name = format!("db-{n}");
    let body = json!({"apiVersion": kind.api_version(), "kind": kind.kind(),
        "metadata": {"name": name, "namespace": "ns"}, "spec": spec});
    proto::Item {
        object_id: id(n),
        api_version: kind.api_version().to_owned(),
        kind: kind.kind().to_owned(),
        namespace: "ns".to_owned(),
        name,
        op: proto::ItemOp::Upsert.into(),
        revision,
        hash: revision.to_be_bytes().to_vec().into(),
        body: body.to_string().into(),
        ..proto::Item::default()
    }
}

/// The deletion of what `item` made, at `revision`.
pub(in crate::link) fn tombstone(item: proto::Item, revision: u64) -> proto::Item {
    proto::Item {
        op: proto::ItemOp::Delete.into(),
        body: meridian_api::link::Bytes::new(),
        revision,
        tombstone: Some(proto::Tombstone {
            revision,
            ..proto::Tombstone::default()
        }),
        ..item
    }
}

/// One agent with its cluster.
pub(in crate::link) struct World {
    pub(in crate::link) member: MemoryMember,
    pub(in crate::link) journal: MemoryJournal,
    pub(in crate::link) commands: mpsc::Sender<Command>,
    pub(in crate::link) answers: mpsc::Receiver<proto::Confirm>,
    pub(in crate::link) trust: watch::Receiver<Option<proto::TrustBundle>>,
    pub(in crate::link) context: std::sync::Arc<Context>,
    stop: CancellationToken,
    /// Cancelled when another connection stands.
    pub(in crate::link) moved: CancellationToken,
    applier: JoinHandle<Vec<Order>>,
}

/// One open session, seen from the hub.
pub(in crate::link) struct Wire {
    to_agent: mpsc::Sender<Result<HubFrame, tonic::Status>>,
    from_agent: mpsc::Receiver<proto::AgentFrame>,
    session: JoinHandle<Ended>,
    seq: u64,
}

impl World {
    pub(in crate::link) fn new() -> Self {
        Self::with(MemoryMember::default(), MemoryJournal::default())
    }

    /// An agent that starts with what is stored.
    pub(in crate::link) fn with(member: MemoryMember, journal: MemoryJournal) -> Self {
        Self::owing(member, journal, Vec::new())
    }

    /// Like [`World::with`], in a process whose link left this to be put back.
    pub(in crate::link) fn owing(
        member: MemoryMember,
        journal: MemoryJournal,
        owed: Vec<Order>,
    ) -> Self {
        let (outbox, stop) = (Outbox::default(), CancellationToken::new());
        let (applier, applied) = Applier::new(Setup {
            member: std::sync::Arc::new(member.clone()),
            store: journal.clone(),
            journal: journal.saved(),
            owed,
            namespace: "ns".to_owned(),
            outbox: outbox.clone(),
            random: || 0.5,
        });
        let (commands, received) = mpsc::channel(4);
        let applier = tokio::spawn(applier.run(received, stop.clone()));
        let (answered, answers) = mpsc::channel(4);
        let (trusted, trust) = watch::channel(None);
        let context = std::sync::Arc::new(Context {
            kube_system_uid: "u1".to_owned(),
            instance_id: "i1".to_owned(),
            agent_version: "1".to_owned(),
            outbox: outbox.clone(),
            applier: commands.clone(),
            applied,
            trust: trusted,
            answers: answered,
            clocks: watch::channel(None).0,
            observing: watch::channel(None).0,
            wall_ms: || 1_000,
            random: || 0.5,
            namespace: "ns".to_owned(),
        });
        Self {
            member,
            journal,
            commands,
            answers,
            trust,
            context,
            stop,
            moved: CancellationToken::new(),
            applier,
        }
    }

    /// The process ends; what is stored stays.
    pub(in crate::link) async fn crash(self) -> (MemoryMember, MemoryJournal) {
        self.applier.abort();
        let _aborted = self.applier.await;
        (self.member, self.journal)
    }

    /// Waits until the applier ends by itself. What it leaves to be put back.
    pub(in crate::link) async fn ended(&mut self) -> Vec<Order> {
        let ended = timeout(Duration::from_secs(60), &mut self.applier).await;
        ended.expect("the applier goes on").unwrap()
    }

    /// Waits for the outcome of the object `n`, be there a session or not.
    pub(in crate::link) async fn outcome_of(&self, n: u8) {
        let outbox = &self.context.outbox;
        let told = async {
            while !outbox
                .pending_outcomes()
                .iter()
                .any(|it| it.object_id == id(n))
            {
                outbox.changed().await;
            }
        };
        let told = timeout(Duration::from_secs(60), told).await;
        told.expect("the order has no outcome");
    }

    /// Ends everything in order.
    pub(in crate::link) async fn shut_down(self) {
        self.stop.cancel();
        self.applier.await.unwrap();
    }

    /// Opens a session up to the agent's Hello.
    pub(in crate::link) async fn dial(&self) -> (Wire, proto::Hello) {
        let (to_agent, inbound) = mpsc::channel(64);
        let (outbound, from_agent) = mpsc::channel(64);
        let context = std::sync::Arc::clone(&self.context);
        let ends = Ends {
            cancel: self.stop.clone(),
            moved: self.moved.clone(),
        };
        let session = tokio::spawn(async move {
            session::run(ReceiverStream::new(inbound), outbound, &context, &ends).await
        });
        let mut wire = Wire {
            to_agent,
            from_agent,
            session,
            seq: 0,
        };
        let Say::Hello(hello) = wire.hear().await else {
            panic!("the first frame is a Hello")
        };
        (wire, hello)
    }

    /// Opens a session whose Welcome shows `head` and `mode`.
    pub(in crate::link) async fn open(
        &self,
        head: proto::StorePosition,
        mode: proto::SyncMode,
    ) -> Wire {
        let (wire, _) = self.dial().await;
        wire.say(Heard::Welcome(welcome(head, mode))).await;
        wire
    }
}

pub(in crate::link) fn welcome(
    head: proto::StorePosition,
    mode: proto::SyncMode,
) -> proto::Welcome {
    proto::Welcome {
        proto: 1,
        head: Some(head),
        mode: mode.into(),
        beat_ms: 10_000,
        idle_ms: 30_000,
        wall_ms: 1_000,
        ..proto::Welcome::default()
    }
}

impl Wire {
    pub(in crate::link) async fn say(&self, frame: Heard) {
        self.to_agent
            .send(Ok(HubFrame { frame: Some(frame) }))
            .await
            .expect("the session is open");
    }

    pub(in crate::link) async fn fail(&self, status: tonic::Status) {
        self.to_agent
            .send(Err(status))
            .await
            .expect("the session is open");
    }

    /// Sends a batch that leads to `upto`.
    pub(in crate::link) async fn apply(
        &mut self,
        upto: proto::StorePosition,
        items: Vec<proto::Item>,
    ) -> u64 {
        self.seq += 1;
        self.say(Heard::Apply(proto::Apply {
            seq: self.seq,
            upto: Some(upto),
            prev_revision: 0,
            items,
        }))
        .await;
        self.seq
    }

    pub(in crate::link) async fn confirm(
        &self,
        n: u8,
        action: proto::ConfirmAction,
        revision: u64,
    ) {
        let approval = "admin".to_owned();
        let confirm = proto::Confirm {
            object_id: id(n),
            action: action.into(),
            approval,
            revision,
            ..Default::default()
        };
        self.say(Heard::Confirm(confirm)).await;
    }

    /// The next frame of the agent that is no sign of life.
    pub(in crate::link) async fn hear(&mut self) -> Say {
        loop {
            let frame = timeout(Duration::from_secs(600), self.from_agent.recv())
                .await
                .expect("the agent is silent");
            let Some(frame) = frame else {
                panic!("the session ended: {:?}", (&mut self.session).await)
            };
            let frame = frame.frame.expect("a frame has content");
            if !matches!(frame, Say::Beat(_)) {
                return frame;
            }
        }
    }

    /// The next frame, signs of life included.
    pub(in crate::link) async fn hear_any(&mut self) -> Say {
        self.from_agent
            .recv()
            .await
            .expect("the agent closed the stream")
            .frame
            .expect("a frame has content")
    }

    /// Waits for an outcome of the object `n`; frames before it are skipped.
    pub(in crate::link) async fn outcome(&mut self, n: u8) -> proto::Outcome {
        loop {
            if let Say::Outcome(outcome) = self.hear().await
                && outcome.object_id == id(n)
            {
                return outcome;
            }
        }
    }

    /// Waits for the acknowledgement of the batch `seq`; frames before it are skipped.
    pub(in crate::link) async fn ack(&mut self, seq: u64) -> proto::Ack {
        loop {
            if let Say::Ack(ack) = self.hear().await
                && ack.seq == seq
            {
                return ack;
            }
        }
    }

    /// A question and its answer prove that everything said before was dealt with. Returns what was heard meanwhile.
    pub(in crate::link) async fn settle(&mut self) -> Vec<Say> {
        self.say(Heard::DigestAsk(proto::DigestAsk { buckets: vec![0] }))
            .await;
        let mut heard = Vec::new();
        loop {
            let frame = self.hear().await;
            if matches!(&frame, Say::Inventory(page) if page.last) {
                return heard;
            }
            heard.push(frame);
        }
    }

    /// The hub goes away; says how the session ended.
    pub(in crate::link) async fn hang_up(self) -> Ended {
        drop(self.to_agent);
        self.session.await.unwrap()
    }

    /// Waits for the end of the session.
    pub(in crate::link) async fn ended(self) -> Ended {
        self.session.await.unwrap()
    }
}
