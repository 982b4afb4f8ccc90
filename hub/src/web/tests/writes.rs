//! Writes that are bound to what the caller saw, and writes that are only tried.

use super::*;
use crate::store::Store as _;

impl Web {
    /// The entity tag of an object.
    async fn tag(&self, path: &str) -> String {
        let answer = self.ask("GET", path, Some(&self.token), None).await;
        let tag = answer.headers()[header::ETAG].to_str().unwrap();
        tag.to_owned()
    }

    /// Status and body of a call with one more header.
    async fn call_with(&self, method: &str, path: &str, name: &str, value: &str) -> (u16, Value) {
        let headers = [(name, value)];
        let answer = self.ask_with(method, path, Some(&self.token), None, &headers);
        read(answer.await).await
    }

    /// Everything that is stored but what the audit log is told.
    pub(super) async fn stored(&self) -> Vec<crate::store::Entry> {
        let all = self.hub.store.list(vec![String::new()]).await.unwrap();
        let mut all: Vec<_> = all.value.into_iter().flatten().collect();
        all.retain(|entry| !entry.key.starts_with("/audit"));
        all
    }

    async fn a_token(&self) -> String {
        let wanted = join_token();
        let (_, made) = self.call("POST", "/api/v1/tokens", Some(&wanted)).await;
        format!(
            "/api/v1/tokens/{}",
            made["metadata"]["name"].as_str().unwrap()
        )
    }
}

fn join_token() -> Value {
    json!({ "apiVersion": "meridian.dev/v1alpha1", "kind": "Token", "metadata": {}, "spec": { "clusterName": "lab-9" } })
}

const CLUSTER: &str = "/api/v1/clusters/lab-1";

#[tokio::test]
async fn a_deletion_that_names_another_revision_than_the_object_has_is_refused() {
    let web = Web::with_members().await;
    let token = web.a_token().await;
    for (path, name) in [(CLUSTER, "lab-1"), (token.as_str(), "token")] {
        let tag = web.tag(path).await;
        let found = tag.trim_matches('"').split('.').next().unwrap().to_owned();
        for other in [
            "\"1\"",
            "\"1.0011223344556677\"",
            "\"x\"",
            &format!("W/{tag}"),
        ] {
            let (status, problem) = web.call_with("DELETE", path, "If-Match", other).await;
            assert_eq!(
                (status, &problem["kind"]),
                (412, &json!("precondition-failed")),
                "{path} {other}"
            );
            let detail = problem["detail"].as_str().unwrap();
            for part in [name, &format!("found revision {found}"), "If-Match"] {
                assert!(detail.contains(part), "{detail}");
            }
        }
        assert_eq!(
            web.call("GET", path, None).await.0,
            200,
            "it is still there"
        );
        let tags = format!("\"1\", {tag}");
        assert_eq!(
            web.call_with("DELETE", path, "If-Match", &tags).await.0,
            204
        );
    }
}

#[tokio::test]
async fn a_database_is_deleted_as_it_was_seen_whatever_was_observed_of_it_since() {
    let web = Web::with_members().await;
    web.call("POST", DATABASES, Some(&database(&["lab-1", "lab-2"])))
        .await;
    let seen = web.tag(SHOP).await;
    web.plan().await;
    assert_ne!(web.tag(SHOP).await, seen, "its status is another");
    let path = format!("{SHOP}?confirm=shop");
    assert_eq!(
        web.call_with("DELETE", &path, "If-Match", "\"1\"").await.0,
        412
    );
    assert_eq!(
        web.call_with("DELETE", &path, "If-Match", &seen).await.0,
        202
    );
    let (status, _) = web.call_with("DELETE", &path, "If-Match", &seen).await;
    assert_eq!(status, 412, "it is another since it is being deleted");
    assert_eq!(web.call_with("DELETE", &path, "If-Match", "*").await.0, 202);
}

#[tokio::test]
async fn who_has_an_answer_already_is_told_so_until_something_in_it_changes() {
    let web = Web::with_members().await;
    let remote = "/api/v1/remoteclusters/lab-1";
    for path in [CLUSTER, remote, "/api/v1/hub", "/api/v1/clusters"] {
        let tag = web.tag(path).await;
        for known in [tag.clone(), format!("\"0\", W/{tag}"), "*".to_owned()] {
            let headers = [("If-None-Match", known.as_str())];
            let answer = web.ask_with("GET", path, Some(&web.token), None, &headers);
            let answer = answer.await;
            assert_eq!(answer.headers()[header::ETAG], tag.as_str(), "{path}");
            assert_eq!(read(answer).await, (304, Value::Null), "{path} {known}");
        }
    }
    let before = web.tag(CLUSTER).await;
    let connected = Presence::Connected;
    web.hub
        .app
        .presence(uid(LAB_1), connected, 1)
        .await
        .unwrap();
    let (status, shown) = web
        .call_with("GET", CLUSTER, "If-None-Match", &before)
        .await;
    assert_eq!(
        (status, &shown["status"]["state"]),
        (200, &json!("Connected"))
    );
}

