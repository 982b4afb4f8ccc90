use kube::api::ObjectMeta;

use super::{testing::Store, *};
use crate::k8s::{
    names::ClusterNames,
    own::CLUSTER,
    testing::{answer, objects},
};

#[tokio::test]
async fn a_service_of_another_manager_gets_no_endpoint_of_ours() {
    let (objects, server) = objects();
    let named = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    };
    let service = Service {
        metadata: named("db"),
        ..Service::default()
    };
    let slice = EndpointSlice {
        metadata: named("db-meridian"),
        ..EndpointSlice::default()
    };
    let theirs = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                        "metadata": {"name": "db", "uid": "u", "labels": {"app.kubernetes.io/managed-by": "Helm"}}});
    let asked = tokio::spawn(answer(server, vec![(200, theirs)]));
    let rigger = rigger(objects);
    let one = Built {
        service,
        slice: Some(slice),
    };
    let refused = rigger
        .apply_one(one, &nothing(), &Owner::database("rec", "ns", "db"))
        .await
        .unwrap_err();
    drop(rigger);
    assert_eq!(refused.fault(), Fault::Foreign);
    let asked = asked.await.unwrap();
    assert!(
        asked[0].1.contains("/services/db"),
        "the Service is looked at first: {asked:?}"
    );
    assert_eq!(
        asked.len(),
        1,
        "a slice would lead the clients of that Service astray: {asked:?}"
    );
}

#[test]
fn a_taken_name_is_told_in_the_words_that_the_databases_controller_reads() {
    let error = ApplyError::Foreign {
        kind: "Service".to_owned(),
        name: "db".to_owned(),
        holder: "x".to_owned(),
    };
    let nowhere = Decision::Nowhere { why: String::new() };
    let told = finding(None, &nowhere, Some(&error.into()));
    assert_eq!(
        (told.type_, told.reason),
        (SERVICES_READY, Fault::Foreign.reason())
    );
}

fn topology() -> DatabaseTopology {
    serde_json::from_value(json!({
        "metadata": {"name": "db", "uid": "T"},
        "spec": {"database": {"kind": "RedisEnterpriseDatabase", "namespace": "ns", "name": "db", "uid": "u"},
                 "cluster": "rec", "epoch": 1, "port": 10000, "memoryBytes": 1, "evictionPolicy": "noeviction",
                 "persistence": "disabled", "replication": false,
                 "shards": [{"id": 0, "slots": "0-16383", "primary": "rec-0"}]},
        "status": {"members": [{"node": "rec-0", "topologyUid": "T", "epoch": 1, "generation": 1, "asOf": "t",
            "shards": [{"id": 0, "role": "primary", "ready": true, "writable": true, "port": 10000}]}]},
    }))
    .unwrap()
}

/// A rigger beside a REC with this spec, one pod and the REDB `db`.
fn world(spec: &Value) -> (Rigger, Store) {
    let (objects, store) = Store::start();
    let pod_labels = json!({CLUSTER: "rec", ROLE_NODE.0: ROLE_NODE.1});
    store.put("v1/pods", json!({"metadata": {"name": "rec-0", "labels": pod_labels}, "spec": {"containers": []}, "status": {"podIP": "10.0.0.1"}}));
    store.put(
        "app.redislabs.com/v1/redisenterpriseclusters",
        json!({"metadata": {"name": "rec"}, "spec": spec}),
    );
    store.put(REDBS, json!({"metadata": {"name": "db"}, "spec": {}}));
    store.put(TOPOLOGIES, serde_json::to_value(topology()).unwrap());
    (rigger(objects), store)
}

fn rigger(objects: Objects) -> Rigger {
    let shortcut = Shortcut::default();
    Rigger {
        follower: Follower::new(objects.clone(), shortcut.clone()),
        objects,
        gate: Gate::default(),
        unconfirmed: Unconfirmed::default(),
        known: kube::runtime::reflector::store().0,
        shortcut,
    }
}

/// A world in which nothing of the database exists.
fn nothing() -> World {
    World {
        policy: build::Policy {
            reach: BTreeSet::new(),
            name_by_port: false,
            service_port: None,
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
        },
        pods: Vec::new(),
        services: Vec::new(),
        slices: Vec::new(),
    }
}

const REDBS: &str = "app.redislabs.com/v1alpha1/redisenterprisedatabases";
const TOPOLOGIES: &str = "meridian.dev/v1alpha1/databasetopologies";
const SERVICES: &str = "v1/services";
const SLICES: &str = "discovery.k8s.io/v1/endpointslices";

