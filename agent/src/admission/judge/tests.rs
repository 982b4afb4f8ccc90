use std::collections::BTreeMap;

use meridian_api::validate::{CONFIRM_DELETION, OBJECT_ID};
use serde_json::json;

use super::*;

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "app.redislabs.com/v1alpha1", "kind": kind, "metadata": { "name": name, "namespace": "ns" }, "spec": spec,
    })
}

fn asked(kind: &str, operation: &str, old: Value, new: Value) -> Request {
    let request = json!({
        "uid": "u", "kind": { "group": "app.redislabs.com", "version": "v1alpha1", "kind": kind },
        "namespace": "ns", "name": "x", "operation": operation, "object": new, "oldObject": old,
    });
    serde_json::from_value(request).unwrap()
}

fn message(verdict: &Verdict) -> &str {
    verdict
        .refusal
        .as_ref()
        .map_or("", |refusal| refusal.message.as_str())
}

fn create(kind: &str, name: &str, spec: Value) -> Verdict {
    let request = asked(kind, "CREATE", Value::Null, object(kind, name, spec));
    judge(&request, &Around::default())
}

#[test]
fn an_illegal_eviction_policy_is_denied_with_the_words_that_are_legal() {
    let verdict = create(DATABASE, "db", json!({ "evictionPolicy": "illegal" }));
    assert_eq!(
        message(&verdict),
        "spec.evictionPolicy: found \"illegal\", expected one of volatile-lru, volatile-ttl, volatile-random, volatile-lfu, \
         allkeys-lru, allkeys-random, allkeys-lfu, noeviction; use one of these words"
    );
    assert_eq!(verdict.outcome(), "refused");
}

#[test]
fn every_broken_rule_is_named_at_once() {
    let verdict = create(
        DATABASE,
        "db",
        json!({ "memorySize": "1MB", "databasePort": 80 }),
    );
    assert_eq!(
        message(&verdict),
        "spec.memorySize: found \"1MB\", expected 100MB or more; raise the size to at least 100MB; spec.databasePort: found \
         80, expected a number from 10000 to 19999; use a number in this range"
    );
}

#[test]
fn what_has_no_effect_is_said_though_the_object_is_accepted() {
    let verdict = create(DATABASE, "db", json!({ "shardCount": 3, "resp3": false }));
    assert_eq!(verdict.refusal, None);
    assert_eq!(
        verdict.warnings,
        [
            "spec.resp3: clients choose RESP2 or RESP3 with HELLO, whatever stands here",
            "spec.shardCount: served by 1 shard of 3: databases have one shard for now",
        ]
    );
    let spec = json!({ "participatingClusters": [{ "name": "a" }], "globalConfigurations": { "persistence": "disabled", "defaultUser": false } });
    let request = asked(
        ACTIVE_ACTIVE,
        "CREATE",
        Value::Null,
        object(ACTIVE_ACTIVE, "db", spec),
    );
    let around = Around {
        surroundings: Surroundings {
            remote_clusters: BTreeMap::from([("a".to_owned(), true)]),
            ..Surroundings::default()
        },
        ..Around::default()
    };
    let verdict = judge(&request, &around);
    assert_eq!(verdict.refusal, None);
    assert_eq!(
        verdict.warnings,
        [
            "spec.globalConfigurations.persistence: an Active-Active database always has an append-only file, synced every \
          second: a region may only report writes that it cannot lose"
        ]
    );
}

#[test]
fn a_cluster_is_let_in_and_told_what_will_be_wrong_and_what_has_no_effect() {
    let verdict = create(CLUSTER, "rec", json!({ "nodes": 2, "encryptPkeys": true }));
    assert_eq!(verdict.refusal, None);
    let told = verdict.warnings.join("\n");
    assert!(
        told.contains("the cluster will be Invalid: spec.nodes: found 2"),
        "{told}"
    );
    assert!(told.contains("spec.encryptPkeys: "), "{told}");

    let old = object(CLUSTER, "rec", json!({ "nodes": 5 }));
    let new = object(CLUSTER, "rec", json!({ "nodes": 3 }));
    let verdict = judge(&asked(CLUSTER, "UPDATE", old, new), &Around::default());
    assert_eq!(verdict.refusal, None);
    let told = verdict.warnings.join("\n");
    assert!(
        told.contains("the cluster will be Invalid: spec.nodes: found 3"),
        "{told}"
    );
}