#[tokio::test]
async fn what_is_only_tried_is_checked_and_answered_and_stores_nothing() {
    let web = Web::with_members().await;
    let token = web.a_token().await;
    let shop = database(&["lab-1", "lab-2"]);
    let before = web.stored().await;
    let tried = format!("{DATABASES}?dryRun=All");
    let (status, shown) = web.call("POST", &tried, Some(&shop)).await;
    assert_eq!((status, &shown["metadata"]["generation"]), (200, &json!(1)));
    for absent in [&shown["metadata"]["resourceVersion"], &shown["status"]] {
        assert_eq!(absent, &Value::Null);
    }
    let wanted = join_token();
    let made = web.call("POST", "/api/v1/tokens?dryRun=All", Some(&wanted));
    let (status, made) = made.await;
    assert_eq!((status, &made["status"]["join"]), (200, &Value::Null));
    for path in [CLUSTER, &token] {
        let (status, shown) = web
            .call("DELETE", &format!("{path}?dryRun=All"), None)
            .await;
        assert_eq!(
            (status, shown["metadata"].is_object()),
            (200, true),
            "{path}"
        );
    }
    let unknown = database(&["lab-1", "lab-9"]);
    assert_eq!(web.call("POST", &tried, Some(&unknown)).await.0, 422);
    assert_eq!(web.stored().await, before, "nothing was stored");

    web.call("POST", DATABASES, Some(&shop)).await;
    let before = web.stored().await;
    let doomed = format!("{SHOP}?confirm=shop&dryRun=All");
    let (status, shown) = web.call("DELETE", &doomed, None).await;
    assert_eq!(status, 200);
    assert!(
        shown["metadata"]["deletionTimestamp"].is_string(),
        "{shown}"
    );
    assert_eq!(web.call("POST", &tried, Some(&shop)).await.0, 409);
    assert_eq!(web.stored().await, before, "nothing was stored");
}

#[tokio::test]
async fn an_adoption_that_is_only_tried_leaves_the_hub_observing() {
    let web = Web::with_members().await;
    let path = "/api/v1/hub/adopt?dryRun=All";
    assert_eq!(web.call("POST", path, None).await.0, 409);
    let lost = Web::over(web.hub.restarted_with(MemoryStore::new()).await).await;
    let before = lost.stored().await;
    let (status, hub) = lost.call("POST", path, None).await;
    assert_eq!((status, &hub["mode"]), (200, &json!("decides")));
    assert_eq!(lost.stored().await, before);
    let (_, hub) = lost.call("GET", "/api/v1/hub", None).await;
    assert_eq!(hub["mode"], "observes");
}

#[tokio::test]
async fn a_parameter_that_a_path_does_not_take_refuses_the_request_with_its_name() {
    let web = Web::with_members().await;
    let before = web.stored().await;
    for (method, path, header, field) in [
        (
            "DELETE",
            "/api/v1/clusters/lab-1?dryrun=All",
            None,
            "dryrun",
        ),
        (
            "DELETE",
            "/api/v1/clusters/lab-1?dryRun=true",
            None,
            "dryRun",
        ),
        (
            "DELETE",
            "/api/v1/clusters/lab-1?dryRun=All&dryRun=All",
            None,
            "dryRun",
        ),
        (
            "DELETE",
            "/api/v1/clusters/lab-1?confirm=lab-2",
            None,
            "confirm",
        ),
        ("DELETE", CLUSTER, Some(("If-Match", "17")), "If-Match"),
        (
            "POST",
            "/api/v1/tokens",
            Some(("If-Match", "\"17\"")),
            "If-Match",
        ),
        ("GET", "/api/v1/clusters?colour=blue", None, "colour"),
    ] {
        let headers: Vec<_> = header.into_iter().collect();
        let wanted = join_token();
        let answer = web.ask_with(method, path, Some(&web.token), Some(&wanted), &headers);
        let (status, problem) = read(answer.await).await;
        assert_eq!(
            (status, fields(&problem)),
            (422, vec![field.to_owned()]),
            "{path}"
        );
    }
    let mut wanted = join_token();
    wanted["metadata"]["resourceVersion"] = json!("3");
    let (status, problem) = web.call("POST", "/api/v1/tokens", Some(&wanted)).await;
    assert_eq!(
        (status, fields(&problem)),
        (422, vec!["metadata.resourceVersion".to_owned()])
    );
    assert_eq!(web.stored().await, before, "nothing was stored");
}

#[test]
fn the_list_of_operations_has_every_guarded_method_and_no_other() {
    let mut served: Vec<_> = guarded()
        .into_iter()
        .flat_map(|(path, methods, _)| methods.iter().map(move |method| (path, *method)))
        .collect();
    let mut listed: Vec<_> = operations::OPERATIONS
        .iter()
        .map(|one| (one.path, one.method))
        .collect();
    served.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, served);
}