async fn look(rigger: &Rigger) -> Result<Option<Duration>, RiggerError> {
    rigger.gate.opened_by(|()| Some(ObjectRef::new("db")))(());
    rigger.look(&topology()).await
}

fn condition(store: &Store) -> (String, String) {
    let topology = store.get(TOPOLOGIES, "db").unwrap();
    let told = &topology["status"]["conditions"][0];
    let text = |field: &str| told[field].as_str().unwrap().to_owned();
    (text("reason"), text("message"))
}

#[tokio::test]
async fn a_new_naming_or_type_makes_the_new_services_and_removes_the_old_ones() {
    let (rigger, store) = world(&json!({}));
    look(&rigger).await.unwrap();
    assert_eq!(store.names(SERVICES), ["db", "db-headless"]);
    let spec = json!({"servicesRiggerSpec": {"serviceNaming": "redis-port", "databaseServiceType": "load_balancer"}});
    store.put(
        "app.redislabs.com/v1/redisenterpriseclusters",
        json!({"metadata": {"name": "rec"}, "spec": spec}),
    );
    look(&rigger).await.unwrap();
    assert_eq!(store.names(SERVICES), ["redis-10000-load-balancer"]);
    assert_eq!(store.names(SLICES), ["redis-10000-load-balancer-meridian"]);
}

#[tokio::test]
async fn a_name_of_another_database_is_refused_and_neither_its_service_nor_our_old_ones_go() {
    let (rigger, store) = world(&json!({}));
    look(&rigger).await.unwrap();
    let other = Owner::database("rec", "ns", "other").labels();
    store.put(
        SERVICES,
        json!({"metadata": {"name": "redis-10000", "labels": other}, "spec": {"ports": []}}),
    );
    let spec = json!({"servicesRiggerSpec": {"serviceNaming": "redis-port"}});
    store.put(
        "app.redislabs.com/v1/redisenterpriseclusters",
        json!({"metadata": {"name": "rec"}, "spec": spec}),
    );
    store.writes();
    let refused = look(&rigger).await.unwrap_err();
    assert_eq!(refused.reason(), NAME_TAKEN);
    assert_eq!(
        condition(&store),
        (
            NAME_TAKEN.to_owned(),
            "Service `redis-10000` exists and belongs to database `ns/other`; nothing was changed. Choose another name for \
             this object, or delete database `ns/other`"
                .to_owned()
        )
    );
    assert_eq!(
        store.names(SERVICES),
        ["db", "db-headless", "redis-10000", "redis-10000-headless"]
    );
    assert_eq!(
        store.get(SERVICES, "redis-10000").unwrap()["metadata"]["labels"],
        json!(other)
    );
    let writes = store.writes();
    assert!(
        !writes
            .iter()
            .any(|path| path.ends_with("/redis-10000") || path.starts_with("DELETE")),
        "{writes:?}"
    );
}

#[tokio::test]
async fn the_clusters_own_service_names_are_refused_before_they_exist() {
    for name in ClusterNames("rec").services() {
        let mut topology = topology();
        topology.metadata.name = Some(name.clone());
        topology.spec.database.name = name.clone();
        let (rigger, store) =
            world(&json!({"servicesRiggerSpec": {"databaseServiceType": "cluster_ip"}}));
        store.put(REDBS, json!({"metadata": {"name": name}, "spec": {}}));
        store.put(TOPOLOGIES, serde_json::to_value(&topology).unwrap());
        let refused = rigger.look(&topology).await.unwrap_err();
        assert_eq!(
            (refused.reason(), Failure::fault(&refused)),
            (NAME_TAKEN, Fault::Invalid)
        );
        assert_eq!(
            refused.to_string(),
            format!(
                "Service `{name}` belongs to cluster `rec`, so nothing was made under that name for database `{name}`. \
                 Choose another name for the database, or set spec.servicesRiggerSpec.serviceNaming of the cluster to \
                 redis-port"
            )
        );
        assert!(store.names(SERVICES).is_empty() && store.names(SLICES).is_empty());
    }
}

#[tokio::test]
async fn a_database_without_its_object_keeps_its_services_as_long_as_its_topology_stands() {
    let (rigger, store) = world(&json!({}));
    store.take(REDBS, "db");
    store.take(TOPOLOGIES, "db");
    look(&rigger).await.unwrap();
    assert!(
        store.names(SERVICES).is_empty(),
        "the topology is gone: nothing is made again"
    );
    store.put(TOPOLOGIES, serde_json::to_value(topology()).unwrap());
    look(&rigger).await.unwrap();
    assert_eq!(store.names(SERVICES), ["db", "db-headless"]);
}

