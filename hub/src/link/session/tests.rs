//! Sessions over streams in memory, with paused time.

use meridian_api::crds::active_active::RedisEnterpriseActiveActiveDatabaseStatus;
use meridian_api::ids::{Incarnation, ObjectId};
use meridian_api::link::proto::{ConfirmAction, ItemOp, OutcomeResult, SyncMode};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::app::testing::{LAB_1, LAB_2, TestHub, database, uid};
use crate::domain::desired::{Action, Desired};
use crate::domain::lineage::Position;
use crate::store::records::{self, TxnExt as _};
use crate::store::{Txn, keys};

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
}

impl World {
    fn over(hub: TestHub) -> Self {
        Self { hub, sessions: Sessions::default(), stop: CancellationToken::new() }
    }

    async fn new() -> Self {
        let hub = TestHub::new().await;
        hub.member("lab-1", LAB_1).await;
        Self::over(hub)
    }

    fn connect(&self, cluster: &str) -> Agent {
        let context = Context {
            app: Arc::clone(&self.hub.app),
            sessions: self.sessions.clone(),
            timing: Timing::default(),
            stop: self.stop.clone(),
        };
        let (to_hub, incoming) = mpsc::channel(64);
        let (outgoing, from_hub) = mpsc::channel(OUTGOING);
        let served = tokio::spawn(serve(context, uid(cluster), ReceiverStream::new(incoming), outgoing));
        Agent { to_hub, from_hub, served }
    }

    async fn welcomed(&self, last: Option<Position>) -> (Agent, proto::Welcome) {
        let mut agent = self.connect(LAB_1);
        agent.say(FromAgent::Hello(hello(LAB_1, last))).await;
        let welcome = agent.welcome().await;
        (agent, welcome)
    }

    /// Wants an object of the member, as the planner would, and tells the session.
    async fn want(&self, object: u8, action: Action) -> Revision {
        let cluster = uid(LAB_1);
        let desired = desired(object, action);
        let txn = Txn::new().put_record(&keys::desired(cluster, desired.object_id), &desired).unwrap();
        let revision = self.hub.app.commit(txn).await.unwrap();
        self.sessions.mark(cluster, [desired.object_id], revision);
        revision
    }

    async fn desired_count(&self) -> usize {
        self.hub.app.desired_of(uid(LAB_1)).await.unwrap().value.len()
    }
}

impl Agent {
    async fn say(&self, frame: FromAgent) {
        self.to_hub.send(Ok(proto::AgentFrame { frame: Some(frame) })).await.unwrap();
    }

    async fn hear(&mut self) -> Frame {
        self.from_hub.recv().await.expect("a frame").unwrap().frame.expect("a frame with content")
    }

    async fn welcome(&mut self) -> proto::Welcome {
        match self.hear().await {
            Frame::Welcome(welcome) => welcome,
            other => panic!("no Welcome: {other:?}"),
        }
    }

    /// The next batch; heartbeats are not of interest.
    async fn apply(&mut self) -> proto::Apply {
        loop {
            match self.hear().await {
                Frame::Apply(apply) => return apply,
                Frame::Beat(_) => {}
                other => panic!("no Apply: {other:?}"),
            }
        }
    }

    async fn confirm(&mut self) -> proto::Confirm {
        loop {
            match self.hear().await {
                Frame::Confirm(confirm) => return confirm,
                Frame::Beat(_) => {}
                other => panic!("no Confirm: {other:?}"),
            }
        }
    }

    async fn bye(&mut self) -> proto::Bye {
        loop {
            match self.hear().await {
                Frame::Bye(bye) => return bye,
                Frame::Beat(_) | Frame::DigestAsk(_) => {}
                other => panic!("no Bye: {other:?}"),
            }
        }
    }

    async fn ack(&self, apply: &proto::Apply) {
        let upto = apply.upto.as_ref().unwrap().revision;
        self.say(FromAgent::Ack(proto::Ack { seq: apply.seq, durable_upto_revision: upto })).await;
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
        self.say(FromAgent::Inventory(proto::InventoryPage { entries, last: true, ..proto::InventoryPage::default() }))
            .await;
    }
}

fn id(n: u8) -> ObjectId {
    format!("00000000-0000-4000-8000-0000000000{n:02x}").parse().unwrap()
}

fn hello(cluster: &str, last: Option<Position>) -> proto::Hello {
    proto::Hello {
        proto_min: 1,
        proto_max: 1,
        agent_version: "1".to_owned(),
        kube_system_uid: cluster.to_owned(),
        last: last.map(|position| proto::StorePosition {
            store_id: position.store_id.to_string(),
            term: position.term.0,
            incarnation: position.incarnation.0,
            revision: position.revision.0,
        }),
        ..proto::Hello::default()
    }
}

