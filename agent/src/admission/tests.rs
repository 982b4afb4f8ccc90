use axum::body::Body;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::k8s::testing;

fn server(objects: Objects) -> Router {
    router(Server {
        objects,
        board: Board::default(),
        metrics: Arc::default(),
        turns: Arc::new(Semaphore::new(1)),
    })
}

fn review(version: &str, kind: &str, spec: &Value) -> String {
    json!({
        "apiVersion": format!("admission.k8s.io/{version}"), "kind": "AdmissionReview",
        "request": {
            "uid": "the-question", "operation": "CREATE", "namespace": "ns", "name": "x",
            "kind": { "group": "app.redislabs.com", "version": "v1alpha1", "kind": kind },
            "object": {
                "apiVersion": "app.redislabs.com/v1alpha1", "kind": kind,
                "metadata": { "name": "x", "namespace": "ns" }, "spec": spec,
            },
        },
    })
    .to_string()
}

async fn post_review(router: Router, body: String) -> (StatusCode, String) {
    let request = http::Request::post("/admission")
        .body(Body::from(body))
        .unwrap();
    let response = router.oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20)
        .await
        .unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn a_review_is_answered_in_the_version_it_was_asked_in() {
    for version in ["v1", "v1beta1"] {
        let (objects, api) = testing::objects();
        drop(api);
        // A remote cluster is judged without looking around.
        let spec = json!({ "recName": "rec", "recNamespace": "ns", "apiFqdnUrl": "a.b", "secretName": "mine" });
        let body = review(version, "RedisEnterpriseRemoteCluster", &spec);
        let (status, answer) = post_review(server(objects), body).await;
        assert_eq!(status, StatusCode::OK);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["apiVersion"], format!("admission.k8s.io/{version}"));
        assert_eq!(answer["kind"], "AdmissionReview");
        let response = &answer["response"];
        assert_eq!(
            (&response["uid"], &response["allowed"]),
            (&json!("the-question"), &json!(false))
        );
        assert_eq!(response["status"]["code"], 403);
        assert_eq!(
            response["status"]["message"],
            "spec.secretName: found \"mine\", expected \"redis-enterprise-x\"; name the Secret so, or remove the field"
        );
    }
}

#[tokio::test]
async fn what_is_no_review_that_is_known_is_a_bad_request() {
    let cases = [
        ("nonsense".to_owned(), "expected an AdmissionReview as JSON"),
        (
            review("v2", "RedisEnterpriseDatabase", &json!({})),
            "found apiVersion \"admission.k8s.io/v2\", expected admission.k8s.io/v1 or admission.k8s.io/v1beta1",
        ),
    ];
    for (body, expected) in cases {
        let (objects, _api) = testing::objects();
        let (status, answer) = post_review(server(objects), body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(answer.contains(expected), "{answer}");
    }
}

fn list(items: &Value) -> (u16, Value) {
    (
        200,
        json!({ "apiVersion": "v1", "kind": "List", "metadata": {}, "items": items }),
    )
}

#[tokio::test]
async fn a_database_is_judged_among_those_that_are_there_readable_or_not() {
    let (objects, api) = testing::objects();
    let unreadable = json!({
        "apiVersion": "app.redislabs.com/v1alpha1", "kind": "RedisEnterpriseDatabase",
        "metadata": { "name": "x", "namespace": "elsewhere" }, "spec": { "memorySize": [1] },
    });
    let answers = vec![
        list(&json!([unreadable])),
        list(&json!([])),
        list(&json!([])),
        list(&json!([])),
    ];
    let played = tokio::spawn(testing::answer(api, answers));
    let body = review("v1", "RedisEnterpriseDatabase", &json!({}));
    let (_, answer) = post_review(server(objects), body).await;
    assert!(
        answer.contains(
            "expected a name that no other database has; RedisEnterpriseDatabase elsewhere/x has it"
        ),
        "{answer}"
    );
    let asked = played.await.unwrap();
    assert_eq!(asked.len(), 4, "{asked:?}");
}

#[tokio::test]
async fn an_api_server_that_fails_lets_nothing_in() {
    let (objects, api) = testing::objects();
    let away = (
        500,
        json!({ "kind": "Status", "message": "away", "code": 500 }),
    );
    let played = tokio::spawn(testing::answer(api, vec![away; 4]));
    let body = review("v1", "RedisEnterpriseDatabase", &json!({}));
    let (status, answer) = post_review(server(objects), body).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["response"]["allowed"], false);
    assert_eq!(answer["response"]["status"]["code"], 503);
    let told = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(
        told.starts_with("the object could not be checked: list Redis"),
        "{told}"
    );
    played.abort();
}

#[tokio::test]
async fn readiness_tells_the_reason() {
    let (objects, _api) = testing::objects();
    let board = Board::default();
    let router = router(Server {
        objects,
        board: board.clone(),
        metrics: Arc::default(),
        turns: Arc::new(Semaphore::new(1)),
    });
    let get = |router: Router| async {
        let request = http::Request::get("/readiness")
            .body(Body::empty())
            .unwrap();
        router.oneshot(request).await.unwrap().status()
    };
    assert_eq!(get(router.clone()).await, StatusCode::SERVICE_UNAVAILABLE);
    board.good(CHECK, "serves");
    board.bad("lease", "something else is missing");
    assert_eq!(get(router).await, StatusCode::OK);
}
