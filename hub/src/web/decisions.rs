//! What a person decides about a cluster: `/api/v1/clusters/{name}/approve`, `/deny` and `/release`.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use meridian_api::fault::Fault;
use meridian_api::validate::FieldError;
use meridian_api::web::{Approval, Denial};

use super::WebState;
use super::answer::Failure;
use super::auth::Caller;
use super::params::Params;
use super::sent::{Name, Sent};
use crate::app::denials::Deny;
use crate::domain::denial::Serial;

/// Longest reason of a denial, bytes: the member is told it, and every list of clusters shows it.
const REASON: usize = 500;

/// Approves the join of the device whose words the caller compared.
pub(super) async fn approve(
    State(state): State<WebState>,
    Extension(Caller(caller)): Extension<Caller>,
    Name(name): Name,
    params: Params,
    sent: Sent,
) -> Result<Response, Failure> {
    let Approval { words } = sent.read("Approval")?;
    let by = (caller.holder.as_str(), &params.manner());
    state.app.approve(&name, &words, by).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Lets a cluster, or one certificate of it, in no more.
pub(super) async fn deny(
    State(state): State<WebState>,
    Extension(Caller(caller)): Extension<Caller>,
    Name(name): Name,
    params: Params,
    sent: Sent,
) -> Result<Response, Failure> {
    let denial: Denial = sent.read("Denial")?;
    let what = meant(&denial)?;
    let by = (caller.holder.as_str(), denial.reason.as_str());
    state.app.deny(&name, &what, by, &params.manner()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What a denial is about, if it can be made.
fn meant(denial: &Denial) -> Result<Deny, Failure> {
    let error = |field: &str, found: String, expected: String, remedy: &str| FieldError {
        field: field.to_owned(),
        found,
        expected,
        remedy: remedy.to_owned(),
    };
    let mut errors = Vec::new();
    let length = denial.reason.len();
    if denial.reason.trim().is_empty() || length > REASON {
        errors.push(error(
            "reason",
            format!("{length} bytes"),
            format!("a text of 1 to {REASON} bytes"),
            "say in a sentence why, for whoever meets it later",
        ));
    }
    let mut what = Deny::Cluster;
    if let Some(text) = &denial.serial {
        match Serial::parse(text) {
            Ok(serial) if denial.even_if_unknown => what = Deny::Unknown(serial),
            Ok(serial) => what = Deny::Certificate(serial),
            Err(wrong) => errors.push(error(
                "serial",
                format!("{text:?}"),
                wrong.to_string(),
                "take it from status.certificates of the cluster or from `openssl x509 -serial`",
            )),
        }
    }
    if errors.is_empty() {
        Ok(what)
    } else {
        Err(Fault::invalid("the denial cannot be made", errors).into())
    }
}

/// Lets a cluster that was denied or put in quarantine in again.
pub(super) async fn release(
    State(state): State<WebState>,
    Extension(Caller(caller)): Extension<Caller>,
    Name(name): Name,
    params: Params,
) -> Result<Response, Failure> {
    let manner = params.manner();
    state.app.release(&name, &caller.holder, &manner).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
