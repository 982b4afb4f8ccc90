//! `/api/v1/apitokens`: tokens of the web API. The token itself is in the answer to its creation and in no other.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use jiff::{SignedDuration, Timestamp};
use meridian_api::fault::Fault;
use meridian_api::validate::FieldError;
use meridian_api::web::{API_VERSION, ApiRole, ApiToken, ApiTokenSpec, ApiTokenStatus, Metadata};

use super::answer::{self, Failure, time};
use super::auth::Caller;
use super::kinds::{Kind, Listed};
use super::params::Params;
use super::sent::{Name, Sent};
use super::watch::Reading;
use super::{WebState, kinds, watch};
use crate::app::api_tokens::{ApiTokenView, LIFE, NewApiToken};
use crate::app::{App, AppError};
use crate::domain::access::grant::Role;
use crate::store::Read;

pub(super) const KIND: &str = "ApiToken";

/// All tokens of the web API, as they are shown.
pub(super) async fn listed(app: &App) -> Result<Read<Vec<Listed>>, Failure> {
    let Read { value, revision } = app.api_tokens().await?;
    let now = app.now();
    let listed = |view: &ApiTokenView| {
        Ok::<_, Failure>(Listed {
            name: view.token.record.id.clone(),
            created: view.token.created,
            newest: view.newest,
            project: None,
            parts: Vec::new(),
            body: kinds::shown(&body(view, now))?,
        })
    };
    let value = value.iter().map(listed).collect::<Result<_, _>>()?;
    Ok(Read { value, revision })
}

pub(super) async fn list(
    State(state): State<WebState>,
    reading: Reading,
) -> Result<Response, Failure> {
    Kind::ApiToken.list(&state, reading).await
}

pub(super) async fn get(
    State(state): State<WebState>,
    Name(name): Name,
    reading: Reading,
) -> Result<Response, Failure> {
    if let Some(wish) = reading.watch {
        return watch::serve(&state, Kind::ApiToken, Some(name), wish).await;
    }
    answer::object(StatusCode::OK, &reading.params, &one(&state, &name).await?)
}

async fn one(state: &WebState, name: &str) -> Result<ApiToken, Failure> {
    let all = state.app.api_tokens().await?.value;
    let view = all.iter().find(|view| view.token.record.id == name);
    Ok(body(
        answer::only("API token", name, view)?,
        state.app.now(),
    ))
}

pub(super) async fn create(
    State(state): State<WebState>,
    Extension(caller): Extension<Caller>,
    params: Params,
    sent: Sent,
) -> Result<Response, Failure> {
    let wanted: ApiToken = sent.read(KIND)?;
    answer::must_be_new(&wanted.metadata)?;
    let new = new(wanted.spec)?;
    let manner = params.creation(&caller, KIND, &sent.0);
    let minted = match state.app.create_api_token(&new, &manner).await {
        // The token itself was shown once, and only its hash is kept.
        Err(AppError::Repeated(before)) => {
            let made = one(&state, &before.made).await.ok();
            return answer::repeated(StatusCode::CREATED, &params, &before, made);
        }
        made => made?,
    };
    let view = ApiTokenView {
        newest: minted.kept.modified,
        token: minted.kept,
        last_use: None,
    };
    let mut made = body(&view, state.app.now());
    if manner.dry_run {
        return answer::object(StatusCode::OK, &params, &made);
    }
    if let Some(status) = &mut made.status {
        status.token = Some(minted.token.as_str().to_owned());
    }
    answer::object(StatusCode::CREATED, &params, &made)
}

/// What is wanted, with the life that is meant.
fn new(spec: ApiTokenSpec) -> Result<NewApiToken, Fault> {
    let ApiTokenSpec {
        holder,
        role,
        projects,
        expires_in_seconds,
        never_expires,
    } = spec;
    let seconds = |seconds: u64| SignedDuration::from_secs(seconds.try_into().unwrap_or(i64::MAX));
    let life = match (expires_in_seconds, never_expires) {
        (Some(found), true) => {
            let error = FieldError {
                field: "spec.neverExpires".to_owned(),
                found: format!("true beside spec.expiresInSeconds {found}"),
                expected: "one of both".to_owned(),
                remedy: "leave one of them out".to_owned(),
            };
            return Err(Fault::invalid("the token cannot be made", vec![error]));
        }
        (Some(life), false) => Some(seconds(life)),
        (None, false) => Some(LIFE),
        (None, true) => None,
    };
    let role = match role {
        ApiRole::Viewer => Role::Viewer,
        ApiRole::Operator => Role::Operator,
        ApiRole::Admin => Role::Admin,
    };
    Ok(NewApiToken {
        holder,
        role,
        projects,
        life,
    })
}

pub(super) async fn delete(
    State(state): State<WebState>,
    Name(name): Name,
    params: Params,
) -> Result<Response, Failure> {
    params.agrees(&name)?;
    let manner = params.manner();
    state.app.delete_api_token(&name, &manner).await?;
    if manner.dry_run {
        return answer::object(StatusCode::OK, &params, &one(&state, &name).await?);
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn body(view: &ApiTokenView, now: Timestamp) -> ApiToken {
    // What an administrator reads is the most that a person may do anywhere.
    let kept = &view.token.record.at_most();
    let life = kept
        .expires_at
        .map(|end| kept.created_at.duration_until(end).as_secs());
    ApiToken {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        metadata: Metadata {
            name: kept.id.clone(),
            resource_version: answer::revision(view.token.modified),
            creation_timestamp: Some(time(kept.created_at)),
            ..Metadata::default()
        },
        spec: ApiTokenSpec {
            holder: kept.holder.clone(),
            role: match kept.role {
                Role::Viewer => ApiRole::Viewer,
                Role::Operator => ApiRole::Operator,
                Role::Admin => ApiRole::Admin,
            },
            projects: kept.projects.projects().cloned(),
            expires_in_seconds: life.and_then(|life| life.try_into().ok()),
            never_expires: life.is_none(),
        },
        status: Some(ApiTokenStatus {
            expires_at: kept.expires_at.map(time),
            expired: kept.is_over(now),
            last_used_at: view.last_use.map(time),
            session: kept.person.as_ref().map(super::sign_in::shown),
            token: None,
        }),
    }
}