#[tokio::test]
async fn an_annotation_of_somebody_else_survives_whatever_the_cluster_says() {
    let (rigger, store) =
        world(&json!({"services": {"servicesAnnotations": {"lb/zone": "ours", "team": "a"}}}));
    look(&rigger).await.unwrap();
    let mut service = store.get(SERVICES, "db").unwrap();
    assert_eq!(
        service["metadata"]["annotations"],
        json!({"lb/zone": "ours", "team": "a"})
    );
    service["metadata"]["annotations"]["lb/zone"] = json!("theirs");
    service["metadata"]["managedFields"] = json!([
        {"manager": "kubectl", "fieldsV1": {"f:metadata": {"f:annotations": {"f:lb/zone": {}}}}},
        {"manager": "meridian-agent", "fieldsV1": {"f:metadata": {"f:annotations": {"f:team": {}}}}},
    ]);
    store.put(SERVICES, service);
    look(&rigger).await.unwrap();
    let applied = store.get(SERVICES, "db").unwrap();
    assert_eq!(
        applied["metadata"]["annotations"],
        json!({"team": "a"}),
        "what is not said is left to its owner"
    );
}

#[tokio::test]
async fn a_look_that_finds_everything_as_it_was_written_writes_nothing() {
    let (rigger, store) = world(&json!({}));
    look(&rigger).await.unwrap();
    store.writes();
    let mut known = topology();
    known.status =
        serde_json::from_value(store.get(TOPOLOGIES, "db").unwrap()["status"].clone()).unwrap();
    known.status.as_mut().unwrap().members = topology().status.unwrap().members;
    rigger.gate.opened_by(|()| Some(ObjectRef::new("db")))(());
    rigger.look(&known).await.unwrap();
    assert!(store.writes().is_empty());
    let mut slice = store.get(SLICES, "db-meridian").unwrap();
    slice["endpoints"] = json!([]);
    store.put(SLICES, slice);
    look(&rigger).await.unwrap();
    let led = store.get(SLICES, "db-meridian").unwrap();
    assert_eq!(
        led["endpoints"][0]["addresses"],
        json!(["10.0.0.1"]),
        "a slice that was changed by hand is put back"
    );
}

#[tokio::test]
async fn an_order_that_changes_nothing_of_the_services_is_followed_once_that_is_said() {
    let (rigger, store) = world(&json!({}));
    let pod = store.get("v1/pods", "rec-0").unwrap();
    let pod = serde_json::from_value(pod).unwrap();
    rigger.shortcut.saw(&Touched::Is(pod));
    let mut ordered = topology();
    let mut told = async |generation: i64| {
        ordered.metadata.generation = Some(generation);
        rigger.look(&ordered).await.unwrap();
        let status = store.get(TOPOLOGIES, "db").unwrap()["status"].take();
        ordered.status.as_mut().unwrap().conditions =
            serde_json::from_value(status["conditions"].clone()).unwrap();
        (
            status["conditions"][0]["observedGeneration"].as_i64(),
            store.writes(),
        )
    };
    assert_eq!(told(1).await.0, Some(1));
    // Each is another order to the copies, and the Services stand.
    rigger.shortcut.forget("db");
    assert_eq!(told(2).await.0, Some(2), "a complete look");
    let status =
        "/apis/meridian.dev/v1alpha1/namespaces/ns/databasetopologies/db/status".to_owned();
    assert_eq!(
        told(3).await,
        (Some(3), vec![status]),
        "a look that finds that they stand"
    );
    assert_eq!(told(3).await, (Some(3), vec![]), "nothing new");
}

/// A rigger that knows from complete looks that the Services of `db` lead to `rec-0`, and the order of epoch 2 that makes
/// `rec-1` its primary, confirmed.
async fn led() -> (Rigger, Store, DatabaseTopology) {
    let (rigger, store) = world(&json!({}));
    look(&rigger).await.unwrap();
    // The first one made the slices, the second one finds them.
    rigger.shortcut.forget("db");
    look(&rigger).await.unwrap();
    let labels = json!({CLUSTER: "rec", ROLE_NODE.0: ROLE_NODE.1});
    for (name, address) in [("rec-0", "10.0.0.1"), ("rec-1", "10.0.0.2")] {
        let pod = json!({"metadata": {"name": name, "labels": labels}, "spec": {"containers": []}, "status": {"podIP": address}});
        store.put("v1/pods", pod.clone());
        let pod = serde_json::from_value(pod).unwrap();
        rigger.shortcut.saw(&Touched::Is(pod));
    }
    let mut moved = topology();
    moved.spec.epoch = 2;
    moved.spec.shards[0].primary = Some("rec-1".to_owned());
    let members = &mut moved.status.as_mut().unwrap().members;
    (members[0].node, members[0].epoch) = ("rec-1".to_owned(), 2);
    (rigger, store, moved)
}

