//! `/api/v1/remoteclusters`: the RECs of all members, as the others know them.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use meridian_api::crds::remote_cluster::RedisEnterpriseRemoteClusterSpec;
use meridian_api::web::{
    CLASSIC_API_VERSION, Connection, Metadata, Observed, RemoteCluster, RemoteClusterStatus,
};

use super::answer::{self, Failure, time};
use super::kinds::{Kind, Listed};
use super::sent::Name;
use super::watch::Reading;
use super::{WebState, clusters, kinds, watch};
use crate::app::App;
use crate::app::reads::RemoteView;
use crate::store::Read;

pub(super) const KIND: &str = "RedisEnterpriseRemoteCluster";

/// All remote clusters, as they are shown.
pub(super) async fn listed(app: &App) -> Result<Read<Vec<Listed>>, Failure> {
    let Read { value, revision } = app.remote_views().await?;
    let listed = |view: &RemoteView| {
        Ok::<_, Failure>(Listed {
            name: view.remote.record.name.clone(),
            created: view.remote.created,
            newest: view.newest,
            project: None,
            parts: Vec::new(),
            body: kinds::shown(&body(view))?,
        })
    };
    let value = value.iter().map(listed).collect::<Result<_, _>>()?;
    Ok(Read { value, revision })
}

pub(super) async fn list(
    State(state): State<WebState>,
    reading: Reading,
) -> Result<Response, Failure> {
    Kind::RemoteCluster.list(&state, reading).await
}

pub(super) async fn get(
    State(state): State<WebState>,
    Name(name): Name,
    reading: Reading,
) -> Result<Response, Failure> {
    if let Some(wish) = reading.watch {
        return watch::serve(&state, Kind::RemoteCluster, Some(name), wish).await;
    }
    let view = state.app.remote_view(&name).await?;
    let shown = body(&answer::only("remote cluster", &name, view)?);
    answer::object(StatusCode::OK, &reading.params, &shown)
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
                .as_deref()
                .map_or(Connection::Never, clusters::connection),
            rec: rec.zip(inventory).map(|(rec, inventory)| Observed {
                value: clusters::rec(rec),
                as_of: time(inventory.as_of),
                stale: !view
                    .member
                    .as_deref()
                    .is_some_and(crate::app::reads::MemberView::is_connected),
            }),
            conditions: Vec::new(),
        }),
    }
}
