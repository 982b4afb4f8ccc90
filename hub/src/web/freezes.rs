//! `/api/v1/freezes`: deletions that wait for a person, and the decision that lets them go on.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use meridian_api::web::{API_VERSION, Freeze, FrozenDeletion, List, ListMeta};

use super::WebState;
use super::answer::{self, Failure, time};
use super::auth::Caller;
use super::params::Params;
use super::sent::Name;
use crate::app::breaker;

pub(super) async fn list(
    State(state): State<WebState>,
    params: Params,
) -> Result<Response, Failure> {
    let freezes = state.app.freezes().await?;
    let items: Vec<_> = freezes.iter().map(body).collect();
    let frozen = items.len().to_string();
    let list = List {
        api_version: API_VERSION.to_owned(),
        kind: "FreezeList".to_owned(),
        metadata: ListMeta::default(),
        items,
    };
    answer::tagged(StatusCode::OK, &params, &frozen, &list)
}

/// Lets exactly the deletions of this list go on.
pub(super) async fn release(
    State(state): State<WebState>,
    Extension(Caller(caller)): Extension<Caller>,
    Name(name): Name,
    params: Params,
) -> Result<Response, Failure> {
    let manner = params.manner();
    let freeze = state.app.release_freeze(&name, &caller.holder, &manner);
    let freeze = body(&freeze.await?);
    answer::tagged(StatusCode::OK, &params, &freeze.list, &freeze)
}

fn body(freeze: &breaker::Freeze) -> Freeze {
    let breaker::Freeze {
        scope,
        cluster_name,
        frozen,
        list,
        deletions,
    } = freeze;
    let deletion = |one: &breaker::FrozenDeletion| FrozenDeletion {
        cluster: one.cluster_name.clone(),
        kind: one.desired.kind.clone(),
        namespace: one.desired.namespace.clone(),
        name: one.desired.name.clone(),
        object_id: one.desired.object_id,
        revision: one.revision,
        approved_by: one.desired.approval().unwrap_or_default().to_owned(),
        told: one.told,
    };
    Freeze {
        list: list.clone(),
        cluster: cluster_name.clone(),
        since: time(frozen.since),
        reason: breaker::reason(*scope, frozen),
        databases: frozen.deletions,
        limit: frozen.limit,
        managed: frozen.managed,
        deletions: deletions.iter().map(deletion).collect(),
    }
}
