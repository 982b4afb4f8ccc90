//! `/api/v1/activeactivedatabases`: create, list, get, change, delete. A body is the custom resource that users know.

use std::collections::BTreeSet;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use meridian_api::crds::active_active::RedisEnterpriseActiveActiveDatabaseSpec;
use meridian_api::fault::Fault;
use meridian_api::validate::FieldError;
use meridian_api::web::{ActiveActiveDatabase, CLASSIC_API_VERSION, Metadata};

use super::answer::{self, Failure, time};
use super::auth::Caller;
use super::kinds::{Kind, Listed};
use super::operations::Parameter;
use super::pages::{Part, Slice};
use super::params::Params;
use super::patch::Patch;
use super::sent::{Name, Sent};
use super::watch::Reading;
use super::{WebState, kinds, status, watch};
use crate::app::databases::NewDatabase;
use crate::app::reads::DatabaseView;
use crate::app::{App, AppError};
use crate::domain::access::grant::Scope;
use crate::domain::database::Database;
use crate::store::records::{Held, Transitions};
use crate::store::{Read, StoreError};

pub(super) const KIND: &str = "RedisEnterpriseActiveActiveDatabase";

/// All databases that somebody with this scope may see, as they are shown.
pub(super) async fn listed(app: &App, scope: &Scope) -> Result<Read<Vec<Listed>>, Failure> {
    as_listed(app.database_views(scope).await?)
}

/// Those of these names that exist, as they are shown to somebody who may see all.
pub(super) async fn listed_of(
    app: &App,
    names: &BTreeSet<String>,
) -> Result<Read<Vec<Listed>>, Failure> {
    as_listed(app.database_views_of(&Scope::all(), names).await?)
}

/// A part of those that somebody with this scope may see: as many records are read as it is shown from, and the names of all.
pub(super) async fn slice(app: &App, scope: &Scope, part: &Part) -> Result<Slice, Failure> {
    let Read { value, revision } = app.database_names(scope).await?;
    let (names, left) = part.of(&value, String::as_str);
    let shown = names.iter().cloned().collect();
    let views = app.database_views_of(scope, &shown).await?.value;
    let items = views.iter().map(|view| kinds::shown(&body(view)?));
    Ok(Slice {
        items: items.collect::<Result<_, _>>()?,
        last: names.last().cloned(),
        left,
        revision,
    })
}

