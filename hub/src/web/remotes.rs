//! `/api/v1/remoteclusters`: the RECs of all members, as the others know them.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use meridian_api::crds::remote_cluster::RedisEnterpriseRemoteClusterSpec;
use meridian_api::web::{
    CLASSIC_API_VERSION, Connection, Metadata, Observed, RemoteCluster, RemoteClusterStatus,
};

use super::answer::{self, Failure, time};
use super::params::Params;
use super::{WebState, clusters};
use crate::app::reads::RemoteView;
use crate::store::Read;

const KIND: &str = "RedisEnterpriseRemoteCluster";

pub(super) async fn list(
    State(state): State<WebState>,
    params: Params,
) -> Result<Response, Failure> {
    let Read { value, revision } = state.app.remote_views().await?;
    let value: Vec<_> = value.iter().map(body).collect();
    answer::list(
        &state,
        &params,
        CLASSIC_API_VERSION,
        KIND,
        Read { value, revision },
    )
}

pub(super) async fn get(
    State(state): State<WebState>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, Failure> {
    let views = state.app.remote_views().await?.value;
    let view = views.iter().find(|view| view.remote.record.name == name);
    let shown = body(answer::only("remote cluster", &name, view)?);
    answer::object(StatusCode::OK, &params, &shown)
}

fn body(view: &RemoteView) -> RemoteCluster {
    let known = &view.remote.record;
    let inventory = view.member.as_ref().and_then(|member| member.recs.as_ref());
    let rec = inventory.and_then(|inventory| {
        inventory
            .recs
            .iter()
            .find(|rec| rec.namespace == known.namespace && rec.name == known.rec)
    });
    let suffix = rec
        .map(|rec| rec.suffix.clone())
        .filter(|suffix| !suffix.is_empty());
    RemoteCluster {
        api_version: CLASSIC_API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        metadata: Metadata {
            name: known.name.clone(),
            uid: Some(known.object_id.to_string()),
            resource_version: Some(view.remote.modified.to_string()),
            ..Metadata::default()
        },
        spec: RedisEnterpriseRemoteClusterSpec {
            api_fqdn_url: rec.map(|rec| rec.api_fqdn_url.clone()).unwrap_or_default(),
            db_fqdn_suffix: suffix,
            rec_namespace: known.namespace.clone(),
            rec_name: known.rec.clone(),
            ..RedisEnterpriseRemoteClusterSpec::default()
        },
        status: Some(RemoteClusterStatus {
            cluster: view
                .member
                .as_ref()
                .map(|member| member.cluster.record.name.clone())
                .unwrap_or_default(),
            cluster_uid: known.cluster,
            state: view
                .member
                .as_ref()
                .map_or(Connection::Never, clusters::connection),
            rec: rec.zip(inventory).map(|(rec, inventory)| Observed {
                value: clusters::rec(rec),
                as_of: time(inventory.as_of),
                stale: !view
                    .member
                    .as_ref()
                    .is_some_and(crate::app::reads::MemberView::is_connected),
            }),
            conditions: Vec::new(),
        }),
    }
}
