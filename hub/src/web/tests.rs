//! The web API without a network: requests into the router, answers out of it.

mod access;
mod audit;
mod backup;
mod changes;
mod databases;
mod decisions;
mod freezes;
mod inside;
mod limits;
mod lists;
mod lost;
mod openapi;
mod repeats;
mod sign_in;
mod times;
mod trace;
mod watch;
mod writes;

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, header};
use http::Response;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::app::testing::{LAB_1, LAB_2, TestHub, rec, uid};
use crate::domain::cluster::Presence;
use crate::store::memory::MemoryStore;
use crate::tasks::Task as _;
use crate::tasks::plan::Planning;

fn state(hub: &TestHub) -> WebState {
    WebState {
        app: Arc::clone(&hub.app),
        metrics: Arc::default(),
        connected: ConnectedCount(Arc::new(|| 0)),
        limits: Arc::default(),
        watches: Arc::default(),
        sign_in: None,
        follower: None,
        inside: Inside::default(),
    }
}

struct Web {
    hub: TestHub,
    router: Router,
    token: String,
}

impl Web {
    async fn over(hub: TestHub) -> Self {
        Self::served(hub, Watches::default()).await
    }

    async fn served(hub: TestHub, watches: Watches) -> Self {
        let (clear, kept) = crate::app::tokens::draw("alice", hub.app.now());
        hub.app.keep_api_token(&kept).await.unwrap();
        hub.app.note_use(&kept).await;
        let state = WebState {
            watches: Arc::new(watches),
            ..state(&hub)
        };
        Self {
            hub,
            router: router(state),
            token: clear.as_str().to_owned(),
        }
    }

    async fn new() -> Self {
        Self::over(TestHub::new().await).await
    }

    /// Two members, each with a REC.
    async fn with_members() -> Self {
        let web = Self::new().await;
        web.hub.member("lab-1", LAB_1).await;
        web.hub.member("lab-2", LAB_2).await;
        web
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Response<Body> {
        self.ask_with(method, path, token, body, &[]).await
    }

    async fn ask_with(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.router
            .clone()
            .oneshot(request.body(body).unwrap())
            .await
            .unwrap()
    }

    /// Status and body of a call with the administrator's token.
    async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let answer = self.ask(method, path, Some(&self.token), body).await;
        read(answer).await
    }

    async fn plan(&self) {
        let mut planning = Planning::new(Arc::clone(&self.hub.app));
        while planning.activate().await.unwrap() == crate::tasks::Outcome::Progressed {}
    }
}

async fn read(answer: Response<Body>) -> (u16, Value) {
    let status = answer.status().as_u16();
    let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20)
        .await
        .unwrap();
    (
        status,
        serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    )
}

fn database(participants: &[&str]) -> Value {
    let participants: Vec<_> = participants
        .iter()
        .map(|name| json!({ "name": name }))
        .collect();
    json!({
        "apiVersion": "app.redislabs.com/v1alpha1",
        "kind": "RedisEnterpriseActiveActiveDatabase",
        "metadata": { "name": "shop", "labels": { "team": "a" } },
        "spec": { "participatingClusters": participants, "globalConfigurations": { "memorySize": "100MB" } },
    })
}

fn fields(problem: &Value) -> Vec<String> {
    let errors = problem["errors"].as_array().unwrap().iter();
    errors
        .map(|error| error["field"].as_str().unwrap().to_owned())
        .collect()
}

const DATABASES: &str = "/api/v1/activeactivedatabases";
const SHOP: &str = "/api/v1/activeactivedatabases/shop";

#[tokio::test]
async fn every_guarded_route_refuses_without_a_token_and_with_any_other() {
    let web = Web::with_members().await;
    let join_token = web.hub.token("lab-3").await;
    let forged = format!("{}x", web.token);
    for (path, methods, _) in guarded() {
        let path = path.replace("{name}", "lab-1");
        for method in methods {
            for token in [
                None,
                Some("x"),
                Some(join_token.as_str()),
                Some(forged.as_str()),
            ] {
                let answer = web.ask(method, &path, token, None).await;
                assert_eq!(answer.headers()[header::WWW_AUTHENTICATE], "Bearer");
                assert_eq!(
                    answer.headers()[header::CONTENT_TYPE],
                    "application/problem+json"
                );
                let (status, problem) = read(answer).await;
                assert_eq!(
                    (status, &problem["kind"]),
                    (401, &json!("unauthorized")),
                    "{method} {path} {token:?}"
                );
            }
        }
    }
    assert_eq!(
        web.hub.app.member_views().await.unwrap().value.len(),
        2,
        "nothing was deleted"
    );
}

