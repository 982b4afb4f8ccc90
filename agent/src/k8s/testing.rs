//! An API server that a test plays: it answers in order and shows what was asked.

use http::{Method, Request, Response};
use kube::{Client, client::Body};
use serde_json::Value;
use tower_test::mock::Handle;

use super::apply::Objects;

/// The side of the API server.
pub(crate) type Server = Handle<Request<Body>, Response<Body>>;

/// Objects of the namespace `ns` of an API server that a test plays.
pub(crate) fn objects() -> (Objects, Server) {
    let (service, server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    (Objects::new(Client::new(service, "ns"), "ns"), server)
}

/// Answers the requests of a test in order and returns what was asked; an unexpected request has no answer left.
pub(crate) async fn answer(
    server: Server,
    answers: Vec<(u16, Value)>,
) -> Vec<(Method, String, Value)> {
    let mut server = std::pin::pin!(server);
    let mut seen = Vec::new();
    for (code, body) in answers {
        let Some((request, send)) = server.as_mut().next_request().await else {
            break;
        };
        let (parts, body_in) = request.into_parts();
        let bytes = body_in.collect_bytes().await.unwrap();
        let uri = parts.uri.to_string();
        seen.push((
            parts.method,
            uri,
            serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        ));
        let response = Response::builder()
            .status(code)
            .body(Body::from(serde_json::to_vec(&body).unwrap()));
        send.send_response(response.unwrap());
    }
    if let Some((request, _)) = server.as_mut().next_request().await {
        seen.push((
            request.method().clone(),
            format!("UNEXPECTED {}", request.uri()),
            Value::Null,
        ));
    }
    seen
}

/// Keys and certificates are random: of a Secret, what it is called and what it holds.
pub(crate) fn without_secrets(object: impl serde::Serialize) -> Value {
    let mut object = serde_json::json!(object);
    if object["kind"] == "Secret"
        && let Some(data) = object["data"].as_object_mut()
    {
        for value in data.values_mut() {
            *value = "…".into();
        }
    }
    object
}

/// Compares what is built with the committed file `path`, seen from `agent/src`, or writes it where `MERIDIAN_WRITE` is
/// set. Whoever changes what is built sees in the file what changes for clusters that run.
pub(crate) fn golden(path: &str, found: &Value) {
    let path = format!("{}/src/{path}.json", env!("CARGO_MANIFEST_DIR"));
    let text = format!("{}\n", serde_json::to_string_pretty(found).unwrap());
    if std::env::var_os("MERIDIAN_WRITE").is_some() {
        std::fs::create_dir_all(std::path::Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "{path} is not current: run MERIDIAN_WRITE=1 cargo test -p meridian-agent --lib golden. Found: {text}"
    );
}
