//! The web API: Kubernetes-shaped bodies under `/api/v1/`, each call with a bearer token, failures as problems (RFC 9457).
//! `/healthz`, `/readyz` and `/metrics` need no token and name nothing of a person.

mod answer;
mod api_tokens;
mod audit;
mod auth;
mod authority;
mod backup;
mod clusters;
mod databases;
mod decisions;
pub mod forward;
mod freezes;
pub mod front;
mod health;
mod hub;
pub mod inside;
mod kinds;
pub mod limits;
mod lost;
mod openapi;
mod operations;
mod pages;
mod params;
mod patch;
mod remotes;
mod rules;
mod sent;
mod sign_in;
mod status;
mod tokens;
mod trail;
pub mod watch;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{Method, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post};
use meridian_api::fault::Fault;
use meridian_api::link::LARGEST_BODY;
use tokio::time::timeout;
use tower_http::catch_panic::CatchPanicLayer;

use crate::app::App;
use crate::metrics::Metrics;
use crate::sign_in::SignIn;
use answer::Failure;
use forward::Follower;
use inside::Inside;
use limits::Limits;
use watch::Watches;

/// Largest request body: the largest object that members take, and white space. A database's spec is a few kilobytes.
const BODY: usize = LARGEST_BODY + 64 * 1024;
/// Longest request. Nothing here waits for a member.
const REQUEST: Duration = Duration::from_secs(30);

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct WebState {
    /// Use cases.
    pub app: Arc<App>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Number of members that have a session.
    pub connected: ConnectedCount,
    /// What is told as it changes.
    pub watches: Arc<Watches>,
    /// How often somebody may ask.
    pub limits: Arc<Limits>,
    /// How people sign in; `None` where they do not.
    pub sign_in: Option<Arc<SignIn>>,
    /// What a replica that follows adds; `None` in the hub that leads.
    pub follower: Option<Follower>,
    /// What is shown of the inside of this process.
    pub inside: Inside,
}

/// How the number of sessions is asked for, so that the web knows nothing of the link.
#[derive(Clone)]
pub struct ConnectedCount(pub Arc<dyn Fn() -> usize + Send + Sync>);

impl std::fmt::Debug for ConnectedCount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConnectedCount")
    }
}

/// A path, its methods, and who answers them.
type Route = (
    &'static str,
    &'static [&'static str],
    MethodRouter<WebState>,
);

/// Every route that needs a token: path, methods, handlers. The test of authorization runs over this list.
fn guarded() -> Vec<Route> {
    let mut routes: Vec<Route> = vec![
        ("/api/v1/clusters", &["GET"], get(clusters::list)),
        (
            "/api/v1/clusters/{name}",
            &["GET", "DELETE"],
            get(clusters::get).delete(clusters::delete),
        ),
        (
            "/api/v1/clusters/{name}/approve",
            &["POST"],
            post(decisions::approve),
        ),
        (
            "/api/v1/clusters/{name}/deny",
            &["POST"],
            post(decisions::deny),
        ),
        (
            "/api/v1/tokens",
            &["GET", "POST"],
            get(tokens::list).post(tokens::create),
        ),
        (
            "/api/v1/tokens/{name}",
            &["GET", "DELETE"],
            get(tokens::get).delete(tokens::delete),
        ),
        ("/api/v1/remoteclusters", &["GET"], get(remotes::list)),
        ("/api/v1/remoteclusters/{name}", &["GET"], get(remotes::get)),
        (
            "/api/v1/activeactivedatabases",
            &["GET", "POST"],
            get(databases::list).post(databases::create),
        ),
        (
            "/api/v1/activeactivedatabases/{name}",
            &["GET", "PUT", "PATCH", "DELETE"],
            get(databases::get)
                .put(databases::replace)
                .patch(databases::patch)
                .delete(databases::delete),
        ),
        (
            "/api/v1/apitokens",
            &["GET", "POST"],
            get(api_tokens::list).post(api_tokens::create),
        ),
        (
            "/api/v1/apitokens/{name}",
            &["GET", "DELETE"],
            get(api_tokens::get).delete(api_tokens::delete),
        ),
        ("/api/v1/audit", &["GET"], get(audit::list)),
        ("/api/v1/audit/export", &["GET"], get(audit::export)),
        ("/api/v1/freezes", &["GET"], get(freezes::list)),
        (
            "/api/v1/freezes/{name}/release",
            &["POST"],
            post(freezes::release),
        ),
        ("/api/v1/hub", &["GET"], get(hub::get)),
        ("/api/v1/hub/backup", &["GET"], get(backup::get)),
    ];
    routes.extend(decided());
    routes.extend(looked_into());
    routes
}

