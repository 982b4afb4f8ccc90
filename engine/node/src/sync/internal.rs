//! What the nodes of one cluster say to each other: a listener of its own, apart from other regions, with certificates of the
//! cluster's internal Secret, or one that a person chose. Independent of the hub: primaries keep their permissions while it is away.

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
use super::tls::Between;

pub(super) use members::Members;

/// How long a handshake, and an answer, may take.
const PATIENCE: Duration = Duration::from_secs(2);

const LIMITS: Limits = Limits {
    purpose: "other nodes",
    handshake: PATIENCE,
    at_once: 16,
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

/// Serves until `stop`.
///
/// # Errors
/// The error of the server, if it ends by itself.
pub(super) async fn serve(
    listener: TcpListener,
    between: Between,
    grants: Arc<dyn Grants>,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let newest = move || Ok(between.server()?);
    let tasks = TaskTracker::new();
    let incoming = TlsListener::tls(listener, LIMITS, &tasks, stop.clone(), newest);
    let service = Service {
        grants,
        stop: stop.clone(),
    };
    let server = Server::builder()
        .http2_keepalive_interval(Some(PATIENCE))
        .http2_keepalive_timeout(Some(PATIENCE))
        .add_service(NodesServer::new(service).max_decoding_message_size(MESSAGE_MAX))
        .serve_with_incoming(incoming.connections());
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = server => ended,
    }
}

#[cfg(test)]
mod tests;
