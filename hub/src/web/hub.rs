//! `/api/v1/hub`: the hub itself, and the decision that lets it go on after it observed.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::WebState;
use super::answer::{self, Failure, time};
use super::auth::Caller;
use super::params::Params;
use crate::app::reign::Reign;

/// The hub as people see it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hub {
    store_id: String,
    term: u64,
    incarnation: String,
    /// `leads` or `follows`: the replica that answers.
    role: &'static str,
    /// `decides` or `observes`.
    mode: &'static str,
    doubts: Vec<HubDoubt>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct HubDoubt {
    raised_by: String,
    reason: String,
    since: String,
}

pub(super) async fn get(
    State(state): State<WebState>,
    params: Params,
) -> Result<Response, Failure> {
    shown(&params, &hub(&state).await?)
}

fn shown(params: &Params, hub: &Hub) -> Result<Response, Failure> {
    answer::tagged(StatusCode::OK, params, &hub.term.to_string(), hub)
}

/// Lets the hub go on: every position that raised a doubt is accepted, and a new term begins.
pub(super) async fn adopt(
    State(state): State<WebState>,
    Extension(Caller(caller)): Extension<Caller>,
    params: Params,
) -> Result<Response, Failure> {
    let manner = params.manner();
    if manner.dry_run {
        state.app.must_observe().await?;
        let settled = Hub {
            mode: "decides",
            doubts: Vec::new(),
            ..hub(&state).await?
        };
        return shown(&params, &settled);
    }
    state.app.adopt(&caller.holder, &manner.by.trail).await?;
    shown(&params, &hub(&state).await?)
}

async fn hub(state: &WebState) -> Result<Hub, Failure> {
    let Reign {
        store_id,
        term,
        incarnation,
    } = state.app.reign();
    let doubts = state.app.doubts().await?;
    Ok(Hub {
        store_id: store_id.to_string(),
        term: term.0,
        incarnation: incarnation.to_string(),
        role: if state.follower.is_none() {
            "leads"
        } else {
            "follows"
        },
        mode: if doubts.is_empty() {
            "decides"
        } else {
            "observes"
        },
        doubts: doubts
            .into_iter()
            .map(|(raised_by, doubt)| HubDoubt {
                raised_by,
                reason: doubt.reason,
                since: time(doubt.since),
            })
            .collect(),
    })
}
