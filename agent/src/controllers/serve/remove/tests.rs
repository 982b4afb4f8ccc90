use http::Method;
use serde_json::{Value, json};

use super::*;
use crate::k8s::{
    own::MEMORY,
    testing::{Server, answer, objects},
};

const KIND: &str = "RedisEnterpriseDatabase";
const MEMORY_OF_REC_0: &str = r#"{"epoch":1,"primary":"rec-0","port":10000}"#;

fn database() -> ObjectMeta {
    serde_json::from_value(
        json!({"name": "db", "namespace": "ns", "uid": "U", "annotations": {MEMORY: MEMORY_OF_REC_0}}),
    )
    .unwrap()
}

fn topology(kind: &str, epoch: i64, shards: &Value, members: &Value) -> Value {
    json!({
        "apiVersion": "meridian.dev/v1alpha1", "kind": "DatabaseTopology",
        "metadata": {"name": "db", "uid": "T", "generation": epoch, "resourceVersion": "41",
                     "labels": Owner::database("rec", "ns", "db").labels()},
        "spec": {"database": {"kind": kind, "namespace": "ns", "name": "db", "uid": "U"}, "cluster": "rec",
                 "epoch": epoch, "port": 10000, "memoryBytes": 1, "evictionPolicy": "noeviction",
                 "persistence": "disabled", "replication": false, "shards": shards},
        "status": {"members": members},
    })
}

fn serving() -> Value {
    json!([{"id": 0, "slots": "0-16383", "primary": "rec-0"}])
}

fn report(epoch: i64, role: Option<&str>) -> Value {
    let shard = |role| json!({"id": 0, "role": role, "ready": false, "writable": false, "port": 0});
    let shards: Vec<_> = role.map(shard).into_iter().collect();
    json!([{"node": "rec-0", "topologyUid": "T", "epoch": epoch, "generation": epoch, "asOf": "t", "shards": shards}])
}

fn list(items: &[Value]) -> (u16, Value) {
    (
        200,
        json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}),
    )
}

fn absent() -> (u16, Value) {
    (
        404,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound", "message": "no"}),
    )
}

fn pod() -> (u16, Value) {
    (
        200,
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "rec-0"}}),
    )
}

fn set(replicas: i32) -> (u16, Value) {
    (
        200,
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "rec"},
               "spec": {"replicas": replicas, "selector": {}, "template": {}, "serviceName": "rec"}}),
    )
}

fn done() -> (u16, Value) {
    (200, json!({"kind": "Status", "status": "Success"}))
}

/// One step against these answers, and the writes among what was asked: method, path, body.
async fn taken(answers: Vec<(u16, Value)>) -> (Removal, Vec<(Method, String, Value)>) {
    let (objects, server): (Objects, Server) = objects();
    let asked = tokio::spawn(answer(server, answers));
    let step = step(&objects, "rec", KIND, &database()).await.unwrap();
    drop(objects);
    let asked = asked.await.unwrap();
    assert!(
        !asked
            .iter()
            .any(|(_, uri, _)| uri.starts_with("UNEXPECTED")),
        "{asked:?}"
    );
    let writes = asked
        .into_iter()
        .filter(|(method, ..)| method != Method::GET);
    (step, writes.collect())
}

#[tokio::test]
async fn a_served_database_is_first_ordered_to_run_nothing_and_nothing_is_deleted() {
    let found = topology(KIND, 1, &serving(), &report(1, Some("primary")));
    let ordered = topology(KIND, 2, &json!([]), &json!([]));
    let (step, writes) = taken(vec![(200, found), list(&[]), (200, ordered)]).await;
    assert_eq!(step, Removal::Stopping(BTreeMap::new()));
    let [(method, uri, body)] = writes.as_slice() else {
        panic!("expected one write, found {writes:?}");
    };
    assert_eq!(method, Method::PUT, "{uri}");
    assert_eq!(
        (&body["spec"]["shards"], &body["spec"]["epoch"]),
        (&json!([]), &json!(2))
    );
    assert_eq!(
        body["metadata"]["resourceVersion"], "41",
        "it is a compare-and-swap"
    );
}

