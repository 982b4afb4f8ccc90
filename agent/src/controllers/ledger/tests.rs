use serde_json::{Value, json};

use super::*;
use crate::k8s::testing::{answer, objects};

fn topology(name: &str, port: i32) -> Value {
    json!({
        "apiVersion": "meridian.dev/v1alpha1", "kind": "DatabaseTopology", "metadata": {"name": name},
        "spec": {"database": {"kind": "RedisEnterpriseDatabase", "namespace": "ns", "name": name, "uid": "u"},
                 "cluster": "rec", "epoch": 1, "port": port, "memoryBytes": 100, "evictionPolicy": "noeviction",
                 "persistence": "disabled", "replication": true,
                 "shards": [{"id": 0, "slots": "0-16383", "primary": "rec-0", "replicas": ["rec-1"]}]},
    })
}

fn list(items: &[Value]) -> (u16, Value) {
    let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items});
    (200, list)
}

fn ports(others: &[Given]) -> Vec<i32> {
    others.iter().map(|given| given.port).collect()
}

fn database(name: &str, namespace: &str) -> DatabaseReference {
    DatabaseReference {
        kind: "RedisEnterpriseDatabase".to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: "u".to_owned(),
    }
}

fn read(value: Value) -> DatabaseTopology {
    serde_json::from_value(value).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_given_in_a_moment_is_read_once_and_nothing_is_given_twice() {
    let (objects, server) = objects();
    let there = list(&[topology("a", 10_000)]);
    let asked = tokio::spawn(answer(server, vec![there]));
    let (ledger, mut under_way) = (Ledger::default(), Vec::new());
    for n in 1..200 {
        let name = format!("db-{n}");
        let turn = ledger.turn().await;
        let (others, known) = turn.others(&objects, "rec", &name).await.unwrap();
        assert_eq!(others.len(), usize::try_from(n).unwrap());
        assert!(!ports(&others).contains(&(10_000 + n)));
        assert_eq!(known, n > 1);
        let chosen = read(topology(&name, 10_000 + n));
        let claim = turn.claim(&database(&name, "ns"), &chosen).unwrap();
        if n % 2 == 0 {
            drop(claim);
        } else {
            under_way.push(claim);
        }
    }
    let turn = ledger.turn().await;
    let (others, _) = turn.others(&objects, "rec", "db-7").await.unwrap();
    assert!(!ports(&others).contains(&10_007), "it is not its own rival");
    assert!(ports(&others).contains(&10_008) && ports(&others).contains(&10_009));
    drop(under_way);
    let (others, _) = turn.others(&objects, "rec", "x").await.unwrap();
    assert!(ports(&others).contains(&10_008) && ports(&others).contains(&10_009));
    assert!(
        turn.others(&objects, "other", "x")
            .await
            .unwrap()
            .0
            .is_empty()
    );
    drop(objects);
    assert_eq!(asked.await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_holds_for_a_moment_and_until_something_unknown_was_given() {
    let (objects, server) = objects();
    let answers = (0..3).map(|n| list(&[topology("a", 10_000 + n)]));
    let asked = tokio::spawn(answer(server, answers.collect()));
    let ledger = Ledger::default();
    let turn = ledger.turn().await;
    let read = async || {
        let (others, known) = turn.others(&objects, "rec", "x").await.unwrap();
        (ports(&others), known)
    };
    assert_eq!(read().await, (vec![10_000], false));
    turn.forget();
    assert_eq!(read().await, (vec![10_001], false));
    assert_eq!(read().await, (vec![10_001], true));
    tokio::time::advance(HOLDS).await;
    assert_eq!(read().await, (vec![10_002], false));
    drop(objects);
    assert_eq!(asked.await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_name_is_given_to_one_database_at_a_time() {
    let ledger = Ledger::default();
    let turn = ledger.turn().await;
    let chosen = read(topology("db", 10_000));
    let claim = turn.claim(&database("db", "ns"), &chosen).unwrap();
    let refused = turn.claim(&database("db", "team-b"), &chosen).unwrap_err();
    assert!(refused.to_string().contains("`ns/db` has it"), "{refused}");
    drop(claim);
    assert!(turn.claim(&database("db", "team-b"), &chosen).is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_is_written_while_others_are_read_is_not_given_again() {
    let (objects, server) = objects();
    let mut server = std::pin::pin!(server);
    let ledger = Ledger::default();
    let chosen = read(topology("a", 10_000));
    let claim = ledger.turn().await.claim(&database("a", "ns"), &chosen);
    let answer = async {
        // The API server has looked before the topology came; the answer comes after its writer has ended.
        let (_, send) = server.as_mut().next_request().await.unwrap();
        tokio::time::advance(HOLDS / 2).await;
        drop(claim);
        let (_, empty) = list(&[]);
        let body = kube::client::Body::from(serde_json::to_vec(&empty).unwrap());
        send.send_response(http::Response::new(body));
    };
    let turn = ledger.turn().await;
    let (others, ()) = tokio::join!(turn.others(&objects, "rec", "b"), answer);
    assert_eq!(ports(&others.unwrap().0), [10_000]);
    // One that was not written after all is free again once it was looked for.
    tokio::time::advance(HOLDS).await;
    let again = async {
        let (_, send) = server.as_mut().next_request().await.unwrap();
        let (_, empty) = list(&[]);
        let body = kube::client::Body::from(serde_json::to_vec(&empty).unwrap());
        send.send_response(http::Response::new(body));
    };
    let (others, ()) = tokio::join!(turn.others(&objects, "rec", "b"), again);
    assert!(others.unwrap().0.is_empty());
}
