//! `/api/v1/clusters/{name}/lose`: the declaration that a member is lost for good. `/api/v1/lostclusters`: what may be left there.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use meridian_api::web::{API_VERSION, List, ListMeta, LostCluster, LostResidue};

use super::WebState;
use super::answer::{self, Failure, time};
use super::auth::Caller;
use super::operations::Parameter;
use super::params::Params;
use super::sent::Name;
use crate::domain::cluster::RemovedCluster;
use crate::domain::lost::{Lost, Residue};

pub(super) async fn lose(
    State(state): State<WebState>,
    Extension(Caller(caller)): Extension<Caller>,
    Name(name): Name,
    params: Params,
) -> Result<Response, Failure> {
    params.agrees(&name)?;
    let by = (params.get(Parameter::Confirm), caller.holder.as_str());
    let lost = state.app.lose_cluster(&name, by, &params.manner()).await?;
    let declared = lost.removed_at.to_string();
    answer::tagged(StatusCode::OK, &params, &declared, &body(&lost))
}

pub(super) async fn list(
    State(state): State<WebState>,
    params: Params,
) -> Result<Response, Failure> {
    let lost = state.app.lost_clusters().await?;
    let items: Vec<_> = lost.iter().map(body).collect();
    let count = items.len().to_string();
    let list = List {
        api_version: API_VERSION.to_owned(),
        kind: "LostClusterList".to_owned(),
        metadata: ListMeta::default(),
        items,
    };
    answer::tagged(StatusCode::OK, &params, &count, &list)
}

fn body(removed: &RemovedCluster) -> LostCluster {
    let lost = removed.lost.as_ref();
    let residue = |one: &Residue| {
        let Residue {
            namespace,
            kind,
            name,
            holds,
            remove,
        } = one.clone();
        LostResidue {
            namespace,
            kind,
            name,
            holds,
            remove,
        }
    };
    LostCluster {
        name: removed.name.clone(),
        uid: removed.uid,
        declared_at: time(removed.removed_at),
        declared_by: lost.map(|lost| lost.by.clone()).unwrap_or_default(),
        away_since: lost.and_then(|lost: &Lost| lost.away_since).map(time),
        databases: lost.map_or_else(Vec::new, |lost| lost.databases.iter().cloned().collect()),
        residue: lost.map_or_else(Vec::new, |lost| lost.residue.iter().map(residue).collect()),
    }
}
