//! `/api/v1/tokens`: join tokens. The token itself is in the answer to its creation and in no other.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use jiff::SignedDuration;
use meridian_api::web::{API_VERSION, JoinMaterial, List, Metadata, Token, TokenSpec, TokenStatus};

use super::WebState;
use super::answer::{self, Failure, time};
use crate::app::tokens::JOIN_TOKEN_LIFE;
use crate::domain::access::JoinToken;
use crate::store::Read;

const KIND: &str = "Token";

pub(super) async fn list(State(state): State<WebState>) -> Result<Json<List<Token>>, Failure> {
    let Read { value, revision } = state.app.join_tokens().await?;
    let value = value.iter().map(|kept| body(kept, None)).collect();
    Ok(Json(answer::list(
        API_VERSION,
        KIND,
        Read { value, revision },
    )))
}

pub(super) async fn get(
    State(state): State<WebState>,
    Path(name): Path<String>,
) -> Result<Json<Token>, Failure> {
    let all = state.app.join_tokens().await?.value;
    let kept = all.iter().find(|kept| kept.id == name);
    Ok(Json(body(answer::only("token", &name, kept)?, None)))
}

pub(super) async fn create(
    State(state): State<WebState>,
    bytes: Bytes,
) -> Result<(StatusCode, Json<Token>), Failure> {
    let wanted: Token = answer::body(&bytes, KIND)?;
    let life = wanted.spec.ttl_seconds.map_or(JOIN_TOKEN_LIFE, |seconds| {
        SignedDuration::from_secs(seconds.into())
    });
    let material = state
        .app
        .create_join_token(&wanted.spec.cluster_name, life)
        .await?;
    let join = JoinMaterial {
        hub: material.hub_addresses,
        ca_pem: material.ca_pem,
        token: material.token.as_str().to_owned(),
        name: material.kept.cluster_name.clone(),
    };
    Ok((StatusCode::CREATED, Json(body(&material.kept, Some(join)))))
}

pub(super) async fn delete(
    State(state): State<WebState>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    state.app.delete_join_token(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn body(kept: &JoinToken, join: Option<JoinMaterial>) -> Token {
    let life = kept.created_at.duration_until(kept.expires_at).as_secs();
    Token {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        metadata: Metadata {
            name: kept.id.clone(),
            creation_timestamp: Some(time(kept.created_at)),
            ..Metadata::default()
        },
        spec: TokenSpec {
            cluster_name: kept.cluster_name.clone(),
            ttl_seconds: u32::try_from(life).ok(),
        },
        status: Some(TokenStatus {
            expires_at: time(kept.expires_at),
            used_by: kept.used_by.as_ref().map(|used| used.cluster.to_string()),
            join,
        }),
    }
}
