//! Answers: objects with their status code, and faults as problems that carry the number of their request.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use meridian_api::fault::Fault;
use meridian_api::trace::{SpanId, TRACEPARENT, TRACERESPONSE, TraceContext, TraceId};
use meridian_api::validate::FieldError;
use meridian_api::web::{List, Metadata, Object, PROBLEM_CONTENT_TYPE, Problem};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::WebState;
use super::kinds::Kind;
use super::pages::{Part, Slice};
use super::params::Params;
use crate::app::AppError;
use crate::domain::access::Repeat;
use crate::store::{Revision, StoreError};

/// A failed request.
#[derive(Clone, Debug)]
pub(super) struct Failure(Fault);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

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

/// By what a request is found: its number, and where it stands in its trace.
#[derive(Clone, Debug)]
pub(super) struct Marks {
    pub(super) number: String,
    pub(super) context: TraceContext,
}

impl Marks {
    /// Of a request that may say to which trace it belongs. A value that is none counts as none, as the recommendation demands.
    fn of(headers: &HeaderMap) -> Self {
        let mut said = headers.get_all(TRACEPARENT).iter();
        let (first, more) = (said.next(), said.next());
        let said = first.filter(|_| more.is_none());
        let said = said.and_then(|value| value.to_str().ok()?.parse::<TraceContext>().ok());
        let made = || TraceId::of_bits(rand::random());
        let context = TraceContext {
            trace: said.map_or_else(made, |said| said.trace),
            span: SpanId::of_bits(rand::random()),
            sampled: said.is_some_and(|said| said.sampled),
        };
        let number = number();
        Self { number, context }
    }
}

/// Numbers every request, counts it, and turns faults into problems that carry the number and the trace.
pub(super) async fn number_requests(
    State(state): State<WebState>,
    mut request: Request,
    next: Next,
) -> Response {
    let marks = Marks::of(request.headers());
    let Marks { number, context } = marks.clone();
    let trace = context.trace;
    let stands = HeaderValue::from_str(&context.to_string()).ok();
    if let Some(stands) = stands.clone() {
        // The replica to which it may be handed on goes on with the same trace.
        request.headers_mut().insert(TRACEPARENT, stands);
    }
    request.extensions_mut().insert(marks);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    let status = response.status().as_u16();
    state.metrics.request(status);
    if let Some(fault) = response.extensions_mut().remove::<Fault>() {
        if let Fault::Internal { detail } = &fault {
            tracing::error!(request = number, %trace, %method, path, detail, "a request failed");
        } else {
            tracing::info!(request = number, %trace, %method, path, reason = %fault, "a request was refused");
        }
        let cookies = std::mem::take(response.headers_mut());
        response = problem(&fault, &number, Some(trace));
        for cookie in cookies.get_all(header::SET_COOKIE) {
            response
                .headers_mut()
                .append(header::SET_COOKIE, cookie.clone());
        }
    } else if !method.is_safe() {
        tracing::info!(request = number, %trace, %method, path, status, "a request was answered");
    }
    // An answer that came from the leader keeps the number by which it is found there.
    let number = HeaderValue::from_str(&number).ok();
    for (name, value) in [("x-request-id", number), (TRACERESPONSE, stands)] {
        if let Some(value) = value {
            response.headers_mut().entry(name).or_insert(value);
        }
    }
    response
}

/// A number for a request, by which its log line is found.
pub(super) fn number() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// A fault as a problem. One that may pass says when to try again.
pub(super) fn problem(fault: &Fault, number: &str, trace: Option<TraceId>) -> Response {
    let number = format!("urn:meridian:request:{number}");
    let mut response = written(&Problem {
        trace_id: trace.map(|trace| trace.to_string()),
        ..Problem::new(fault, Some(number))
    });
    if let Fault::Unavailable { retry_after_ms, .. } | Fault::TooManyRequests { retry_after_ms, .. } =
        fault
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
            trace_id: None,
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

/// A list in the shape of Kubernetes, or the part of it that was asked for.
pub(super) fn list(
    params: &Params,
    kind: Kind,
    part: &Part,
    slice: Slice,
) -> Result<Response, Failure> {
    let metadata = slice.meta(kind.name(), part);
    let revision = metadata.resource_version.clone();
    let list = List {
        api_version: kind.api_version().to_owned(),
        kind: format!("{}List", kind.name()),
        metadata,
        items: slice.items,
    };
    tagged(StatusCode::OK, params, &revision, &list)
}

pub(super) fn without_form(e: serde_json::Error) -> Fault {
    Fault::Internal {
        detail: format!("an answer has no JSON form: {e}"),
    }
}

/// The answer to a creation that was carried out before: what it made, as it is now.
pub(super) fn repeated<A: Serialize, B: Serialize>(
    status: StatusCode,
    params: &Params,
    before: &Repeat,
    found: Option<Object<A, B>>,
) -> Result<Response, Failure> {
    let found = found.filter(|found| {
        found.metadata.uid.as_ref().unwrap_or(&found.metadata.name) == &before.identity
    });
    let found = found.ok_or_else(|| Fault::Conflict {
        detail: format!(
            "a request with this idempotency key made {:?}, which has been deleted since; send the request with another key \
             to make it anew",
            before.made
        ),
    })?;
    let mut response = object(status, params, &found)?;
    let headers = response.headers_mut();
    headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
    Ok(response)
}

/// An object. One that was only tried has no revision, and no tag either.
pub(super) fn object<A: Serialize, B: Serialize>(
    status: StatusCode,
    params: &Params,
    object: &Object<A, B>,
) -> Result<Response, Failure> {
    match &object.metadata.resource_version {
        Some(revision) => tagged(status, params, revision, object),
        None => Ok((status, Json(object)).into_response()),
    }
}

/// An answer with its entity tag, or word that the caller has it already. The tag begins with the revision of what is
/// wanted, by which writes are bound, and goes on with a digest of the whole answer: what is observed changes more often.
pub(super) fn tagged<T: Serialize>(
    status: StatusCode,
    params: &Params,
    revision: &str,
    body: &T,
) -> Result<Response, Failure> {
    let bytes = serde_json::to_vec(body).map_err(without_form)?;
    let hash = digest(&SHA256, &bytes);
    let hash = hash.as_ref().iter().take(8);
    let hash: String = hash.map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{revision}.{hash}\"");
    let mut response = if params.has_already(&tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let kind = [(header::CONTENT_TYPE, "application/json")];
        (status, kind, bytes).into_response()
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

/// A revision as objects show it; what was only tried has none.
pub(super) fn revision(at: Revision) -> Option<String> {
    (at > Revision::default()).then(|| at.to_string())
}

/// An object that is to be created has no revision yet.
pub(super) fn must_be_new(metadata: &Metadata) -> Result<(), Failure> {
    let Some(found) = &metadata.resource_version else {
        return Ok(());
    };
    let error = FieldError {
        field: "metadata.resourceVersion".to_owned(),
        found: format!("{found:?}"),
        expected: "nothing in an object that is to be created".to_owned(),
        remedy: "leave it out".to_owned(),
    };
    Err(Fault::invalid("the object cannot be created", vec![error]).into())
}

/// The one with this name, or a fault.
pub(super) fn only<T>(kind: &str, name: &str, found: Option<T>) -> Result<T, Failure> {
    found.ok_or_else(|| {
        Fault::NotFound {
            kind: kind.to_owned(),
            name: name.to_owned(),
            hint: String::new(),
        }
        .into()
    })
}

pub(super) fn time(at: Timestamp) -> String {
    at.to_string()
}
