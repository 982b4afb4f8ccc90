use http::Method;
use meridian_api::crds::RedisEnterpriseDatabase;
use serde_json::json;

use super::*;
use crate::k8s::{
    apply::Objects,
    testing::{answer, objects},
};

fn database() -> RedisEnterpriseDatabase {
    let meta = json!({"name": "db", "namespace": "ns", "uid": "u"});
    serde_json::from_value(json!({"metadata": meta, "spec": {}, "status": {"status": "active"}}))
        .unwrap()
}

/// What the API server answers under a definition that keeps conditions, or drops them.
fn stored(conditions: Value) -> (u16, Value) {
    let mut body = json!({
        "apiVersion": "app.redislabs.com/v1alpha1", "kind": "RedisEnterpriseDatabase",
        "metadata": {"name": "db", "namespace": "ns", "uid": "u"}, "spec": {}, "status": {"status": "active"},
    });
    if !conditions.is_null() {
        body["status"]["conditions"] = conditions;
    }
    (200, body)
}

fn taken() -> (u16, Value) {
    (201, json!({"metadata": {"name": "e"}, "eventTime": null}))
}

fn ready(status: &str, at: &str) -> Value {
    json!([{"type": "Ready", "status": status, "reason": "R", "message": "m", "observedGeneration": 1, "lastTransitionTime": at}])
}

fn wanted(conditions: &Value) -> Value {
    json!({"status": "active", "conditions": conditions})
}

/// Objects whose Events go to the same server.
fn telling() -> (Objects, crate::k8s::testing::Server) {
    let (objects, server) = objects();
    let events = Events::new(objects.client(), "a");
    (objects.telling(events), server)
}

#[tokio::test(start_paused = true)]
async fn dropped_conditions_are_told_once_by_an_event_and_written_once() {
    let (objects, server) = telling();
    let none = || stored(Value::Null);
    let answers = vec![none(), taken(), none(), taken(), none(), none()];
    let asked = tokio::spawn(answer(server, answers));
    let (db, shown) = (database(), json!({"status": "active"}));
    let write = async |conditions: Value| {
        let wanted = wanted(&conditions);
        objects.status(&db, Some(&shown), &wanted).await.unwrap()
    };
    assert!(write(ready("False", "t1")).await);
    assert!(!write(ready("False", "t2")).await, "only the time differs");
    assert!(write(ready("Unknown", "t3")).await, "that is news");
    assert!(write(ready("True", "t4")).await, "that it is over as well");
    assert!(!write(ready("True", "t5")).await);
    tokio::time::advance(AGAIN).await;
    assert!(
        write(ready("True", "t6")).await,
        "definitions may have been exchanged meanwhile"
    );
    drop(objects);
    let asked = asked.await.unwrap();
    let methods: Vec<&Method> = asked.iter().map(|(method, ..)| method).collect();
    let (patch, post) = (&Method::PATCH, &Method::POST);
    assert_eq!(methods, [patch, post, patch, post, patch, patch]);
    let note = asked[1].2["note"].as_str().unwrap();
    assert!(note.starts_with("Ready is False (R): m. (The installed definition"));
    assert_eq!(asked[1].2["reason"], "ConditionsNotKept");
}

/// What the API server answers to an apply of a field that the definition does not declare.
fn refused(fields: &str) -> (u16, Value) {
    let text = format!(
        "failed to create typed patch object (ns/db; app.redislabs.com/v1alpha1, Kind=RedisEnterpriseDatabase): {fields}"
    );
    (
        500,
        json!({"kind": "Status", "status": "Failure", "code": 500, "message": text}),
    )
}

