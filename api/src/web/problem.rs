//! Failures as problems of RFC 9457.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    fault::{Fault, FaultKind},
    validate::FieldError,
};

/// Content type of a problem.
pub const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";

/// A failure, as the hub answers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// URI that names the kind of problem; see [`FaultKind::type_uri`].
    #[serde(rename = "type", default = "blank")]
    pub type_: String,
    /// Short title of the kind.
    #[serde(default)]
    pub title: String,
    /// HTTP status code.
    pub status: u16,
    /// What happened this time.
    #[serde(default)]
    pub detail: String,
    /// Number of the request, to be found in the hub's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Trace of the request, to be found in the logs of the hub and of the members that it came to.
    #[serde(default, rename = "traceId", skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The kind as one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<FaultKind>,
    /// Broken rules, for an invalid request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

fn blank() -> String {
    "about:blank".to_owned()
}

impl Problem {
    /// The answer to a failed request. The detail of an internal fault stays in the log.
    pub fn new(fault: &Fault, instance: Option<String>) -> Self {
        let kind = fault.kind();
        let (detail, errors) = match fault {
            Fault::Invalid { detail, errors } => (detail.clone(), errors.clone()),
            Fault::Internal { .. } => {
                let known = instance.as_deref().unwrap_or("unknown");
                let detail = format!("the hub failed; look for request {known} in its log");
                (detail, Vec::new())
            }
            Fault::NotFound { .. }
            | Fault::Conflict { .. }
            | Fault::PreconditionFailed { .. }
            | Fault::PreconditionRequired { .. }
            | Fault::TooLarge { .. }
            | Fault::UnsupportedMediaType { .. }
            | Fault::Expired { .. }
            | Fault::Unavailable { .. }
            | Fault::TooManyRequests { .. }
            | Fault::Unauthorized { .. }
            | Fault::Forbidden { .. } => (fault.to_string(), Vec::new()),
        };
        Self {
            type_: kind.type_uri().to_owned(),
            title: kind.title().to_owned(),
            status: kind.status(),
            detail,
            instance,
            trace_id: None,
            kind: Some(kind),
            errors,
        }
    }
}
