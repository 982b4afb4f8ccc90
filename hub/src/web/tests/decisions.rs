//! What people decide about clusters: approve, deny, release.

use jiff::SignedDuration;
use meridian_api::words;

use super::*;
use crate::app::AppError;
use crate::app::testing::Device;
use crate::domain::access::grant::Role;

const CLUSTER: &str = "/api/v1/clusters/lab-1";

fn words_of(device: &Device) -> String {
    words::of_device(device.public().as_bytes(), &device.cluster.to_string())
}

impl Web {
    /// A device that used a token which demands approval, with that token.
    async fn waiting(&self) -> (Device, String) {
        let wanted = json!({
            "apiVersion": "meridian.dev/v1alpha1",
            "kind": "Token",
            "metadata": {},
            "spec": { "clusterName": "lab-1", "requireApproval": true },
        });
        let (status, made) = self.call("POST", "/api/v1/tokens", Some(&wanted)).await;
        assert_eq!(status, 201, "{made}");
        let token = made["status"]["join"]["token"].as_str().unwrap().to_owned();
        let device = Device::new(LAB_1);
        self.waits(&device, &token).await;
        (device, token)
    }

    async fn waits(&self, device: &Device, token: &str) {
        let refused = device.join(&self.hub.app, token, "lab-1").await;
        assert!(
            matches!(refused, Err(AppError::AwaitsApproval(_))),
            "{refused:?}"
        );
    }

    async fn decide(&self, what: &str, body: Option<&Value>) -> (u16, Value) {
        self.call("POST", &format!("{CLUSTER}/{what}"), body).await
    }

    async fn conditions(&self) -> Value {
        let (_, cluster) = self.call("GET", CLUSTER, None).await;
        cluster["status"]["conditions"].clone()
    }

    async fn lets_in(&self, device: &Device) -> bool {
        device.renew(&self.hub.app).await.is_ok() && device.recover(&self.hub.app, "").await.is_ok()
    }
}

/// Who did what to the cluster, and what came of it.
fn told(event: &Value) -> [&str; 6] {
    let text = |value: &'static str| event.pointer(value).and_then(Value::as_str);
    [
        "/actor/kind",
        "/actor/name",
        "/verb",
        "/kind",
        "/name",
        "/outcome",
    ]
    .map(|field| text(field).unwrap_or_default())
}

#[tokio::test]
async fn the_words_that_the_device_shows_let_it_join_and_no_others() {
    let web = Web::new().await;
    let (device, token) = web.waiting().await;
    let (_, list) = web.call("GET", "/api/v1/tokens", None).await;
    let shown = &list["items"][0]["status"]["approval"];
    assert_eq!(shown, &json!({ "words": words_of(&device) }));

    let other = json!({ "words": words_of(&Device::new(LAB_1)) });
    let (status, problem) = web.decide("approve", Some(&other)).await;
    assert_eq!(status, 409, "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("not the words") && detail.contains(LAB_1),
        "{detail}"
    );
    assert_eq!(
        told(&web.newest().await),
        ["token", "alice", "approve", "cluster", "lab-1", "refused"]
    );
    web.waits(&device, &token).await;

    let right = json!({ "words": words_of(&device).to_uppercase() });
    let (status, _) = web.decide("approve?dryRun=All", Some(&right)).await;
    assert_eq!(status, 204);
    web.waits(&device, &token).await;

    assert_eq!(web.decide("approve", Some(&right)).await.0, 204);
    let done = web.newest().await;
    assert_eq!(
        told(&done),
        ["token", "alice", "approve", "cluster", "lab-1", "done"]
    );
    assert!(done["revision"].is_number());
    let (_, list) = web.call("GET", "/api/v1/tokens", None).await;
    let approval = &list["items"][0]["status"]["approval"];
    assert_eq!(approval["approvedBy"], "alice");
    device.join(&web.hub.app, &token, "lab-1").await.unwrap();
}

#[tokio::test]
async fn an_approval_whose_answer_was_lost_is_repeated_and_stays_the_first_ones() {
    let web = Web::new().await;
    let (device, token) = web.waiting().await;
    let body = json!({ "words": words_of(&device) });
    for _ in 0..2 {
        assert_eq!(web.decide("approve", Some(&body)).await.0, 204);
    }
    let bob = web.token_of(Role::Admin, &[]).await;
    let path = format!("{CLUSTER}/approve");
    let (status, _) = web.call_as(&bob, "POST", &path, Some(&body)).await;
    assert_eq!(status, 204);
    let approvals = web.hub.app.approvals().await.unwrap();
    let granted = approvals[0].record.granted.as_ref().unwrap();
    assert_eq!(granted.by, "alice");
    device.join(&web.hub.app, &token, "lab-1").await.unwrap();
    assert_eq!(web.decide("approve", Some(&body)).await.0, 204);
}

