use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use axum::body::Body;
use axum::http::Request;
use axum::http::header::{ACCEPT, AUTHORIZATION, WWW_AUTHENTICATE};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use meridian_api::crds::DatabaseTopology;
use meridian_api::login::{ClusterFacts, FACTS_KEY, HASH_BYTES, LOGIN_KEY, Login, to_hex};
use serde_json::json;
use tower::ServiceExt as _;

use super::picture::{Picture, Serves};
use super::probe::Answer;
use super::*;

fn facts() -> ClusterFacts {
    ClusterFacts {
        host: "rec.ns.svc.cluster.local".to_owned(),
        nodes: 3,
        release: "0.1.0".to_owned(),
        ..ClusterFacts::default()
    }
}

fn secret(name: &str, password: &str) -> Secret {
    let mut hash = [0_u8; HASH_BYTES];
    let rounds = NonZeroU32::new(3).unwrap();
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA512;
    pbkdf2::derive(algorithm, rounds, &[7, 7], password.as_bytes(), &mut hash);
    let login = Login {
        username: name.to_owned(),
        rounds: 3,
        salt: "0707".to_owned(),
        hash: to_hex(&hash),
    };
    let json = |value: Vec<u8>| ByteString(value);
    let data = [
        (LOGIN_KEY, json(serde_json::to_vec(&login).unwrap())),
        (FACTS_KEY, json(serde_json::to_vec(&facts()).unwrap())),
    ];
    Secret {
        data: Some(data.map(|(key, value)| (key.to_owned(), value)).into()),
        ..Secret::default()
    }
}

/// A source whose nodes can never be reached.
fn source() -> (Arc<Observed>, Source) {
    let observed = Arc::new(Observed::default());
    let host: Host = Arc::new(|_| String::new());
    let source = Source::new(Arc::clone(&observed), "rec", "ns", host);
    (observed, source)
}

fn known() -> (Arc<Observed>, Source) {
    let (observed, source) = source();
    observed.secret(&secret("admin", "right"));
    let topology = Arc::new(topology(json!({})));
    observed.topologies(BTreeMap::from([("db".to_owned(), topology)]));
    (observed, source)
}

struct Reply {
    status: u16,
    asks: Option<String>,
    body: String,
}

async fn ask(router: Router, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    let asks = response.headers().get(WWW_AUTHENTICATE);
    let asks = asks.map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20)
        .await
        .unwrap();
    let body = String::from_utf8(bytes.to_vec()).unwrap();
    Reply { status, asks, body }
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

async fn as_admin(source: &Source, path: &str) -> Reply {
    let login = basic("admin", "right");
    let headers = [(AUTHORIZATION.as_str(), login.as_str())];
    ask(api(source.clone()), "GET", path, &headers).await
}

#[tokio::test]
async fn strangers_are_asked_who_they_are_and_learn_nothing_of_what_there_is() {
    let (_, source) = known();
    let wrong = [
        basic("admin", "wrong"),
        basic("other", "right"),
        basic("", ""),
        "Basic !".to_owned(),
        "Bearer right".to_owned(),
    ];
    for path in ["/v1/cluster", "/v1/nothing", "/"] {
        let reply = ask(api(source.clone()), "GET", path, &[]).await;
        assert_eq!(reply.status, 401, "{path}");
        assert!(reply.asks.unwrap().starts_with("Basic realm="), "{path}");
        for login in &wrong {
            let headers = [(AUTHORIZATION.as_str(), login.as_str())];
            let reply = ask(api(source.clone()), "GET", path, &headers).await;
            assert_eq!(reply.status, 401, "{path} with {login}");
            let reply = ask(page(source.clone()), "GET", path, &headers).await;
            assert_eq!(reply.status, 401, "the page, {path} with {login}");
        }
    }
}

#[tokio::test]
async fn a_rotated_password_is_refused_from_the_moment_the_node_hears_of_it() {
    let (observed, source) = known();
    let (old, new) = (basic("admin", "right"), basic("admin", "newer"));
    let status = async |login: &str| {
        let headers = [(AUTHORIZATION.as_str(), login)];
        ask(api(source.clone()), "GET", "/v1/cluster", &headers)
            .await
            .status
    };
    assert_eq!((status(&old).await, status(&new).await), (200, 401));
    assert_eq!(status(&old).await, 200, "remembered");
    observed.secret(&secret("admin", "newer"));
    assert_eq!((status(&old).await, status(&new).await), (401, 200));
}

#[tokio::test]
async fn nothing_is_said_before_anything_is_known() {
    let (observed, source) = source();
    assert_eq!(as_admin(&source, "/v1/bdbs").await.status, 503);
    observed.secret(&secret("admin", "right"));
    let reply = as_admin(&source, "/v1/bdbs").await;
    assert_eq!(reply.status, 503, "{}", reply.body);
    assert!(reply.body.contains("\"not_ready\""), "{}", reply.body);
}