#[test]
fn a_change_is_judged_by_what_the_object_was() {
    let old = object(DATABASE, "db", json!({ "databasePort": 12000 }));
    let new = object(DATABASE, "db", json!({ "databasePort": 12001 }));
    let verdict = judge(
        &asked(DATABASE, "UPDATE", old, new.clone()),
        &Around::default(),
    );
    assert_eq!(
        message(&verdict),
        "spec.databasePort: found 12001, expected 12000 as before; the port of a database cannot be changed; put it back"
    );
    let unreadable = object(DATABASE, "db", json!({ "databasePort": "many" }));
    let verdict = judge(
        &asked(DATABASE, "UPDATE", unreadable, new),
        &Around::default(),
    );
    assert_eq!(
        verdict.refusal, None,
        "nothing has to stay of what nobody can read"
    );
}

#[test]
fn an_object_that_cannot_be_read_is_refused_with_the_field() {
    let verdict = create(DATABASE, "db", json!({ "memorySize": [1] }));
    let told = message(&verdict);
    assert!(
        told.starts_with("spec: found a RedisEnterpriseDatabase that cannot be read (")
            && told.ends_with("expected fields of the types that its definition gives; correct the field; `kubectl explain` \
                               shows its type"),
        "{told}"
    );
}

#[test]
fn the_secret_of_a_remote_cluster_has_the_one_name() {
    let spec = json!({ "recName": "rec", "recNamespace": "ns", "apiFqdnUrl": "api.example.com", "secretName": "mine" });
    let verdict = create(REMOTE_CLUSTER, "eu-1", spec);
    assert_eq!(
        message(&verdict),
        "spec.secretName: found \"mine\", expected \"redis-enterprise-eu-1\"; name the Secret so, or remove the field"
    );
}

#[test]
fn a_deletion_is_judged_by_its_metadata_even_if_the_spec_is_unreadable() {
    let mut old = object(ACTIVE_ACTIVE, "cart", json!("nonsense"));
    old["metadata"]["annotations"] = json!({ OBJECT_ID: "00000000-0000-4000-8000-000000000001" });
    let delete = |old: &Value| {
        judge(
            &asked(ACTIVE_ACTIVE, "DELETE", old.clone(), Value::Null),
            &Around::default(),
        )
    };
    assert!(message(&delete(&old)).contains(CONFIRM_DELETION));
    old["metadata"]["annotations"][CONFIRM_DELETION] = json!("cart");
    assert_eq!(delete(&old).refusal, None);
}

#[test]
fn a_remote_cluster_in_use_is_not_deleted() {
    let old = object(REMOTE_CLUSTER, "eu-1", json!({}));
    let around = Around {
        users: vec![Place {
            kind: ACTIVE_ACTIVE.to_owned(),
            namespace: "ns".to_owned(),
            name: "cart".to_owned(),
        }],
        ..Around::default()
    };
    let verdict = judge(&asked(REMOTE_CLUSTER, "DELETE", old, Value::Null), &around);
    assert!(
        message(&verdict).contains("in use by RedisEnterpriseActiveActiveDatabase ns/cart"),
        "{verdict:?}"
    );
}

#[test]
fn what_could_not_be_looked_up_is_not_let_in() {
    let verdict = Verdict::unknown("list RedisEnterpriseDatabase: away".to_owned());
    let refusal = verdict.refusal.as_ref().unwrap();
    assert_eq!((refusal.code, refusal.reason), (503, "ServiceUnavailable"));
    assert_eq!(
        refusal.message,
        "the object could not be checked: list RedisEnterpriseDatabase: away; try again"
    );
    assert_eq!(verdict.outcome(), "unknown");
}

#[test]
fn kinds_that_nobody_asked_about_pass_and_are_counted_as_other() {
    let request = asked("Pod", "CREATE", Value::Null, json!({ "kind": "Pod" }));
    assert_eq!(judge(&request, &Around::default()), Verdict::default());
    assert_eq!(kind_label(&request), "other");
}
