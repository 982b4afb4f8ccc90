use http::Method;
use meridian_api::crds::{
    RedisEnterpriseDatabase, shared::Persistence, topology::DatabaseReference,
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::controllers::failover::Moves;
use crate::k8s::{
    drive::{Failure as _, Report},
    events::Events,
    fault::Fault,
    testing::{self, answer, objects},
};

const KIND: &str = "RedisEnterpriseDatabase";

fn wanted(namespace: &str) -> Wanted {
    Wanted {
        database: DatabaseReference {
            kind: KIND.to_owned(),
            namespace: namespace.to_owned(),
            name: "db".to_owned(),
            uid: "u1".to_owned(),
        },
        cluster: "rec".to_owned(),
        port: None,
        memory_bytes: 100,
        eviction_policy: "noeviction".to_owned(),
        persistence: Persistence::AofEverySecond,
        version: topology::Version {
            asked: meridian_api::version::Asked::Nothing,
            policy: None,
            bundle: meridian_api::version::Bundle::default(),
        },
        tls: None,
        by_every_node: false,
        placement: None,
        metric_labels: Default::default(),
        replication: false,
        active_active: None,
    }
}

/// A topology of the REDB `ns/db`.
fn held() -> serde_json::Value {
    json!({
        "apiVersion": "meridian.dev/v1alpha1", "kind": "DatabaseTopology",
        "metadata": {"name": "db", "uid": "T", "generation": 1, "resourceVersion": "41"},
        "spec": {"database": {"kind": KIND, "namespace": "ns", "name": "db", "uid": "U"}, "cluster": "rec",
                 "epoch": 1, "port": 10000, "memoryBytes": 100, "evictionPolicy": "noeviction",
                 "persistence": "aofEverySecond", "replication": false,
                 "shards": [{"id": 0, "slots": "0-16383", "primary": "rec-0"}]},
    })
}

fn list(items: &[serde_json::Value]) -> (u16, serde_json::Value) {
    let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items});
    (200, list)
}

fn context() -> (Context, testing::Server) {
    let (objects, server) = objects();
    let report = Report {
        events: Events::new(objects.client(), "a"),
        metrics: std::sync::Arc::default(),
    };
    let (image, stop) = (String::new(), CancellationToken::new());
    let context = Context::new(objects, report, image, stop, Moves::default());
    (context, server)
}

