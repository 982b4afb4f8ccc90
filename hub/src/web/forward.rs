//! What a replica that follows does with a request: it answers reads from its own copy of the state, says how old that
//! is, and hands everything else to the replica that leads. What members observe only the leader knows wholly: reads of it are handed
//! on as well, and answered from the copy, where lags are unknown and observations stale, if nobody leads.

mod client;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{self, Body};
use axum::extract::{Query, Request, State};
use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use meridian_api::fault::Fault;
use tokio::time::timeout;

pub use self::client::{Client, SendError};
use super::answer::Failure;
use super::{BODY, WebState, auth, limits, trail};
use crate::clock::since_boot;
use crate::store::etcd::mirror::Mirror;

/// Names the replica that handed a request on: none is handed on twice.
pub const FORWARDED_BY: HeaderName = HeaderName::from_static("x-meridian-forwarded-by");
/// Whom it asked for. Anybody can send this: it is written down as what somebody says.
pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-meridian-forwarded-for");
/// Path of the databases and of each.
const DATABASES: &str = "/api/v1/activeactivedatabases";
/// How long a read may take at the leader before the copy answers it.
const HANDED_READ: Duration = Duration::from_secs(2);
/// A copy that is older than this makes a replica unready.
pub(super) const FRESH: Duration = Duration::from_secs(10);
/// What holds for one connection only (RFC 9110, section 7.6.1), and what is set anew.
const OF_A_CONNECTION: [HeaderName; 9] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::HOST,
    header::CONTENT_LENGTH,
];

/// What a replica needs in order to follow.
#[derive(Clone, Debug)]
pub struct Follower {
    /// Name of this process.
    pub replica: String,
    /// The copy of the state that reads are answered from.
    pub mirror: Arc<Mirror>,
    /// Speaks to the leader.
    pub client: Client,
}

/// Answers reads here and hands the rest to the leader.
pub(super) async fn follow(
    State(state): State<WebState>,
    request: Request,
    next: Next,
) -> Response {
    let Some(follower) = &state.follower else {
        return next.run(request).await;
    };
    let watches = is_watch(request.uri());
    if watches || !is_answered_here(&request) {
        // Whether the token is good only the leader knows; who shows none is no work for two hubs.
        if let Err(fault) = auth::presented(request.headers()) {
            return Failure::from(fault).into_response();
        }
        let handed = follower.hand_on(request).await;
        let handed = handed.unwrap_or_else(|fault| Failure::from(fault).into_response());
        if !watches {
            return handed;
        }
        // It has no end of its own, and must not hold up the end of this process.
        let stopped = state.watches.stopped();
        let pieces = |body: Body| body.into_data_stream().take_until(stopped);
        return handed.map(|body| Body::from_stream(pieces(body)));
    }
    let again = without_body(&request);
    if knows_only_the_leader(&request) && auth::presented(request.headers()).is_ok() {
        let handed = timeout(HANDED_READ, follower.hand_on(again)).await;
        if let Ok(Ok(handed)) = handed
            && handed.status() != StatusCode::SERVICE_UNAVAILABLE
        {
            return handed;
        }
    }
    // Before the answer is read: it is not older than this.
    let age = follower.mirror.age().unwrap_or_default();
    let again = without_body(&request);
    let mut response = next.run(request).await;
    // The leader has the last word, because it knows the newest tokens and writes down what is refused. Where nobody leads
    // the copy has it.
    if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&response.status())
        && auth::presented(again.headers()).is_ok()
        && let Ok(handed) = follower.hand_on(again).await
    {
        return handed;
    }
    let seconds = age.as_millis().div_ceil(1000);
    let seconds = HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX));
    response.headers_mut().insert(header::AGE, seconds);
    response
}

/// Hands logins to the leader, which alone knows those that are under way and writes sessions. They show no token yet: how often an
/// address may begin one is counted here as well.
pub(super) async fn follow_login(
    State(state): State<WebState>,
    request: Request,
    next: Next,
) -> Response {
    let Some(follower) = &state.follower else {
        return next.run(request).await;
    };
    let origin = limits::origin(request.extensions());
    if let Err((limit, fault)) = state.limits.refusal(origin, since_boot()) {
        state.metrics.limited(limit);
        return Failure::from(fault).into_response();
    }
    let handed = follower.hand_on(request).await;
    handed.unwrap_or_else(|fault| Failure::from(fault).into_response())
}

/// What is watched is told by the leader: the copy is not as new as the changes are. Whatever else is wrong with the query the
/// leader says.
fn is_watch(uri: &Uri) -> bool {
    let query = Query::<Vec<(String, String)>>::try_from_uri(uri);
    query.is_ok_and(|query| {
        query
            .0
            .iter()
            .any(|(name, value)| name == "watch" && value == "true")
    })
}

