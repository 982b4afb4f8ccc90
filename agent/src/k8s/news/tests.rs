use meridian_api::crds::RedisEnterpriseDatabase;
use serde_json::json;

use super::*;

const REST: Duration = Duration::from_secs(300);

fn topology(as_of: &str, lag_ms: i64, state: &str) -> DatabaseTopology {
    let link = json!({"instanceId": 2, "name": "two", "state": state, "lagMs": lag_ms, "since": "0", "asOf": as_of});
    let shard = json!({"id": 1, "role": "primary", "ready": true, "writable": true, "port": 10000, "clock": as_of,
                       "offset": 8000 + lag_ms, "replicas": [{"node": "rec-1", "online": true, "lagBytes": lag_ms}]});
    let member = json!({"node": "rec-0", "topologyUid": "u", "epoch": 1, "generation": 1, "asOf": as_of,
                        "shards": [shard], "links": [link]});
    let spec = json!({
        "database": {"kind": "RedisEnterpriseDatabase", "namespace": "ns", "name": "db", "uid": "u"},
        "cluster": "rec", "epoch": 1, "port": 10000, "memoryBytes": 1, "evictionPolicy": "noeviction",
        "persistence": "disabled", "replication": false, "shards": [],
    });
    serde_json::from_value(json!({
        "apiVersion": "meridian.dev/v1alpha1", "kind": "DatabaseTopology",
        "metadata": {"name": "db", "resourceVersion": as_of},
        "spec": spec, "status": {"members": [member], "conditions": []},
    }))
    .unwrap()
}

fn is<K>(object: K) -> Touched<K> {
    Touched::Is(object)
}

fn news(heard: &Heard, topology: &DatabaseTopology) -> bool {
    heard.is_news(topology.name_any(), said(topology), spoken(topology))
}

#[test]
fn a_repeated_report_is_no_news_and_a_turned_link_is() {
    let heard = Heard::default();
    assert!(news(&heard, &topology("1", 0, "up")));
    assert!(!news(&heard, &topology("2", 7, "up")));
    assert!(news(&heard, &topology("3", 7, "down")));
    assert!(!news(&heard, &topology("4", 9, "down")));
}

#[test]
fn a_deleted_topology_is_news_although_it_says_what_it_said() {
    let heard = Heard::default();
    assert!(news(&heard, &topology("1", 0, "up")));
    let mut deleted = topology("1", 0, "up");
    deleted.metadata.resource_version = Some("9".to_owned());
    assert!(news(&heard, &deleted));
}

