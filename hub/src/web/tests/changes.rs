//! Databases that are replaced and patched.

use super::*;
use crate::domain::access::grant::Scope;
use crate::domain::desired::Action;

const LAB_3: &str = "33333333-3b5e-4a3e-9d57-0d9a3c1f1e11";
const MERGE: &str = "application/merge-patch+json";
const OPERATIONS: &str = "application/json-patch+json";

impl Web {
    /// Three members, and a planned database over two of them.
    async fn with_shop() -> Self {
        let web = Self::with_members().await;
        web.hub.member("lab-3", LAB_3).await;
        web.call("POST", DATABASES, Some(&database(&["lab-1", "lab-2"])))
            .await;
        web.plan().await;
        web
    }

    async fn patch(&self, query: &str, kind: &str, body: &Value) -> (u16, Value) {
        let headers = [("content-type", kind)];
        let path = format!("{SHOP}{query}");
        let asked = self.ask_with("PATCH", &path, Some(&self.token), Some(body), &headers);
        read(asked.await).await
    }

    async fn shop(&self) -> Value {
        let (_, mut shop) = self.call("GET", SHOP, None).await;
        shop.as_object_mut().unwrap().remove("status");
        shop
    }

    /// What a member is told about the database: the REAADB and its instance.
    async fn told(&self, cluster: &str, kind: &str) -> Value {
        let desired = self.hub.app.desired_of(uid(cluster)).await.unwrap().value;
        let one = desired.into_iter().find(|one| one.record.kind == kind);
        match one.unwrap().record.action {
            Action::Upsert { body } => body,
            Action::Delete { .. } => Value::Null,
        }
    }
}

#[tokio::test]
async fn a_change_reaches_every_participant_and_a_new_one_joins_with_an_id_of_its_own() {
    let web = Web::with_shop().await;
    let mut shop = web.shop().await;
    shop["spec"]["globalConfigurations"]["memorySize"] = json!("200MB");
    shop["metadata"]["labels"]["team"] = json!("b");
    let (status, changed) = web.call("PUT", SHOP, Some(&shop)).await;
    assert_eq!(
        (status, &changed["metadata"]["generation"]),
        (200, &json!(2)),
        "{changed}"
    );
    web.plan().await;
    for cluster in [LAB_1, LAB_2] {
        let told = web
            .told(cluster, "RedisEnterpriseActiveActiveDatabase")
            .await;
        assert_eq!(told["spec"]["globalConfigurations"]["memorySize"], "200MB");
        assert_eq!(told["metadata"]["labels"]["team"], "b");
        let instance = web.told(cluster, "ActiveActiveInstance").await;
        assert_eq!(
            instance["spec"]["configVersion"], 1,
            "who takes part is as before"
        );
    }

    let add = json!([{ "op": "add", "path": "/spec/participatingClusters/-", "value": { "name": "lab-3" } }]);
    let (status, changed) = web.patch("", OPERATIONS, &add).await;
    assert_eq!(
        (status, &changed["metadata"]["generation"]),
        (200, &json!(3)),
        "{changed}"
    );
    web.plan().await;
    for (cluster, id) in [(LAB_1, 1), (LAB_2, 2), (LAB_3, 3)] {
        let instance = web.told(cluster, "ActiveActiveInstance").await["spec"].clone();
        assert_eq!(
            (&instance["instanceId"], &instance["configVersion"]),
            (&json!(id), &json!(2))
        );
        assert_eq!(instance["members"].as_array().unwrap().len(), 3);
    }
    let (_, shown) = web.call("GET", SHOP, None).await;
    assert_eq!(shown["status"]["observedGeneration"], 3);
}

