//! `/healthz`, `/readyz`, `/metrics`: for machines, without a token.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::WebState;
use super::forward::FRESH;
use crate::metrics::Moment;
use crate::store::{keys, records};

/// The process answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The store answers, or the copy of it is fresh. A hub that observes is ready: it serves reads and sessions, and says so
/// here.
pub(super) async fn readyz(State(state): State<WebState>) -> Response {
    if let Some(follower) = &state.follower
        && follower.mirror.age().is_none_or(|age| age > FRESH)
    {
        let why = "this hub follows, and its copy of the state is old: etcd does not answer it\n";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    }
    match state.app.doubts().await {
        Ok(doubts) if doubts.is_empty() => "ok\n".into_response(),
        Ok(_) => "ok, but the hub only observes: see /api/v1/hub\n".into_response(),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "not ready");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "the store does not answer; the hub's log says why\n",
            )
                .into_response()
        }
    }
}

pub(super) async fn metrics(State(state): State<WebState>) -> Response {
    let observing = state
        .app
        .doubts()
        .await
        .is_ok_and(|doubts| !doubts.is_empty());
    let members = records::list(state.app.store().as_ref(), &keys::clusters()).await;
    let members = members.ok();
    let moment = Moment {
        leads: state.follower.is_none(),
        members: members.as_ref().map(|read| read.value.len()),
        store_bytes: state.app.store().file_bytes().unwrap_or_default(),
        store_revision: members.map(|read| read.revision.0),
        connected: (state.connected.0)(),
        observing,
        frozen: state.app.frozen_scopes().await.unwrap_or_default(),
        skewed: state.app.skewed_members(),
        unplanned: state.app.unplanned(),
        observations: state.app.observations(),
    };
    match state.metrics.print(moment) {
        Ok(printed) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], printed).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "the metrics could not be printed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
