//! `/api/v1/audit`: the audit log, the newest first; `/api/v1/audit/export`: all of it as lines of JSON, to be verified and
//! kept elsewhere.

use axum::Json;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use meridian_api::audit;
use meridian_api::fault::Fault;
use meridian_api::validate::FieldError;
use meridian_api::web::{API_VERSION, AuditList, ListMeta};

use super::WebState;
use super::answer::Failure;
use super::operations::Parameter;
use super::params::Params;

/// Records of one answer if nothing else is asked for, and at most.
const LIMIT: usize = 100;
const MOST: usize = 1000;

pub(super) async fn list(
    State(state): State<WebState>,
    params: Params,
) -> Result<Response, Failure> {
    let limit = params.get(Parameter::Limit).map(str::parse);
    let limit = limit.and_then(Result::ok).unwrap_or(LIMIT).min(MOST);
    let before = match params.get(Parameter::Continue) {
        None => u64::MAX,
        Some(found) => found.parse().map_err(|_| no_place(found))?,
    };
    let (ends, items) = state.app.audit_records(before, limit).await?;
    let left = items
        .last()
        .map_or(0, |last| last.number - ends.after.number - 1);
    let next = items.last().filter(|_| left > 0);
    let list = AuditList {
        api_version: API_VERSION.to_owned(),
        kind: "AuditRecordList".to_owned(),
        metadata: ListMeta {
            resource_version: ends.head.number.to_string(),
            continue_: next.map(|last| last.number.to_string()),
            remaining_item_count: next.map(|_| left),
        },
        after: ends.after,
        head: ends.head,
        items,
    };
    Ok(Json(list).into_response())
}

fn no_place(found: &str) -> Fault {
    let error = FieldError {
        field: "continue".to_owned(),
        found: format!("{found:?}"),
        expected: "metadata.continue of a list of the same kind, unchanged".to_owned(),
        remedy: "correct the request; nothing was done".to_owned(),
    };
    Fault::invalid("the request's parameters cannot be", vec![error])
}

pub(super) async fn export(State(state): State<WebState>) -> Result<Response, Failure> {
    let lines = state.app.audit_export().await?;
    let headers = [
        (CONTENT_TYPE, audit::CONTENT_TYPE),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, lines).into_response())
}