#[tokio::test(start_paused = true)]
async fn a_status_is_written_without_what_the_definition_does_not_declare() {
    let (objects, server) = telling();
    let both = "errors:\n  .status.conditions: field not declared in schema\n  .status.later: field not declared in schema";
    let kept = ready("True", "t6");
    let answers = vec![
        refused(both),
        stored(Value::Null),
        taken(),
        stored(Value::Null),
        stored(kept.clone()),
        refused(".status.status: found 1, expected a string"),
    ];
    let asked = tokio::spawn(answer(server, answers));
    let (db, shown) = (database(), json!({"status": "active"}));
    let later = |conditions: Value| {
        let mut wanted = wanted(&conditions);
        wanted["later"] = json!(1);
        wanted
    };
    let write = async |wanted: Value| objects.status(&db, Some(&shown), &wanted).await;
    assert!(write(later(ready("False", "t1"))).await.unwrap());
    assert!(
        !write(later(ready("False", "t2"))).await.unwrap(),
        "told, and the rest is as it was"
    );
    assert!(write(later(ready("True", "t3"))).await.unwrap());
    tokio::time::advance(AGAIN).await;
    assert!(
        write(later(kept)).await.unwrap(),
        "the definition was replaced"
    );
    write(json!({"status": 1})).await.unwrap_err();
    drop(objects);
    let asked = asked.await.unwrap();
    let sent: Vec<&Value> = asked.iter().map(|(_, _, body)| &body["status"]).collect();
    let only = json!({"status": "active"});
    assert_eq!(sent[1..=3], [&only, &Value::Null, &only]);
    assert_eq!(sent[4], &later(ready("True", "t6")));
    assert_eq!(asked[2].2["reason"], "ConditionsNotKept");
}

#[tokio::test]
async fn conditions_that_are_kept_are_told_by_nobody_else() {
    let (objects, server) = telling();
    let answers = vec![stored(ready("False", "t1")), stored(ready("False", "t2"))];
    let asked = tokio::spawn(answer(server, answers));
    let (db, shown) = (database(), json!({"status": "active"}));
    for at in ["t1", "t2"] {
        let wanted = wanted(&ready("False", at));
        assert!(objects.status(&db, Some(&shown), &wanted).await.unwrap());
    }
    drop(objects);
    assert_eq!(asked.await.unwrap().len(), 2, "no Event");
}

#[tokio::test]
async fn another_word_is_written_although_the_conditions_are_told() {
    let (objects, server) = telling();
    let answers = vec![stored(Value::Null), taken(), stored(Value::Null)];
    let asked = tokio::spawn(answer(server, answers));
    let (db, wanted) = (database(), wanted(&ready("False", "t1")));
    let shown = json!({"status": "active"});
    assert!(objects.status(&db, Some(&shown), &wanted).await.unwrap());
    let other = json!({"status": "pending"});
    assert!(objects.status(&db, Some(&other), &wanted).await.unwrap());
    drop(objects);
    assert_eq!(asked.await.unwrap().len(), 3);
}

#[tokio::test]
async fn the_part_of_another_manager_is_told_apart() {
    let (objects, server) = telling();
    let answers = vec![stored(Value::Null), taken(), stored(Value::Null)];
    let asked = tokio::spawn(answer(server, answers));
    let (db, wanted) = (database(), json!({"conditions": ready("False", "t1")}));
    for manager in ["one", "one", "two"] {
        objects.status_as(manager, &db, &wanted).await.unwrap();
    }
    drop(objects);
    let asked = asked.await.unwrap();
    assert_eq!(asked.len(), 3, "{asked:?}");
}

#[test]
fn what_is_told_is_what_is_not_well_and_the_most_important_first() {
    let one = |type_: &str, status: &str| json!({"type": type_, "status": status, "reason": "R", "message": "m"});
    let all = [
        one("FieldsNotImplemented", "True"),
        one("Suspended", "True"),
        one("Quorum", "Unknown"),
        one("Ready", "False"),
        one("UpToDate", "True"),
        one("ForeignObject", "False"),
    ];
    let told: Vec<String> = troubles(&all);
    let begins: Vec<&str> = told
        .iter()
        .filter_map(|text| text.split(' ').next())
        .collect();
    assert_eq!(
        begins,
        ["Ready", "Suspended", "Quorum", "FieldsNotImplemented"]
    );
    assert_eq!(told[0], "Ready is False (R): m");
}
