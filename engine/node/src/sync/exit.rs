//! The way out of a replica that follows by TLS, to the entry ([`super::entry`]) of its primary. The replica follows a port of its
//! own node in plain text, which nobody outside of the pod reaches; from there on, both nodes show what they know each other by.
//!
//! Valkey has one file of authorities for the primaries that it follows and for the clients that it lets in, and believes any
//! certificate that they signed. Nodes believe each other's very certificates, and clients need those of their own authorities.
//!
//! Each way leads to one primary and has a port of its own, so that nobody who looks at the shard takes a connection to the primary
//! before for one to the new one.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use super::tls::{Between, TlsError};
use crate::backoff::API;
use crate::permission::Position;
use crate::valkey::Replicated;

/// How long it may take until the primary's node has answered. Valkey gives up after five seconds.
const PATIENCE: Duration = Duration::from_secs(3);

/// Connections at one time: one that follows, one that copies, and those that are about to end.
const AT_ONCE: usize = 8;

/// Bytes on their way, each way.
const BUFFER: usize = 64 << 10;

/// Why a replica does not get through.
#[derive(Debug, thiserror::Error)]
enum ExitError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{0:?} is no server name")]
    ServerName(String),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Late,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// By what the nodes of a cluster know each other when one follows the other.
#[derive(Clone, Debug)]
pub(super) struct Following {
    /// Their certificates.
    pub(super) between: Between,
    /// The name in the certificate that they share.
    pub(super) server_name: String,
}

/// An open way to one primary; it is shut when this is dropped.
#[derive(Debug)]
pub(super) struct Exit {
    host: String,
    port: u16,
    own: SocketAddrV4,
    _open: DropGuard,
}

impl Exit {
    /// Opens a way from `out` ([`crate::desired::way_out`]) to the entry at `host`:`port`. Nothing is dialled before the replica comes.
    ///
    /// # Errors
    /// The system has no port to give.
    pub(super) async fn open(
        out: Ipv4Addr,
        host: &str,
        port: u16,
        following: Following,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((out, 0)).await?;
        let own = SocketAddrV4::new(out, listener.local_addr()?.port());
        let stop = CancellationToken::new();
        let way = Arc::new(Way {
            host: host.to_owned(),
            port,
            following,
        });
        drop(tokio::spawn(way.serve(listener, stop.clone())));
        Ok(Self {
            host: host.to_owned(),
            port,
            own,
            _open: stop.drop_guard(),
        })
    }

    /// Where the replica finds it.
    pub(super) fn address(&self) -> SocketAddrV4 {
        self.own
    }

    /// Whether it leads to `host`:`port`.
    pub(super) fn leads_to(&self, host: &str, port: u16) -> bool {
        self.host == host && self.port == port
    }

    /// A replica that follows this way follows the primary to which it leads.
    pub(super) fn seen_through(&self, mut replicated: Replicated) -> Replicated {
        if let Position::Follows { host, .. } = &mut replicated.position
            && host.parse() == Ok(*self.own.ip())
            && replicated.port == self.own.port()
        {
            host.clone_from(&self.host);
            replicated.port = self.port;
        }
        replicated
    }
}

struct Way {
    host: String,
    port: u16,
    following: Following,
}

impl Way {
    async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let mut failures = 0_u32;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = accept(&listener, &room) => accepted,
            };
            let (replica, place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // The system has no connection to give now; the way stays, and the replica tries again.
                    warn!(host = self.host, %error, "a connection to the primary was not taken");
                    failures = failures.saturating_add(1);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(API.delay(failures, rand::random())) => continue,
                    }
                }
            };
            failures = 0;
            let (way, stop) = (Arc::clone(&self), stop.clone());
            drop(tokio::spawn(async move {
                let _place = place;
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = way.pass(replica) => {}
                }
            }));
        }
    }

    async fn pass(&self, replica: TcpStream) {
        let (host, port) = (&self.host, self.port);
        match self.pass_on(replica).await {
            Ok(()) => info!(host, port, "a connection to the primary has ended"),
            Err(error) => {
                let error = crate::run::chain(&error);
                warn!(host, port, error, "no connection to the primary");
            }
        }
    }

    async fn pass_on(&self, mut replica: TcpStream) -> Result<(), ExitError> {
        let dialled = timeout(PATIENCE, self.dial()).await;
        let mut primary = dialled.map_err(|_elapsed| ExitError::Late)??;
        tokio::io::copy_bidirectional_with_sizes(&mut replica, &mut primary, BUFFER, BUFFER)
            .await?;
        Ok(())
    }

    async fn dial(&self) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ExitError> {
        let name = &self.following.server_name;
        let name = ServerName::try_from(name.clone())
            .map_err(|_unusable| ExitError::ServerName(name.clone()))?;
        let (client, name) = self.following.between.client(&name)?;
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        Ok(TlsConnector::from(client).connect(name, tcp).await?)
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(room).acquire_owned().await;
    let place = place.map_err(|_closed| io::Error::from(io::ErrorKind::BrokenPipe))?;
    let (replica, _) = listener.accept().await?;
    Ok((replica, place))
}

#[cfg(test)]
mod tests;