/// Those of them by which people look into a hub that runs.
fn looked_into() -> [Route; 5] {
    [
        ("/debug/sessions", &["GET"], get(inside::sessions)),
        ("/debug/tasks", &["GET"], get(inside::tasks)),
        (
            "/debug/log",
            &["GET", "PUT"],
            get(inside::log).put(inside::set_log),
        ),
        ("/debug/log/lines", &["GET"], get(inside::lines)),
        ("/debug/settings", &["GET"], get(inside::settings)),
    ]
}

/// Those of them by which a person decides whom members follow and believe.
fn decided() -> [Route; 8] {
    let ordered: &[&str] = &["POST"];
    let (rotate, advance) = (post(authority::rotate), post(authority::advance));
    let release = post(decisions::release);
    [
        ("/api/v1/clusters/{name}/release", ordered, release),
        ("/api/v1/clusters/{name}/lose", ordered, post(lost::lose)),
        ("/api/v1/lostclusters", &["GET"], get(lost::list)),
        ("/api/v1/hub/adopt", ordered, post(hub::adopt)),
        ("/api/v1/hub/ca", &["GET"], get(authority::get)),
        ("/api/v1/hub/ca/rotate", ordered, rotate),
        ("/api/v1/hub/ca/advance", ordered, advance),
        ("/api/v1/hub/ca/abort", ordered, post(authority::abort)),
    ]
}

/// The router of the web API.
pub fn router(state: WebState) -> Router {
    let guarded = guarded()
        .into_iter()
        .fold(Router::new(), |router, (path, _, handlers)| {
            router.route(path, handlers)
        });
    // Layers run from the last to the first.
    let guarded = guarded.route_layer(middleware::from_fn(params::check));
    let guarded = guarded.route_layer(middleware::from_fn_with_state(
        state.clone(),
        auth::demand_token,
    ));
    let guarded = guarded.route_layer(middleware::from_fn_with_state(state.clone(), trail::record));
    // Outside of the check of tokens: the leader knows the newest.
    let guarded = guarded.route_layer(middleware::from_fn_with_state(
        state.clone(),
        forward::follow,
    ));
    let open = Router::new()
        .route(openapi::PATH, get(openapi::get))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics));
    guarded
        .merge(open)
        .merge(sign_in::router(&state))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::from_fn(in_time))
        .layer(middleware::from_fn_with_state(
            state.clone(),
            answer::number_requests,
        ))
        .layer(CatchPanicLayer::new())
        .with_state(state)
}

/// Ends what takes too long, and says what is known of it.
async fn in_time(request: Request, next: Next) -> Response {
    let answer = timeout(REQUEST, next.run(request)).await;
    answer.unwrap_or_else(|_late| {
        let detail = format!(
            "the request took longer than {} s, and whether it was carried out is unknown: look before you try again",
            REQUEST.as_secs()
        );
        let fault = Fault::Unavailable {
            detail,
            retry_after_ms: 0,
        };
        Failure::from(fault).into_response()
    })
}

async fn no_such_path(uri: Uri) -> Failure {
    Failure::from(Fault::NotFound {
        kind: "path".to_owned(),
        name: uri.path().to_owned(),
        hint: String::new(),
    })
}

async fn no_such_method(method: Method, uri: Uri) -> answer::NotAllowed {
    answer::NotAllowed(format!(
        "{} takes no {method}; the header Allow lists what it takes",
        uri.path()
    ))
}