#[tokio::test]
async fn refusals_are_json_with_a_code() {
    let (_, source) = known();
    let login = basic("admin", "right");
    let cases = [
        ("GET", "/v1/users", "*/*", 404, "path_not_found"),
        ("GET", "/v1/bdbs/77", "*/*", 404, "db_not_found"),
        ("GET", "/v1/bdbs/x/availability", "*/*", 404, "db_not_found"),
        ("GET", "/v1/nodes/9", "*/*", 404, "node_not_exist"),
        ("GET", "/v1/crdbs/none", "*/*", 404, "crdb_not_found"),
        ("POST", "/v1/bdbs", "*/*", 405, "method_not_allowed"),
        ("DELETE", "/v1/bdbs/1", "*/*", 405, "method_not_allowed"),
        ("GET", "/v1/bdbs", "text/html", 406, "not_acceptable"),
        (
            "GET",
            "/v1/bdbs/1/availability",
            "*/*",
            503,
            "bdb_unavailable",
        ),
        (
            "GET",
            "/v1/bdbs/1/availability?extend_check=Lag",
            "*/*",
            400,
            "bad_query",
        ),
    ];
    for (method, path, accept, status, code) in cases {
        let headers = [
            (AUTHORIZATION.as_str(), login.as_str()),
            (ACCEPT.as_str(), accept),
        ];
        let reply = ask(api(source.clone()), method, path, &headers).await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.body);
        let body: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(body["error_code"], code, "{method} {path}");
        assert!(
            body["description"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
    }
}

#[tokio::test]
async fn nodes_that_cannot_be_reached_are_down_and_their_databases_not_available() {
    let (_, source) = known();
    let nodes: Value = serde_json::from_str(&as_admin(&source, "/v1/nodes").await.body).unwrap();
    let words: Vec<_> = nodes
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (node["uid"].as_u64(), node["status"].as_str()))
        .collect();
    assert_eq!(words, [1, 2, 3].map(|uid| (Some(uid), Some("down"))));
    let database: Value =
        serde_json::from_str(&as_admin(&source, "/v1/bdbs/1").await.body).unwrap();
    assert_eq!(
        (&database["uid"], &database["name"]),
        (&json!(1), &json!("db"))
    );
    assert_eq!(database["available"], false);
    assert_eq!(database["status"], "recovery");
}

/// A database with one shard on rec-0 and a replica on rec-1; `changes` are merged over its spec and status.
fn topology(changes: Value) -> DatabaseTopology {
    let mut text = json!({
        "apiVersion": "meridian.dev/v1alpha1", "kind": "DatabaseTopology",
        "metadata": {"name": "db", "namespace": "ns", "uid": "T"},
        "spec": {
            "database": {"kind": "RedisEnterpriseDatabase", "namespace": "ns", "name": "db", "uid": "D"},
            "cluster": "rec", "epoch": 4, "port": 10000, "memoryBytes": 1000, "evictionPolicy": "volatile-lru",
            "persistence": "aofEverySecond", "replication": true,
            "shards": [{"id": 0, "slots": "0-16383", "primary": "rec-0", "replicas": ["rec-1"]}],
        },
        "status": {"members": [{
            "node": "rec-0", "topologyUid": "T", "epoch": 4, "generation": 1, "asOf": "then",
            "shards": [{"id": 0, "role": "primary", "ready": true, "writable": true, "port": 10000}],
            "links": [],
        }]},
    });
    merge(&mut text, changes);
    serde_json::from_value(text).unwrap()
}

fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, value) in changes {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, changes) => *into = changes,
    }
}

fn answer(ready: bool) -> Option<Answer> {
    Some(Answer {
        address: "10.0.0.1".parse().unwrap(),
        ready: BTreeMap::from([("db-0".to_owned(), ready)]),
        stopping: false,
    })
}

fn picture(first: Option<Answer>, topology: DatabaseTopology) -> Picture {
    Picture {
        cluster: "rec".to_owned(),
        namespace: "ns".to_owned(),
        facts: Arc::new(facts()),
        topologies: vec![Arc::new(topology)],
        nodes: BTreeMap::from([
            ("rec-0".to_owned(), first),
            ("rec-1".to_owned(), answer(true)),
            ("rec-2".to_owned(), None),
        ]),
        as_of: "now".to_owned(),
        away_since: None,
    }
}