fn as_listed(
    Read { value, revision }: Read<Vec<DatabaseView>>,
) -> Result<Read<Vec<Listed>>, Failure> {
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
    Name(name): Name,
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
    sent: Sent,
) -> Result<Response, Failure> {
    let wanted: ActiveActiveDatabase = sent.read(KIND)?;
    check(&wanted)?;
    answer::must_be_new(&wanted.metadata)?;
    let manner = params.creation(&caller, KIND, &sent.0);
    let name = wanted.metadata.name.clone();
    let new = NewDatabase {
        name: name.clone(),
        labels: wanted.metadata.labels,
        annotations: wanted.metadata.annotations,
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

/// Replaces the intent by another that was made of what the caller saw.
pub(super) async fn replace(
    State(state): State<WebState>,
    Name(name): Name,
    params: Params,
    sent: Sent,
) -> Result<Response, Failure> {
    let wanted: ActiveActiveDatabase = sent.read(KIND)?;
    if params.get(Parameter::IfMatch).is_none() && wanted.metadata.resource_version.is_none() {
        return Err(Fault::PreconditionRequired {
            detail: format!(
                "replacing {name:?} needs metadata.resourceVersion or the header If-Match, as it was read: what another \
                 changed meanwhile would be undone; or change only what is meant to change, with PATCH"
            ),
        }
        .into());
    }
    change(&state, &params, &name, |_| Ok(wanted.clone())).await
}

/// Changes a part of the intent.
pub(super) async fn patch(
    State(state): State<WebState>,
    Name(name): Name,
    params: Params,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, Failure> {
    let patch = Patch::read(&headers, &sent)?;
    change(&state, &params, &name, |held| {
        let mut shown = body(&alone(held.clone()))?;
        shown.status = None;
        let shown = serde_json::to_value(&shown).map_err(|e| no_object(&e))?;
        serde_json::from_value(patch.apply(shown)?).map_err(|e| no_object(&e))
    })
    .await
}

fn no_object(error: &serde_json::Error) -> AppError {
    AppError::Invalid {
        summary: format!("what would become of it is no {KIND}"),
        fields: vec![FieldError {
            field: "body".to_owned(),
            found: error.to_string(),
            expected: format!("a change into a {KIND}"),
            remedy: "correct the field that is named; nothing was done".to_owned(),
        }],
    }
}

async fn change(
    state: &WebState,
    params: &Params,
    name: &str,
    wanted: impl Fn(&Held<Database>) -> Result<ActiveActiveDatabase, AppError>,
) -> Result<Response, Failure> {
    let manner = params.manner();
    let changed = state.app.change_database(name, &manner, |held| {
        let wanted = wanted(held)?;
        check_same(held, &wanted)?;
        Ok(NewDatabase {
            name: name.to_owned(),
            labels: wanted.metadata.labels,
            annotations: wanted.metadata.annotations,
            spec: wanted.spec,
        })
    });
    let held = changed.await?;
    if manner.dry_run {
        return tried(params, held);
    }
    let shown = one(state, params.scope(), name).await?;
    answer::object(StatusCode::OK, params, &shown)
}

/// A change is one of the same object, as it was seen.
fn check_same(held: &Held<Database>, wanted: &ActiveActiveDatabase) -> Result<(), AppError> {
    let known = &held.record;
    let Metadata {
        name,
        uid,
        resource_version,
        ..
    } = &wanted.metadata;
    let at = held.modified.to_string();
    if let Some(seen) = resource_version.as_ref().filter(|seen| **seen != at) {
        return Err(AppError::Conflict(format!(
            "{KIND} {:?} is not as it was seen: metadata.resourceVersion: found {seen:?}, expected {at:?}; nothing was done, \
             read it again and decide again",
            known.name
        )));
    }
    let uid = uid
        .as_ref()
        .map(|uid| ("metadata.uid", uid.clone(), known.object_id.to_string()));
    let fixed = [
        (
            "apiVersion",
            wanted.api_version.clone(),
            CLASSIC_API_VERSION.to_owned(),
        ),
        ("kind", wanted.kind.clone(), KIND.to_owned()),
        ("metadata.name", name.clone(), known.name.clone()),
    ];
    let differs = fixed
        .into_iter()
        .chain(uid)
        .filter(|(_, found, expected)| found != expected);
    let fields: Vec<_> = differs
        .map(|(field, found, expected)| FieldError {
            field: field.to_owned(),
            found: format!("{found:?}"),
            expected: format!("{expected:?}"),
            remedy: "it cannot be changed; put it back".to_owned(),
        })
        .collect();
    if fields.is_empty() {
        return Ok(());
    }
    Err(AppError::Invalid {
        summary: "another object cannot become of the Active-Active database".to_owned(),
        fields,
    })
}

pub(super) async fn delete(
    State(state): State<WebState>,
    Name(name): Name,
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
        read_at: database.record.created_at,
        began_at: database.record.created_at,
        transitions: Transitions::default(),
        waits: None,
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
    let view = state.app.database_view(scope, name).await?;
    Ok(body(&answer::only("Active-Active database", name, view)?)?)
}

fn body(view: &DatabaseView) -> Result<ActiveActiveDatabase, AppError> {
    let known = &view.database.record;
    let spec: RedisEnterpriseActiveActiveDatabaseSpec = serde_json::from_value(known.spec.clone())
        .map_err(|e| StoreError::Record {
            key: view.database.key.clone(),
            reason: format!("its spec cannot be read: {e}"),
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
