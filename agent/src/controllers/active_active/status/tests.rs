use serde_json::{Value, json};

use super::*;
use crate::controllers::{placement::Node, topology::Found};

fn reaadb(status: &Value) -> RedisEnterpriseActiveActiveDatabase {
    serde_json::from_value(
        json!({"metadata": {"name": "db", "namespace": "ns", "generation": 1},
        "spec": {"participatingClusters": [{"name": "eu"}, {"name": "us"}],
                 "globalConfigurations": {"databaseSecretName": "pw"}}, "status": status}),
    )
    .unwrap()
}

fn instance() -> ActiveActiveInstance {
    serde_json::from_value(json!({"metadata": {"name": "db"}, "spec": {
        "guid": "g", "objectId": "o", "instanceId": 1, "configVersion": 4, "planNumber": 1, "hubTerm": 1, "storeId": "s",
        "database": {"namespace": "ns", "name": "db"}, "cluster": "rec", "members": []}}))
    .unwrap()
}

/// A served instance of two members whose link from `us` is in `state`.
fn seen(state: Option<&str>, node_ready: bool) -> Seen {
    let links: Vec<Value> = state
        .map(|state| json!({"instanceId": 2, "name": "us", "state": state, "lastError": "refused", "since": "t0", "asOf": "t1"}))
        .into_iter()
        .collect();
    let member =
        |id: i64, name: &str, local: bool| json!({"instanceId": id, "name": name, "local": local});
    let topology = serde_json::from_value(json!({
        "metadata": {"name": "db", "uid": "T", "generation": 2},
        "spec": {"database": {"kind": "RedisEnterpriseActiveActiveDatabase", "namespace": "ns", "name": "db", "uid": "g"},
                 "cluster": "rec", "epoch": 1, "port": 10000, "memoryBytes": 1, "evictionPolicy": "noeviction",
                 "persistence": "aofEverySecond", "replication": false,
                 "shards": [{"id": 0, "slots": "0-16383", "primary": "rec-0"}],
                 "activeActive": {"guid": "g", "instanceId": 1, "configVersion": 4,
                                  "members": [member(1, "eu", true), member(2, "us", false)]}},
        "status": {"members": [{"node": "rec-0", "topologyUid": "T", "epoch": 1, "generation": 2, "asOf": "t", "links": links,
                   "shards": [{"id": 0, "role": "primary", "ready": true, "writable": true, "port": 10000}]}]},
    }))
    .unwrap();
    let nodes = vec![Node {
        pod: "rec-0".to_owned(),
        ready: node_ready,
        limit: None,
        host: None,
        rack: None,
    }];
    Seen {
        topology,
        world: World {
            topology: Found {
                nodes,
                ..Found::default()
            },
            services: vec![],
            reachable: true,
            access: None,
        },
    }
}

fn shown(before: &Value, outcome: &Outcome<'_>) -> RedisEnterpriseActiveActiveDatabaseStatus {
    status(&reaadb(before), Some(&instance()), outcome, &[], "now")
}

fn condition<'a>(
    status: &'a RedisEnterpriseActiveActiveDatabaseStatus,
    type_: &str,
) -> (&'a str, &'a str) {
    let found = status.conditions.iter().find(|c| c.type_ == type_).unwrap();
    (&found.status, &found.message)
}

#[test]
fn a_served_instance_with_live_links_shows_every_classic_word() {
    let shown = shown(&json!({}), &Outcome::Written(&seen(Some("up"), true)));
    assert_eq!(shown.status, Some(ActiveActiveStatus::Active));
    assert_eq!(shown.replication_status, Some(ReplicationStatus::Up));
    assert_eq!(
        (
            shown.guid.as_deref(),
            shown.redis_enterprise_cluster.as_deref()
        ),
        (Some("g"), Some("rec"))
    );
    let rows: Vec<_> = shown
        .participating_clusters
        .iter()
        .map(|p| (p.name.as_str(), p.id, p.replication_status.clone()))
        .collect();
    assert_eq!(
        rows,
        [
            ("eu", Some(1), Some(ReplicationStatus::Up)),
            ("us", Some(2), Some(ReplicationStatus::Up))
        ]
    );
    assert_eq!(shown.linked_redbs, ["db"]);
    assert_eq!(
        shown.secrets_status,
        [SecretStatus {
            name: "pw".to_owned(),
            status: Some(SecretState::Valid)
        }]
    );
}

#[test]
fn a_link_is_up_only_when_its_report_says_so_and_its_node_is_ready() {
    let cases = [
        (
            Some("up"),
            true,
            Some(ReplicationStatus::Up),
            Some(ReplicationStatus::Up),
        ),
        (
            Some("syncing"),
            true,
            Some(ReplicationStatus::Down),
            Some(ReplicationStatus::Down),
        ),
        (
            Some("stalled"),
            true,
            Some(ReplicationStatus::Down),
            Some(ReplicationStatus::Down),
        ),
        (None, true, None, None),
        (Some("up"), false, None, Some(ReplicationStatus::Down)),
    ];
    for (state, ready, link, all) in cases {
        let shown = shown(&json!({}), &Outcome::Written(&seen(state, ready)));
        assert_eq!(
            shown.participating_clusters[1].replication_status, link,
            "{state:?} {ready}"
        );
        assert_eq!(shown.replication_status, all, "{state:?} {ready}");
    }
}

