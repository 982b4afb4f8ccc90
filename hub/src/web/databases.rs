//! `/api/v1/activeactivedatabases`: create, list, get, delete. A body is the custom resource that users know.

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use meridian_api::crds::active_active::RedisEnterpriseActiveActiveDatabaseSpec;
use meridian_api::fault::Fault;
use meridian_api::validate::FieldError;
use meridian_api::web::{ActiveActiveDatabase, CLASSIC_API_VERSION, List, Metadata};
use serde::Deserialize;

use super::answer::{self, Failure, time};
use super::auth::Caller;
use super::{WebState, status};
use crate::app::databases::NewDatabase;
use crate::app::reads::DatabaseView;
use crate::store::Read;

const KIND: &str = "RedisEnterpriseActiveActiveDatabase";

pub(super) async fn list(
    State(state): State<WebState>,
) -> Result<Json<List<ActiveActiveDatabase>>, Failure> {
    let Read { value, revision } = state.app.database_views().await?;
    let value = value.iter().map(body).collect::<Result<_, _>>()?;
    Ok(Json(answer::list(
        CLASSIC_API_VERSION,
        KIND,
        Read { value, revision },
    )))
}

pub(super) async fn get(
    State(state): State<WebState>,
    Path(name): Path<String>,
) -> Result<Json<ActiveActiveDatabase>, Failure> {
    Ok(Json(one(&state, &name).await?))
}

/// Stores the intent and answers at once: the status says how far it is.
pub(super) async fn create(
    State(state): State<WebState>,
    bytes: Bytes,
) -> Result<(StatusCode, Json<ActiveActiveDatabase>), Failure> {
    let wanted: ActiveActiveDatabase = answer::body(&bytes, KIND)?;
    check(&wanted)?;
    let name = wanted.metadata.name.clone();
    let new = NewDatabase {
        name: name.clone(),
        labels: wanted.metadata.labels,
        spec: wanted.spec,
    };
    state.app.create_database(&new).await?;
    Ok((StatusCode::ACCEPTED, Json(one(&state, &name).await?)))
}

/// Query of a deletion.
#[derive(Debug, Deserialize)]
pub(super) struct Deletion {
    /// Must be the name of the database: a deletion takes its data away everywhere.
    confirm: Option<String>,
}

pub(super) async fn delete(
    State(state): State<WebState>,
    Path(name): Path<String>,
    Query(Deletion { confirm }): Query<Deletion>,
    Extension(Caller(caller)): Extension<Caller>,
) -> Result<(StatusCode, Json<ActiveActiveDatabase>), Failure> {
    let held = state
        .app
        .delete_database(&name, confirm.as_deref(), &caller.holder)
        .await?;
    // It may be gone already where no participant had to be asked; then what was deleted is the answer.
    let answer = match one(&state, &name).await {
        Ok(answer) => answer,
        Err(_) => body(&DatabaseView {
            database: held,
            membership: None,
            participants: Vec::new(),
        })?,
    };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// This path takes objects of one kind.
fn check(wanted: &ActiveActiveDatabase) -> Result<(), Failure> {
    let mut errors = Vec::new();
    for (field, found, expected) in [
        ("apiVersion", &wanted.api_version, CLASSIC_API_VERSION),
        ("kind", &wanted.kind, KIND),
    ] {
        if found != expected {
            errors.push(FieldError {
                field: field.to_owned(),
                found: format!("{found:?}"),
                expected: format!("{expected:?}"),
                remedy: "send the object to the path of its kind".to_owned(),
            });
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Fault::invalid("the Active-Active database cannot be created", errors).into())
}

async fn one(state: &WebState, name: &str) -> Result<ActiveActiveDatabase, Failure> {
    let views = state.app.database_views().await?.value;
    let view = views.iter().find(|view| view.database.record.name == name);
    body(answer::only("Active-Active database", name, view)?)
}

fn body(view: &DatabaseView) -> Result<ActiveActiveDatabase, Failure> {
    let known = &view.database.record;
    let spec: RedisEnterpriseActiveActiveDatabaseSpec = serde_json::from_value(known.spec.clone())
        .map_err(|e| Fault::Internal {
            detail: format!(
                "the stored spec of Active-Active database {:?} cannot be read: {e}",
                known.name
            ),
        })?;
    Ok(ActiveActiveDatabase {
        api_version: CLASSIC_API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        metadata: Metadata {
            name: known.name.clone(),
            uid: Some(known.object_id.to_string()),
            resource_version: Some(view.database.modified.to_string()),
            generation: Some(known.generation),
            creation_timestamp: Some(time(known.created_at)),
            deletion_timestamp: known.deletion.as_ref().map(|deletion| time(deletion.at)),
            labels: known.labels.clone(),
            ..Metadata::default()
        },
        spec,
        status: Some(status::of(view)),
    })
}