#[tokio::test]
async fn nothing_is_deleted_while_a_node_has_not_said_that_its_shard_stopped() {
    for members in [report(2, Some("primary")), report(1, None), json!([])] {
        let found = topology(KIND, 2, &json!([]), &members);
        let (step, writes) = taken(vec![(200, found), list(&[]), pod()]).await;
        let Removal::Stopping(nodes) = &step else {
            panic!("{members}: {step:?}");
        };
        assert!(nodes.contains_key("rec-0"), "{members}: {nodes:?}");
        assert!(writes.is_empty(), "{writes:?}");
        let told = finding(&Ok(step));
        assert_eq!(told.reason, "StoppingShards");
        assert!(told.message.contains("`rec-0`"), "{}", told.message);
    }
}

#[tokio::test]
async fn a_pod_that_its_stateful_set_makes_again_is_waited_for() {
    let found = topology(KIND, 2, &json!([]), &report(1, Some("primary")));
    let (step, writes) = taken(vec![(200, found), list(&[]), absent(), set(3)]).await;
    assert!(matches!(step, Removal::Stopping(_)), "{step:?}");
    assert!(writes.is_empty(), "{writes:?}");
}

#[tokio::test]
async fn a_pod_that_is_gone_for_good_holds_nothing_up() {
    for set in [set(0), absent()] {
        let found = topology(KIND, 2, &json!([]), &report(1, Some("primary")));
        let rest = [list(&[]), list(&[]), list(&[]), absent()];
        let mut answers = vec![(200, found), list(&[]), absent(), set, done()];
        answers.extend(rest);
        let (step, writes) = taken(answers).await;
        assert_eq!(step, Removal::Removing);
        assert_eq!(writes.len(), 1, "{writes:?}");
    }
}

#[tokio::test]
async fn the_topology_goes_once_every_node_has_confirmed_and_only_the_one_that_was_read() {
    let found = topology(KIND, 2, &json!([]), &report(2, None));
    let answers = vec![
        (200, found),
        list(&[]),
        done(),
        list(&[]),
        list(&[]),
        list(&[]),
        absent(),
    ];
    let (step, writes) = taken(answers).await;
    assert_eq!(step, Removal::Removing);
    let [(method, uri, body)] = writes.as_slice() else {
        panic!("expected one write, found {writes:?}");
    };
    assert_eq!(method, Method::DELETE);
    assert!(uri.contains("/databasetopologies/db"), "{uri}");
    assert_eq!(body["preconditions"]["uid"], "T");
}

#[tokio::test]
async fn a_removal_that_was_interrupted_after_the_topology_went_is_finished() {
    let meta =
        json!({"name": "db", "uid": "S", "labels": Owner::database("rec", "ns", "db").labels()});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": meta});
    let found =
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": meta});
    let answers = vec![
        absent(),
        list(&[service]),
        (200, found),
        done(),
        list(&[]),
        list(&[]),
        absent(),
    ];
    let (step, writes) = taken(answers).await;
    assert_eq!((step, writes.len()), (Removal::Removing, 1));
    let answers = vec![absent(), list(&[]), list(&[]), list(&[]), absent()];
    let (step, writes) = taken(answers).await;
    assert_eq!((step, writes.len()), (Removal::Done, 0));
}

#[tokio::test]
async fn a_database_whose_name_was_taken_ends_without_touching_the_one_that_has_it() {
    let theirs = topology(
        "RedisEnterpriseActiveActiveDatabase",
        1,
        &serving(),
        &json!([]),
    );
    let (step, writes) = taken(vec![(200, theirs)]).await;
    assert_eq!((step, writes.len()), (Removal::Done, 0));
}

#[tokio::test]
async fn a_database_whose_name_another_namespace_has_ends_without_touching_that_one() {
    let mut theirs = topology(KIND, 1, &serving(), &json!([]));
    theirs["spec"]["database"]["namespace"] = json!("team-a");
    let (step, writes) = taken(vec![(200, theirs)]).await;
    assert_eq!((step, writes.len()), (Removal::Done, 0));
}

#[tokio::test]
async fn a_database_that_was_never_placed_leaves_the_password_under_its_name_alone() {
    let (objects, server): (Objects, Server) = objects();
    let answers = vec![absent(), list(&[]), list(&[]), list(&[])];
    let asked = tokio::spawn(answer(server, answers));
    let unplaced: ObjectMeta =
        serde_json::from_value(json!({"name": "db", "namespace": "ns", "uid": "U"})).unwrap();
    let step = step(&objects, "rec", KIND, &unplaced).await.unwrap();
    drop(objects);
    let asked = asked.await.unwrap();
    assert_eq!((step, asked.len()), (Removal::Done, 4), "{asked:?}");
}
