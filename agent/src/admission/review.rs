//! `AdmissionReview` of `admission.k8s.io`, versions v1 and v1beta1: they differ in nothing that is used here. Pure.

use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use super::judge::Verdict;

/// The versions that are answered, each in its own.
pub(super) const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const GROUP: &str = "admission.k8s.io";

/// Why a review cannot be answered.
#[derive(Debug, Error)]
pub(super) enum ReviewError {
    /// It is no review at all.
    #[error("expected an AdmissionReview as JSON: {0}")]
    Form(#[from] serde_json::Error),
    /// Its version is not known.
    #[error("found apiVersion {0:?}, expected admission.k8s.io/v1 or admission.k8s.io/v1beta1")]
    Version(String),
}

/// A question of the API server.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Review {
    api_version: String,
    pub(super) request: Request,
}

/// What is asked about.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    /// Identity of the question.
    pub(super) uid: String,
    /// Kind of the object.
    pub(super) kind: Kind,
    /// Name of the object; empty where the API server is still to make one.
    #[serde(default)]
    pub(super) name: String,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub(super) operation: String,
    /// The object as it would be stored; null for a deletion.
    #[serde(default)]
    pub(super) object: Value,
    /// The object as it is; null for a creation.
    #[serde(default)]
    pub(super) old_object: Value,
}

/// Kind of an object.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Kind {
    /// Its name.
    pub(super) kind: String,
}

impl Review {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// [`ReviewError`].
    pub(super) fn read(body: &[u8]) -> Result<Self, ReviewError> {
        let review: Self = serde_json::from_slice(body)?;
        let known = VERSIONS
            .iter()
            .any(|version| review.api_version == format!("{GROUP}/{version}"));
        if known {
            Ok(review)
        } else {
            Err(ReviewError::Version(review.api_version))
        }
    }

    /// The answer, in the version of the question.
    pub(super) fn answer(&self, verdict: Verdict) -> Value {
        let mut response = json!({ "uid": self.request.uid, "allowed": verdict.refusal.is_none() });
        if let Some(refusal) = verdict.refusal {
            response["status"] = json!({
                "status": "Failure", "code": refusal.code, "reason": refusal.reason, "message": refusal.message,
            });
        }
        if !verdict.warnings.is_empty() {
            response["warnings"] = json!(verdict.warnings);
        }
        json!({ "apiVersion": self.api_version, "kind": "AdmissionReview", "response": response })
    }
}
