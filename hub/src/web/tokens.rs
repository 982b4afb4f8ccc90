//! `/api/v1/tokens`: join tokens. The token itself is in the answer to its creation and in no other.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use jiff::SignedDuration;
use meridian_api::web::{
    API_VERSION, JoinMaterial, Metadata, Token, TokenApproval, TokenSpec, TokenStatus,
};

use super::answer::{self, Failure, time};
use super::auth::Caller;
use super::kinds::{Kind, Listed};
use super::params::Params;
use super::sent::{Name, Sent};
use super::watch::Reading;
use super::{WebState, kinds, watch};
use crate::app::tokens::JOIN_TOKEN_LIFE;
use crate::app::{App, AppError};
use crate::domain::access::JoinToken;
use crate::domain::approval::{Approval, Asked};
use crate::store::records::Held;
use crate::store::{Read, keys};

pub(super) const KIND: &str = "Token";

/// All join tokens, as they are shown.
pub(super) async fn listed(app: &App) -> Result<Read<Vec<Listed>>, Failure> {
    let Read { value, revision } = app.join_tokens().await?;
    let approvals = app.approvals().await?;
    let listed = |kept: &Held<JoinToken>| {
        let held = demanded(&approvals, kept);
        let asked = held.map(|held| held.modified).unwrap_or_default();
        Ok::<_, Failure>(Listed {
            name: kept.record.id.clone(),
            created: kept.created,
            newest: kept.modified.max(asked),
            project: None,
            parts: Vec::new(),
            body: kinds::shown(&body(kept, approval(&approvals, kept), None))?,
        })
    };
    let value = value.iter().map(listed).collect::<Result<_, _>>()?;
    Ok(Read { value, revision })
}

pub(super) async fn list(
    State(state): State<WebState>,
    reading: Reading,
) -> Result<Response, Failure> {
    Kind::Token.list(&state, reading).await
}

pub(super) async fn get(
    State(state): State<WebState>,
    Name(name): Name,
    reading: Reading,
) -> Result<Response, Failure> {
    if let Some(wish) = reading.watch {
        return watch::serve(&state, Kind::Token, Some(name), wish).await;
    }
    answer::object(StatusCode::OK, &reading.params, &one(&state, &name).await?)
}

async fn one(state: &WebState, name: &str) -> Result<Token, Failure> {
    let all = state.app.join_tokens().await?.value;
    let kept = all.iter().find(|kept| kept.record.id == name);
    let kept = answer::only("token", name, kept)?;
    let approvals = state.app.approvals().await?;
    Ok(body(kept, approval(&approvals, kept), None))
}

/// The approval that a token demands.
fn demanded<'a>(all: &'a [Held<Approval>], kept: &Held<JoinToken>) -> Option<&'a Held<Approval>> {
    all.iter()
        .find(|held| keys::last_part(&held.key) == kept.record.id)
}

fn approval(all: &[Held<Approval>], kept: &Held<JoinToken>) -> Option<TokenApproval> {
    let Approval { asked, granted, .. } = &demanded(all, kept)?.record;
    Some(TokenApproval {
        words: asked.as_ref().map(Asked::words),
        approved_by: granted.as_ref().map(|granted| granted.by.clone()),
    })
}

pub(super) async fn create(
    State(state): State<WebState>,
    Extension(caller): Extension<Caller>,
    params: Params,
    sent: Sent,
) -> Result<Response, Failure> {
    let wanted: Token = sent.read(KIND)?;
    answer::must_be_new(&wanted.metadata)?;
    let manner = params.creation(&caller, KIND, &sent.0);
    let life = wanted.spec.ttl_seconds.map_or(JOIN_TOKEN_LIFE, |seconds| {
        SignedDuration::from_secs(seconds.into())
    });
    let name = &wanted.spec.cluster_name;
    let material = match state
        .app
        .create_join_token(name, life, wanted.spec.require_approval, &manner)
        .await
    {
        // The token itself was shown once, and only its hash is kept.
        Err(AppError::Repeated(before)) => {
            let made = one(&state, &before.made).await.ok();
            return answer::repeated(StatusCode::CREATED, &params, &before, made);
        }
        made => made?,
    };
    if manner.dry_run {
        return answer::object(StatusCode::OK, &params, &body(&material.kept, None, None));
    }
    let join = JoinMaterial {
        hub: material.hub_addresses,
        ca_pem: material.ca_pem,
        token: material.token.as_str().to_owned(),
        name: material.kept.record.cluster_name.clone(),
    };
    let approvals = state.app.approvals().await?;
    let shown = approval(&approvals, &material.kept);
    answer::object(
        StatusCode::CREATED,
        &params,
        &body(&material.kept, shown, Some(join)),
    )
}

pub(super) async fn delete(
    State(state): State<WebState>,
    Name(name): Name,
    params: Params,
) -> Result<Response, Failure> {
    params.agrees(&name)?;
    let manner = params.manner();
    state.app.delete_join_token(&name, &manner).await?;
    if manner.dry_run {
        return answer::object(StatusCode::OK, &params, &one(&state, &name).await?);
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn body(
    held: &Held<JoinToken>,
    approval: Option<TokenApproval>,
    join: Option<JoinMaterial>,
) -> Token {
    let kept = &held.record;
    let life = kept.created_at.duration_until(kept.expires_at).as_secs();
    Token {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        metadata: Metadata {
            name: kept.id.clone(),
            resource_version: answer::revision(held.modified),
            creation_timestamp: Some(time(kept.created_at)),
            ..Metadata::default()
        },
        spec: TokenSpec {
            cluster_name: kept.cluster_name.clone(),
            ttl_seconds: u32::try_from(life).ok(),
            require_approval: approval.is_some(),
        },
        status: Some(TokenStatus {
            expires_at: time(kept.expires_at),
            used_by: kept.used_by.as_ref().map(|used| used.cluster.to_string()),
            approval,
            join,
        }),
    }
}