#[tokio::test]
async fn a_replacement_is_for_the_object_that_was_seen_and_is_the_same_when_it_is_sent_again() {
    let web = Web::with_shop().await;
    let seen = web.shop().await;
    let mut wanted = seen.clone();
    wanted["spec"]["globalConfigurations"]["memorySize"] = json!("200MB");
    let mut unbound = wanted.clone();
    unbound["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("resourceVersion");
    let (status, problem) = web.call("PUT", SHOP, Some(&unbound)).await;
    assert_eq!(
        (status, &problem["kind"]),
        (428, &json!("precondition-required"))
    );
    assert!(
        problem["detail"].as_str().unwrap().contains("If-Match"),
        "{problem}"
    );

    let (status, changed) = web.call("PUT", SHOP, Some(&wanted)).await;
    assert_eq!(status, 200);
    let at = changed["metadata"]["resourceVersion"].clone();
    assert_ne!(at, seen["metadata"]["resourceVersion"]);
    let (status, problem) = web.call("PUT", SHOP, Some(&wanted)).await;
    assert_eq!(
        (status, &problem["kind"]),
        (409, &json!("conflict")),
        "it is not as it was seen"
    );
    let put = async |tag: &str| {
        let headers = [("if-match", tag)];
        let asked = web.ask_with("PUT", SHOP, Some(&web.token), Some(&unbound), &headers);
        read(asked.await).await
    };
    let (status, problem) = put("\"1\"").await;
    assert_eq!(
        (status, &problem["kind"]),
        (412, &json!("precondition-failed"))
    );
    let before = web.stored().await;
    let (status, again) = put(&format!("\"{}\"", at.as_str().unwrap())).await;
    assert_eq!((status, &again["metadata"]["resourceVersion"]), (200, &at));
    assert_eq!(again["metadata"]["generation"], 2);
    assert_eq!(web.stored().await, before, "nothing is written");
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_nothing_else() {
    let web = Web::with_shop().await;
    let before = web.shop().await;
    let merge = json!({ "metadata": { "labels": { "team": null, "tier": "1" } },
                        "spec": { "globalConfigurations": { "memorySize": "300MB" } } });
    let (status, changed) = web
        .patch("", &format!("{MERGE}; charset=utf-8"), &merge)
        .await;
    assert_eq!(status, 200, "{changed}");
    let mut expected = before;
    expected["metadata"]["labels"] = json!({ "tier": "1" });
    expected["spec"]["globalConfigurations"]["memorySize"] = json!("300MB");
    for moved in ["resourceVersion", "generation"] {
        expected["metadata"][moved] = changed["metadata"][moved].clone();
    }
    assert_eq!(web.shop().await, expected);

    let before = web.stored().await;
    let test = json!([{ "op": "test", "path": "/metadata/labels/tier", "value": "2" },
                      { "op": "remove", "path": "/metadata/labels/tier" }]);
    let (status, problem) = web.patch("", OPERATIONS, &test).await;
    assert_eq!((status, &problem["kind"]), (409, &json!("conflict")));
    let nowhere = json!([{ "op": "remove", "path": "/spec/nowhere" }]);
    let (status, problem) = web.patch("", OPERATIONS, &nowhere).await;
    assert_eq!(
        (status, fields(&problem)),
        (422, vec!["body[0]".to_owned()])
    );
    for kind in ["application/json", "text/plain", ""] {
        let (status, problem) = web.patch("", kind, &merge).await;
        assert_eq!(
            (status, &problem["kind"]),
            (415, &json!("unsupported-media-type")),
            "{kind}"
        );
        assert!(
            problem["detail"].as_str().unwrap().contains(MERGE),
            "{problem}"
        );
    }
    assert_eq!(web.stored().await, before, "nothing is written");
}

#[tokio::test]
async fn what_cannot_become_of_a_database_is_refused_field_by_field() {
    let web = Web::with_shop().await;
    let before = web.stored().await;
    for (merge, wrong) in [
        (
            json!({ "spec": { "participatingClusters": [{ "name": "lab-1" }] } }),
            "spec.participatingClusters",
        ),
        (
            json!({ "spec": { "participatingClusters": [{ "name": "lab-1" }, { "name": "lab-2" }, { "name": "lab-9" }] } }),
            "spec.participatingClusters[2].name",
        ),
        (
            json!({ "metadata": { "labels": { "meridian.dev/project": "other" } } }),
            "metadata.labels[meridian.dev/project]",
        ),
        (json!({ "metadata": { "name": "other" } }), "metadata.name"),
        (json!({ "metadata": { "uid": "other" } }), "metadata.uid"),
        (json!({ "kind": "Cluster" }), "kind"),
        (
            json!({ "spec": { "globalConfigurations": { "shardingEnabled": false } } }),
            "spec.globalConfigurations.shardingEnabled",
        ),
        (
            json!({ "spec": { "globalConfigurations": { "memorySize": "much" } } }),
            "spec.globalConfigurations.memorySize",
        ),
        (json!({ "spec": 7 }), "body"),
    ] {
        let (status, problem) = web.patch("", MERGE, &merge).await;
        assert_eq!(
            (status, fields(&problem)),
            (422, vec![wrong.to_owned()]),
            "{merge}: {problem}"
        );
    }
    let (status, _) = web
        .patch(
            "",
            MERGE,
            &json!({ "metadata": { "resourceVersion": "1" } }),
        )
        .await;
    assert_eq!(status, 409);
    assert_eq!(web.stored().await, before, "nothing is written");
}

#[tokio::test]
async fn a_participant_is_taken_out_by_name_and_only_its_data_goes() {
    let web = Web::with_shop().await;
    let without = json!({ "spec": { "participatingClusters": [{ "name": "lab-1" }] } });
    let (status, refused) = web.patch("", MERGE, &without).await;
    assert_eq!(status, 422);
    let remedy = refused["errors"][0]["remedy"].as_str().unwrap();
    assert!(
        remedy.contains("meridian.dev/confirm-removal to \"lab-2\""),
        "{remedy}"
    );
    let mut confirmed = without;
    confirmed["metadata"]["annotations"]["meridian.dev/confirm-removal"] = json!("lab-2");
    let (status, changed) = web.patch("", MERGE, &confirmed).await;
    assert_eq!(status, 200, "{changed}");
    web.hub.read_along("shop", &[LAB_1, LAB_2]).await;
    web.plan().await;
    for (cluster, goes) in [(LAB_1, false), (LAB_2, true)] {
        for kind in [
            "RedisEnterpriseActiveActiveDatabase",
            "ActiveActiveInstance",
        ] {
            let told = web.told(cluster, kind).await;
            assert_eq!(told.is_null(), goes, "{kind} on {cluster}: {told}");
        }
    }
    let desired = web.hub.app.desired_of(uid(LAB_2)).await.unwrap().value;
    let mut data = desired.iter().filter(|held| held.record.data_bearing);
    assert!(data.all(|held| held.record.approval() == Some("alice")));
}

#[tokio::test]
async fn a_change_that_is_only_tried_is_checked_and_changes_nothing() {
    let web = Web::with_shop().await;
    let (shop, before) = (web.shop().await, web.stored().await);
    let merge = json!({ "spec": { "globalConfigurations": { "memorySize": "300MB" } } });
    let (status, tried) = web.patch("?dryRun=All", MERGE, &merge).await;
    assert_eq!((status, &tried["status"]), (200, &Value::Null));
    assert_eq!(tried["spec"]["globalConfigurations"]["memorySize"], "300MB");
    let mut wanted = shop.clone();
    wanted["spec"] = tried["spec"].clone();
    let (status, _) = web
        .call("PUT", &format!("{SHOP}?dryRun=All"), Some(&wanted))
        .await;
    assert_eq!(status, 200);
    let wrong = json!({ "spec": { "participatingClusters": [{ "name": "lab-1" }] } });
    assert_eq!(web.patch("?dryRun=All", MERGE, &wrong).await.0, 422);
    assert_eq!((web.shop().await, web.stored().await), (shop, before));
}

#[tokio::test]
async fn what_is_being_deleted_or_belongs_to_others_is_not_changed() {
    let web = Web::with_shop().await;
    let merge = json!({ "metadata": { "labels": { "tier": "1" } } });
    let (clear, mut kept) = crate::app::tokens::draw("bob", web.hub.app.now());
    kept.projects = Scope::only(BTreeSet::from(["mine".to_owned()]));
    web.hub.app.keep_api_token(&kept).await.unwrap();
    let before = web.shop().await;
    let headers = [("content-type", MERGE)];
    let asked = web.ask_with("PATCH", SHOP, Some(&clear), Some(&merge), &headers);
    assert_eq!(asked.await.status(), 404, "to bob there is none");
    assert_eq!(web.shop().await, before);
    web.call("DELETE", &format!("{SHOP}?confirm=shop"), None)
        .await;
    let (status, problem) = web.patch("", MERGE, &merge).await;
    assert_eq!(status, 409);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("being deleted"),
        "{problem}"
    );
}
