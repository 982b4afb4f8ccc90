use serde_json::{Value, json};

use super::*;
use crate::controllers::{placement::Node, topology::Found};

fn redb(status: &Value) -> RedisEnterpriseDatabase {
    serde_json::from_value(json!({"metadata": {"name": "db", "namespace": "ns", "uid": "U", "generation": 2}, "spec": {},
                                  "status": status}))
    .unwrap()
}

fn topology(ready: bool) -> DatabaseTopology {
    serde_json::from_value(json!({
        "metadata": {"name": "db", "uid": "T", "generation": 1},
        "spec": {"database": {"kind": "RedisEnterpriseDatabase", "namespace": "ns", "name": "db", "uid": "U"}, "cluster": "rec",
                 "epoch": 1, "port": 10000, "memoryBytes": 1, "evictionPolicy": "noeviction", "persistence": "disabled",
                 "replication": false, "shards": [{"id": 0, "slots": "0-16383", "primary": "rec-0"}]},
        "status": {"members": [{"node": "rec-0", "topologyUid": "T", "epoch": 1, "generation": 1, "asOf": "t",
                   "shards": [{"id": 0, "role": "primary", "ready": ready, "writable": ready, "port": 10000}]}]},
    }))
    .unwrap()
}

fn world(reachable: bool) -> World {
    let services = vec![
        serde_json::from_value(json!({"metadata": {"name": "db-headless", "namespace": "ns"}, "spec": {"ports": [{"port": 10000}]}})).unwrap(),
        serde_json::from_value(json!({"metadata": {"name": "db", "namespace": "ns"}, "spec": {"ports": [{"port": 6379}]}})).unwrap(),
    ];
    let nodes = vec![Node {
        pod: "rec-0".to_owned(),
        ready: true,
        limit: None,
        host: None,
        rack: None,
    }];
    World {
        topology: Found {
            nodes,
            ..Found::default()
        },
        services,
        reachable,
        access: None,
    }
}

fn ready(shown: &RedisEnterpriseDatabaseStatus) -> (&str, &str) {
    let condition = shown
        .conditions
        .iter()
        .find(|c| c.type_ == "Ready")
        .unwrap();
    (&condition.status, &condition.reason)
}

#[test]
fn a_database_is_active_when_it_takes_writes_and_its_services_lead_to_it() {
    let shown = status(
        &redb(&json!({})),
        &Outcome::Written(&topology(true), &world(true)),
        &[],
        "now",
    );
    assert_eq!(shown.status, Some(DatabaseStatus::Active));
    assert_eq!(shown.spec_status, Some(SpecStatus::Valid));
    assert_eq!(
        (
            shown.database_uid.as_deref(),
            shown.redis_enterprise_cluster.as_deref()
        ),
        (Some("1"), Some("rec")),
        "the number by which the cluster's API calls it"
    );
    assert_eq!(
        shown.shard_statuses,
        BTreeMap::from([("active".to_owned(), 1)])
    );
    let hosts: Vec<_> = shown
        .internal_endpoints
        .iter()
        .map(|e| (e.host.clone().unwrap(), e.port.unwrap()))
        .collect();
    assert_eq!(
        hosts,
        [
            ("db-headless.ns.svc.cluster.local".to_owned(), 10000),
            ("db.ns.svc.cluster.local".to_owned(), 6379)
        ]
    );
    assert_eq!(ready(&shown), ("True", "Serving"));
}

#[test]
fn the_same_look_again_changes_nothing() {
    let first = status(
        &redb(&json!({})),
        &Outcome::Written(&topology(true), &world(true)),
        &[],
        "t1",
    );
    let again = redb(&serde_json::to_value(&first).unwrap());
    let second = status(
        &again,
        &Outcome::Written(&topology(true), &world(true)),
        &[],
        "t2",
    );
    assert_eq!(first, second);
}

#[test]
fn the_last_change_is_shown_with_when_it_came_how_far() {
    let shown = |before: &Value, serves, now| {
        status(
            &redb(before),
            &Outcome::Written(&topology(serves), &world(true)),
            &[],
            now,
        )
    };
    let seen = |status: &RedisEnterpriseDatabaseStatus| {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        [
            text(&status.last_action_status),
            text(&status.last_updated),
            text(&status.created_time),
        ]
    };
    let pending = shown(&Value::Null, false, "t1");
    assert_eq!(seen(&pending), ["running", "t1", ""]);
    let active = shown(&json!(pending), true, "t2");
    assert_eq!(seen(&active), ["completed", "t2", "t2"]);
    assert_eq!(
        seen(&shown(&json!(active), true, "t3")),
        ["completed", "t2", "t2"]
    );
    assert_eq!(active.version, None, "no node has told one");
}

#[test]
fn words_tell_a_database_that_never_served_from_one_that_did() {
    let served = json!({"databaseUID": "U", "status": "active"});
    let taken = ServeError::Topology(crate::controllers::topology::TopologyError::Lost);
    let waits = ServeError::NoCluster("no REC".to_owned());
    let invalid = ["spec.x: wrong".to_owned()];
    let word = |before: &Value, outcome: &Outcome<'_>| {
        status(&redb(before), outcome, &[], "now").status.unwrap()
    };
    let going = Finding::no("Ready", "StoppingShards", "waits");
    let (down, up, here, away) = (topology(false), topology(true), world(true), world(false));
    let cases = [
        (
            Outcome::Written(&down, &here),
            DatabaseStatus::Pending,
            DatabaseStatus::Recovery,
        ),
        (
            Outcome::Written(&up, &away),
            DatabaseStatus::Pending,
            DatabaseStatus::ActiveChangePending,
        ),
        (
            Outcome::Failed(&waits),
            DatabaseStatus::Pending,
            DatabaseStatus::Active,
        ),
        (
            Outcome::Failed(&taken),
            DatabaseStatus::CreationFailed,
            DatabaseStatus::Active,
        ),
        (
            Outcome::Invalid(&invalid),
            DatabaseStatus::CreationFailed,
            DatabaseStatus::Active,
        ),
        (
            Outcome::Deleting(&going),
            DatabaseStatus::DeletePending,
            DatabaseStatus::DeletePending,
        ),
    ];
    for (outcome, first, later) in cases {
        assert_eq!(
            (word(&json!({}), &outcome), word(&served, &outcome)),
            (first, later),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_failure_is_never_shown_as_ready() {
    let error = ServeError::NoCluster("this namespace has no RedisEnterpriseCluster".to_owned());
    let shown = status(
        &redb(&json!({"databaseUID": "U", "status": "active"})),
        &Outcome::Failed(&error),
        &[],
        "now",
    );
    assert_eq!(ready(&shown), ("False", "Waiting"));
}

#[test]
fn an_invalid_spec_names_the_field() {
    let shown = status(
        &redb(&json!({})),
        &Outcome::Invalid(&["spec.memorySize: wrong".to_owned()]),
        &[],
        "now",
    );
    assert_eq!(shown.spec_status, Some(SpecStatus::Invalid));
    assert!(
        shown
            .conditions
            .iter()
            .any(|c| c.message.contains("spec.memorySize"))
    );
}

#[test]
fn fields_without_effect_are_told() {
    let shown = status(
        &redb(&json!({})),
        &Outcome::Deleting(&Finding::no("Ready", "Deleting", "goes")),
        &["spec.backup: no effect".to_owned()],
        "now",
    );
    assert!(
        shown
            .conditions
            .iter()
            .any(|c| c.type_ == "FieldsNotImplemented" && c.status == "True")
    );
}