/// A request that reads, to be asked again.
fn without_body(request: &Request) -> Request {
    let mut again = Request::new(Body::empty());
    request.method().clone_into(again.method_mut());
    request.uri().clone_into(again.uri_mut());
    request.headers().clone_into(again.headers_mut());
    request.extensions().clone_into(again.extensions_mut());
    again
}

/// Reads are, unless the caller asks for the newest (`Cache-Control: no-cache`, RFC 9111), or for what is written down when
/// it is read.
fn is_answered_here(request: &Request) -> bool {
    let (method, path) = (request.method(), request.uri().path());
    // Whom a rotation waits for only the leader knows: it holds the sessions.
    let of_the_leader = ["/api/v1/hub/backup", "/api/v1/hub/ca"];
    let looks_inside = path.starts_with("/debug/");
    if looks_inside || path.starts_with("/api/v1/audit") || of_the_leader.contains(&path) {
        return false;
    }
    let newest = request.headers().get(header::CACHE_CONTROL);
    let newest = newest.and_then(|value| value.to_str().ok());
    let newest = newest.is_some_and(|value| value.contains("no-cache"));
    method.is_safe() && !newest
}

/// What is heard of databases is stored only as far as it is news.
fn knows_only_the_leader(request: &Request) -> bool {
    request.uri().path().starts_with(DATABASES)
}

impl Follower {
    async fn hand_on(&self, request: Request) -> Result<Response, Fault> {
        if let Some(from) = request.headers().get(FORWARDED_BY) {
            tracing::info!(
                ?from,
                "a request that another replica handed on was refused: this hub does not lead"
            );
            return Err(nobody_leads());
        }
        // Read now: what the last look found may be over.
        let seat = self.mirror.seat().await.map_err(|error| {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "who leads could not be read"
            );
            nobody_leads()
        })?;
        let leader = seat.filter(|seat| seat.replica != self.replica);
        let leader = leader.ok_or_else(nobody_leads)?;
        let request = self.outgoing(request).await?;
        match self.client.send(&leader.web_address, request).await {
            Ok(mut response) => {
                remove_hops(response.headers_mut());
                Ok(response)
            }
            Err(error @ SendError::Unreached { .. }) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the leader was not reached"
                );
                Err(Fault::Unavailable {
                    detail: format!(
                        "the hub that leads was not reached, and nothing was done: {error}"
                    ),
                    retry_after_ms: 1000,
                })
            }
            Err(error @ SendError::Busy { .. }) => Err(Fault::Unavailable {
                detail: format!("{error}, and nothing was done"),
                retry_after_ms: 1000,
            }),
            Err(error @ (SendError::Lost { .. } | SendError::Late { .. })) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the leader did not answer"
                );
                Err(Fault::Unavailable {
                    detail: format!(
                        "the hub that leads was asked, but whether it did it is unknown: {error}; look before you try again"
                    ),
                    retry_after_ms: 0,
                })
            }
        }
    }

    /// The request as it goes to the leader: with the caller's token and everything else that is not of this connection.
    async fn outgoing(&self, request: Request) -> Result<Request, Fault> {
        let (mut parts, body) = request.into_parts();
        let body = body::to_bytes(body, BODY).await.map_err(|e| {
            Fault::invalid(&format!("the body cannot be handed on: {e}"), Vec::new())
        })?;
        let peer = trail::address(&parts.extensions);
        let path = parts.uri.path_and_query().cloned();
        parts.uri = path.map_or_else(Uri::default, Uri::from);
        parts.version = http::Version::HTTP_11;
        parts.extensions.clear();
        remove_hops(&mut parts.headers);
        if let Ok(name) = HeaderValue::from_str(&self.replica) {
            parts.headers.insert(FORWARDED_BY, name);
        }
        if let Ok(peer) = HeaderValue::from_str(&peer) {
            parts.headers.insert(FORWARDED_FOR, peer);
        }
        Ok(Request::from_parts(parts, Body::from(body)))
    }
}

/// Also those that the sender names as such in `Connection`.
fn remove_hops(headers: &mut HeaderMap) {
    let named = headers.get_all(header::CONNECTION).iter();
    let named = named.filter_map(|value| value.to_str().ok());
    let named = named.flat_map(|value| value.split(','));
    let named: Vec<_> = named
        .filter_map(|name| name.trim().parse::<HeaderName>().ok())
        .collect();
    for name in named.into_iter().chain(OF_A_CONNECTION) {
        headers.remove(name);
    }
}

fn nobody_leads() -> Fault {
    Fault::Unavailable {
        detail: "no replica of the hub leads at the moment, so that nothing can be written; another takes over within 5 \
                 seconds if a majority of etcd and one replica are up"
            .to_owned(),
        retry_after_ms: 1000,
    }
}

#[cfg(test)]
mod tests;