fn leads_to(store: &Store, address: &str) -> bool {
    let slice = store.get(SLICES, "db-meridian").unwrap();
    slice["endpoints"][0]["addresses"] == json!([address])
}

/// Somebody leads clients to a third pod.
fn lead_elsewhere(store: &Store) {
    let mut slice = store.get(SLICES, "db-meridian").unwrap();
    slice["endpoints"][0]["addresses"] = json!(["10.0.0.3"]);
    store.put(SLICES, slice);
}

#[tokio::test]
async fn a_slice_that_somebody_led_elsewhere_is_not_overwritten_by_what_was_known_before() {
    let (rigger, store, moved) = led().await;
    lead_elsewhere(&store);
    let Way::Lead(lead) = rigger.shortcut.way(&moved, "ns") else {
        panic!("nothing was heard of that yet");
    };
    assert!(!rigger.follower.lead(&moved, lead).await);
    assert!(leads_to(&store, "10.0.0.3"));
    // Nor by a complete look that has read before; what it finds it leaves to the next one, which knows what stands.
    let before = store.get(SLICES, "db-meridian").unwrap();
    let before: EndpointSlice = serde_json::from_value(before).unwrap();
    lead_elsewhere(&store);
    let mut desired = before.clone();
    desired.endpoints = None;
    let owner = Owner::of(&moved.spec);
    let written = rigger.follower.write_slice(&desired, Some(&before), &owner);
    assert_eq!(written.await.unwrap_err().fault(), Fault::Conflict);
    rigger.look(&moved).await.unwrap();
    assert!(leads_to(&store, "10.0.0.2"));
}

#[tokio::test]
async fn a_new_primary_is_followed_before_its_complete_look_has_its_turn() {
    let (rigger, store, moved) = led().await;
    let stop = CancellationToken::new();
    let (tell, follow) = rigger.follower.clone().start(stop.clone());
    tell(&moved);
    let led = async {
        // What is known goes on from there: nothing is left to do but to say so.
        while !leads_to(&store, "10.0.0.2")
            || !matches!(rigger.shortcut.way(&moved, "ns"), Way::Stands(_))
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = follow => panic!("it ended by itself"),
        led = tokio::time::timeout(Duration::from_secs(30), led) => led.unwrap(),
    }
    stop.cancel();
}

#[tokio::test]
async fn only_what_somebody_else_made_of_a_slice_or_a_service_is_news() {
    let (rigger, store) = world(&json!({}));
    look(&rigger).await.unwrap();
    let slices = news_of::<EndpointSlice>(&rigger.follower, &rigger.shortcut, "ns");
    let services = news_of::<Service>(&rigger.follower, &rigger.shortcut, "ns");
    let slice = || store.get(SLICES, "db-meridian").unwrap();
    let service = || store.get(SERVICES, "db").unwrap();
    assert!(slices(serde_json::from_value(slice()).unwrap()).is_empty());
    assert!(services(serde_json::from_value(service()).unwrap()).is_empty());
    lead_elsewhere(&store);
    let named = slices(serde_json::from_value(slice()).unwrap());
    assert_eq!(named, [ObjectRef::new("db").within("ns")]);
    let mut changed = service();
    changed["metadata"]["annotations"] = json!({"team": "b"});
    store.put(SERVICES, changed);
    let named = services(serde_json::from_value(service()).unwrap());
    assert_eq!(named, [ObjectRef::new("db").within("ns")]);
}

#[tokio::test]
async fn a_failover_after_a_failover_is_followed_without_a_complete_look_between() {
    let (rigger, store, moved) = led().await;
    store.writes();
    let Way::Lead(there) = rigger.shortcut.way(&moved, "ns") else {
        panic!("the slice leads to another pod");
    };
    assert!(rigger.follower.lead(&moved, there).await);
    let mut back = topology();
    back.spec.epoch = 3;
    back.status.as_mut().unwrap().members[0].epoch = 3;
    let Way::Lead(back_again) = rigger.shortcut.way(&back, "ns") else {
        panic!("the slice leads to another pod");
    };
    assert!(rigger.follower.lead(&back, back_again).await);
    assert!(leads_to(&store, "10.0.0.1"));
    let written = store.writes();
    assert_eq!(written.len(), 4, "two slices, twice: {written:?}");
    assert!(written.iter().all(|path| path.contains("/endpointslices/")));
}