#[tokio::test]
async fn the_methods_in_the_list_of_routes_are_those_that_are_served() {
    let web = Web::new().await;
    for (path, methods, _) in guarded() {
        let path = path.replace("{name}", "nothing");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let (status, _) = web.call(method, &path, Some(&json!({}))).await;
            assert_eq!(
                status == 405,
                !methods.contains(&method),
                "{method} {path}: {status}"
            );
        }
    }
}

#[tokio::test]
async fn only_the_paths_for_machines_are_open() {
    let web = Web::new().await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(
            web.ask("GET", path, None, None).await.status(),
            200,
            "{path}"
        );
    }
    let (status, problem) = read(web.ask("GET", "/api/v2/clusters", None, None).await).await;
    assert_eq!((status, &problem["kind"]), (404, &json!("not-found")));
}

#[tokio::test]
async fn every_answer_carries_the_number_of_its_request() {
    let web = Web::new().await;
    let answer = web
        .ask("GET", "/api/v1/clusters/nobody", Some(&web.token), None)
        .await;
    let number = answer.headers()["x-request-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let (_, problem) = read(answer).await;
    assert_eq!(
        problem["instance"],
        format!("urn:meridian:request:{number}")
    );
}

#[tokio::test]
async fn a_token_is_shown_once_and_joins_a_cluster() {
    let web = Web::new().await;
    let wanted = json!({ "apiVersion": "meridian.dev/v1alpha1", "kind": "Token", "metadata": {}, "spec": { "clusterName": "lab-1", "ttlSeconds": 60 } });
    let (status, made) = web.call("POST", "/api/v1/tokens", Some(&wanted)).await;
    assert_eq!(status, 201);
    let join = &made["status"]["join"];
    assert_eq!(
        (&join["hub"], &join["name"]),
        (&json!(["hub:8444"]), &json!("lab-1"))
    );
    assert_eq!(join["caPem"], web.hub.app.ca().roots_pem());
    let device = crate::app::testing::Device::new(LAB_1);
    device
        .join(&web.hub.app, join["token"].as_str().unwrap(), "lab-1")
        .await
        .unwrap();

    let path = format!(
        "/api/v1/tokens/{}",
        made["metadata"]["name"].as_str().unwrap()
    );
    let (_, listed) = web.call("GET", "/api/v1/tokens", None).await;
    let (_, one) = web.call("GET", &path, None).await;
    for shown in [&listed["items"][0], &one] {
        assert_eq!(
            (&shown["status"]["usedBy"], &shown["status"]["join"]),
            (&json!(LAB_1), &Value::Null)
        );
        assert_eq!(shown["spec"]["ttlSeconds"], 60);
    }
    assert_eq!(web.call("DELETE", &path, None).await.0, 204);
    assert_eq!(web.call("DELETE", &path, None).await.0, 404);
}

#[tokio::test]
async fn a_token_that_cannot_be_is_refused_field_by_field() {
    let web = Web::new().await;
    let wanted = json!({ "apiVersion": "x", "kind": "Token", "metadata": {}, "spec": { "clusterName": "Lab 1", "ttlSeconds": 0 } });
    let (status, problem) = web.call("POST", "/api/v1/tokens", Some(&wanted)).await;
    assert_eq!(status, 422);
    let fields: Vec<_> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["field"].clone())
        .collect();
    assert_eq!(fields, ["spec.clusterName", "spec.ttlSeconds"]);
    let (status, problem) = web
        .call("POST", "/api/v1/tokens", Some(&json!("no token")))
        .await;
    assert_eq!(
        (status, &problem["errors"][0]["field"]),
        (422, &json!("body"))
    );
}

