//! Speaks to the web API of other replicas, and to nobody else.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::ca::must_be_a_hubs;
use crate::tls::{self, TlsError};

/// Longest time to reach the leader.
const CONNECT: Duration = Duration::from_secs(2);
/// Longest time until it answers: shorter than what a request may take, so that the caller hears what is known.
const ANSWER: Duration = Duration::from_secs(20);
/// Requests that wait for an answer at one time. With the largest body it bounds what they hold in memory, and what a crowd at
/// one replica costs the one that leads.
const AT_ONCE: usize = 64;

/// Why a request to another replica has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Too many wait. Nothing was sent.
    #[error("{limit} requests wait already for the hub that leads")]
    Busy {
        /// How many may.
        limit: usize,
    },
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
    /// The answer did not come in time.
    #[error("{address} did not answer within {within:?}")]
    Late {
        /// The replica's address.
        address: String,
        /// How long it was waited for.
        within: Duration,
    },
}

/// Speaks to the web API of replicas that have a certificate of the shared authority.
#[derive(Clone)]
pub struct Client {
    tls: TlsConnector,
    pub(super) within: Duration,
    pub(super) places: Arc<Semaphore>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// A client that trusts these roots only.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(roots: &[CertificateDer<'static>]) -> Result<Self, TlsError> {
        Ok(Self {
            tls: TlsConnector::from(tls::client_config(roots)?),
            within: ANSWER,
            places: Arc::new(Semaphore::new(AT_ONCE)),
        })
    }

    /// Sends one request to `host:port`.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, address: &str, mut request: Request) -> Result<Response, SendError> {
        let Ok(_place) = self.places.try_acquire() else {
            return Err(SendError::Busy { limit: AT_ONCE });
        };
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
        let answer = timeout(self.within, sender.send_request(request)).await;
        let answer = answer.map_err(|_| SendError::Late {
            address: address.to_owned(),
            within: self.within,
        })?;
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
        let stream = self.tls.connect(name, stream).await?;
        // The caller's token goes to a hub and to nobody else that the authority has signed for.
        let shown = stream.get_ref().1.peer_certificates();
        let shown = shown.and_then(|chain| chain.first());
        let shown = shown.ok_or_else(|| std::io::Error::other("no certificate was presented"))?;
        must_be_a_hubs(shown).map_err(std::io::Error::other)?;
        Ok(stream)
    }
}
