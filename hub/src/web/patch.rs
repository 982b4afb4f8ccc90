//! The body of a PATCH: a JSON merge patch (RFC 7396) or a JSON patch (RFC 6902), and what it makes of an object.

use axum::http::header::{CONTENT_TYPE, HeaderMap};
use json_patch::{PatchErrorKind, PatchOperation};
use meridian_api::fault::Fault;
use meridian_api::validate::FieldError;
use serde_json::Value;

use super::sent::Sent;
use super::{BODY, answer};
use crate::app::AppError;

/// Content types of the two.
pub(super) const MERGE: &str = "application/merge-patch+json";
pub(super) const OPERATIONS: &str = "application/json-patch+json";
/// Operations in one patch.
pub(super) const MOST: usize = 256;

/// What is to be done to an object.
#[derive(Clone, Debug)]
pub(super) enum Patch {
    Merge(Value),
    Operations(Vec<PatchOperation>),
}

impl Patch {
    pub(super) fn read(headers: &HeaderMap, sent: &Sent) -> Result<Self, answer::Failure> {
        let given = headers
            .get(CONTENT_TYPE)
            .map(|value| value.to_str().unwrap_or_default());
        let kind = given
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default();
        match kind.trim().to_ascii_lowercase().as_str() {
            MERGE => Ok(Self::Merge(sent.read("JSON merge patch (RFC 7396)")?)),
            OPERATIONS => {
                let operations: Vec<_> = sent.read("JSON patch (RFC 6902)")?;
                if operations.len() <= MOST {
                    return Ok(Self::Operations(operations));
                }
                let found = format!("{} operations", operations.len());
                let wrong = error("body", found, &format!("at most {MOST} operations"));
                Err(Fault::invalid("the patch cannot be", vec![wrong]).into())
            }
            _ => Err(Fault::UnsupportedMediaType {
                detail: format!(
                    "Content-Type: found {:?}, expected {MERGE} or {OPERATIONS}",
                    given.unwrap_or_default()
                ),
            }
            .into()),
        }
    }

    /// What becomes of an object.
    pub(super) fn apply(&self, mut object: Value) -> Result<Value, AppError> {
        match self {
            Self::Merge(patch) => json_patch::merge(&mut object, patch),
            Self::Operations(operations) => {
                for (at, operation) in operations.iter().enumerate() {
                    let one = std::slice::from_ref(operation);
                    json_patch::patch(&mut object, one)
                        .map_err(|error| refused(at, &error.kind))?;
                    // Each may copy all that is there: what doubles often enough fills every memory.
                    if object.to_string().len() > BODY {
                        return Err(invalid(error(
                            &format!("body[{at}]"),
                            "a patch that makes the object larger than any may be".to_owned(),
                            &format!("at most {BODY} bytes"),
                        )));
                    }
                }
            }
        }
        Ok(object)
    }
}

fn refused(at: usize, kind: &PatchErrorKind) -> AppError {
    let place = format!("body[{at}]");
    if matches!(kind, PatchErrorKind::TestFailed) {
        return AppError::Conflict(format!(
            "{place}: the object is not as this operation expects it, and nothing was done; read it again and decide again"
        ));
    }
    invalid(error(
        &place,
        kind.to_string(),
        "an operation on what is there",
    ))
}

fn invalid(error: FieldError) -> AppError {
    AppError::Invalid {
        summary: "the patch cannot be applied".to_owned(),
        fields: vec![error],
    }
}

fn error(field: &str, found: String, expected: &str) -> FieldError {
    FieldError {
        field: field.to_owned(),
        found,
        expected: expected.to_owned(),
        remedy: "correct the patch; nothing was done".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn operations(body: &Value) -> Patch {
        Patch::Operations(serde_json::from_value(body.clone()).unwrap())
    }

    #[test]
    fn a_patch_that_doubles_what_is_there_is_ended_before_it_fills_the_memory() {
        let double = json!({ "op": "copy", "from": "/a", "path": "/a/-" });
        let patch = operations(&Value::Array(vec![double; MOST]));
        let refused = patch.apply(json!({ "a": ["x"] })).unwrap_err().explain();
        assert!(refused.contains("larger than any may be"), "{refused}");
        // The array has five bytes, and each operation makes twice as many and one; six stand around it.
        let first_too_large = (0..).find(|at| (6 << (at + 1)) - 1 + 6 > BODY).unwrap();
        let place = format!("body[{first_too_large}]");
        assert!(refused.contains(&place), "{place}: {refused}");
    }

    #[test]
    fn a_test_that_fails_is_a_conflict_and_a_place_that_is_not_there_an_invalid_field() {
        let object = json!({ "a": 1 });
        let test = json!({ "op": "test", "path": "/a", "value": 2 });
        let remove = json!({ "op": "remove", "path": "/b" });
        let conflict = operations(&json!([test]))
            .apply(object.clone())
            .unwrap_err();
        assert!(
            matches!(&conflict, AppError::Conflict(why) if why.contains("body[0]")),
            "{conflict:?}"
        );
        let good = json!({ "op": "add", "path": "/c", "value": 3 });
        let invalid = operations(&json!([good, remove]))
            .apply(object)
            .unwrap_err();
        assert!(
            invalid.explain().contains("body[1]"),
            "{}",
            invalid.explain()
        );
    }
}
