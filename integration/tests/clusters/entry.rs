//! Hosts by which a REC is reached from outside: Ingress, Route, Istio and TLSRoute, and how they come and go. No
//! controller serves them here; the kinds that are not Kubernetes' own are defined by the scenario itself.

use anyhow::Result;
use meridian_integration::{
    stack::{Cluster, NAMESPACE},
    wait::{Look, until},
};
use serde_json::{Value, json};

use super::support::{SOON, cluster, condition, gone, object, rec, running, state};

/// Group, version, kind and plural of the kinds that the scenario defines.
const KINDS: [(&str, &str, &str, &str); 4] = [
    ("route.openshift.io", "v1", "Route", "routes"),
    ("networking.istio.io", "v1", "Gateway", "gateways"),
    (
        "networking.istio.io",
        "v1",
        "VirtualService",
        "virtualservices",
    ),
    (
        "gateway.networking.k8s.io",
        "v1alpha3",
        "TLSRoute",
        "tlsroutes",
    ),
];
const INGRESSES: &str = "ingresses.networking.k8s.io";
const ROUTES: &str = "routes.route.openshift.io";
const TLS_ROUTES: &str = "tlsroutes.gateway.networking.k8s.io";
/// Names of what leads to the database and to the API.
const DOORS: [&str; 2] = ["aa", "door-api"];

#[tokio::test(flavor = "multi_thread")]
async fn hosts_lead_in_by_every_method_and_go_with_what_they_lead_to() {
    let cluster = cluster().await;
    by_ingress(cluster).await.unwrap();
    by_route_as_soon_as_there_are_routes(cluster).await.unwrap();
    method(cluster, "istio", &json!({})).unwrap();
    for kind in [
        "gateways.networking.istio.io",
        "virtualservices.networking.istio.io",
    ] {
        objects(cluster, kind, &DOORS).await.unwrap();
    }
    objects(cluster, ROUTES, &[]).await.unwrap();
    by_tls_route(cluster).await.unwrap();

    let shown = ["meridian.dev/hub-term=1", "meridian.dev/revision=1"];
    let approved = "meridian.dev/delete-approved=1/2";
    cluster
        .must(
            &["annotate", "reaadb", "aa", shown[0], shown[1], approved],
            "",
        )
        .unwrap();
    cluster
        .must(&["delete", "reaadb", "aa", "--timeout=60s"], "")
        .unwrap();
    objects(cluster, TLS_ROUTES, &["door-api"]).await.unwrap();
    let patch = json!({"spec": {"ingressOrRouteSpec": null}}).to_string();
    cluster
        .must(&["patch", "rec", "door", "--type=merge", "-p", &patch], "")
        .unwrap();
    objects(cluster, TLS_ROUTES, &[]).await.unwrap();
    gone(cluster, "door").await.unwrap();
}

/// A REC is refused without a class of Ingress, and has its Ingresses with one.
async fn by_ingress(cluster: &Cluster) -> Result<()> {
    let hosts = "apiFqdnUrl: api.eu.example.com, dbFqdnSuffix: .eu.example.com, method: ingress";
    cluster.apply(&rec(
        "door",
        &format!("  ingressOrRouteSpec: {{{hosts}}}\n"),
    ))?;
    let refused = |rec: &Value| {
        state(rec) == "Invalid" && condition(rec, "Ready").contains("kubernetes.io/ingress.class")
    };
    object(
        cluster,
        "rec",
        "door",
        "refused without a class",
        SOON,
        refused,
    )
    .await?;
    let passthrough = "nginx.ingress.kubernetes.io/ssl-passthrough";
    let annotations = format!(
        "ingressAnnotations: {{kubernetes.io/ingress.class: nginx, {passthrough}: 'true'}}"
    );
    running(
        cluster,
        "door",
        &format!("  ingressOrRouteSpec: {{{hosts}, {annotations}}}\n"),
    )
    .await?;
    active_active(cluster)?;
    objects(cluster, INGRESSES, &DOORS).await?;
    let led = |ingress: &Value| {
        let rule = &ingress["spec"]["rules"][0];
        let backend = &rule["http"]["paths"][0]["backend"]["service"];
        rule["host"] == "aa.eu.example.com"
            && backend == &json!({"name": "door-sync", "port": {"number": 443}})
            && ingress["metadata"]["annotations"][passthrough] == "true"
    };
    object(
        cluster,
        INGRESSES,
        "aa",
        "leads to the sync endpoints",
        SOON,
        led,
    )
    .await?;
    // One that was deleted by hand comes back.
    cluster.must(&["delete", INGRESSES, "aa"], "")?;
    objects(cluster, INGRESSES, &DOORS).await
}