#[tokio::test(start_paused = true)]
async fn a_port_that_was_given_back_a_moment_ago_is_not_refused() {
    let (context, server) = context();
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound", "message": "x"});
    let pod = json!({"metadata": {"name": "rec-0"}, "spec": {"containers": []},
                     "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let mut other = held();
    other["metadata"]["name"] = json!("other");
    let answers = vec![list(&[other]), (404, gone), list(&[pod]), list(&[])];
    let asked = tokio::spawn(answer(server, answers));
    let turn = context.ledger.turn().await;
    let (others, _) = turn.others(&context.objects, "rec", "db").await.unwrap();
    assert_eq!(others[0].port, 10_000);
    drop(turn);
    let wanted = Wanted {
        port: Some(10_000),
        ..wanted("ns")
    };
    let side = Local {
        owner: &Owner::database("rec", "ns", "db"),
        wanted: &wanted,
        credential: &Credential::Ours {
            secret: "redb-db".to_owned(),
            password: b"word".to_vec(),
        },
        access: &Access::default(),
        has_served: false,
    };
    let found = World::default();
    let chosen = choose(&context, &side, &found, found.topology.clone()).await;
    let (change, ..) = chosen.unwrap();
    assert!(matches!(change, Change::Create { .. }), "{change:?}");
    drop(context);
    assert_eq!(asked.await.unwrap().len(), 4);
}

#[tokio::test]
async fn nothing_is_written_for_a_database_whose_name_another_was_given_meanwhile() {
    let (context, server) = context();
    // The topology and the pods: as they stand once it is this database's turn.
    let answers = vec![(200, held()), list(&[])];
    let asked = tokio::spawn(answer(server, answers));
    let mut intruder = RedisEnterpriseDatabase::new("db", Default::default());
    intruder.metadata.namespace = Some("team-b".to_owned());
    let owner = Owner::database("rec", "team-b", "db");
    let credential = Credential::Ours {
        secret: "redb-db".to_owned(),
        password: b"of the intruder".to_vec(),
    };
    let before = World::default();
    let side = Local {
        owner: &owner,
        wanted: &wanted("team-b"),
        credential: &credential,
        access: &Access::default(),
        has_served: false,
    };
    let refused = local(&context, &intruder, &side, &before)
        .await
        .unwrap_err();
    drop(context);
    assert_eq!(refused.fault(), Fault::Foreign);
    assert!(refused.to_string().contains("`ns/db` has it"), "{refused}");
    let asked = asked.await.unwrap();
    assert!(
        asked.len() == 2 && asked.iter().all(|(method, ..)| method == Method::GET),
        "the password of the one that has the name stays: {asked:?}"
    );
}

#[tokio::test]
async fn a_database_that_is_refused_writes_nothing_and_holds_no_name() {
    let (context, server) = context();
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound", "message": "x"});
    // Neither topology nor pods.
    let answers = vec![(404, gone), list(&[]), list(&[])];
    let asked = tokio::spawn(answer(server, answers));
    let mut redb = RedisEnterpriseDatabase::new("db", Default::default());
    redb.metadata.namespace = Some("team-b".to_owned());
    let (owner, wanted) = (Owner::database("rec", "team-b", "db"), wanted("team-b"));
    let credential = Credential::Ours {
        secret: "redb-db".to_owned(),
        password: b"word".to_vec(),
    };
    let side = Local {
        owner: &owner,
        wanted: &wanted,
        credential: &credential,
        access: &Access::default(),
        has_served: false,
    };
    let refused = local(&context, &redb, &side, &World::default()).await;
    assert_eq!(refused.unwrap_err().fault(), Fault::Waiting);
    let namesake = DatabaseReference {
        namespace: "ns".to_owned(),
        ..wanted.database.clone()
    };
    let chosen: DatabaseTopology = serde_json::from_value(held()).unwrap();
    let turn = context.ledger.turn().await;
    assert!(turn.claim(&namesake, &chosen).is_ok());
    drop(turn);
    drop(context);
    let asked = asked.await.unwrap();
    let reads = asked.iter().all(|(method, ..)| method == Method::GET);
    assert!(asked.len() == 3 && reads, "{asked:?}");
}

#[test]
fn the_secret_of_a_database_is_golden_before_and_after_it_has_a_port() {
    let owner = Owner::database("rec", "ns", "db");
    let services = ["db".to_owned(), "db-headless".to_owned()];
    let before = secret(&owner, "ns", "redb-db", b"word", None, &[]);
    let after = secret(&owner, "ns", "redb-db", b"word", Some(12_000), &services);
    testing::golden("controllers/serve/golden/secret", &json!([before, after]));
}

/// The REDB `ns/db` as version `version` of it, which remembers this.
fn redb(version: &str, memory: Option<&Memory>) -> serde_json::Value {
    let text = memory.map(|memory| serde_json::to_string(memory).unwrap());
    let annotations = text.map(|text| json!({MEMORY: text}));
    json!({
        "apiVersion": "app.redislabs.com/v1alpha1", "kind": KIND,
        "metadata": {"name": "db", "namespace": "ns", "uid": "U", "resourceVersion": version, "annotations": annotations},
        "spec": {},
    })
}

/// The topology of generation `generation` with this set.
fn of_generation(generation: i64, in_sync: &[&str]) -> DatabaseTopology {
    let mut topology = held();
    topology["metadata"]["generation"] = json!(generation);
    topology["spec"]["shards"][0]["replicas"] = json!(["rec-1"]);
    topology["spec"]["shards"][0]["inSync"] = json!(in_sync);
    serde_json::from_value(topology).unwrap()
}

fn conflict() -> (u16, serde_json::Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409, "reason": "Conflict", "message": "x"});
    (409, status)
}

#[tokio::test]
async fn a_look_that_a_failover_overtook_leaves_what_was_remembered_meanwhile() {
    let (objects, server) = objects();
    // The look holds the database as it was, and the topology as it stood, when the replica was in sync; then it was left out.
    let stale: RedisEnterpriseDatabase = serde_json::from_value(redb("7", None)).unwrap();
    let stands = of_generation(1, &["rec-1"]);
    let overtook = Memory::ordered(&of_generation(1, &[]));
    let now = redb("8", overtook.as_ref());
    let asked = tokio::spawn(answer(server, vec![conflict(), (200, now)]));
    let kept = write(&objects, &stale, Change::Keep(Box::new(stands))).await;
    kept.unwrap();
    drop(objects);
    let asked = asked.await.unwrap();
    assert_eq!(asked.len(), 2, "{asked:?}");
    let (method, _, body) = &asked[0];
    assert_eq!(method, Method::PATCH);
    assert_eq!(body["metadata"]["resourceVersion"], "7", "it is compared");
    assert_eq!(asked[1].0, Method::GET, "what was remembered stays");
}

#[tokio::test]
async fn a_change_that_a_failover_overtook_calls_nobody_in_sync_whom_the_failover_left_out() {
    let (objects, server) = objects();
    let overtook = Memory::ordered(&of_generation(1, &[])).unwrap();
    let database: RedisEnterpriseDatabase =
        serde_json::from_value(redb("8", Some(&overtook))).unwrap();
    let mut changed = of_generation(1, &["rec-1"]);
    changed.spec.memory_bytes = 200;
    // The topology has been written by the failover: the change of the look is refused.
    let asked = tokio::spawn(answer(server, vec![conflict()]));
    let refused = write(&objects, &database, Change::Swap(Box::new(changed))).await;
    assert_eq!(refused.unwrap_err().fault(), Fault::Conflict);
    drop(objects);
    let asked = asked.await.unwrap();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].0, Method::PUT, "only the topology is tried");
}
