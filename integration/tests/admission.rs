//! The admission webhook on a real cluster: what it refuses and with which words, and that it is in nobody's way when it
//! is not there. Runs on a lab of its own, or on the first cluster of `MERIDIAN_KUBECONFIGS` (which needs the agent's image).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a scenario that cannot go on has failed"
)]

#[path = "admission/life.rs"]
mod life;
#[path = "admission/site.rs"]
mod site;

use serde_json::{Value, json};
use site::{SOON, Site, reaadb, redb, rerc, root};

/// The words of the API server before ours.
const DENIED: &str =
    "admission webhook \"redisenterprise.admission.redislabs\" denied the request: ";

fn says(told: &str, expected: &str) {
    assert!(told.contains(expected), "expected {expected:?} in:\n{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_a_wrong_value_is_denied_with_field_value_and_remedy() {
    let site = Site::guarded("values").await.unwrap();
    let told = site
        .denied(&redb("db", "{evictionPolicy: illegal}"))
        .unwrap();
    says(
        &told,
        &format!(
            "{DENIED}spec.evictionPolicy: found \"illegal\", expected one of volatile-lru, volatile-ttl, volatile-random, \
             volatile-lfu, allkeys-lru, allkeys-random, allkeys-lfu, noeviction; use one of these words"
        ),
    );
    for (spec, expected) in [
        (
            "{memorySize: 90MB}",
            "spec.memorySize: found \"90MB\", expected 100MB or more",
        ),
        (
            "{databasePort: 6379}",
            "spec.databasePort: found 6379, expected a number from 10000 to 19999",
        ),
        (
            "{modulesList: [{name: serach}]}",
            "spec.modulesList[0].name: found \"serach\", expected one of ReJSON, bf",
        ),
        (
            "{tags: {managed_by: me}}",
            "spec.tags[managed_by]: found \"managed_by\", expected a key that the product does",
        ),
        (
            "{shardingEnabled: true}",
            "spec.shardingEnabled: found true, expected nothing",
        ),
    ] {
        says(
            &site.denied(&redb("db", spec)).unwrap(),
            &format!("{DENIED}{expected}"),
        );
    }

    let told = site
        .apply(&redb("db", "{shardCount: 3, databasePort: 12000}"))
        .unwrap();
    says(&told, "Warning: spec.shardCount: served by 1 shard of 3");
    let told = site
        .denied(&redb("second", "{databasePort: 12000}"))
        .unwrap();
    says(
        &told,
        &format!(
            "spec.databasePort: found 12000, expected a port that no other database of the cluster has; \
             RedisEnterpriseDatabase {}/db has it",
            site.namespace
        ),
    );
    site.must(&["delete", "redb", "db", "--timeout=60s"], "")
        .unwrap();
    site.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_active_active_database_names_what_is_there_and_keeps_what_it_has() {
    let site = Site::guarded("global").await.unwrap();
    names_lead_somewhere(&site);
    restrictions_hold(&site);
    what_is_in_use_stays(&site);
    site.remove().await.unwrap();
}

fn names_lead_somewhere(site: &Site) {
    let told = site.denied(&rerc("eu-1", ", secretName: mine")).unwrap();
    says(
        &told,
        "spec.secretName: found \"mine\", expected \"redis-enterprise-eu-1\"",
    );
    site.apply(&rerc("eu-1", "")).unwrap();
    let told = site
        .denied(&reaadb(
            "cart",
            &["eu-1", "us-1"],
            "{databaseSecretName: pass}",
        ))
        .unwrap();
    says(
        &told,
        "spec.participatingClusters[1].name: found \"us-1\", expected the name of a RERC of this namespace",
    );
    says(
        &told,
        "spec.globalConfigurations.databaseSecretName: found \"pass\", expected the name of a Secret of this namespace",
    );
    site.apply(&rerc("us-1", "")).unwrap();
    site.must(
        &[
            "create",
            "secret",
            "generic",
            "pass",
            "--from-literal=password=x",
        ],
        "",
    )
    .unwrap();
}

fn restrictions_hold(site: &Site) {
    for (settings, expected) in [
        (
            "{isRof: true}",
            "spec.globalConfigurations.isRof: found true, expected false",
        ),
        (
            "{persistence: snapshotEvery1Hour}",
            "spec.globalConfigurations.persistence: found \"snapshotEvery1Hour\"",
        ),
        (
            "{shardingEnabled: false, shardCount: 2}",
            "spec.globalConfigurations.shardCount: found 2, expected 1",
        ),
        (
            "{tags: {rerc_name: x}}",
            "spec.globalConfigurations.tags[rerc_name]: found \"rerc_name\"",
        ),
    ] {
        says(
            &site
                .denied(&reaadb("cart", &["eu-1", "us-1"], settings))
                .unwrap(),
            expected,
        );
    }
    let settings = "{databaseSecretName: pass, persistence: disabled}";
    let told = site
        .apply(&reaadb("cart", &["eu-1", "us-1"], settings))
        .unwrap();
    says(
        &told,
        "Warning: spec.globalConfigurations.persistence: an Active-Active database always has an append-only file",
    );
    let told = site.denied(&redb("cart", "{}")).unwrap();
    says(
        &told,
        "metadata.name: found \"cart\", expected a name that no other database has",
    );
}

fn what_is_in_use_stays(site: &Site) {
    let only_the_new = r#"{"spec":{"participatingClusters":[{"name":"ap-1"}]}}"#;
    site.apply(&rerc("ap-1", "")).unwrap();
    let told = site
        .refused(
            &[
                "patch",
                "reaadb",
                "cart",
                "--type=merge",
                "-p",
                only_the_new,
            ],
            "",
        )
        .unwrap();
    says(
        &told,
        "spec.participatingClusters: found a list without eu-1, us-1, expected at most one participant removed at a time",
    );
    let told = site.refused(&["delete", "rerc", "eu-1"], "").unwrap();
    says(
        &told,
        "metadata.name: found \"eu-1\" in use by RedisEnterpriseActiveActiveDatabase",
    );

    let hubs = "meridian.dev/object-id=00000000-0000-4000-8000-000000000001";
    site.must(&["annotate", "reaadb", "cart", hubs], "")
        .unwrap();
    let told = site.refused(&["delete", "reaadb", "cart"], "").unwrap();
    says(
        &told,
        "delete it everywhere with `meridian delete activeactivedatabase cart --yes`, or set the annotation",
    );
    let confirmed = "meridian.dev/confirm-deletion=cart";
    site.must(&["annotate", "reaadb", "cart", confirmed], "")
        .unwrap();
    site.must(&["delete", "reaadb", "cart", "--wait=false"], "")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_that_one_speaks_to_is_removed_from_a_database_only_by_name() {
    let site = Site::guarded("local").await.unwrap();
    site.apply(&std::fs::read_to_string(root().join("examples/rec.yaml")).unwrap())
        .unwrap();
    site.apply(&rerc("here", "").replace("elsewhere", &site.namespace))
        .unwrap();
    site.apply(&rerc("there", "")).unwrap();
    let local =
        meridian_integration::wait::until_true("the RERC is known as local", SOON, async || {
            let found = site.get("rerc", "here")?.unwrap_or_default();
            Ok(found["status"]["local"] == true)
        });
    local.await.unwrap();
    site.apply(&reaadb("cart", &["here", "there"], "{}"))
        .unwrap();
    let told = site.denied(&reaadb("cart", &["there"], "{}")).unwrap();
    says(
        &told,
        "spec.participatingClusters: found a list without here, which is this very cluster, expected a list with it",
    );
    site.must(
        &[
            "annotate",
            "reaadb",
            "cart",
            "meridian.dev/confirm-removal=here",
        ],
        "",
    )
    .unwrap();
    let annotated = reaadb("cart", &["there"], "{}").replace(
        "{name: cart}",
        "{name: cart, annotations: {meridian.dev/confirm-removal: here}}",
    );
    site.apply(&annotated).unwrap();
    site.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_applies_where_everything_is_checked() {
    let site = Site::guarded("examples").await.unwrap();
    let mut left: Vec<_> = std::fs::read_dir(root().join("examples"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    for file in [
        "rec.yaml",
        "rerc.yaml",
        "redb.yaml",
        "redb-own-password.yaml",
        "redb-roles.yaml",
        "redb-tls.yaml",
        "reaadb.yaml",
    ] {
        site.apply(&std::fs::read_to_string(root().join("examples").join(file)).unwrap())
            .unwrap();
        left.retain(|name| name != file);
    }
    assert!(
        left.is_empty(),
        "examples that this test does not know: {left:?}"
    );
    site.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_change_is_kept_by_the_schema_without_any_agent() {
    let site = Site::empty("schema").await.unwrap();
    a_database_keeps_what_it_was_created_with(&site);
    a_cluster_keeps_its_storage_and_has_one_entry(&site);
    site.remove().await.unwrap();
}

fn a_database_keeps_what_it_was_created_with(site: &Site) {
    site.apply(&redb(
        "db",
        "{databasePort: 12000, redisEnterpriseCluster: {name: rec}}",
    ))
    .unwrap();
    for (spec, expected) in [
        (
            "{databasePort: 12001, redisEnterpriseCluster: {name: rec}}",
            "databasePort cannot be changed or removed; put back the value that the database was created with",
        ),
        (
            "{databasePort: 12000, redisEnterpriseCluster: {name: rec}, type: memcached}",
            "found memcached, expected redis as before",
        ),
        (
            "{databasePort: 12000, redisEnterpriseCluster: {name: rec}, isRof: true}",
            "isRof is fixed at creation; put it back",
        ),
        (
            "{databasePort: 12000, redisEnterpriseCluster: {name: other}}",
            "redisEnterpriseCluster cannot be changed: a database stays in its cluster",
        ),
    ] {
        let told = site
            .refused(&["replace", "-f", "-"], &redb("db", spec))
            .unwrap();
        says(&told, expected);
    }
    site.apply(&redb(
        "db",
        "{databasePort: 12000, redisEnterpriseCluster: {name: rec}, memorySize: 1GB}",
    ))
    .unwrap();

    site.apply(&rerc("a", "")).unwrap();
    site.apply(&reaadb("cart", &["a"], "{databasePort: 12005}"))
        .unwrap();
    let told = site
        .refused(
            &["replace", "-f", "-"],
            &reaadb("cart", &["a"], "{databasePort: 12006}"),
        )
        .unwrap();
    says(&told, "spec.globalConfigurations.databasePort");
}

fn a_cluster_keeps_its_storage_and_has_one_entry(site: &Site) {
    let rec = |spec: &str| {
        format!(
            "apiVersion: app.redislabs.com/v1\nkind: RedisEnterpriseCluster\nmetadata: {{name: rec}}\nspec: {spec}\n"
        )
    };
    site.apply(&rec(
        "{nodes: 3, persistentSpec: {enabled: true, storageClassName: fast}}",
    ))
    .unwrap();
    let told = site
        .refused(
            &["replace", "-f", "-"],
            &rec("{nodes: 3, persistentSpec: {enabled: true, storageClassName: slow}}"),
        )
        .unwrap();
    says(
        &told,
        "storageClassName: found \"slow\", expected \"fast\" as before",
    );
    let both = "{activeActive: {apiIngressUrl: a.b, dbIngressSuffix: .b, method: ingress}, \
                ingressOrRouteSpec: {apiFqdnUrl: a.b, dbFqdnSuffix: .b, method: ingress}}";
    let told = site
        .denied(&rec(both).replace("name: rec", "name: both"))
        .unwrap();
    says(
        &told,
        "found beside ingressOrRouteSpec, expected only one of them; remove activeActive",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_of_either_version_is_answered_over_https() {
    let site = Site::guarded("versions").await.unwrap();
    let path = format!(
        "/api/v1/namespaces/{}/services/https:admission:443/proxy",
        site.namespace
    );
    for version in ["v1", "v1beta1"] {
        let review = json!({
            "apiVersion": format!("admission.k8s.io/{version}"), "kind": "AdmissionReview",
            "request": {
                "uid": "by-hand", "operation": "CREATE", "name": "x", "namespace": site.namespace,
                "kind": { "group": "app.redislabs.com", "version": "v1alpha1", "kind": "RedisEnterpriseDatabase" },
                "object": {
                    "apiVersion": "app.redislabs.com/v1alpha1", "kind": "RedisEnterpriseDatabase",
                    "metadata": { "name": "x", "namespace": site.namespace }, "spec": { "evictionPolicy": "illegal" },
                },
            },
        });
        let args = ["create", "--raw", &format!("{path}/admission"), "-f", "-"];
        let answer: Value =
            serde_json::from_str(&site.must(&args, &review.to_string()).unwrap()).unwrap();
        assert_eq!(
            answer["apiVersion"],
            format!("admission.k8s.io/{version}"),
            "{answer}"
        );
        assert_eq!(answer["response"]["uid"], "by-hand");
        assert_eq!(answer["response"]["allowed"], false);
        says(
            answer["response"]["status"]["message"].as_str().unwrap(),
            "spec.evictionPolicy: found \"illegal\"",
        );
    }
    for (probe, expected) in [("liveness", "alive"), ("readiness", "is in force")] {
        says(
            &site
                .must(&["get", "--raw", &format!("{path}/{probe}")], "")
                .unwrap(),
            expected,
        );
    }
    site.remove().await.unwrap();
}