/// While the cluster knows no Routes, the condition says so and the Ingresses stay.
async fn by_route_as_soon_as_there_are_routes(cluster: &Cluster) -> Result<()> {
    method(cluster, "openShiftRoute", &json!({}))?;
    let missing = |rec: &Value| {
        let told = condition(rec, "EntryReady");
        told.contains("KindMissing") && told.contains(ROUTES)
    };
    object(
        cluster,
        "rec",
        "door",
        "a missing kind is named",
        SOON,
        missing,
    )
    .await?;
    objects(cluster, INGRESSES, &DOORS).await?;
    define(cluster)?;
    objects(cluster, ROUTES, &DOORS).await?;
    objects(cluster, INGRESSES, &[]).await
}

async fn by_tls_route(cluster: &Cluster) -> Result<()> {
    method(
        cluster,
        "ingress",
        &json!({"meridian.dev/gateway": "net/edge/tls"}),
    )?;
    objects(cluster, TLS_ROUTES, &DOORS).await?;
    let ready = |rec: &Value| condition(rec, "EntryReady").starts_with("True");
    object(cluster, "rec", "door", "EntryReady", SOON, ready).await?;
    let shown = |reaadb: &Value| {
        condition(reaadb, "EntryReady").contains("aa.eu.example.com leads to Service `door-sync`")
    };
    object(cluster, "reaadb", "aa", "EntryReady", SOON, shown)
        .await
        .map(drop)
}

/// The hub's word about a database of which this cluster is the only member, and the database.
fn active_active(cluster: &Cluster) -> Result<()> {
    let member = json!({
        "instanceId": 1, "name": "here", "clusterUid": "c", "endpoint": "aa.eu.example.com:443",
        "serverName": "aa.eu.example.com", "spiffeId": "spiffe://meridian.local/cluster/c/rec/ns/door",
    });
    let instance = json!({
        "apiVersion": "meridian.dev/v1alpha1", "kind": "ActiveActiveInstance", "metadata": {"name": "aa"},
        "spec": {
            "guid": "00000000-0000-4000-8000-000000000001", "objectId": "o", "instanceId": 1, "configVersion": 1,
            "planNumber": 1, "hubTerm": 1, "storeId": "s", "database": {"namespace": NAMESPACE, "name": "aa"},
            "cluster": "door", "members": [member],
        },
    });
    let database = json!({
        "apiVersion": "app.redislabs.com/v1alpha1", "kind": "RedisEnterpriseActiveActiveDatabase", "metadata": {"name": "aa"},
        "spec": {"participatingClusters": [{"name": "here"}], "globalConfigurations": {"memorySize": "100MB"}},
    });
    cluster.apply(&instance.to_string())?;
    cluster.apply(&database.to_string())
}

fn method(cluster: &Cluster, method: &str, annotations: &Value) -> Result<()> {
    let entry = json!({"method": method, "ingressAnnotations": annotations});
    let patch = json!({"spec": {"ingressOrRouteSpec": entry}}).to_string();
    cluster
        .must(&["patch", "rec", "door", "--type=merge", "-p", &patch], "")
        .map(drop)
}

/// Defines the kinds that other software brings, with no schema of their own.
fn define(cluster: &Cluster) -> Result<()> {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    for (group, version, kind, plural) in KINDS {
        let version = json!({"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema": open}});
        let names = json!({"kind": kind, "plural": plural, "singular": kind.to_lowercase()});
        // A group of Kubernetes' own asks for a word about its approval.
        let approved = json!({"api-approved.kubernetes.io": "unapproved, for a test"});
        let crd = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}"), "annotations": approved},
            "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
        });
        cluster.apply(&crd.to_string())?;
    }
    Ok(())
}

/// Waits until exactly these objects of the kind exist.
async fn objects(cluster: &Cluster, kind: &str, wanted: &[&str]) -> Result<()> {
    let waited = until(&format!("{kind}: {wanted:?}"), SOON, || async {
        let found = cluster.list(kind)?;
        let names: Vec<&str> = found
            .iter()
            .filter_map(|one| one["metadata"]["name"].as_str())
            .collect();
        Ok(if names == wanted {
            Look::Holds(())
        } else {
            Look::NotYet(format!("{names:?}"))
        })
    })
    .await;
    waited.map_err(|error| error.context(cluster.evidence()))
}
