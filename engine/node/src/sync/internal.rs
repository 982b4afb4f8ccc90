//! What the nodes of one cluster say to each other: a listener of its own, apart from other regions, with certificates of the
//! cluster's internal Secret. Independent of the hub: primaries keep their permissions while it is away.

mod members;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tracing::warn;

use super::proto::nodes::nodes_server::{Nodes, NodesServer};
use super::proto::nodes::{GrantReply, GrantRequest};
use super::tls::Certificates;

pub(super) use members::Members;

/// Handshakes at once; more wait.
const HANDSHAKES: usize = 16;

/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Accepted connections that wait for the server, which takes them at once.
const ACCEPT_QUEUE: usize = 8;

/// Questions and answers are a few hundred bytes.
const MESSAGE_MAX: usize = 16 << 10;

/// Who knows what this node obeys.
pub(super) trait Grants: Send + Sync + 'static {
    /// The answer to a primary that asks for a grant.
    fn grant(&self, request: &GrantRequest) -> GrantReply;
}

struct Service {
    grants: Arc<dyn Grants>,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl Nodes for Service {
    async fn grant(&self, request: Request<GrantRequest>) -> Result<Response<GrantReply>, Status> {
        // Whoever comes after this process may obey more: a connection that outlives the listener grants nothing.
        if self.stop.is_cancelled() {
            return Err(Status::unavailable("this node stops"));
        }
        Ok(Response::new(self.grants.grant(request.get_ref())))
    }
}

/// Serves until `stop`.
///
/// # Errors
/// The error of the server, if it ends by itself.
pub(super) async fn serve(
    listener: TcpListener,
    certificates: Arc<Certificates>,
    grants: Arc<dyn Grants>,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let (accepted, incoming) = mpsc::channel(ACCEPT_QUEUE);
    let service = Service {
        grants,
        stop: stop.clone(),
    };
    let server = Server::builder()
        .http2_keepalive_interval(Some(PATIENCE))
        .http2_keepalive_timeout(Some(PATIENCE))
        .add_service(NodesServer::new(service).max_decoding_message_size(MESSAGE_MAX))
        .serve_with_incoming(ReceiverStream::new(incoming));
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        () = accept(listener, certificates, accepted) => Ok(()),
        ended = server => ended,
    }
}

async fn accept(
    listener: TcpListener,
    certificates: Arc<Certificates>,
    accepted: mpsc::Sender<std::io::Result<TlsStream<TcpStream>>>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                // Out of file descriptors, most likely: give others time to end.
                warn!(%error, "another node's connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else {
            return;
        };
        let (certificates, accepted) = (Arc::clone(&certificates), accepted.clone());
        drop(tokio::spawn(async move {
            match identify(stream, &certificates).await {
                // The server ends only together with this task.
                Ok(stream) => drop(accepted.send(Ok(stream)).await),
                Err(error) => {
                    warn!(%from, error = crate::run::chain(error.as_ref()), "another node's connection was refused");
                }
            }
            drop(permit);
        }));
    }
}

/// Every certificate of the cluster's own authority is a node of this cluster.
async fn identify(
    stream: TcpStream,
    certificates: &Certificates,
) -> Result<TlsStream<TcpStream>, Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let acceptor = tokio_rustls::TlsAcceptor::from(certificates.current()?.server());
    Ok(tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await??)
}

#[cfg(test)]
mod tests;
