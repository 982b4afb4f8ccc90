//! Creations that are sent again with their idempotency key.

use jiff::SignedDuration;

use super::*;
use crate::app::repeats::{MOST, REMEMBERED};
use crate::domain::access::Repeat;
use crate::store::records::TxnExt as _;
use crate::store::{Txn, keys};

impl Web {
    async fn create(&self, path: &str, body: &Value, key: &str) -> Response<Body> {
        let headers = [("Idempotency-Key", key)];
        self.ask_with("POST", path, Some(&self.token), Some(body), &headers)
            .await
    }
}

fn join_token(cluster: &str) -> Value {
    json!({ "apiVersion": "meridian.dev/v1alpha1", "kind": "Token", "metadata": {}, "spec": { "clusterName": cluster } })
}

const TOKENS: &str = "/api/v1/tokens";

fn is_repeated(answer: &Response<Body>) -> bool {
    answer.headers().contains_key("idempotency-replayed")
}

#[tokio::test]
async fn a_creation_that_is_sent_again_with_its_key_makes_nothing_more() {
    let web = Web::with_members().await;
    let shop = database(&["lab-1", "lab-2"]);
    let first = web.create(DATABASES, &shop, "a").await;
    assert!(!is_repeated(&first));
    let (status, first) = read(first).await;
    let again = web.create(DATABASES, &shop, "a").await;
    assert!(is_repeated(&again));
    assert_eq!(read(again).await, (status, first), "the same answer");
    let (status, _) = read(web.create(DATABASES, &shop, "b").await).await;
    assert_eq!(status, 409, "another key is another request");

    let (_, first) = read(web.create(TOKENS, &join_token("lab-8"), "t").await).await;
    let (status, again) = read(web.create(TOKENS, &join_token("lab-8"), "t").await).await;
    assert_eq!((status, &again["metadata"]), (201, &first["metadata"]));
    assert!(first["status"]["join"]["token"].is_string());
    assert_eq!(again["status"]["join"], Value::Null, "it is shown once");
    let (_, all) = web.call("GET", TOKENS, None).await;
    let names = all["items"].as_array().unwrap().iter();
    let made = names.filter(|one| one["spec"]["clusterName"] == "lab-8");
    assert_eq!(made.count(), 1);
}

#[tokio::test]
async fn a_key_is_for_one_request_of_one_caller() {
    let web = Web::with_members().await;
    read(web.create(TOKENS, &join_token("lab-8"), "t").await).await;
    let other = web.create(TOKENS, &join_token("lab-9"), "t").await;
    let (status, problem) = read(other).await;
    assert_eq!(
        (status, fields(&problem)),
        (422, vec!["Idempotency-Key".to_owned()])
    );
    for wrong in ["", "two words", &"x".repeat(256)] {
        let (status, problem) = read(web.create(TOKENS, &join_token("lab-9"), wrong).await).await;
        assert_eq!(
            (status, fields(&problem)),
            (422, vec!["Idempotency-Key".to_owned()])
        );
    }
    let (clear, kept) = crate::app::tokens::draw("bob", web.hub.app.now());
    web.hub.app.keep_api_token(&kept).await.unwrap();
    let headers = [("Idempotency-Key", "t")];
    let body = join_token("lab-9");
    let bobs = web.ask_with("POST", TOKENS, Some(&clear), Some(&body), &headers);
    let bobs = bobs.await;
    assert_eq!((bobs.status().as_u16(), is_repeated(&bobs)), (201, false));
}

#[tokio::test]
async fn what_was_deleted_is_not_made_again_by_an_old_request() {
    let web = Web::with_members().await;
    let (_, made) = read(web.create(TOKENS, &join_token("lab-8"), "t").await).await;
    let path = format!("{TOKENS}/{}", made["metadata"]["name"].as_str().unwrap());
    assert_eq!(web.call("DELETE", &path, None).await.0, 204);
    let (status, problem) = read(web.create(TOKENS, &join_token("lab-8"), "t").await).await;
    assert_eq!(status, 409);
    assert!(
        problem["detail"].as_str().unwrap().contains("another key"),
        "{problem}"
    );
}

#[tokio::test]
async fn keys_are_forgotten_after_their_time_and_are_never_more_than_the_most() {
    let web = Web::new().await;
    let expires_at = web.hub.app.now() + REMEMBERED;
    let repeat = |expires_at| Repeat {
        request: "r".to_owned(),
        made: "m".to_owned(),
        identity: "i".to_owned(),
        expires_at,
    };
    for part in (0..MOST).collect::<Vec<_>>().chunks(90) {
        let put = |txn: Txn, i: &usize| {
            txn.put_record(&keys::repeat(&i.to_string()), &repeat(expires_at))
                .unwrap()
        };
        web.hub
            .app
            .commit(part.iter().fold(Txn::new(), put))
            .await
            .unwrap();
    }
    let (status, problem) = read(web.create(TOKENS, &join_token("lab-8"), "t").await).await;
    assert_eq!((status, &problem["kind"]), (503, &json!("unavailable")));
    web.hub
        .clock
        .advance(REMEMBERED - SignedDuration::from_secs(1));
    assert_eq!(
        web.create(TOKENS, &join_token("lab-8"), "t").await.status(),
        503
    );
    web.hub.clock.advance(SignedDuration::from_secs(1));
    let (status, first) = read(web.create(TOKENS, &join_token("lab-8"), "t").await).await;
    assert_eq!(status, 201);
    let left = crate::store::records::list(&web.hub.store, &keys::repeats())
        .await
        .unwrap();
    assert_eq!(
        left.value.len(),
        MOST - 32 + 1,
        "some of those whose time is over"
    );
    web.hub.clock.advance(REMEMBERED);
    let (_, second) = read(web.create(TOKENS, &join_token("lab-8"), "t").await).await;
    assert_ne!(
        first["metadata"]["name"], second["metadata"]["name"],
        "the key is free again"
    );
}