#[test]
fn a_lost_link_is_told_with_its_reason_and_since_when() {
    let shown = shown(&json!({}), &Outcome::Written(&seen(Some("down"), true)));
    assert_eq!(
        condition(&shown, "Replicating"),
        ("False", "us is down since t0: refused")
    );
    assert_eq!(
        shown.status,
        Some(ActiveActiveStatus::Active),
        "it still takes writes here"
    );
}

#[test]
fn without_an_instance_it_waits_for_the_hub_and_says_so() {
    let shown = status(
        &reaadb(&json!({})),
        None,
        &Outcome::NoInstance(None),
        &[],
        "now",
    );
    assert_eq!(shown.status, Some(ActiveActiveStatus::Pending));
    assert_eq!(condition(&shown, "Member").0, "False");
    assert!(condition(&shown, "Ready").1.contains("hub"));
}

#[test]
fn an_instance_that_was_deleted_by_hand_does_not_hide_that_it_serves() {
    let seen = seen(Some("up"), true);
    let shown = status(
        &reaadb(&json!({})),
        None,
        &Outcome::NoInstance(Some(&seen)),
        &[],
        "now",
    );
    assert_eq!(shown.status, Some(ActiveActiveStatus::Active));
    assert_eq!(condition(&shown, "Member").0, "False");
}

#[test]
fn a_missing_secret_is_invalid_and_named() {
    let error = ServeError::Secret {
        secret: "pw".to_owned(),
        problem: "does not exist",
    };
    let shown = shown(&json!({}), &Outcome::Failed(&error));
    assert_eq!(
        shown.secrets_status,
        [SecretStatus {
            name: "pw".to_owned(),
            status: Some(SecretState::Invalid)
        }]
    );
    assert_eq!(shown.status, Some(ActiveActiveStatus::Pending));
}

#[test]
fn an_unconfirmed_deletion_says_that_the_data_is_served_on_and_what_to_do() {
    let mut going = reaadb(&json!({"linkedRedbs": ["db"]}));
    going.metadata.deletion_timestamp = Some(crate::clock::now());
    let shown = status(
        &going,
        Some(&instance()),
        &Outcome::Written(&seen(Some("up"), true)),
        &[],
        "now",
    );
    assert_eq!(shown.status, Some(ActiveActiveStatus::DeletePending));
    assert_eq!(condition(&shown, "Ready").0, "True", "it still serves");
    let (holds, message) = condition(&shown, "DeletionUnconfirmed");
    assert!(
        holds == "True" && message.contains("data is kept") && message.contains("at the hub"),
        "{message}"
    );
    let told = Finding::no("Ready", "StoppingShards", "waits for `rec-0`");
    let confirmed = status(
        &going,
        Some(&instance()),
        &Outcome::Deleting(&told),
        &[],
        "now",
    );
    assert_eq!(
        condition(&confirmed, "Ready"),
        ("False", "waits for `rec-0`")
    );
    assert!(
        confirmed
            .conditions
            .iter()
            .all(|c| c.type_ != "DeletionUnconfirmed")
    );
}

#[test]
fn a_configuration_counts_as_taken_over_only_with_the_present_generation() {
    let mut seen = seen(None, true);
    assert_eq!(acknowledged(&seen.topology), Some(4));
    seen.topology.metadata.generation = Some(3);
    assert_eq!(acknowledged(&seen.topology), None);
}

#[test]
fn passwords_that_every_region_draws_for_itself_are_told() {
    let with = |settings: Value, members: usize| {
        let mut reaadb = reaadb(&json!({}));
        reaadb.spec.global_configurations = serde_json::from_value(settings).unwrap();
        let mut instance = instance();
        let member: meridian_api::crds::instance::InstanceMember =
            serde_json::from_value(json!({"instanceId": 1, "name": "eu", "clusterUid": "c"}))
                .unwrap();
        instance.spec.members = vec![member; members];
        let shown = status(
            &reaadb,
            Some(&instance),
            &Outcome::NoInstance(None),
            &[],
            "now",
        );
        let found = shown
            .conditions
            .into_iter()
            .find(|c| c.type_ == "OnePassword");
        found.map(|c| (c.status, c.reason, c.message))
    };
    let (word, reason, text) = with(json!({}), 2).unwrap();
    assert_eq!(
        (word.as_str(), reason.as_str()),
        ("False", "DrawnByEachCluster")
    );
    assert!(
        text.contains("\"redb-db\"") && text.contains("databaseSecretName"),
        "{text}"
    );
    assert_eq!(with(Value::Null, 2).unwrap().1, "DrawnByEachCluster");
    let (word, reason, text) = with(json!({"databaseSecretName": "pw"}), 2).unwrap();
    assert_eq!(
        (word.as_str(), reason.as_str()),
        ("Unknown", "SecretOfEachCluster")
    );
    assert!(text.contains("\"pw\""), "{text}");
    assert_eq!(with(json!({"defaultUser": false}), 2), None);
    assert_eq!(with(json!({}), 1), None, "one region has one password");
}