#[tokio::test]
async fn members_are_shown_with_what_they_reported_and_since_when() {
    let web = Web::with_members().await;
    let (_, never) = web.call("GET", "/api/v1/clusters/lab-1", None).await;
    assert_eq!(
        (&never["status"]["state"], &never["status"]["recs"]["stale"]),
        (&json!("Never"), &json!(true))
    );
    web.hub
        .app
        .presence(uid(LAB_1), Presence::Connected, 1)
        .await
        .unwrap();
    let (_, listed) = web.call("GET", "/api/v1/clusters", None).await;
    let shown = &listed["items"][0];
    assert_eq!(
        (&shown["metadata"]["name"], &shown["status"]["state"]),
        (&json!("lab-1"), &json!("Connected"))
    );
    assert_eq!(
        (&shown["status"]["uid"], &shown["status"]["recs"]["stale"]),
        (&json!(LAB_1), &json!(false))
    );
    assert_eq!(shown["status"]["recs"]["asOf"], "2026-11-22T12:00:00Z");
    let (_, remote) = web.call("GET", "/api/v1/remoteclusters/lab-2", None).await;
    assert_eq!(
        (&remote["spec"]["recName"], &remote["status"]["cluster"]),
        (&json!("rec"), &json!("lab-2"))
    );
    assert_eq!(
        remote["spec"]["dbFqdnSuffix"],
        ".rec.db.lab-2.meridian.internal"
    );
}

#[tokio::test]
async fn removing_a_registration_tells_the_member_nothing_and_a_participant_stays() {
    let web = Web::with_members().await;
    web.call("POST", DATABASES, Some(&database(&["lab-1", "lab-2"])))
        .await;
    web.plan().await;
    let (status, problem) = web.call("DELETE", "/api/v1/clusters/lab-1", None).await;
    assert_eq!(status, 409);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("takes part in shop"),
        "{problem}"
    );
    assert_eq!(
        web.call("DELETE", "/api/v1/clusters/lab-7", None).await.0,
        404
    );

    let free = Web::with_members().await;
    assert_eq!(
        free.call("DELETE", "/api/v1/clusters/lab-1", None).await.0,
        204
    );
    assert!(
        free.hub
            .app
            .desired_of(uid(LAB_1))
            .await
            .unwrap()
            .value
            .is_empty()
    );
    assert_eq!(
        free.call("GET", "/api/v1/remoteclusters/lab-1", None)
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn a_hub_that_observes_says_so_takes_no_intent_and_goes_on_when_told() {
    let web = Web::with_members().await;
    assert_eq!(
        web.call("POST", "/api/v1/hub/adopt", None).await.0,
        409,
        "there is nothing to adopt"
    );
    let lost = Web::over(web.hub.restarted_with(MemoryStore::new()).await).await;
    let (_, hub) = lost.call("GET", "/api/v1/hub", None).await;
    assert_eq!(
        (&hub["mode"], &hub["doubts"][0]["raisedBy"]),
        (&json!("observes"), &json!("hub"))
    );
    let (status, problem) = lost
        .call("POST", DATABASES, Some(&database(&["lab-1", "lab-2"])))
        .await;
    assert_eq!(status, 409);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("/api/v1/hub/adopt"),
        "{problem}"
    );
    let (status, hub) = lost.call("POST", "/api/v1/hub/adopt", None).await;
    assert_eq!(
        (status, &hub["mode"], &hub["term"]),
        (200, &json!("decides"), &json!(2))
    );
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let web = Web::new().await;
    let (status, _) = web
        .call("POST", DATABASES, Some(&json!("x".repeat(BODY))))
        .await;
    assert_eq!(status, 413);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_ends_with_a_problem_that_says_what_is_known() {
    let hub = TestHub::new().await;
    let slow = Router::new()
        .route("/", get(std::future::pending::<()>))
        .layer(middleware::from_fn(in_time))
        .layer(middleware::from_fn_with_state(
            state(&hub),
            answer::number_requests,
        ));
    let request = Request::new(Body::empty());
    let answer = slow.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 503);
    let bytes = axum::body::to_bytes(answer.into_body(), 1 << 16).await;
    let told = String::from_utf8(bytes.unwrap().to_vec()).unwrap();
    assert!(told.contains("look before you try again"), "{told}");
}
