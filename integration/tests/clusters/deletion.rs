//! The end of a cluster, and objects that cannot be used.

use meridian_integration::wait::{Look, until};
use serde_json::Value;

use super::support::{SOON, cluster, condition, database, events, object, running, state};

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_waits_for_databases_says_so_and_has_a_way_out() {
    let cluster = cluster().await;
    running(cluster, "end", "").await.unwrap();
    database(cluster, "end", "end-db").await.unwrap();
    cluster
        .must(&["delete", "rec", "end", "--wait=false"], "")
        .unwrap();
    let waits = |rec: &Value| {
        state(rec) == "Deleting" && condition(rec, "Ready").starts_with("False DatabasesExist")
    };
    let rec = object(cluster, "rec", "end", "Deleting", SOON, waits)
        .await
        .unwrap();
    let text = condition(&rec, "Ready");
    assert!(
        text.contains("meridian.dev/abandon-databases=redb/end-db"),
        "{text}"
    );
    assert!(!events(cluster, "end", "DatabasesExist").unwrap().is_empty());

    let annotation = "meridian.dev/abandon-databases=redb/end-db";
    cluster
        .must(&["annotate", "rec", "end", annotation], "")
        .unwrap();
    until("the REC is gone", SOON, || async {
        Ok(match cluster.get("rec", "end")? {
            None => Look::Holds(()),
            Some(rec) => Look::NotYet(condition(&rec, "Ready")),
        })
    })
    .await
    .unwrap();
    let told = events(cluster, "end", "DatabasesAbandoned").unwrap();
    assert!(
        told.iter().any(|text| text.contains("stay behind")),
        "{told:?}"
    );
    for (kind, name) in [
        ("redb", "end-db"),
        ("secret", "redb-end-db"),
        ("pvc", "redis-enterprise-storage-end-0"),
    ] {
        assert!(
            cluster.get(kind, name).unwrap().is_some(),
            "{kind} {name} went with the REC"
        );
    }
    // What was left behind can be deleted, although nobody serves it any more.
    cluster
        .must(&["delete", "redb", "end-db", "--timeout=60s"], "")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_the_older_version_let_in_is_invalid_and_blinds_nothing() {
    let cluster = cluster().await;
    let old = "apiVersion: app.redislabs.com/v1alpha1\nkind: RedisEnterpriseCluster\nmetadata: {name: old}\nspec:\n  \
               sideContainersSpec: [{image: side}]\n  redisEnterpriseAdditionalPodSpecAttributes: {tolerations: none}\n";
    cluster.apply(old).unwrap();
    let invalid = |rec: &Value| state(rec) == "Invalid" && rec["status"]["specStatus"] == "Invalid";
    let rec = object(cluster, "rec", "old", "Invalid", SOON, invalid)
        .await
        .unwrap();
    let text = condition(&rec, "Ready");
    assert!(text.contains("spec.sideContainersSpec[0].name"), "{text}");
    until("an Event says it", SOON, || async {
        let told = events(cluster, "old", "Invalid")?;
        let found = told
            .iter()
            .any(|text| text.contains("spec.sideContainersSpec[0].name"));
        Ok(if found {
            Look::Holds(())
        } else {
            Look::NotYet(format!("{told:?}"))
        })
    })
    .await
    .unwrap();
    running(cluster, "beside", "").await.unwrap();
    for name in ["old", "beside"] {
        cluster
            .must(&["delete", "rec", name, "--timeout=60s"], "")
            .unwrap();
    }
}
