//! What the nodes of one cluster say to each other: a listener of its own, apart from other regions, with certificates of the
//! cluster's internal Secret. Independent of the hub: primaries keep their permissions while it is away.

mod members;

use std::sync::Arc;
use std::time::Duration;

use meridian_tls::{Limits, TlsListener};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::proto::nodes::nodes_server::{Nodes, NodesServer};
use super::proto::nodes::{GrantReply, GrantRequest};
use super::tls::{Certificates, Newest};

pub(super) use members::Members;

/// How long another node may be silent, in a handshake as well.
const PATIENCE: Duration = Duration::from_secs(2);

/// A cluster has few nodes.
pub(super) const LIMITS: Limits = Limits {
    handshake: PATIENCE,
    handshakes: 16,
};

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

/// Why other nodes get no answers.
#[derive(Debug, thiserror::Error)]
pub(super) enum InternalError {
    /// The socket is none.
    #[error("the listener for other nodes could not be started")]
    Listen(#[from] std::io::Error),
    /// The server ended by itself.
    #[error("the server for other nodes ended")]
    Serve(#[from] tonic::transport::Error),
}

/// Serves until `stop`.
///
/// # Errors
/// See [`InternalError`].
pub(super) async fn serve(
    listener: TcpListener,
    certificates: Arc<Certificates>,
    grants: Arc<dyn Grants>,
    stop: CancellationToken,
) -> Result<(), InternalError> {
    let tracker = TaskTracker::new();
    // Every certificate of the cluster's own authority is a node of this cluster.
    let known = Newest(certificates);
    let incoming = TlsListener::start(listener, known, LIMITS, &tracker, stop.clone())?;
    let service = Service {
        grants,
        stop: stop.clone(),
    };
    let server = Server::builder()
        .http2_keepalive_interval(Some(PATIENCE))
        .http2_keepalive_timeout(Some(PATIENCE))
        .add_service(NodesServer::new(service).max_decoding_message_size(MESSAGE_MAX))
        .serve_with_incoming(incoming);
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = server => Ok(ended?),
    }
}

#[cfg(test)]
mod tests;
