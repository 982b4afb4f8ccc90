use futures::StreamExt as _;
use kube::Client;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::*;
use crate::{
    k8s::testing,
    link::kinds::{OBJECT_ID, REVISION, TERM},
};

const ID: &str = "00000000-0000-4000-8000-000000000001";

struct World {
    outbox: Outbox,
    seen: mpsc::Sender<Seen>,
    commands: mpsc::Receiver<Command>,
    names: watch::Sender<Option<(Names, Trust)>>,
    observer: JoinHandle<()>,
    _peer_states: watch::Sender<BTreeMap<String, PeerState>>,
    _answers: mpsc::Sender<proto::Confirm>,
}

impl World {
    fn new() -> Self {
        let (service, _server) = tower_test::mock::pair::<
            http::Request<kube::client::Body>,
            http::Response<kube::client::Body>,
        >();
        let outbox = Outbox::default();
        let (applier, commands) = mpsc::channel(64);
        let (names, names_seen) = watch::channel(None);
        let (peer_states, states) = watch::channel(BTreeMap::new());
        let (answers, answered) = mpsc::channel(4);
        let observer = Observer {
            outbox: outbox.clone(),
            applier,
            names: names_seen,
            peer_states: states,
            recs: watch::channel(Vec::new()).0,
            answers: answered,
            events: Events::new(Client::new(service, "ns"), "a"),
            wall_ms: || 1,
            random: || 0.0,
        };
        let (seen, receiver) = mpsc::channel(64);
        let observer = tokio::spawn(observer.run(receiver, CancellationToken::new()));
        Self {
            outbox,
            seen,
            commands,
            names,
            observer,
            _peer_states: peer_states,
            _answers: answers,
        }
    }

    /// Feeds the observer, lets it finish, and returns what it wants to send.
    async fn told(self, seen: Vec<Seen>) -> Vec<proto::agent_frame::Frame> {
        for seen in seen {
            self.seen.send(seen).await.unwrap();
        }
        drop(self.seen);
        self.observer.await.unwrap();
        std::iter::from_fn(|| self.outbox.next(Instant::now())).collect()
    }
}

fn names() -> (Names, Trust) {
    let names = Names {
        cluster_uid: "u".to_owned(),
        cluster_name: "eu-1".to_owned(),
        trust_domain: "meridian.local".to_owned(),
    };
    (names, Trust::default())
}

fn object(name: &str, rest: Value) -> DynamicObject {
    let mut object =
        json!({"metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}")}});
    for (key, value) in rest.as_object().unwrap() {
        match key.as_str() {
            "annotations" => object["metadata"]["annotations"] = value.clone(),
            _ => object[key] = value.clone(),
        }
    }
    serde_json::from_value(object).unwrap()
}

fn ordered(status: Value) -> DynamicObject {
    object(
        "db",
        json!({"annotations": {OBJECT_ID: ID, REVISION: "7", TERM: "1"}, "status": status}),
    )
}

fn topology(state: &str) -> DynamicObject {
    let link = |id: i64, state: &str| json!({"instanceId": id, "name": "us", "state": state, "lagMs": 4, "since": "1970-01-01T00:00:01Z", "asOf": "1970-01-01T00:00:02Z"});
    let member = |node: &str, role: &str, link: Value| {
        json!({"node": node, "topologyUid": "t", "epoch": 1, "generation": 1, "asOf": "x", "links": [link],
            "shards": [{"id": 0, "role": role, "ready": true, "writable": true, "port": 1}]})
    };
    object(
        "db",
        json!({"status": {"members": [member("a", "replica", link(2, "down")), member("b", "primary", link(2, state))]}}),
    )
}

#[tokio::test]
async fn recs_are_told_only_when_all_of_them_and_their_services_are_known() {
    let rec = || Seen::Rec(Change::There(object("rec", json!({"spec": {}}))));
    let world = World::new();
    world.names.send_replace(Some(names()));
    assert_eq!(
        world
            .told(vec![rec(), Seen::Service(Box::new(Change::Complete))])
            .await,
        []
    );
    let world = World::new();
    world.names.send_replace(Some(names()));
    let told = world
        .told(vec![
            rec(),
            Seen::Rec(Change::Complete),
            Seen::Service(Box::new(Change::Complete)),
        ])
        .await;
    let [proto::agent_frame::Frame::Recs(recs)] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(recs.recs.len(), 1);
    assert_eq!(recs.recs[0].suffix, ".rec.ns.eu-1.meridian.internal");
}

