//! The Secrets of a member over HTTP, as the agent's own client asks for them: read, created, and replaced only at the version
//! that was read. Events are taken and forgotten.

use std::{collections::BTreeMap, convert::Infallible};

use http::{Method, Request, Response, StatusCode};
use k8s_openapi::api::core::v1::Secret;
use kube::{Client, client::Body};
use meridian_agent::link::{journal::Journal, keep::JOURNAL, member::MemberError};
use serde_json::{Value, json};
use tower::service_fn;

use super::{Kubernetes, NAMESPACE};

/// Secrets by name; each with a version that rises with every write.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    stored: BTreeMap<String, Secret>,
    version: u64,
}

impl Kubernetes {
    /// A client of this API server, for one process.
    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, NAMESPACE)
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let path = parts.uri.path().to_owned();
        let answered = self.request(move |server| Ok(server.serve(&parts.method, &path, &body)));
        let (status, value) = answered.await.unwrap_or_else(|error| lost(&error));
        let bytes = serde_json::to_vec(&value).unwrap();
        Response::builder()
            .status(status)
            .body(Body::from(bytes))
            .unwrap()
    }

    fn serve(&self, method: &Method, path: &str, body: &[u8]) -> (StatusCode, Value) {
        let Some((_, rest)) = path.split_once("/secrets") else {
            return (StatusCode::CREATED, serde_json::from_slice(body).unwrap());
        };
        let name = rest.trim_start_matches('/');
        if *method == Method::GET {
            let state = self.state();
            let found = state.secrets.stored.get(name);
            return found.map_or_else(missing, |it| (StatusCode::OK, json!(it)));
        }
        let secret: Secret = serde_json::from_slice(body).unwrap();
        let (status, value) = self.state().secrets.write(secret.clone());
        if status == StatusCode::OK {
            self.judge_journal(&secret);
        }
        (status, value)
    }

    fn judge_journal(&self, secret: &Secret) {
        let stored = secret.data.iter().flatten();
        let stored = stored.filter(|_| secret.metadata.name.as_deref() == Some(JOURNAL));
        for (_, bytes) in stored {
            let journal = Journal::read(&bytes.0).unwrap();
            self.judge.kept(self.cluster, &journal);
        }
    }
}

impl Secrets {
    fn write(&mut self, mut secret: Secret) -> (StatusCode, Value) {
        let name = secret.metadata.name.clone().unwrap_or_default();
        let known = self.stored.get(&name);
        let version = known.and_then(|it| it.metadata.resource_version.clone());
        if secret.metadata.resource_version != version {
            return failure(StatusCode::CONFLICT, "the object has been modified");
        }
        self.version += 1;
        secret.metadata.resource_version = Some(self.version.to_string());
        let value = json!(secret);
        self.stored.insert(name, secret);
        (StatusCode::OK, value)
    }
}

fn missing() -> (StatusCode, Value) {
    let mut missing = failure(StatusCode::NOT_FOUND, "not found");
    missing.1["reason"] = json!("NotFound");
    missing.1["details"] = json!({"name": "it"});
    missing
}

fn lost(error: &MemberError) -> (StatusCode, Value) {
    failure(StatusCode::GATEWAY_TIMEOUT, &error.to_string())
}

fn failure(code: StatusCode, message: &str) -> (StatusCode, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message,
        "reason": "", "code": code.as_u16()});
    (code, status)
}