#[test]
fn what_is_gone_is_news_and_is_forgotten() {
    let wakes = of_topologies::<DeserializeGuard<RedisEnterpriseDatabase>>("ns");
    let named = |touched| wakes(&touched).map(|one| one.name);
    let db = Some("db".to_owned());
    assert_eq!(named(is(guarded(topology("1", 0, "up")))), db);
    assert_eq!(named(is(guarded(topology("2", 0, "up")))), None);
    assert_eq!(named(Touched::Gone("db".to_owned())), db);
    assert_eq!(named(is(guarded(topology("3", 0, "up")))), db, "made again");
    let heard = Heard::default();
    assert!(heard.is_news("a".to_owned(), 1, 1));
    assert!(heard.of(&Touched::<()>::Gone("a".to_owned()), |()| false));
    assert!(heard.0.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_topology_is_looked_at_again_when_it_says_something_new_or_has_rested() {
    let gate = Gate::default();
    gate.leave(gate.enter(&topology("1", 0, "up")).unwrap(), REST);
    tokio::time::advance(REST / 3).await;
    assert_eq!(
        gate.enter(&topology("2", 7, "up")).unwrap_err(),
        REST - REST / 3
    );
    assert!(gate.enter(&topology("2", 7, "down")).is_ok());
    tokio::time::advance(REST).await;
    assert!(gate.enter(&topology("2", 7, "up")).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_look_that_failed_or_was_overtaken_is_due_again() {
    let gate = Gate::default();
    let again = topology("2", 0, "up");
    drop(gate.enter(&topology("1", 0, "up")).unwrap());
    assert!(gate.enter(&again).is_ok(), "the first one failed");
    let wakes = gate.opened_by(|()| Some(ObjectRef::new("db")));
    let look = gate.enter(&again).unwrap();
    assert_eq!(wakes(()).len(), 1);
    gate.leave(look, REST);
    let look = gate.enter(&again);
    gate.leave(look.expect("a pod changed during the look before"), REST);
    assert!(gate.enter(&again).is_err());
    wakes(());
    assert!(gate.enter(&again).is_ok());
}

fn guarded(topology: DatabaseTopology) -> DeserializeGuard<DatabaseTopology> {
    DeserializeGuard(Ok(topology))
}

#[test]
fn a_cluster_hears_of_new_orders_and_of_topologies_that_go_and_not_of_reports() {
    let of = of_orders();
    let at = |generation: i64, as_of: &str| {
        let mut topology = topology(as_of, 0, "up");
        topology.metadata.generation = Some(generation);
        guarded(topology)
    };
    let rec = Some("rec".to_owned());
    assert_eq!(of(&at(1, "1")), rec);
    assert_eq!(of(&at(1, "2")), None, "a report");
    let mut leaving = at(1, "2");
    leaving.meta_mut().annotations = Some([("a".to_owned(), "b".to_owned())].into());
    assert_eq!(of(&leaving), None, "a wish to leave a pod");
    assert_eq!(of(&at(2, "2")), rec);
    let mut deleted = at(2, "2");
    deleted.meta_mut().resource_version = Some("9".to_owned());
    assert_eq!(of(&deleted), rec, "deleted");
}

fn cluster(
    generation: i64,
    suspended: &str,
    shards: i32,
) -> DeserializeGuard<RedisEnterpriseCluster> {
    let condition = |type_: &str, status: &str, message: String| json!({"type": type_, "status": status, "reason": "R", "message": message, "lastTransitionTime": "t"});
    serde_json::from_value(json!({
        "apiVersion": "app.redislabs.com/v1", "kind": "RedisEnterpriseCluster",
        "metadata": {"name": "rec", "namespace": "ns", "uid": "u", "generation": generation},
        "spec": {},
        "status": {"licenseStatus": {"ramShards": shards}, "conditions": [
            condition("Ready", "True", format!("{shards} shards")), condition("Suspended", suspended, "m".to_owned()),
        ]},
    }))
    .unwrap()
}

#[test]
fn a_cluster_that_counts_its_shards_wakes_no_database() {
    let concerns = of_clusters();
    assert!(concerns(&is(cluster(1, "False", 0))));
    for shards in 1..200 {
        assert!(
            !concerns(&is(cluster(1, "False", shards))),
            "{shards} shards"
        );
    }
    assert!(concerns(&is(cluster(2, "False", 199))), "a new spec");
    assert!(concerns(&is(cluster(2, "True", 199))), "suspended");
    assert!(
        concerns(&is(cluster(2, "False", 200))),
        "not suspended any more"
    );
    assert!(
        concerns(&is(cluster(2, "False", 200))),
        "deleted, or told anew"
    );
    let mut going = cluster(2, "False", 201);
    going.meta_mut().deletion_timestamp =
        Some(serde_json::from_value(json!("2026-11-01T00:00:00Z")).unwrap());
    assert!(concerns(&is(going)));
}

#[test]
fn a_pod_concerns_those_who_lead_clients_to_it_when_it_is_reached_in_another_way() {
    let pod = |ip: &str, ready: &str, note: &str, at: &str| -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "rec-0", "uid": "u"},
            "spec": {"nodeName": "host", "containers": []},
            "status": {"podIP": ip, "message": note,
                       "conditions": [{"type": "Ready", "status": ready, "lastProbeTime": at}]},
        }))
        .unwrap()
    };
    let concerns = of_pods();
    let (one, two) = ("2026-11-01T00:00:00Z", "2026-11-01T00:01:00Z");
    assert!(concerns(&is(pod("10.0.0.1", "True", "", one))));
    assert!(!concerns(&is(pod("10.0.0.1", "True", "", two))), "a probe");
    assert!(!concerns(&is(pod("10.0.0.1", "True", "x", two))), "a word");
    assert!(
        concerns(&is(pod("10.0.0.1", "False", "x", two))),
        "not ready"
    );
    assert!(
        concerns(&is(pod("10.0.0.2", "False", "x", two))),
        "another address"
    );
    let mut going = pod("10.0.0.2", "False", "x", two);
    going.metadata.deletion_grace_period_seconds = Some(30);
    assert!(concerns(&is(going.clone())));
    // With another word beside it: what is told anew and is wholly the same is news anyway.
    let mut going = pod("10.0.0.2", "False", "y", two);
    going.metadata.deletion_grace_period_seconds = Some(0);
    assert!(concerns(&is(going.clone())), "without any grace");
    assert!(concerns(&Touched::Gone("rec-0".to_owned())));
    assert!(concerns(&is(going)), "there again");
}

#[test]
fn other_data_in_a_secret_are_not_another_secret() {
    let secret = |uid: &str, data: &str| -> Secret {
        serde_json::from_value(json!({
            "metadata": {"name": "rec-users", "uid": uid, "labels": {"a": "b"}}, "data": {"db": data},
        }))
        .unwrap()
    };
    let marks = of_marks();
    assert!(marks(&is(secret("u", "YQ=="))));
    assert!(!marks(&is(secret("u", "Yg=="))));
    assert!(marks(&is(secret("u", "Yg=="))), "told anew");
    assert!(marks(&Touched::Gone("rec-users".to_owned())));
    assert!(marks(&is(secret("v", "Yg=="))), "another");
}
