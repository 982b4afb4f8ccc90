//! `/api/v1/activeactivedatabases`: create, list, get, delete. A body is the custom resource that users know.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use meridian_api::crds::active_active::RedisEnterpriseActiveActiveDatabaseSpec;
use meridian_api::fault::Fault;
use meridian_api::validate::FieldError;
use meridian_api::web::{ActiveActiveDatabase, CLASSIC_API_VERSION, Metadata};

use super::answer::{self, Failure, time};
use super::auth::Caller;
use super::kinds::{Kind, Listed};
use super::operations::Parameter;
use super::params::Params;
use super::watch::Reading;
use super::{WebState, kinds, status, watch};
use crate::app::databases::NewDatabase;
use crate::app::reads::DatabaseView;
use crate::app::{App, AppError};
use crate::domain::access::grant::Scope;
use crate::domain::database::Database;
use crate::store::Read;
use crate::store::records::Held;

pub(super) const KIND: &str = "RedisEnterpriseActiveActiveDatabase";

/// All databases that somebody with this scope may see, as they are shown.
pub(super) async fn listed(app: &App, scope: &Scope) -> Result<Read<Vec<Listed>>, Failure> {
    let Read { value, revision } = app.database_views(scope).await?;
    let listed = |view: &DatabaseView| {
        let known = &view.database.record;
        Ok::<_, Failure>(Listed {
            name: known.name.clone(),
            created: view.database.created,
            newest: view.newest,
            project: Some(known.project().to_owned()),
            parts: vec![known.object_id, known.instance_object_id],
            body: kinds::shown(&body(view)?)?,
        })
    };
    let value = value.iter().map(listed).collect::<Result<_, _>>()?;
    Ok(Read { value, revision })
}

pub(super) async fn list(
    State(state): State<WebState>,
    reading: Reading,
) -> Result<Response, Failure> {
    Kind::Database.list(&state, reading).await
}

pub(super) async fn get(
    State(state): State<WebState>,
    Path(name): Path<String>,
    reading: Reading,
) -> Result<Response, Failure> {
    if let Some(wish) = reading.watch {
        return watch::serve(&state, Kind::Database, Some(name), wish).await;
    }
    let params = &reading.params;
    let one = one(&state, params.scope(), &name).await?;
    answer::object(StatusCode::OK, params, &one)
}

/// Stores the intent and answers at once: the status says how far it is.
pub(super) async fn create(
    State(state): State<WebState>,
    Extension(caller): Extension<Caller>,
    params: Params,
    bytes: Bytes,
) -> Result<Response, Failure> {
    let wanted: ActiveActiveDatabase = answer::body(&bytes, KIND)?;
    check(&wanted)?;
    answer::must_be_new(&wanted.metadata)?;
    let manner = params.creation(&caller, KIND, &bytes);
    let name = wanted.metadata.name.clone();
    let new = NewDatabase {
        name: name.clone(),
        labels: wanted.metadata.labels,
        spec: wanted.spec,
    };
    let held = match state.app.create_database(&new, &manner).await {
        Err(AppError::Repeated(before)) => {
            let made = one(&state, params.scope(), &before.made).await.ok();
            return answer::repeated(StatusCode::ACCEPTED, &params, &before, made);
        }
        made => made?,
    };
    if manner.dry_run {
        return tried(&params, held);
    }
    answer::object(
        StatusCode::ACCEPTED,
        &params,
        &one(&state, params.scope(), &name).await?,
    )
}

pub(super) async fn delete(
    State(state): State<WebState>,
    Path(name): Path<String>,
    Extension(Caller(caller)): Extension<Caller>,
    params: Params,
) -> Result<Response, Failure> {
    let manner = params.manner();
    let confirm = params.get(Parameter::Confirm);
    let held = state
        .app
        .delete_database(&name, confirm, &caller.holder, &manner)
        .await?;
    if manner.dry_run {
        return tried(&params, held);
    }
    // It may be gone already where no participant had to be asked; then what was deleted is the answer.
    let answer = match one(&state, params.scope(), &name).await {
        Ok(answer) => answer,
        Err(_) => body(&alone(held))?,
    };
    answer::object(StatusCode::ACCEPTED, &params, &answer)
}

/// What would be stored. It has no status: nothing has happened that could have one.
fn tried(params: &Params, held: Held<Database>) -> Result<Response, Failure> {
    let mut answer = body(&alone(held))?;
    answer.status = None;
    answer::object(StatusCode::OK, params, &answer)
}

fn alone(database: Held<Database>) -> DatabaseView {
    DatabaseView {
        newest: database.modified,
        database,
        membership: None,
        participants: Vec::new(),
    }
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

async fn one(state: &WebState, scope: &Scope, name: &str) -> Result<ActiveActiveDatabase, Failure> {
    let views = state.app.database_views(scope).await?.value;
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
            resource_version: answer::revision(view.database.modified),
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