#[tokio::test]
async fn nobody_is_approved_who_did_not_ask() {
    let web = Web::new().await;
    let body = json!({ "words": "lusab babad gutih tugad hosum" });
    let (status, problem) = web.decide("approve", Some(&body)).await;
    assert_eq!((status, &problem["kind"]), (404, &json!("not-found")));
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("apply the join material there first"),
        "{detail}"
    );
    let (status, problem) = web.decide("approve", Some(&json!({}))).await;
    assert_eq!(
        (status, fields(&problem)),
        (422, vec!["body".to_owned()]),
        "words are named as missing"
    );
    // The words say what is approved: no revision does.
    let path = format!("{CLUSTER}/approve");
    let tag = [("If-Match", "\"1\"")];
    let answer = web
        .ask_with("POST", &path, Some(&web.token), Some(&body), &tag)
        .await;
    assert_eq!(answer.status(), 422);
}

#[tokio::test]
async fn a_denial_is_shown_with_its_reason_until_the_cluster_is_released() {
    let web = Web::new().await;
    let device = web.hub.member("lab-1", LAB_1).await;
    let body = json!({ "reason": "machine was stolen" });
    assert_eq!(
        web.decide("deny?dryRun=All", Some(&body)).await.0,
        204,
        "only tried"
    );
    device.renew(&web.hub.app).await.unwrap();

    assert_eq!(web.decide("deny", Some(&body)).await.0, 204);
    assert_eq!(
        told(&web.newest().await),
        ["token", "alice", "deny", "cluster", "lab-1", "done"]
    );
    let shown = web.conditions().await;
    assert_eq!(shown[0]["type"], "Denied");
    assert_eq!(shown[0]["message"], "machine was stolen (by alice)");
    assert!(!web.lets_in(&device).await);

    let (status, problem) = web.decide("deny", Some(&body)).await;
    assert_eq!(status, 409, "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("by alice: machine was stolen"), "{detail}");
    assert_eq!(told(&web.newest().await)[5], "refused");

    assert_eq!(web.decide("release?dryRun=All", None).await.0, 204);
    assert_eq!(web.conditions().await[0]["type"], "Denied");
    assert_eq!(web.decide("release", None).await.0, 204);
    assert_eq!(
        told(&web.newest().await),
        ["token", "alice", "release", "cluster", "lab-1", "done"]
    );
    assert_eq!(web.conditions().await, Value::Null);
    device.renew(&web.hub.app).await.unwrap();
    assert_eq!(web.decide("release", None).await.0, 409);
}

#[tokio::test]
async fn a_denial_says_why_and_names_a_certificate_by_its_number_or_is_refused_by_field() {
    let web = Web::with_members().await;
    let wrong = [
        (json!({ "reason": " " }), vec!["reason"]),
        (json!({ "reason": "x".repeat(501) }), vec!["reason"]),
        (json!({ "reason": "r", "serial": "no" }), vec!["serial"]),
        (
            json!({ "reason": "", "serial": "" }),
            vec!["reason", "serial"],
        ),
        (json!({ "serial": "aff" }), vec!["body"]),
    ];
    for (body, expected) in wrong {
        let (status, problem) = web.decide("deny", Some(&body)).await;
        assert_eq!((status, fields(&problem).len()), (422, expected.len()));
        assert_eq!(fields(&problem), expected, "{body}");
    }
    assert_eq!(web.conditions().await, Value::Null, "nothing was denied");
}

#[tokio::test]
async fn a_certificate_is_denied_by_the_number_that_the_cluster_shows_and_none_by_a_slip() {
    let web = Web::new().await;
    let device = web.hub.member("lab-1", LAB_1).await;
    let renewed = device.renew(&web.hub.app).await.unwrap();
    let speaker = web.hub.app.ca().speaker(&renewed.issued.chain[0]).unwrap();
    let (_, cluster) = web.call("GET", CLUSTER, None).await;
    let shown = cluster["status"]["certificates"].as_array().unwrap();
    assert_eq!(shown.len(), 2);
    let newest = json!({ "serial": speaker.serial.to_string(), "endsAt": "2026-11-29T12:00:00Z" });
    assert_eq!(shown[1], newest);

    let slip = json!({ "reason": "key leaked", "serial": "aff" });
    let (status, problem) = web.decide("deny", Some(&slip)).await;
    assert_eq!(status, 409, "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains(&speaker.serial.to_string()) && detail.contains("evenIfUnknown"),
        "{detail}"
    );
    let serial = speaker.serial.to_string().to_uppercase();
    let body = json!({ "reason": "key leaked", "serial": serial });
    web.hub.app.must_be_accepted(&speaker).await.unwrap();
    assert_eq!(web.decide("deny", Some(&body)).await.0, 204);
    web.hub.app.must_be_accepted(&speaker).await.unwrap_err();
    assert_eq!(
        web.conditions().await,
        Value::Null,
        "of the cluster only that certificate is denied"
    );
    device.renew(&web.hub.app).await.unwrap();
    assert_eq!(web.decide("deny", Some(&body)).await.0, 409);

    let known = json!({ "reason": "r", "serial": "00:0A:FF", "evenIfUnknown": true });
    assert_eq!(web.decide("deny", Some(&known)).await.0, 204);
    assert_eq!(web.decide("deny", Some(&known)).await.0, 409);
}

#[tokio::test]
async fn a_decision_about_a_cluster_that_is_not_as_it_was_seen_does_nothing() {
    let web = Web::with_members().await;
    let answer = web.ask("GET", CLUSTER, Some(&web.token), None).await;
    let seen = answer.headers()[header::ETAG].to_str().unwrap().to_owned();
    let body = json!({ "reason": "lost" });
    let deny = |tag: &str| {
        let (path, tag) = (format!("{CLUSTER}/deny"), tag.to_owned());
        let (web, body) = (&web, &body);
        async move {
            let tag = [("If-Match", tag.as_str())];
            let answer = web.ask_with("POST", &path, Some(&web.token), Some(body), &tag);
            answer.await.status().as_u16()
        }
    };
    assert_eq!(deny("\"1.x\"").await, 412);
    assert_eq!(told(&web.newest().await)[5], "refused");
    assert_eq!(web.conditions().await, Value::Null);
    assert_eq!(deny(&seen).await, 204);
    let path = format!("{CLUSTER}/release");
    let stale = [("If-Match", "\"1.x\"")];
    let answer = web.ask_with("POST", &path, Some(&web.token), None, &stale);
    assert_eq!(answer.await.status(), 412);
    assert_eq!(web.conditions().await[0]["type"], "Denied");
}

#[tokio::test]
async fn only_an_administrator_decides_and_only_about_clusters_that_there_are() {
    let web = Web::with_members().await;
    let bodies = [
        ("approve", Some(json!({ "words": "x" }))),
        ("deny", Some(json!({ "reason": "x" }))),
        ("release", None),
    ];
    for (what, body) in &bodies {
        let path = format!("{CLUSTER}/{what}");
        for (role, projects) in [
            (Role::Viewer, &[][..]),
            (Role::Operator, &[]),
            (Role::Operator, &["shop"]),
        ] {
            let token = web.token_of(role, projects).await;
            let (status, problem) = web.call_as(&token, "POST", &path, body.as_ref()).await;
            assert_eq!(status, 403, "{role} {what}: {problem}");
            assert_eq!(
                told(&web.newest().await),
                ["token", "bob", what, "cluster", "lab-1", "refused"]
            );
        }
        let nothing = path.replace("lab-1", "lab-9");
        let (status, problem) = web.call("POST", &nothing, body.as_ref()).await;
        assert_eq!(status, 404, "{what}: {problem}");
        let event = web.newest().await;
        assert_eq!(
            told(&event),
            ["token", "alice", what, "cluster", "lab-9", "refused"]
        );
        assert_eq!(event["reason"], "not-found");
    }
    assert_eq!(web.conditions().await, Value::Null);
}

#[tokio::test]
async fn a_cluster_that_was_denied_and_removed_is_released_by_its_name() {
    let web = Web::new().await;
    let device = web.hub.member("lab-1", LAB_1).await;
    let body = json!({ "reason": "lost" });
    assert_eq!(web.decide("deny", Some(&body)).await.0, 204);
    assert_eq!(web.call("DELETE", CLUSTER, None).await.0, 204);
    let (first, second) = (web.hub.token("lab-1").await, web.hub.token("lab-1").await);
    device
        .join(&web.hub.app, &first, "lab-1")
        .await
        .unwrap_err();
    // Another cluster has the name by now, and nothing against it.
    let other = Device::new(LAB_2);
    other.join(&web.hub.app, &second, "lab-1").await.unwrap();
    assert_eq!(web.conditions().await, Value::Null);
    assert_eq!(web.decide("release", None).await.0, 204);
    assert_eq!(web.decide("release", None).await.0, 409);
    other.renew(&web.hub.app).await.unwrap();
    let token = web.hub.token("lab-2").await;
    device.join(&web.hub.app, &token, "lab-2").await.unwrap();
}

#[tokio::test]
async fn a_denial_and_its_end_make_the_cluster_newer_for_those_who_watch() {
    let web = Web::with_members().await;
    let revision = || async {
        let (_, list) = web.call("GET", "/api/v1/clusters", None).await;
        list["metadata"]["resourceVersion"].clone()
    };
    let newest = || async {
        let read = kinds::Kind::Cluster
            .read(&web.hub.app, &crate::domain::access::grant::Scope::all())
            .await;
        let value = read.unwrap().value;
        value.iter().map(|one| one.newest).max().unwrap()
    };
    let (before, first) = (revision().await, newest().await);
    web.hub.clock.advance(SignedDuration::from_secs(1));
    let body = json!({ "reason": "lost" });
    assert_eq!(web.decide("deny", Some(&body)).await.0, 204);
    let second = newest().await;
    assert!(second > first && revision().await != before);
    assert_eq!(web.decide("release", None).await.0, 204);
    assert!(newest().await > second);
}
