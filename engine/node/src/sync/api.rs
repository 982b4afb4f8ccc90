//! The REC's own API (9443) and status page (8443), read-only, served by every node from what it watches and from a question
//! to PID 1 of each node. Whoever logs in as the administrator sees them; nobody can change anything here.
//!
//! Everything shown says when it was true. What is not known is `unknown`, never healthy.

mod answer;
mod login;
mod page;
mod picture;
mod probe;
mod render;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use serde_json::Value;

use super::observed::Observed;
use super::settings::Host;
use answer::Refusal;
use login::Doorkeeper;
use picture::Picture;
use render::LagCheck;
pub(super) use render::{API_PORT, PAGE_PORT};

/// What answers are made of.
#[derive(Clone)]
pub(super) struct Source {
    observed: Arc<Observed>,
    door: Arc<Doorkeeper>,
    /// The cluster resource.
    cluster: String,
    /// Its namespace.
    namespace: String,
    host: Host,
    /// One picture serves everybody who asks at the same time.
    pictures: Arc<picture::Recent>,
}

impl Source {
    pub(super) fn new(observed: Arc<Observed>, cluster: &str, namespace: &str, host: Host) -> Self {
        Self {
            door: Arc::new(Doorkeeper::new(Arc::clone(&observed))),
            observed,
            cluster: cluster.to_owned(),
            namespace: namespace.to_owned(),
            host,
            pictures: Arc::default(),
        }
    }

    async fn picture(&self) -> Result<Arc<Picture>, Refusal> {
        self.pictures.get(self).await.ok_or_else(Refusal::early)
    }
}

/// The API.
pub(super) fn api(source: Source) -> Router {
    let routes = Router::new()
        .route("/v1/cluster", get(cluster))
        .route("/v1/nodes", get(nodes))
        .route("/v1/nodes/{uid}", get(node))
        .route("/v1/bdbs", get(databases))
        .route("/v1/bdbs/{uid}", get(database))
        .route("/v1/bdbs/{uid}/availability", get(availability))
        .route("/v1/crdbs", get(active_actives))
        .route("/v1/crdbs/{guid}", get(active_active));
    guarded(routes, source).layer(middleware::from_fn(answer::json_only))
}

/// The status page.
pub(super) fn page(source: Source) -> Router {
    guarded(Router::new().route("/", get(status)), source)
}

/// Login first: a stranger learns not even which paths there are.
fn guarded(routes: Router<Source>, source: Source) -> Router {
    routes
        .fallback(answer::no_path)
        .method_not_allowed_fallback(answer::no_method)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&source.door),
            login::check,
        ))
        .with_state(source)
}

async fn cluster(State(source): State<Source>) -> Result<Response, Refusal> {
    Ok(answer::ok(&render::cluster(&*source.picture().await?)))
}

async fn nodes(State(source): State<Source>) -> Result<Response, Refusal> {
    Ok(answer::ok(&render::nodes(&*source.picture().await?)))
}

async fn node(State(source): State<Source>, Path(uid): Path<String>) -> Result<Response, Refusal> {
    let all = render::nodes(&*source.picture().await?);
    one(all, "uid", &uid).ok_or_else(|| Refusal::missing("node_not_exist", "node", &uid))
}

async fn databases(State(source): State<Source>) -> Result<Response, Refusal> {
    Ok(answer::ok(&render::databases(&*source.picture().await?)))
}

async fn database(
    State(source): State<Source>,
    Path(uid): Path<String>,
) -> Result<Response, Refusal> {
    let all = render::databases(&*source.picture().await?);
    one(all, "uid", &uid).ok_or_else(|| Refusal::missing("db_not_found", "database", &uid))
}

async fn active_actives(State(source): State<Source>) -> Result<Response, Refusal> {
    Ok(answer::ok(&render::active_actives(
        &*source.picture().await?,
    )))
}

async fn active_active(
    State(source): State<Source>,
    Path(guid): Path<String>,
) -> Result<Response, Refusal> {
    let all = render::active_actives(&*source.picture().await?);
    one(all, "guid", &guid)
        .ok_or_else(|| Refusal::missing("crdb_not_found", "Active-Active database", &guid))
}

async fn availability(
    State(source): State<Source>,
    Path(uid): Path<String>,
    Query(asked): Query<BTreeMap<String, String>>,
) -> Result<Response, Refusal> {
    let check = LagCheck::asked(&asked)?;
    let picture = source.picture().await?;
    let database = picture.numbered(&uid);
    let database = database.ok_or_else(|| Refusal::missing("db_not_found", "database", &uid))?;
    match render::unavailable(&picture, database, check) {
        None => Ok(StatusCode::OK.into_response()),
        Some(why) => Err(why),
    }
}

async fn status(State(source): State<Source>) -> Result<Html<String>, Refusal> {
    Ok(Html(page::html(&*source.picture().await?)))
}

/// The entry of a list whose `key` reads as `wanted`.
fn one(all: Value, key: &str, wanted: &str) -> Option<Response> {
    let Value::Array(all) = all else {
        return None;
    };
    let is_wanted = |entry: &Value| match &entry[key] {
        Value::String(text) => text == wanted,
        Value::Number(number) => number.to_string() == wanted,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    };
    all.iter().find(|entry| is_wanted(entry)).map(answer::ok)
}

#[cfg(test)]
mod tests;
