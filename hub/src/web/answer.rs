//! Answers: objects with their status code, and faults as problems that carry the number of their request.

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use meridian_api::fault::Fault;
use meridian_api::validate::FieldError;
use meridian_api::web::{List, ListMeta, PROBLEM_CONTENT_TYPE, Problem};
use serde::de::DeserializeOwned;

use super::WebState;
use crate::app::AppError;
use crate::store::{Read, StoreError};

/// A failed request.
#[derive(Clone, Debug)]
pub(super) struct Failure(Fault);

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        Self(error.into())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        AppError::from(error).into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        // The problem is written by `number_requests`, which knows the number.
        let mut response = StatusCode::from_u16(self.0.kind().status())
            .unwrap_or_default()
            .into_response();
        response.extensions_mut().insert(self.0);
        response
    }
}

/// Numbers every request, counts it, and turns faults into problems that carry the number.
pub(super) async fn number_requests(
    State(state): State<WebState>,
    request: Request,
    next: Next,
) -> Response {
    let number = number();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    state.metrics.request(response.status().as_u16());
    if let Some(fault) = response.extensions_mut().remove::<Fault>() {
        if let Fault::Internal { detail } = &fault {
            tracing::error!(request = number, %method, path, detail, "a request failed");
        } else {
            tracing::info!(request = number, %method, path, reason = %fault, "a request was refused");
        }
        response = problem(&fault, &number);
    }
    // An answer that came from the leader keeps the number by which it is found there.
    if let Ok(value) = HeaderValue::from_str(&number) {
        response
            .headers_mut()
            .entry("x-request-id")
            .or_insert(value);
    }
    response
}

/// A number for a request, by which its log line is found.
pub(super) fn number() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// A fault as a problem. One that may pass says when to try again.
pub(super) fn problem(fault: &Fault, number: &str) -> Response {
    let mut response = written(&Problem::new(
        fault,
        Some(format!("urn:meridian:request:{number}")),
    ));
    if let Fault::Unavailable { retry_after_ms, .. } = fault
        && *retry_after_ms > 0
    {
        let seconds = HeaderValue::from(retry_after_ms.div_ceil(1000));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

fn written(problem: &Problem) -> Response {
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(PROBLEM_CONTENT_TYPE),
    );
    if problem.status == 401 {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A path that exists, called with a method that it does not take.
pub(super) struct NotAllowed(pub(super) String);

impl IntoResponse for NotAllowed {
    fn into_response(self) -> Response {
        let problem = Problem {
            type_: "about:blank".to_owned(),
            title: "Method not allowed".to_owned(),
            status: StatusCode::METHOD_NOT_ALLOWED.as_u16(),
            detail: self.0,
            instance: None,
            kind: None,
            errors: Vec::new(),
        };
        written(&problem)
    }
}

/// Reads a body; what is wrong with it becomes an invalid field, not a bare text.
pub(super) fn body<T: DeserializeOwned>(bytes: &Bytes, expected: &str) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|e| {
        let error = FieldError {
            field: "body".to_owned(),
            found: e.to_string(),
            expected: format!("a {expected} as JSON"),
            remedy: "correct the field that is named".to_owned(),
        };
        Failure::from(Fault::invalid(
            &format!("the body is no {expected}"),
            vec![error],
        ))
    })
}

/// A list in the shape of Kubernetes.
pub(super) fn list<T>(api_version: &str, kind: &str, read: Read<Vec<T>>) -> List<T> {
    List {
        api_version: api_version.to_owned(),
        kind: format!("{kind}List"),
        metadata: ListMeta {
            resource_version: read.revision.to_string(),
        },
        items: read.value,
    }
}

/// The one with this name, or a fault.
pub(super) fn only<T>(kind: &str, name: &str, found: Option<T>) -> Result<T, Failure> {
    found.ok_or_else(|| {
        Fault::NotFound {
            kind: kind.to_owned(),
            name: name.to_owned(),
        }
        .into()
    })
}

pub(super) fn time(at: Timestamp) -> String {
    at.to_string()
}
