use super::*;
use crate::{k8s::own::Owner, rigger::testing::Store};

const RECS: &str = "app.redislabs.com/v1/redisenterpriseclusters";
const TOPOLOGIES: &str = "meridian.dev/v1alpha1/databasetopologies";
const INGRESSES: &str = "networking.k8s.io/v1/ingresses";
const ROUTES: &str = "route.openshift.io/v1/routes";

fn entry_spec(method: &str, suffix: &str) -> Value {
    json!({"ingressOrRouteSpec": {
        "apiFqdnUrl": "api.eu.example.com", "dbFqdnSuffix": suffix, "method": method,
        "ingressAnnotations": {"kubernetes.io/ingress.class": "nginx"},
    }})
}

/// A cluster with the REC `rec`, its Services, the REDB `plain` and the Active-Active database `aa`.
fn world() -> (Entry, Store) {
    let (objects, store) = Store::start();
    store.serve("networking.k8s.io/v1", &["ingresses"]);
    store.put(RECS, json!({"metadata": {"name": "rec"}, "spec": {}}));
    let labels = Owner::cluster("rec").labels();
    for (name, port) in [("rec", 9443), ("rec-sync", 443)] {
        let ports = json!([{"name": "p", "port": port}]);
        store.put(
            "v1/services",
            json!({"metadata": {"name": name, "labels": labels}, "spec": {"ports": ports}}),
        );
    }
    for (name, kind) in [("plain", "RedisEnterpriseDatabase"), ("aa", ACTIVE_ACTIVE)] {
        let spec = json!({
            "database": {"kind": kind, "namespace": "ns", "name": name, "uid": "u"}, "cluster": "rec", "epoch": 1,
            "port": 10000, "memoryBytes": 1, "evictionPolicy": "noeviction", "persistence": "disabled",
            "replication": false, "shards": [],
        });
        store.put(
            TOPOLOGIES,
            json!({"metadata": {"name": name}, "spec": spec}),
        );
    }
    let entry = Entry {
        objects,
        discovery: Discovery::default(),
        kinds: Mutex::default(),
    };
    (entry, store)
}

/// One look at the REC with this spec and its status as it stands.
async fn look(entry: &Entry, store: &Store, spec: Value) -> Result<Option<Duration>, EntryError> {
    let mut rec = store.get(RECS, "rec").unwrap();
    rec["spec"] = spec;
    store.put(RECS, rec.clone());
    entry.look(&serde_json::from_value(rec).unwrap()).await
}

fn told(store: &Store, plural: &str, name: &str) -> Option<(String, String)> {
    let object = store.get(plural, name)?;
    let told = object["status"]["conditions"].as_array()?.first()?.clone();
    let text = |field: &str| told[field].as_str().unwrap().to_owned();
    Some((text("reason"), text("message")))
}

fn hosts(store: &Store) -> Vec<String> {
    let names = store.names(INGRESSES);
    let host =
        |name: &String| store.get(INGRESSES, name).unwrap()["spec"]["rules"][0]["host"].to_string();
    names.iter().map(host).collect()
}

#[tokio::test]
async fn the_api_and_the_active_active_databases_get_a_host_and_plain_databases_do_not() {
    let (entry, store) = world();
    look(&entry, &store, entry_spec("ingress", ".eu.example.com"))
        .await
        .unwrap();
    assert_eq!(store.names(INGRESSES), ["aa", "rec-api"]);
    assert_eq!(
        hosts(&store),
        ["\"aa.eu.example.com\"", "\"api.eu.example.com\""]
    );
    let leads = "aa.eu.example.com leads to Service `rec-sync`";
    assert_eq!(
        told(&store, TOPOLOGIES, "aa"),
        Some(("Made".to_owned(), leads.to_owned()))
    );
    let both = format!("{leads}; api.eu.example.com leads to Service `rec`");
    assert_eq!(told(&store, RECS, "rec"), Some(("Made".to_owned(), both)));
    assert_eq!(told(&store, TOPOLOGIES, "plain"), None);
}

#[tokio::test]
async fn another_suffix_another_method_and_the_end_of_the_field_leave_nothing_behind() {
    let (entry, store) = world();
    store.serve("route.openshift.io/v1", &["routes"]);
    look(&entry, &store, entry_spec("ingress", ".eu.example.com"))
        .await
        .unwrap();
    look(&entry, &store, entry_spec("ingress", ".us.example.com"))
        .await
        .unwrap();
    assert_eq!(hosts(&store)[0], "\"aa.us.example.com\"");
    look(
        &entry,
        &store,
        entry_spec("openShiftRoute", ".us.example.com"),
    )
    .await
    .unwrap();
    assert_eq!(store.names(ROUTES), ["aa", "rec-api"]);
    assert!(store.names(INGRESSES).is_empty());
    look(&entry, &store, json!({})).await.unwrap();
    assert!(store.names(ROUTES).is_empty());
    assert_eq!(told(&store, RECS, "rec"), None);
    store.writes();
    look(&entry, &store, json!({})).await.unwrap();
    assert!(store.writes().is_empty());
}