#[test]
fn a_database_is_available_only_if_its_primary_was_seen_to_serve_and_says_that_it_takes_writes() {
    let report = |change: Value| {
        let mut member = json!({
            "node": "rec-0", "topologyUid": "T", "epoch": 4, "generation": 1, "asOf": "then", "links": [],
            "shards": [{"id": 0, "role": "primary", "ready": true, "writable": true, "port": 10000}],
        });
        merge(&mut member, change);
        json!({"status": {"members": [member]}})
    };
    let primary =
        |name: Value| json!({"spec": {"shards": [{"id": 0, "slots": "0-16383", "primary": name}]}});
    let cases = [
        (answer(true), json!({}), ""),
        (
            answer(false),
            json!({}),
            "shard 0 does not answer on node rec-0",
        ),
        (None, json!({}), "node rec-0 of shard 0 does not answer"),
        (answer(true), primary(json!(null)), "shard 0 has no primary"),
        (
            answer(true),
            json!({"spec": {"shards": []}}),
            "being stopped",
        ),
        (
            answer(true),
            json!({"status": {"members": []}}),
            "has not reported",
        ),
        (
            answer(true),
            report(json!({"topologyUid": "older"})),
            "has not reported",
        ),
        (
            answer(true),
            report(json!({"epoch": 3})),
            "did not take writes to shard 0 in epoch 4",
        ),
        (
            answer(true),
            report(
                json!({"shards": [{"id": 0, "role": "primary", "ready": true, "writable": false, "port": 1}]}),
            ),
            "when it last reported, at then",
        ),
    ];
    for (first, changes, expected) in cases {
        let picture = picture(first, topology(changes.clone()));
        let found = render::unserved(&picture, &picture.topologies[0]).unwrap_or_default();
        assert!(
            found.contains(expected) && found.is_empty() == expected.is_empty(),
            "{changes}: {found}"
        );
        let page = page::html(&picture);
        let claims = page.contains("<span class=\"good\">yes</span>");
        assert_eq!(claims, expected.is_empty(), "{changes}: the page agrees");
    }
}

#[test]
fn a_lag_aware_check_refuses_links_that_are_late_or_of_which_nothing_is_known() {
    let with = |links: Value| {
        topology(json!({
            "spec": {"activeActive": {"guid": "G", "instanceId": 1, "configVersion": 1, "members": [
                {"instanceId": 1, "name": "here", "local": true}, {"instanceId": 2, "name": "there"},
            ]}},
            "status": {"members": [{
                "node": "rec-0", "topologyUid": "T", "epoch": 4, "generation": 1, "asOf": "then", "links": links,
                "shards": [{"id": 0, "role": "primary", "ready": true, "writable": true, "port": 10000}],
            }]},
        }))
    };
    let link = |state: &str, lag: Value| {
        let mut link =
            json!([{"instanceId": 2, "name": "there", "state": state, "since": "s", "asOf": "a"}]);
        if !lag.is_null() {
            link[0]["lagMs"] = lag;
        }
        link
    };
    let cases = [
        (link("up", json!(100)), ""),
        (
            link("up", json!(101)),
            "there is behind by 101 ms as of a, more than 100 ms",
        ),
        (link("up", json!(null)), "the lag of there is unknown"),
        (link("down", json!(0)), "the link to there is down since s"),
        (json!([]), "nothing is known of the link to there"),
    ];
    for (links, expected) in cases {
        let picture = picture(answer(true), with(links.clone()));
        let database = picture.numbered("1").unwrap();
        let refused = |check| render::unavailable(&picture, database, check);
        let text = refused(LagCheck::Within(100)).map(|refusal| refusal.text);
        assert_eq!(text.unwrap_or_default(), expected, "{links}");
        assert_eq!(refused(LagCheck::No), None, "{links}: without the check");
    }
}

#[test]
fn the_query_of_an_availability_check_is_read_strictly() {
    let asked = |pairs: &[(&str, &str)]| {
        let query = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        LagCheck::asked(&query.collect()).map_err(|refusal| refusal.text)
    };
    let tolerance = "availability_lag_tolerance_ms";
    assert_eq!(asked(&[]), Ok(LagCheck::No));
    assert_eq!(asked(&[("extend_check", "lag")]), Ok(LagCheck::Within(100)));
    let with = asked(&[("extend_check", "lag"), (tolerance, "5")]);
    assert_eq!(with, Ok(LagCheck::Within(5)));
    assert!(asked(&[("extend_check", "lag"), (tolerance, "-1")]).is_err());
    assert!(asked(&[("extend_check", "all")]).is_err());
}

#[test]
fn databases_carry_the_words_of_the_product() {
    let picture = picture(answer(true), topology(json!({})));
    let shown = &render::databases(&picture)[0];
    let expected = json!({
        "uid": 1, "name": "db", "type": "redis", "status": "active", "available": true, "memory_size": 2000,
        "replication": true, "shards_count": 1, "data_persistence": "aof", "aof_policy": "appendfsync-every-sec",
        "eviction_policy": "volatile-lru", "port": 10000, "crdt": false,
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&shown[key], value, "{key}");
    }
    let endpoint = &shown["endpoints"][0];
    assert_eq!(endpoint["dns_name"], "db.ns.svc.cluster.local");
    assert_eq!(endpoint["addr"], json!(["10.0.0.1"]));
    assert_eq!(shown["shards"][1]["role"], "slave");
}

#[test]
fn the_page_escapes_what_it_shows_and_says_unknown_for_what_it_does_not_know() {
    let mut picture = picture(None, topology(json!({"metadata": {"name": "<db>"}})));
    picture.away_since = Some("noon".to_owned());
    let html = page::html(&picture);
    assert!(
        html.contains("&lt;db&gt;") && !html.contains("<db>"),
        "{html}"
    );
    assert!(html.contains("has not answered this node since noon"));
    assert!(html.contains("<td class=\"unknown\">unknown"));
    assert!(!html.contains("<script"));
    assert_eq!(picture.serves("rec-2", "db", 0), Serves::Unknown);
}
