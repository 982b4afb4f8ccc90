//! What a replica that follows does with a request: it answers reads from its own copy of the state, says how old that
//! is, and hands everything else to the replica that leads.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{self, Body};
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::{HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use hyper_util::rt::TokioIo;
use meridian_api::fault::Fault;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::answer::Failure;
use super::{BODY, WebState};
use crate::ca::must_be_a_hubs;
use crate::store::etcd::mirror::Mirror;
use crate::tls::{self, TlsError};

/// Names the replica that handed a request on: none is handed on twice.
pub const FORWARDED_BY: HeaderName = HeaderName::from_static("x-meridian-forwarded-by");
/// Longest time to reach the leader.
const CONNECT: Duration = Duration::from_secs(2);
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

/// Why a request to another replica has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Nothing was sent.
    #[error("{address} could not be reached: {reason}")]
    Unreached {
        /// The replica's address.
        address: String,
        /// Why.
        reason: String,
    },
    /// The connection ended before the answer.
    #[error("{address} did not answer")]
    Lost {
        /// The replica's address.
        address: String,
        /// Why.
        #[source]
        source: hyper::Error,
    },
}

/// Speaks to the web API of replicas that have a certificate of the shared authority.
#[derive(Clone)]
pub struct Client(TlsConnector);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// A client that trusts this root only.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(root: &CertificateDer<'static>) -> Result<Self, TlsError> {
        Ok(Self(TlsConnector::from(tls::client_config(root)?)))
    }

    /// Sends one request to `host:port`.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, address: &str, mut request: Request) -> Result<Response, SendError> {
        let unreached = |reason: String| SendError::Unreached {
            address: address.to_owned(),
            reason,
        };
        let host = HeaderValue::from_str(address).map_err(|e| unreached(e.to_string()))?;
        request.headers_mut().insert(header::HOST, host);
        let stream = timeout(CONNECT, self.connect(address)).await;
        let stream = stream
            .map_err(|_| unreached(format!("no connection within {} s", CONNECT.as_secs())))?
            .map_err(|e| unreached(e.to_string()))?;
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|e| unreached(e.to_string()))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to another replica broke");
            }
        });
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|source| SendError::Lost {
            address: address.to_owned(),
            source,
        })?;
        Ok(answer.map(Body::new))
    }

    async fn connect(
        &self,
        address: &str,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(std::io::Error::other)?;
        let stream = TcpStream::connect(address).await?;
        let stream = self.0.connect(name, stream).await?;
        // The caller's token goes to a hub and to nobody else that the authority has signed for.
        let shown = stream.get_ref().1.peer_certificates();
        let shown = shown.and_then(|chain| chain.first());
        let shown = shown.ok_or_else(|| std::io::Error::other("no certificate was presented"))?;
        must_be_a_hubs(shown).map_err(std::io::Error::other)?;
        Ok(stream)
    }
}

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
    if !is_answered_here(request.method(), request.headers()) {
        let handed = follower.hand_on(request).await;
        return handed.unwrap_or_else(|fault| Failure::from(fault).into_response());
    }
    // Before the answer is read: it is not older than this.
    let age = follower.mirror.age().unwrap_or_default();
    let mut response = next.run(request).await;
    let seconds = age.as_millis().div_ceil(1000);
    let seconds = HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX));
    response.headers_mut().insert(header::AGE, seconds);
    response
}

/// Reads are, unless the caller asks for the newest (`Cache-Control: no-cache`, RFC 9111).
fn is_answered_here(method: &Method, headers: &HeaderMap) -> bool {
    let newest = headers.get(header::CACHE_CONTROL);
    let newest = newest.and_then(|value| value.to_str().ok());
    let newest = newest.is_some_and(|value| value.contains("no-cache"));
    method.is_safe() && !newest
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
            Err(error @ SendError::Lost { .. }) => {
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
        let path = parts.uri.path_and_query().cloned();
        parts.uri = path.map_or_else(Uri::default, Uri::from);
        parts.version = http::Version::HTTP_11;
        parts.extensions.clear();
        remove_hops(&mut parts.headers);
        if let Ok(name) = HeaderValue::from_str(&self.replica) {
            parts.headers.insert(FORWARDED_BY, name);
        }
        Ok(Request::from_parts(parts, Body::from(body)))
    }
}

fn remove_hops(headers: &mut HeaderMap) {
    for name in OF_A_CONNECTION {
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
