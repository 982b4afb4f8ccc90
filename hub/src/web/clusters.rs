//! `/api/v1/clusters`: the members.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use meridian_api::web::{
    API_VERSION, Cluster, ClusterSpec, ClusterStatus, Connection, Metadata, Observed, Rec,
};

use super::WebState;
use super::answer::{self, Failure, time};
use super::params::Params;
use crate::app::reads::MemberView;
use crate::domain::cluster;
use crate::store::Read;

const KIND: &str = "Cluster";

pub(super) async fn list(
    State(state): State<WebState>,
    params: Params,
) -> Result<Response, Failure> {
    let Read { value, revision } = state.app.member_views().await?;
    let value: Vec<_> = value.iter().map(body).collect();
    answer::list(&state, &params, API_VERSION, KIND, Read { value, revision })
}

pub(super) async fn get(
    State(state): State<WebState>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, Failure> {
    answer::object(StatusCode::OK, &params, &one(&state, &name).await?)
}

/// Removes the registration. Nothing on the member is touched.
pub(super) async fn delete(
    State(state): State<WebState>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, Failure> {
    params.agrees(&name)?;
    let manner = params.manner();
    state.app.remove_cluster(&name, &manner).await?;
    if manner.dry_run {
        return answer::object(StatusCode::OK, &params, &one(&state, &name).await?);
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn one(state: &WebState, name: &str) -> Result<Cluster, Failure> {
    let views = state.app.member_views().await?.value;
    let view = views.iter().find(|view| view.cluster.record.name == name);
    Ok(body(answer::only("cluster", name, view)?))
}

fn body(view: &MemberView) -> Cluster {
    let known = &view.cluster.record;
    Cluster {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        metadata: Metadata {
            name: known.name.clone(),
            uid: Some(known.uid.to_string()),
            resource_version: Some(view.cluster.modified.to_string()),
            creation_timestamp: Some(time(known.joined_at)),
            ..Metadata::default()
        },
        spec: ClusterSpec {},
        status: Some(ClusterStatus {
            uid: known.uid,
            state: connection(view),
            since: view.presence.as_ref().map(|edge| time(edge.since)),
            agent_version: known.agent_version.clone(),
            recs: view.recs.as_ref().map(|inventory| Observed {
                value: inventory.recs.iter().map(rec).collect(),
                as_of: time(inventory.as_of),
                stale: !view.is_connected(),
            }),
            conditions: Vec::new(),
        }),
    }
}

pub(super) fn connection(view: &MemberView) -> Connection {
    match view.presence.as_ref().map(|edge| edge.presence) {
        Some(cluster::Presence::Connected) => Connection::Connected,
        Some(cluster::Presence::Unreachable) => Connection::Unreachable,
        None => Connection::Never,
    }
}

pub(super) fn rec(rec: &cluster::Rec) -> Rec {
    let cluster::Rec {
        namespace,
        name,
        uid,
        replication_address,
        suffix,
        state,
        ..
    } = rec.clone();
    Rec {
        namespace,
        name,
        uid,
        state,
        replication_address,
        suffix,
    }
}
