//! One connection of a link, from dialling to its end.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status, Streaming};
use tracing::info;

use super::status::Applied;
use super::{LinkConfig, Security, SharedStatus, State};
use crate::clock;
use crate::sync::proto::replication_client::ReplicationClient;
use crate::sync::proto::{
    self, BatchPart, Hello, PullReply, PullRequest, Want, pull_reply::Kind as Reply,
    pull_request::Kind as Request,
};
use crate::sync::shard::{Shard, ShardError, ShardState};
use crate::sync::tls::{TlsError, own_words};

/// How long a connection may take to come about.
const DIAL: Duration = Duration::from_secs(5);

/// Requests on their way: one, since the next is asked for when the last batch is applied.
const REQUEST_QUEUE: usize = 2;

/// Refusals of the engine after which trying again is useless.
const STALLING: [&str; 3] = ["BACKLOGGONE", "CRDTFUTURE", "CRDTFORMAT"];

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// The other region is not known well enough yet.
    #[error("the membership has no {0} for this region yet")]
    Incomplete(&'static str),
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server name is none.
    #[error("{name:?} is no server name")]
    ServerName {
        /// What the membership says.
        name: String,
        /// Why not.
        #[source]
        source: InvalidDnsNameError,
    },
    /// The address is none.
    #[error("{0:?} is no host:port")]
    Address(String),
    /// No connection.
    #[error("connect to {endpoint}")]
    Dial {
        /// Where.
        endpoint: String,
        /// Why not.
        #[source]
        source: tonic::transport::Error,
    },
    /// The source ended the stream or refused it.
    #[error("{0}")]
    Source(String, Code),
    /// The source said something out of turn.
    #[error("the source broke the protocol: {0}")]
    Protocol(&'static str),
    /// This region's own shard.
    #[error("this region's own shard")]
    Shard(#[from] ShardError),
    /// This region's own shard is not there.
    #[error("this region's own shard does not serve: {0}")]
    ShardAway(String),
    /// This region's own shard refused what the source sent.
    #[error("the source's writes are not applied, and nothing after them: {0}")]
    Rejected(#[source] ShardError),
}

impl From<Status> for SessionError {
    fn from(status: Status) -> Self {
        let text = match std::error::Error::source(&status) {
            Some(cause) => format!("{}: {}", status.message(), crate::run::chain(cause)),
            None => status.message().to_owned(),
        };
        Self::Source(text, status.code())
    }
}

impl SessionError {
    /// `true` if trying again will not help by itself.
    #[must_use]
    pub(super) fn stalls(&self) -> bool {
        match self {
            Self::Source(_, code) => *code == Code::OutOfRange,
            Self::Rejected(error) => error.code().is_some_and(|code| STALLING.contains(&code)),
            Self::Incomplete(_)
            | Self::Tls(_)
            | Self::ServerName { .. }
            | Self::Address(_)
            | Self::Dial { .. }
            | Self::Protocol(_)
            | Self::Shard(_)
            | Self::ShardAway(_) => false,
        }
    }
}

/// Connects and pulls until something ends it; says what. `attempt` goes back to 0 once the link works.
pub(super) async fn run(
    config: &LinkConfig,
    mut shard: watch::Receiver<ShardState>,
    status: &SharedStatus,
    attempt: &mut u32,
) -> SessionError {
    match pull(config, &mut shard, status, attempt).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn pull(
    config: &LinkConfig,
    shard: &mut watch::Receiver<ShardState>,
    status: &SharedStatus,
    attempt: &mut u32,
) -> Result<std::convert::Infallible, SessionError> {
    let local = ready(shard).await?;
    let channel = dial(config).await?;
    let mut client = ReplicationClient::new(channel).max_decoding_message_size(proto::MESSAGE_MAX);
    let (requests, outgoing) = mpsc::channel(REQUEST_QUEUE);
    let hello = Hello {
        protocol_min: proto::PROTOCOL,
        protocol_max: proto::PROTOCOL,
        database_guid: config.guid.clone(),
        instance_id: config.instance_id,
        config_version: config.config_version,
        source_instance_id: config.peer.instance_id,
    };
    send(&requests, Request::Hello(hello)).await?;
    let mut replies = client
        .pull(ReceiverStream::new(outgoing))
        .await?
        .into_inner();
    let Reply::Welcome(welcome) = next(&mut replies).await? else {
        return Err(SessionError::Protocol("its first word was not a welcome"));
    };
    if welcome.instance_id != config.peer.instance_id {
        return Err(SessionError::Protocol(
            "it is another instance than the one that was dialled",
        ));
    }
    status.update(|s| s.welcomed(welcome.config_version, clock::now()));
    let mut incarnation = String::new();
    loop {
        // A life, once begun, lasts as long as this connection to the shard.
        if incarnation.is_empty() {
            incarnation = local.incarnation().await?;
        }
        let have = local.clock().await?.blob;
        send(
            &requests,
            Request::Want(Want {
                clock: have,
                max_bytes: proto::BATCH_BYTES,
                incarnation: incarnation.clone(),
            }),
        )
        .await?;
        let caught_up = receive_one(config, &local, &mut replies, status, attempt).await?;
        if caught_up && status.change(State::Up, None) {
            info!(
                database = config.database,
                peer = config.peer.instance_id,
                "up"
            );
        }
    }
}

/// Notes that the link works. A welcome alone is no proof: a source whose shard is away welcomes and then refuses, and so
/// would be dialled again at once, for ever.
fn works(status: &SharedStatus, attempt: &mut u32) {
    *attempt = 0;
    if !matches!(status.view().state, State::Up | State::Syncing) {
        status.change(State::Syncing, None);
    }
}

/// Waits out the source's silence, then takes one batch and applies it; `true` if the source had no more.
async fn receive_one(
    config: &LinkConfig,
    local: &Shard,
    replies: &mut Streaming<PullReply>,
    status: &SharedStatus,
    attempt: &mut u32,
) -> Result<bool, SessionError> {
    let mut batch = Vec::new();
    let mut began = false;
    loop {
        match next(replies).await? {
            Reply::Welcome(_) => return Err(SessionError::Protocol("it welcomed twice")),
            Reply::Idle(idle) => {
                works(status, attempt);
                status.update(|s| s.idle(&idle.source_clock, clock::now()));
                if status.change(State::Up, None) {
                    info!(
                        database = config.database,
                        peer = config.peer.instance_id,
                        "up"
                    );
                }
            }
            Reply::BatchPart(BatchPart {
                data,
                last,
                more,
                source_clock,
            }) => {
                if !began {
                    status.update(|s| s.batch_began(clock::now()));
                    began = true;
                }
                if batch.len() + data.len() > proto::BATCH_MAX {
                    return Err(SessionError::Protocol(
                        "its batch is larger than any value can be",
                    ));
                }
                batch.extend_from_slice(&data);
                if last {
                    let effects = apply(config, local, &batch).await?;
                    works(status, attempt);
                    let bytes = batch.len() as u64;
                    status.update(|s| {
                        s.batch_applied(
                            &Applied {
                                bytes,
                                effects,
                                more,
                                source_clock,
                            },
                            clock::now(),
                        )
                    });
                    return Ok(!more);
                }
            }
        }
    }
}

async fn apply(config: &LinkConfig, local: &Shard, batch: &[u8]) -> Result<u64, SessionError> {
    local
        .apply(config.peer.instance_id, batch)
        .await
        .map_err(|error| match error {
            ShardError::Refused { .. } => SessionError::Rejected(error),
            ShardError::Gone { .. } => SessionError::Shard(error),
        })
}

async fn ready(shard: &mut watch::Receiver<ShardState>) -> Result<Shard, SessionError> {
    // A shard that does not come, or is given up, leaves its reason behind.
    drop(tokio::time::timeout(DIAL, shard.wait_for(|state| state.shard.is_some())).await);
    let state = shard.borrow().clone();
    state.shard.ok_or_else(|| {
        SessionError::ShardAway(
            state
                .error
                .unwrap_or_else(|| "it has not started yet".to_owned()),
        )
    })
}

async fn send(requests: &mpsc::Sender<PullRequest>, kind: Request) -> Result<(), SessionError> {
    let request = PullRequest { kind: Some(kind) };
    requests
        .send(request)
        .await
        .map_err(|_| SessionError::Source("the stream ended".to_owned(), Code::Unavailable))
}

async fn next(replies: &mut Streaming<PullReply>) -> Result<Reply, SessionError> {
    loop {
        match replies.message().await? {
            // A reply of a kind that this version does not know is no reason to stop.
            Some(PullReply { kind: None }) => {}
            Some(PullReply { kind: Some(kind) }) => return Ok(kind),
            None => {
                return Err(SessionError::Source(
                    "the source ended the stream".to_owned(),
                    Code::Unavailable,
                ));
            }
        }
    }
}

async fn dial(config: &LinkConfig) -> Result<Channel, SessionError> {
    let peer = &config.peer;
    if peer.endpoint.is_empty() {
        return Err(SessionError::Incomplete("address"));
    }
    let uri: Uri = format!("http://{}", peer.endpoint)
        .parse()
        .map_err(|_| SessionError::Address(peer.endpoint.clone()))?;
    let endpoint = Endpoint::from(uri)
        .connect_timeout(DIAL)
        .http2_keep_alive_interval(proto::PING_INTERVAL)
        .keep_alive_timeout(proto::PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(Some(4 << 20))
        .initial_connection_window_size(Some(8 << 20));
    let address = peer.endpoint.clone();
    let failed = |source| SessionError::Dial {
        endpoint: peer.endpoint.clone(),
        source,
    };
    match &config.security {
        Security::Insecure => {
            let connector = tower::service_fn(move |_: Uri| {
                let address = address.clone();
                async move { connect(&address).await.map(TokioIo::new) }
            });
            endpoint
                .connect_with_connector(connector)
                .await
                .map_err(failed)
        }
        Security::Tls(certificates) => {
            if peer.spiffe_id.is_empty() {
                return Err(SessionError::Incomplete("identity"));
            }
            let client = certificates.current()?.client(&peer.spiffe_id)?;
            let name = ServerName::try_from(peer.server_name.clone()).map_err(|source| {
                SessionError::ServerName {
                    name: peer.server_name.clone(),
                    source,
                }
            })?;
            let connector = tower::service_fn(move |_: Uri| {
                let (address, client, name) = (address.clone(), client.clone(), name.clone());
                async move {
                    let tcp = connect(&address).await?;
                    tokio_rustls::TlsConnector::from(client)
                        .connect(name, tcp)
                        .await
                        .map(TokioIo::new)
                        .map_err(own_words)
                }
            });
            endpoint
                .connect_with_connector(connector)
                .await
                .map_err(failed)
        }
    }
}

async fn connect(address: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests;
