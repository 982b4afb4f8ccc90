//! Where other regions pull from: one listener for all databases of the cluster. The server name of a connection says which
//! database it wants; if that database's primary is on another pod, the connection is passed on there untouched, so that any pod
//! can be reached through one load balancer.

mod service;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use meridian_tls::{Incoming, Limits, Refused};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tracing::{info, warn};

use super::link::Security;
use super::proto;
use super::proto::replication_server::ReplicationServer;
use super::shard::ShardState;
use super::sni::{Greeted, RELAY_MARK, Rewound, greet};
use super::tls::{Certificates, spiffe_id};
use super::topology::{Membership, Route};

/// Each handshake costs a signature and some kilobytes.
const LIMITS: Limits = Limits {
    purpose: "replication",
    handshake: Duration::from_secs(10),
    at_once: 64,
};

/// How long a connection to another pod may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A database that other regions may pull from here.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// Its name.
    pub database: String,
    /// Who is a member.
    pub membership: Membership,
    /// The shard that holds it.
    pub shard: watch::Receiver<ShardState>,
}

/// What the endpoint serves; replaced as a whole when topologies change.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// By the database's identity.
    pub sources: BTreeMap<String, Source>,
    /// By server name.
    pub routes: BTreeMap<String, Route>,
}

/// The table in use.
pub(super) type SharedTable = Arc<ArcSwap<Table>>;

/// How the address of another pod's endpoint is made of its name.
pub(super) type PodAddress = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// Who is at the other end of an accepted connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remote {
    /// A certificate of our authority proved this SPIFFE id; the connection asked for this database.
    Verified {
        /// Its SPIFFE id.
        spiffe_id: String,
        /// The database that its server name leads to.
        database: String,
    },
    /// Nobody knows.
    Anyone,
}

/// The endpoint.
#[derive(Clone)]
pub(super) struct Endpoint {
    /// What it serves.
    pub table: SharedTable,
    /// How it recognises other regions.
    pub security: Security,
    /// Where other pods are.
    pub pod_address: PodAddress,
}

impl Endpoint {
    /// Serves until `stop`.
    ///
    /// # Errors
    /// The error of the server, if it ends by itself.
    pub(super) async fn serve(
        self,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let endpoint = self.clone();
        let receive = move |stream, from| {
            let received = endpoint.clone().receive(stream, from);
            async move { received.await.map_err(Refused::from) }
        };
        let tasks = TaskTracker::new();
        let incoming = Incoming::start(listener, LIMITS, &tasks, stop.clone(), receive);
        let service = ReplicationServer::new(service::Pull::new(Arc::clone(&self.table)))
            .max_decoding_message_size(proto::MESSAGE_MAX);
        let server = Server::builder()
            .http2_keepalive_interval(Some(proto::PING_INTERVAL))
            .http2_keepalive_timeout(Some(proto::PING_TIMEOUT))
            .initial_stream_window_size(Some(1 << 20))
            .add_service(service)
            .serve_with_incoming(incoming.connections());
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = server => ended,
        }
    }

    /// `None`: the connection was passed on and is not ours.
    async fn receive(
        self,
        stream: TcpStream,
        from: SocketAddr,
    ) -> Result<Option<Accepted>, Box<dyn std::error::Error + Send + Sync>> {
        stream.set_nodelay(true)?;
        let Security::Tls(certificates) = &self.security else {
            return Ok(Some(Accepted {
                stream: Stream::Plain(Rewound::untouched(stream)),
                remote: Remote::Anyone,
            }));
        };
        let Greeted {
            server_name,
            relayed,
            stream,
        } = greet(stream).await?;
        let route = self.table.load().routes.get(&server_name).cloned();
        match route {
            None => Err(format!("no database of this cluster has the server name {server_name}").into()),
            Some(Route::Relay(pod)) if relayed => {
                Err(format!("{server_name} was relayed here, but its primary is on {pod}: topologies differ for a moment").into())
            }
            Some(Route::Relay(pod)) => {
                let address = (self.pod_address)(&pod);
                drop(tokio::spawn(relay(stream, address, server_name, from)));
                Ok(None)
            }
            Some(Route::Here(database)) => self.identify(stream, certificates, database).await.map(Some),
        }
    }

    async fn identify(
        &self,
        stream: Rewound,
        certificates: &Certificates,
        database: String,
    ) -> Result<Accepted, Box<dyn std::error::Error + Send + Sync>> {
        let acceptor = tokio_rustls::TlsAcceptor::from(certificates.current()?.server());
        let stream = acceptor.accept(stream).await?;
        let certificate = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first());
        let spiffe_id = spiffe_id(certificate.ok_or("it showed no certificate")?)?;
        let table = self.table.load();
        let member = table
            .sources
            .values()
            .filter(|source| source.database == database)
            .any(|source| {
                source
                    .membership
                    .peers
                    .values()
                    .any(|peer| peer.spiffe_id == spiffe_id)
            });
        if !member {
            return Err(format!("{spiffe_id} is no member of database {database}").into());
        }
        Ok(Accepted {
            stream: Stream::Tls(Box::new(stream)),
            remote: Remote::Verified {
                spiffe_id,
                database,
            },
        })
    }
}

async fn relay(mut stream: Rewound, address: String, server_name: String, from: SocketAddr) {
    let passed = async {
        let mut onward = tokio::time::timeout(PATIENCE, TcpStream::connect(&address)).await??;
        onward.set_nodelay(true)?;
        onward.write_all(RELAY_MARK).await?;
        copy_bidirectional(&mut stream, &mut onward).await
    };
    match passed.await {
        Ok((received, sent)) => {
            info!(%from, server_name, to = address, received, sent, "a relayed connection ended")
        }
        Err(error) => warn!(%from, server_name, to = address, %error, "a relayed connection broke"),
    }
}

enum Stream {
    Plain(Rewound),
    Tls(Box<TlsStream<Rewound>>),
}

/// A connection that may speak the protocol.
struct Accepted {
    stream: Stream,
    remote: Remote,
}

impl Connected for Accepted {
    type ConnectInfo = Remote;

    fn connect_info(&self) -> Remote {
        self.remote.clone()
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
