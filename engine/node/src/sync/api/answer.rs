//! The form of answers and refusals: JSON with `error_code` and `description`, as clients of this API know them.

use axum::extract::Request;
use axum::http::header::{ACCEPT, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// The only type that the API speaks.
const JSON: &str = "application/json";

/// Why a request was not answered as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) text: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, text: impl Into<String>) -> Self {
        Self {
            status,
            code,
            text: text.into(),
        }
    }

    /// Nobody, or somebody else than the administrator.
    pub(super) fn stranger() -> Self {
        let text = "user name or password are missing or wrong: log in with those of the cluster's credentials Secret";
        Self::new(StatusCode::UNAUTHORIZED, "invalid_credentials", text)
    }

    /// The node has not learned enough yet.
    pub(super) fn early() -> Self {
        let text = "this node has not heard from the Kubernetes API since its start; ask again, or ask another node";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", text)
    }

    pub(super) fn missing(code: &'static str, what: &str, which: &str) -> Self {
        let text = format!("there is no {what} {which:?} in this cluster");
        Self::new(StatusCode::NOT_FOUND, code, text)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "error_code": self.code, "description": self.text });
        let mut response = with(self.status, &body);
        if self.status == StatusCode::UNAUTHORIZED {
            let ask = HeaderValue::from_static("Basic realm=\"cluster\", charset=\"UTF-8\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, ask);
        }
        response
    }
}

pub(super) fn ok(body: &Value) -> Response {
    with(StatusCode::OK, body)
}

fn with(status: StatusCode, body: &Value) -> Response {
    (status, [(CONTENT_TYPE, JSON)], body.to_string()).into_response()
}

pub(super) async fn no_path() -> Refusal {
    let text = "there is no such path; /v1/cluster, /v1/nodes, /v1/bdbs and /v1/crdbs are served, to be read only";
    Refusal::new(StatusCode::NOT_FOUND, "path_not_found", text)
}

pub(super) async fn no_method() -> Refusal {
    let text = "only GET is answered: databases are changed through their Kubernetes resources";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text)
}

/// Refuses clients that take no JSON.
pub(super) async fn json_only(request: Request, next: Next) -> Response {
    if takes_json(request.headers()) {
        return next.run(request).await;
    }
    let text = "only application/json is spoken here: send Accept: application/json";
    Refusal::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", text).into_response()
}

fn takes_json(headers: &HeaderMap) -> bool {
    let mut accepts = headers.get_all(ACCEPT).iter().peekable();
    if accepts.peek().is_none() {
        return true;
    }
    let takes = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let of_json = matches!(parts.next(), Some(JSON | "application/*" | "*/*"));
        // A weight of zero says "not this".
        of_json && !parts.any(|part| part.strip_prefix("q=").is_some_and(is_zero))
    };
    accepts
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .any(takes)
}

fn is_zero(weight: &str) -> bool {
    weight.parse::<f32>().is_ok_and(|weight| weight == 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_takes_no_json_is_refused() {
        let cases = [
            (None, true),
            (Some("*/*"), true),
            (Some("text/html, application/json;q=0.5"), true),
            (Some("application/*"), true),
            (Some("text/html"), false),
            (Some("application/json;q=0"), false),
            (Some("application/xml, text/*"), false),
        ];
        for (accept, expected) in cases {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(takes_json(&headers), expected, "{accept:?}");
        }
    }
}