#[tokio::test]
async fn a_rec_that_no_type_can_read_is_told_beside_the_good_ones() {
    let world = World::new();
    world.names.send_replace(Some(names()));
    let bad = object(
        "bad",
        json!({"spec": {"nodes": {"not": "a number"}, "activeActive": {"method": "istio"}}}),
    );
    let good = object(
        "good",
        json!({"spec": {"nodes": 3}, "status": {"state": "Running"}}),
    );
    let told = world
        .told(vec![
            Seen::Rec(Change::There(bad)),
            Seen::Rec(Change::There(good)),
            Seen::Rec(Change::Complete),
            Seen::Service(Box::new(Change::Complete)),
        ])
        .await;
    let [proto::agent_frame::Frame::Recs(recs)] = told.as_slice() else {
        panic!("{told:?}")
    };
    let states: Vec<_> = recs
        .recs
        .iter()
        .map(|rec| (rec.name.as_str(), rec.state.as_str()))
        .collect();
    assert_eq!(states, [("bad", ""), ("good", "Running")]);
}

#[tokio::test]
async fn the_status_of_a_database_carries_the_links_of_its_primary() {
    let told = World::new()
        .told(vec![
            Seen::Ordered(
                Kind::Database,
                Change::There(ordered(json!({"status": "active"}))),
            ),
            Seen::Topology(Change::There(topology("up"))),
        ])
        .await;
    let [proto::agent_frame::Frame::Status(delta)] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!((delta.object_id.as_str(), delta.for_revision), (ID, 7));
    let [row] = delta.links.as_slice() else {
        panic!("{delta:?}")
    };
    assert_eq!(
        (
            row.instance_id,
            row.state.as_str(),
            row.lag_ms,
            row.since_ms,
            row.as_of_ms
        ),
        (2, "up", Some(4), 1000, 2000)
    );
}

#[tokio::test]
async fn a_database_without_the_hubs_annotation_is_proposed_once() {
    let local = || {
        Seen::Ordered(
            Kind::Database,
            Change::There(object("local", json!({"spec": {}}))),
        )
    };
    let world = World::new();
    let mut told = world.told(vec![local(), local()]).await;
    assert_eq!(told.len(), 1);
    assert!(
        matches!(told.remove(0), proto::agent_frame::Frame::LocalIntent(intent) if intent.name == "local")
    );
}

#[tokio::test]
async fn the_applier_hears_of_every_change_to_an_object_of_the_hub() {
    let mut world = World::new();
    for seen in [
        Change::There(ordered(json!({}))),
        Change::Gone(ordered(json!({}))),
    ] {
        world
            .seen
            .send(Seen::Ordered(Kind::Instance, seen))
            .await
            .unwrap();
    }
    for expected in [false, true] {
        let Some(Command::Seen {
            kind: Kind::Instance,
            gone,
            ..
        }) = world.commands.recv().await
        else {
            panic!()
        };
        assert_eq!(gone, expected);
    }
    world.observer.abort();
}

#[test]
fn only_topologies_of_databases_of_the_hub_are_kept() {
    let of = |kind: &str| {
        let mut topology = topology("up");
        topology.data["spec"] = json!({"database": {"kind": kind}});
        is_of_active_active(&watcher::Event::InitApply(topology))
    };
    assert!(of("RedisEnterpriseActiveActiveDatabase"));
    assert!(!of("RedisEnterpriseDatabase"));
    assert!(is_of_active_active(&watcher::Event::InitDone));
}

#[tokio::test]
async fn what_is_kept_of_a_topology_says_not_who_wrote_which_field() {
    let (objects, server) = testing::objects();
    let mut shown = serde_json::to_value(topology("up")).unwrap();
    shown["metadata"]["managedFields"] = json!([{"manager": "m", "fieldsV1": {"f:status": {}}}]);
    let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": [shown]});
    tokio::spawn(testing::answer(server, vec![(200, list)]));
    let topologies = resource("meridian.dev", "v1alpha1", "DatabaseTopology", TOPOLOGIES);
    let api: Api<DynamicObject> = Api::namespaced_with(objects.client(), "ns", &topologies);
    let events = light(api, watcher::Config::default());
    let told: Vec<_> = events.take(2).try_collect().await.unwrap();
    let [watcher::Event::Init, watcher::Event::InitApply(kept)] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(kept.name_any(), topology("up").name_any());
    assert_eq!(kept.metadata.managed_fields, None);
}