#[tokio::test]
async fn what_a_database_that_is_no_more_left_behind_goes_at_the_first_look() {
    let (_, store) = world();
    let labels = Owner::database("rec", "ns", "former").labels();
    store.put(INGRESSES, json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "former", "labels": labels}}));
    store.put(INGRESSES, json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "theirs", "labels": {CLUSTER: "rec"}}}));
    let entry = Entry {
        objects: store.client(),
        discovery: Discovery::default(),
        kinds: Mutex::default(),
    };
    look(&entry, &store, json!({})).await.unwrap();
    assert_eq!(store.names(INGRESSES), ["theirs"]);
}

#[tokio::test(start_paused = true)]
async fn a_missing_kind_is_named_asked_for_sparingly_and_used_when_it_appears() {
    let (entry, store) = world();
    look(&entry, &store, entry_spec("ingress", ".eu.example.com"))
        .await
        .unwrap();
    let wanted = || entry_spec("istio", ".eu.example.com");
    let missing = look(&entry, &store, wanted()).await.unwrap_err();
    let text = "this Kubernetes cluster serves no Gateway (CRD gateways.networking.istio.io), which \
                spec.ingressOrRouteSpec.method istio needs: install what brings it, or choose another method. It is used \
                within a minute after it appears";
    assert_eq!(
        (missing.to_string().as_str(), missing.fault()),
        (text, Fault::Waiting)
    );
    assert_eq!(
        told(&store, RECS, "rec"),
        Some(("KindMissing".to_owned(), text.to_owned()))
    );
    assert_eq!(
        store.names(INGRESSES),
        ["aa", "rec-api"],
        "the old way stays until the new one stands"
    );
    let asked = store.discoveries();
    look(&entry, &store, wanted()).await.unwrap_err();
    assert_eq!(store.discoveries(), asked, "the answer is remembered");

    store.serve(
        "networking.istio.io/v1beta1",
        &["gateways", "virtualservices"],
    );
    tokio::time::advance(Duration::from_secs(31)).await;
    look(&entry, &store, wanted()).await.unwrap();
    assert_eq!(
        store.names("networking.istio.io/v1beta1/gateways"),
        ["aa", "rec-api"]
    );
    assert_eq!(
        store.names("networking.istio.io/v1beta1/virtualservices"),
        ["aa", "rec-api"]
    );
    assert!(store.names(INGRESSES).is_empty());
}

#[tokio::test]
async fn a_cluster_that_goes_makes_nothing_new_and_only_takes_away_what_its_databases_left() {
    let (entry, store) = world();
    look(&entry, &store, entry_spec("ingress", ".eu.example.com"))
        .await
        .unwrap();
    let mut rec = store.get(RECS, "rec").unwrap();
    rec["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    rec["spec"] = entry_spec("ingress", ".changed.example.com");
    store.writes();
    for _ in 0..3 {
        entry
            .look(&serde_json::from_value(rec.clone()).unwrap())
            .await
            .unwrap();
    }
    assert!(
        store.writes().is_empty(),
        "a suffix changed now has no effect, and nothing is done again and again"
    );
    store.take(TOPOLOGIES, "aa");
    entry
        .look(&serde_json::from_value(rec).unwrap())
        .await
        .unwrap();
    assert_eq!(store.names(INGRESSES), ["rec-api"]);
}

#[tokio::test]
async fn a_name_of_somebody_else_is_left_alone_and_the_other_hosts_are_made() {
    let (entry, store) = world();
    let theirs = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "aa", "labels": {MANAGED_BY: "Helm"}}});
    store.put(INGRESSES, theirs);
    let before = store.get(INGRESSES, "aa");
    let refused = look(&entry, &store, entry_spec("ingress", ".eu.example.com"))
        .await
        .unwrap_err();
    assert_eq!(refused.fault(), Fault::Foreign);
    assert_eq!(store.get(INGRESSES, "aa"), before);
    assert_eq!(store.names(INGRESSES), ["aa", "rec-api"]);
    let (reason, text) = told(&store, TOPOLOGIES, "aa").unwrap();
    assert_eq!(reason, "ForeignObject");
    assert!(
        text.contains("Ingress `aa` exists and is not ours (held by `Helm`)"),
        "{text}"
    );
}

#[tokio::test]
async fn a_refused_spec_leaves_what_stands() {
    let (entry, store) = world();
    look(&entry, &store, entry_spec("ingress", ".eu.example.com"))
        .await
        .unwrap();
    let mut spec = entry_spec("ingress", ".us.example.com");
    spec["ingressOrRouteSpec"]["ingressAnnotations"] = json!({});
    store.writes();
    look(&entry, &store, spec).await.unwrap();
    assert_eq!(hosts(&store)[0], "\"aa.eu.example.com\"");
    let (reason, text) = told(&store, RECS, "rec").unwrap();
    assert_eq!(reason, "Invalid");
    assert!(text.contains("kubernetes.io/ingress.class"), "{text}");
}

#[test]
fn the_end_of_a_database_is_news_although_its_last_word_is_an_old_one() {
    let map = once(|_: &Service| Some("rec".to_owned()), "ns");
    let object = |version: &str, going: bool| -> Service {
        let since = going.then_some("2026-01-01T00:00:00Z");
        let metadata = json!({
            "name": "aa", "uid": "u", "generation": 1, "resourceVersion": version, "deletionTimestamp": since,
        });
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    };
    assert!(map(object("1", false)).is_some());
    assert!(map(object("2", false)).is_none(), "a report");
    assert!(map(object("3", true)).is_some());
    assert!(map(object("4", true)).is_some());
}
