//! Sessions over streams in memory, with paused time.

mod buckets;
mod ends;
mod freezing;
mod identity;
mod observe;
#[cfg(feature = "lab")]
mod replicas;
mod reports;
mod skew;
mod window;

use meridian_api::crds::active_active::RedisEnterpriseActiveActiveDatabaseStatus;
use meridian_api::ids::{Incarnation, ObjectId};
use meridian_api::link::proto::{ConfirmAction, ItemOp, OutcomeResult, SyncMode};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::app::testing::{LAB_1, LAB_2, TestHub, database, uid};
use crate::app::writes::Manner;
use crate::domain::denial::Serial;
use crate::domain::desired::{Action, Desired};
use crate::domain::lineage::Position;
use crate::store::records::{self, TxnExt as _};
use crate::store::{Txn, keys};

/// Every session of these tests is of one start of the agent.
const INSTANCE: &str = "77777777-3b5e-4a3e-9d57-0d9a3c1f1e11";

/// An agent's end of a stream.
struct Agent {
    to_hub: mpsc::Sender<Result<proto::AgentFrame, Status>>,
    from_hub: mpsc::Receiver<Result<proto::HubFrame, Status>>,
    served: JoinHandle<()>,
}

/// A hub with its sessions and its delivery.
struct World {
    hub: TestHub,
    sessions: Sessions,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl World {
    fn over(hub: TestHub) -> Self {
        Self {
            hub,
            sessions: Sessions::default(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }

    async fn new() -> Self {
        let hub = TestHub::new().await;
        hub.member("lab-1", LAB_1).await;
        Self::over(hub)
    }

    fn context(&self) -> Context {
        Context {
            app: Arc::clone(&self.hub.app),
            sessions: self.sessions.clone(),
            timing: Timing::default(),
            stop: self.stop.clone(),
            cut: self.cut.clone(),
        }
    }

    fn connect(&self, cluster: &str) -> Agent {
        Agent::of(self.context(), uid(cluster))
    }

    async fn welcomed(&self, last: Option<Position>) -> (Agent, proto::Welcome) {
        self.greeted(hello(LAB_1, last)).await
    }

    async fn greeted(&self, hello: proto::Hello) -> (Agent, proto::Welcome) {
        let mut agent = self.connect(LAB_1);
        agent.say(FromAgent::Hello(hello)).await;
        let welcome = agent.welcome().await;
        (agent, welcome)
    }

    /// Wants an object of the member, as the planner would, and tells the session.
    async fn want(&self, object: u8, action: Action) -> Revision {
        let cluster = uid(LAB_1);
        let desired = desired(object, action);
        let txn = Txn::new()
            .put_record(&keys::desired(cluster, desired.object_id), &desired)
            .unwrap();
        let revision = self.hub.app.commit(txn).await.unwrap();
        self.sessions.mark(cluster, [desired.object_id], revision);
        revision
    }

    async fn desired_count(&self) -> usize {
        self.hub
            .app
            .desired_of(uid(LAB_1))
            .await
            .unwrap()
            .value
            .len()
    }
}

impl Agent {
    fn speaking(context: Context, speaker: Speaker) -> Self {
        Self::with_room(context, speaker, OUTGOING).0
    }

    /// With room for so many frames on the way to it, which somebody else may take.
    fn with_room(context: Context, speaker: Speaker, room: usize) -> (Self, Outgoing) {
        let (to_hub, incoming) = mpsc::channel(64);
        let (outgoing, from_hub) = mpsc::channel(room);
        let other = outgoing.clone();
        let incoming = ReceiverStream::new(incoming);
        let served = tokio::spawn(serve(context, speaker, incoming, outgoing));
        let agent = Self {
            to_hub,
            from_hub,
            served,
        };
        (agent, other)
    }

    async fn say(&self, frame: FromAgent) {
        self.to_hub
            .send(Ok(proto::AgentFrame { frame: Some(frame) }))
            .await
            .unwrap();
    }

    async fn hear(&mut self) -> Frame {
        self.from_hub
            .recv()
            .await
            .expect("a frame")
            .unwrap()
            .frame
            .expect("a frame with content")
    }

    async fn welcome(&mut self) -> proto::Welcome {
        let frame = self.hear().await;
        let Frame::Welcome(welcome) = frame else {
            panic!("no Welcome: {frame:?}")
        };
        welcome
    }

    /// The next frame that is no heartbeat.
    async fn hear_more(&mut self) -> Frame {
        loop {
            let frame = self.hear().await;
            if !matches!(frame, Frame::Beat(_)) {
                return frame;
            }
        }
    }

    async fn apply(&mut self) -> proto::Apply {
        let frame = self.hear_more().await;
        let Frame::Apply(apply) = frame else {
            panic!("no Apply: {frame:?}")
        };
        apply
    }

    async fn confirm(&mut self) -> proto::Confirm {
        let frame = self.hear_more().await;
        let Frame::Confirm(confirm) = frame else {
            panic!("no Confirm: {frame:?}")
        };
        confirm
    }

    async fn bye(&mut self) -> proto::Bye {
        let frame = self.hear_more().await;
        let Frame::Bye(bye) = frame else {
            panic!("no Bye: {frame:?}")
        };
        bye
    }

    async fn ack(&self, apply: &proto::Apply) {
        let upto = apply.upto.as_ref().unwrap().revision;
        self.say(FromAgent::Ack(proto::Ack {
            seq: apply.seq,
            durable_upto_revision: upto,
        }))
        .await;
    }

    async fn outcome(&self, object: u8, revision: Revision, result: OutcomeResult, code: &str) {
        self.say(FromAgent::Outcome(proto::Outcome {
            object_id: id(object).to_string(),
            revision: revision.0,
            result: result.into(),
            code: code.to_owned(),
            ..proto::Outcome::default()
        }))
        .await;
    }

    async fn holds(&self, entries: Vec<proto::InventoryEntry>) {
        self.say(FromAgent::Inventory(proto::InventoryPage {
            entries,
            last: true,
            ..proto::InventoryPage::default()
        }))
        .await;
    }
}

fn id(n: u8) -> ObjectId {
    format!("00000000-0000-4000-8000-0000000000{n:02x}")
        .parse()
        .unwrap()
}

fn hello(cluster: &str, last: Option<Position>) -> proto::Hello {
    proto::Hello {
        proto_min: 1,
        proto_max: 1,
        agent_version: "1".to_owned(),
        kube_system_uid: cluster.to_owned(),
        instance_id: INSTANCE.to_owned(),
        features: KINDS.map(|kind| format!("kind/{kind}")).to_vec(),
        last: last.map(on_the_wire),
        ..proto::Hello::default()
    }
}

fn on_the_wire(position: Position) -> proto::StorePosition {
    proto::StorePosition {
        store_id: position.store_id.to_string(),
        term: position.term.0,
        incarnation: position.incarnation.0,
        revision: position.revision.0,
    }
}

fn position(app: &App, revision: Revision) -> Position {
    let Reign {
        store_id,
        term,
        incarnation,
    } = app.reign();
    Position {
        store_id,
        term,
        incarnation,
        revision,
    }
}

fn upsert(text: &str) -> Action {
    Action::Upsert {
        body: serde_json::json!({ "spec": text }),
    }
}

fn tombstone(approval: &str) -> Action {
    Action::Delete {
        approval: approval.to_owned(),
        reason: "r".to_owned(),
    }
}

fn desired(object: u8, action: Action) -> Desired {
    Desired {
        object_id: id(object),
        api_version: "app.redislabs.com/v1alpha1".to_owned(),
        kind: "RedisEnterpriseActiveActiveDatabase".to_owned(),
        namespace: "db".to_owned(),
        name: format!("db-{object}"),
        data_bearing: true,
        after: Vec::new(),
        trace: None,
        plan_number: meridian_api::ids::PlanNumber(1),
        action,
    }
}

fn entry(object: u8) -> proto::InventoryEntry {
    proto::InventoryEntry {
        object_id: id(object).to_string(),
        data_bearing: true,
        highest_instance_id: 7,
        config_version: 9,
        plan_number: 30,
        ..proto::InventoryEntry::default()
    }
}

fn bodies(apply: &proto::Apply) -> Vec<(String, String)> {
    let body = |item: &proto::Item| String::from_utf8(item.body.to_vec()).unwrap();
    apply
        .items
        .iter()
        .map(|item| (item.name.clone(), body(item)))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_first_frame_that_is_no_hello_ends_the_session_with_its_reason() {
    let world = World::new().await;
    let mut agent = world.connect(LAB_1);
    agent.say(FromAgent::Beat(proto::Beat::default())).await;
    assert_eq!(agent.bye().await.code, codes::PROTOCOL_ERROR);
    assert!(world.sessions.connected().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_never_says_hello_is_cut_off() {
    let world = World::new().await;
    let mut agent = world.connect(LAB_1);
    let bye = agent.bye().await;
    assert!(
        bye.code == codes::PROTOCOL_ERROR && bye.message.contains("no Hello"),
        "{bye:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_empty_stream_leaves_no_session_behind() {
    let world = World::new().await;
    let Agent {
        to_hub,
        mut from_hub,
        served,
    } = world.connect(LAB_1);
    drop(to_hub);
    served.await.unwrap();
    assert!(from_hub.recv().await.is_none() && world.sessions.connected().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_names_another_cluster_than_the_certificate_is_refused() {
    let world = World::new().await;
    world.hub.member("lab-2", LAB_2).await;
    let mut agent = world.connect(LAB_1);
    agent.say(FromAgent::Hello(hello(LAB_2, None))).await;
    assert_eq!(agent.bye().await.code, codes::IDENTITY_MISMATCH);
    assert!(world.sessions.connected().is_empty());
    let (_, records) = world.hub.app.audit_records(u64::MAX, 1).await.unwrap();
    let event = &records[0].event;
    assert_eq!(
        (&*event.actor.id, &*event.verb, &*event.reason),
        (LAB_1, "session", "identity-mismatch")
    );
}

#[tokio::test(start_paused = true)]
async fn a_malformed_position_is_refused_by_field() {
    let world = World::new().await;
    let mut agent = world.connect(LAB_1);
    let mut hello = hello(LAB_1, None);
    hello.last = Some(proto::StorePosition {
        store_id: "x".to_owned(),
        ..proto::StorePosition::default()
    });
    agent.say(FromAgent::Hello(hello)).await;
    let bye = agent.bye().await;
    assert!(
        bye.code == codes::PROTOCOL_ERROR && bye.message.contains("last.store_id"),
        "{bye:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_of_a_later_protocol_is_told_what_to_upgrade() {
    let world = World::new().await;
    let mut agent = world.connect(LAB_1);
    agent
        .say(FromAgent::Hello(proto::Hello {
            proto_min: 9,
            proto_max: 9,
            ..hello(LAB_1, None)
        }))
        .await;
    let bye = agent.bye().await;
    assert!(
        bye.code == codes::VERSION && bye.message.contains("upgrade"),
        "{bye:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_hello_is_a_protocol_error() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    agent.say(FromAgent::Hello(hello(LAB_1, None))).await;
    assert_eq!(agent.bye().await.code, codes::PROTOCOL_ERROR);
}

#[tokio::test(start_paused = true)]
async fn a_member_without_position_gets_everything() {
    let world = World::new().await;
    world.want(1, upsert("a")).await;
    let head = world.want(2, upsert("b")).await;
    let (mut agent, welcome) = world.welcomed(None).await;
    assert_eq!(
        (welcome.mode(), welcome.cluster_name.as_str()),
        (SyncMode::Full, "lab-1")
    );
    let apply = agent.apply().await;
    assert_eq!(apply.items.len(), 2);
    assert!(apply.upto.unwrap().revision >= head.0 && apply.prev_revision == 0);
}

#[tokio::test(start_paused = true)]
async fn the_newest_state_wins_and_older_ones_are_never_sent() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    // Fill the window, so that the session has to wait.
    let mut unacknowledged = Vec::new();
    for n in 1..=4 {
        world.want(n, upsert("x")).await;
        unacknowledged.push(agent.apply().await);
    }
    for n in 0..100 {
        world.want(9, upsert(&n.to_string())).await;
    }
    agent.ack(&unacknowledged[3]).await;
    assert_eq!(
        bodies(&agent.apply().await),
        [("db-9".to_owned(), r#"{"spec":"99"}"#.to_owned())]
    );
}

#[tokio::test(start_paused = true)]
async fn a_newer_session_takes_over_and_the_older_is_told() {
    let world = World::new().await;
    let (mut old, first) = world.welcomed(None).await;
    let (mut new, second) = world.welcomed(None).await;
    assert!(second.session_epoch > first.session_epoch);
    assert_eq!(old.bye().await.code, codes::SUPERSEDED);
    old.served.await.unwrap();
    world.want(1, upsert("a")).await;
    assert_eq!(new.apply().await.items.len(), 1);
    let member = world.hub.app.member_views().await.unwrap().value.remove(0);
    assert!(
        member.is_connected(),
        "the end of the older session does not make the member unreachable"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_is_called_unreachable_after_three_heartbeats() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    let begun = Instant::now();
    assert_eq!(agent.bye().await.code, codes::IDLE);
    assert_eq!(begun.elapsed(), Timing::default().idle);
    agent.served.await.unwrap();
    assert!(!world.hub.app.member_views().await.unwrap().value[0].is_connected());
}

#[tokio::test(start_paused = true)]
async fn a_member_that_beats_stays() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    for mono_ms in 1..=20 {
        let Frame::Beat(beat) = agent.hear().await else {
            panic!("no Beat")
        };
        assert_eq!(beat.echo_mono_ms, mono_ms - 1);
        agent
            .say(FromAgent::Beat(proto::Beat {
                mono_ms,
                ..proto::Beat::default()
            }))
            .await;
    }
    assert_eq!(world.sessions.connected(), [uid(LAB_1)]);
}