fn position(app: &App, revision: Revision) -> Position {
    let Reign { store_id, term, incarnation } = app.reign();
    Position { store_id, term, incarnation, revision }
}

fn upsert(text: &str) -> Action {
    Action::Upsert { body: serde_json::json!({ "spec": text }) }
}

fn tombstone(approval: &str) -> Action {
    Action::Delete { approval: approval.to_owned(), reason: "r".to_owned() }
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
    apply.items.iter().map(|item| (item.name.clone(), body(item))).collect()
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
    assert!(bye.code == codes::PROTOCOL_ERROR && bye.message.contains("no Hello"), "{bye:?}");
}

#[tokio::test(start_paused = true)]
async fn an_empty_stream_leaves_no_session_behind() {
    let world = World::new().await;
    let Agent { to_hub, mut from_hub, served } = world.connect(LAB_1);
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
}

#[tokio::test(start_paused = true)]
async fn a_malformed_position_is_refused_by_field() {
    let world = World::new().await;
    let mut agent = world.connect(LAB_1);
    let mut hello = hello(LAB_1, None);
    hello.last = Some(proto::StorePosition { store_id: "x".to_owned(), ..proto::StorePosition::default() });
    agent.say(FromAgent::Hello(hello)).await;
    let bye = agent.bye().await;
    assert!(bye.code == codes::PROTOCOL_ERROR && bye.message.contains("last.store_id"), "{bye:?}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_of_a_later_protocol_is_told_what_to_upgrade() {
    let world = World::new().await;
    let mut agent = world.connect(LAB_1);
    agent.say(FromAgent::Hello(proto::Hello { proto_min: 9, proto_max: 9, ..hello(LAB_1, None) })).await;
    let bye = agent.bye().await;
    assert!(bye.code == codes::VERSION && bye.message.contains("upgrade"), "{bye:?}");
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
    assert_eq!((welcome.mode(), welcome.cluster_name.as_str()), (SyncMode::Full, "lab-1"));
    let apply = agent.apply().await;
    assert_eq!(apply.items.len(), 2);
    assert!(apply.upto.unwrap().revision >= head.0 && apply.prev_revision == 0);
}

#[tokio::test(start_paused = true)]
async fn a_member_with_a_position_gets_only_what_changed_after_it() {
    let world = World::new().await;
    let first = world.want(1, upsert("a")).await;
    world.want(2, upsert("b")).await;
    let (mut agent, welcome) = world.welcomed(Some(position(&world.hub.app, first))).await;
    assert_eq!(welcome.mode(), SyncMode::Resume);
    let apply = agent.apply().await;
    assert_eq!(bodies(&apply), [("db-2".to_owned(), r#"{"spec":"b"}"#.to_owned())]);
    assert_eq!(apply.prev_revision, first.0);
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
    assert_eq!(bodies(&agent.apply().await), [("db-9".to_owned(), r#"{"spec":"99"}"#.to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_acknowledges_nothing_is_sent_a_bounded_number_of_batches() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    for n in 1..=20 {
        world.want(n, upsert("x")).await;
    }
    let mut batches = 0;
    loop {
        match agent.hear().await {
            Frame::Apply(_) => batches += 1,
            Frame::Beat(_) => break,
            other => panic!("{other:?}"),
        }
        world.want(batches, upsert("y")).await;
    }
    assert!(batches <= 4, "{batches}");
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
    assert!(member.is_connected(), "the end of the older session does not make the member unreachable");
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
        let Frame::Beat(beat) = agent.hear().await else { panic!("no Beat") };
        assert_eq!(beat.echo_mono_ms, mono_ms - 1);
        agent.say(FromAgent::Beat(proto::Beat { mono_ms, ..proto::Beat::default() })).await;
    }
    assert_eq!(world.sessions.connected(), [uid(LAB_1)]);
}

#[tokio::test(start_paused = true)]
async fn a_stopping_hub_says_goodbye() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    world.stop.cancel();
    assert_eq!(agent.bye().await.code, codes::SHUTDOWN);
}

#[tokio::test(start_paused = true)]
async fn a_removed_member_is_refused_and_its_objects_stay_untold() {
    let world = World::new().await;
    world.hub.app.remove_cluster("lab-1").await.unwrap();
    let mut agent = world.connect(LAB_1);
    agent.say(FromAgent::Hello(hello(LAB_1, None))).await;
    assert_eq!(agent.bye().await.code, codes::REVOKED);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_the_hub_does_not_know_is_kept() {
    let world = World::new().await;
    world.want(1, upsert("a")).await;
    let (mut agent, _) = world.welcomed(None).await;
    agent.apply().await;
    agent.holds(vec![entry(1), entry(5)]).await;
    let confirm = agent.confirm().await;
    assert_eq!((confirm.object_id, confirm.action), (id(5).to_string(), ConfirmAction::Keep.into()));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_prepared_then_confirmed_with_its_approval_and_revision() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    let revision = world.want(1, tombstone("alice")).await;
    let item = agent.apply().await.items.remove(0);
    assert_eq!((item.op(), item.tombstone.unwrap().revision), (ItemOp::Delete, revision.0));
    agent.outcome(1, revision, OutcomeResult::Held, codes::NEEDS_CONFIRMATION).await;
    let confirm = agent.confirm().await;
    assert_eq!((confirm.action(), confirm.approval.as_str(), confirm.revision), (ConfirmAction::Delete, "alice", revision.0));
}

#[tokio::test(start_paused = true)]
async fn without_a_tombstone_or_its_approval_a_deletion_is_never_confirmed() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    let wanted = world.want(1, upsert("a")).await;
    let unapproved = world.want(2, tombstone("")).await;
    for (object, revision) in [(1, wanted), (2, unapproved), (3, Revision(1))] {
        agent.apply_if(object < 3).await;
        agent.outcome(object, revision, OutcomeResult::Held, codes::NEEDS_CONFIRMATION).await;
        let confirm = agent.confirm().await;
        assert_eq!(confirm.action(), ConfirmAction::Keep, "object {object}");
        let wish = proto::LocalIntent {
            intent_id: "w".to_owned(),
            object_id: id(object).to_string(),
            op: proto::IntentOp::Delete.into(),
            ..proto::LocalIntent::default()
        };
        agent.say(FromAgent::LocalIntent(wish)).await;
        let confirm = agent.confirm().await;
        assert_eq!((confirm.action(), confirm.intent_id.as_str()), (ConfirmAction::Keep, "w"), "object {object}");
    }
}

impl Agent {
    async fn apply_if(&mut self, expected: bool) {
        if expected {
            self.apply().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_members_report_is_stored_with_its_time() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    let revision = world.want(1, upsert("a")).await;
    agent.apply().await;
    agent.outcome(1, revision, OutcomeResult::Nack, codes::FOREIGN_OBJECT).await;
    let status = serde_json::to_vec(&RedisEnterpriseActiveActiveDatabaseStatus::default()).unwrap();
    agent
        .say(FromAgent::Status(proto::StatusDelta {
            object_id: id(1).to_string(),
            for_revision: revision.0,
            status: status.into(),
            ..proto::StatusDelta::default()
        }))
        .await;
    agent.say(FromAgent::Bye(proto::Bye::default())).await;
    agent.served.await.unwrap();
    let store = &world.hub.store;
    let outcome = records::get(store, &keys::outcome(uid(LAB_1), id(1))).await.unwrap().unwrap().record;
    assert_eq!((outcome.code.as_str(), outcome.revision), (codes::FOREIGN_OBJECT, revision));
    let seen = records::get(store, &keys::observed(uid(LAB_1), id(1))).await.unwrap().unwrap().record;
    assert_eq!((seen.for_revision, seen.as_of), (revision, world.hub.app.now()));
}

#[tokio::test(start_paused = true)]
async fn a_wish_that_cannot_be_is_refused_with_the_field() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    let body = serde_json::json!({ "metadata": {}, "spec": { "participatingClusters": [{ "name": "nowhere" }] } });
    let wish = proto::LocalIntent {
        intent_id: "w".to_owned(),
        op: proto::IntentOp::Upsert.into(),
        kind: "RedisEnterpriseActiveActiveDatabase".to_owned(),
        name: "db".to_owned(),
        body: body.to_string().into_bytes().into(),
        ..proto::LocalIntent::default()
    };
    agent.say(FromAgent::LocalIntent(wish)).await;
    let confirm = agent.confirm().await;
    assert_eq!(confirm.action(), ConfirmAction::Refuse);
    assert!(confirm.message.contains("nowhere") && confirm.message.contains("lab-1"), "{}", confirm.message);
}

// --- a store that went back in time, or was lost ---

/// A hub whose store was put back to a moment before its member obeyed `position`.
async fn put_back() -> (World, Position) {
    let world = World::new().await;
    let old = world.hub.store.snapshot();
    let revision = world.want(1, upsert("a")).await;
    let position = position(&world.hub.app, revision);
    (World::over(world.hub.restarted_with(old).await), position)
}

#[tokio::test(start_paused = true)]
async fn a_store_that_went_back_in_time_is_only_observed() {
    let (world, position) = put_back().await;
    world.want(2, tombstone("alice")).await;
    let (mut agent, welcome) = world.welcomed(Some(position)).await;
    assert_eq!(welcome.mode(), SyncMode::Observe);
    assert!(welcome.reason.contains("older copy"), "{}", welcome.reason);
    assert!(matches!(agent.hear().await, Frame::DigestAsk(_)), "the inventory is asked for");
    agent.holds(vec![entry(1), entry(2)]).await;
    for _ in 0..2 {
        assert_eq!(agent.confirm().await.action(), ConfirmAction::Keep, "not even a tombstone deletes");
    }
    world.want(3, upsert("b")).await;
    // Only heartbeats follow.
    for _ in 0..2 {
        let frame = agent.hear().await;
        assert!(matches!(frame, Frame::Beat(_)), "{frame:?}");
        agent.say(FromAgent::Beat(proto::Beat::default())).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_store_under_the_same_authority_is_only_observed_and_deletes_nothing() {
    let world = World::new().await;
    let lost = World::over(world.hub.restarted_with(crate::store::memory::MemoryStore::new()).await);
    let revision = world.want(1, upsert("a")).await;
    let (mut agent, welcome) = lost.welcomed(Some(position(&world.hub.app, revision))).await;
    assert_eq!(welcome.mode(), SyncMode::Observe);
    assert!(matches!(agent.hear().await, Frame::DigestAsk(_)));
    agent.holds(vec![entry(1)]).await;
    assert_eq!(agent.confirm().await.action(), ConfirmAction::Keep);
    let refused = lost.hub.app.create_database(&database("db", &["lab-1"])).await;
    assert!(matches!(refused, Err(AppError::Observing(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn another_incarnation_of_the_same_term_is_only_observed() {
    let world = World::new().await;
    let mut claimed = position(&world.hub.app, Revision(1));
    claimed.incarnation = Incarnation(claimed.incarnation.0 ^ 1);
    let (_agent, welcome) = world.welcomed(Some(claimed)).await;
    assert_eq!(welcome.mode(), SyncMode::Observe);
}

#[tokio::test(start_paused = true)]
async fn a_person_lets_the_hub_go_on_above_everything_that_was_reported() {
    let (world, claimed) = put_back().await;
    let (mut agent, _) = world.welcomed(Some(claimed)).await;
    agent.hear().await;
    agent.holds(vec![entry(1)]).await;
    agent.confirm().await;
    let before = world.hub.app.reign();
    world.hub.app.adopt("alice").await.unwrap();
    assert_eq!(agent.bye().await.code, codes::NOT_LEADER);
    let after = world.hub.app.reign();
    assert!(after.term > before.term && after.term > claimed.term);
    let counters = records::get(&world.hub.store, &keys::counters()).await.unwrap().unwrap().record;
    assert_eq!((counters.instance_id_floor, counters.config_version_floor, counters.plan_number.0), (7, 9, 30));

    // The member is told that it may follow, gets everything, and only then is an ordinary member again.
    world.want(2, upsert("b")).await;
    let (mut agent, welcome) = world.welcomed(Some(claimed)).await;
    assert_eq!(welcome.mode(), SyncMode::Full);
    let confirm = agent.confirm().await;
    assert_eq!((confirm.action(), confirm.approval.as_str(), confirm.object_id.as_str()), (ConfirmAction::Adopt, "alice", ""));
    let head = Position { revision: Revision(welcome.head.unwrap().revision), ..position(&world.hub.app, Revision(0)) };
    let (mut agent, welcome) = world.welcomed(Some(head)).await;
    assert_eq!(welcome.mode(), SyncMode::Full, "the session ended before it had everything");
    agent.confirm().await;
    let apply = agent.apply().await;
    agent.ack(&apply).await;
    agent.say(FromAgent::Bye(proto::Bye::default())).await;
    agent.served.await.unwrap();
    let (_agent, welcome) = world.welcomed(Some(head)).await;
    assert_eq!(welcome.mode(), SyncMode::Resume);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_hub_resumes_its_members() {
    let world = World::new().await;
    let revision = world.want(1, upsert("a")).await;
    let position = position(&world.hub.app, revision);
    let world = World::over(world.hub.restarted_with(world.hub.store.clone()).await);
    let (_agent, welcome) = world.welcomed(Some(position)).await;
    assert_eq!(welcome.mode(), SyncMode::Resume);
    assert_eq!(world.desired_count().await, 1);
}
