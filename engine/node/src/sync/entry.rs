//! The entry of replicas that follow by TLS: a port of its own on every node that holds the shard. Both sides show a certificate of
//! the cluster's internal authority, and what comes through is passed to the shard's Unix socket, where the replica logs in as ever.
//!
//! A port of its own, because the client port shows the certificate that people chose, which replicas have no reason to believe,
//! and asks for certificates of people's clients.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::serve::Listener as _;
use meridian_tls::TlsListener;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::internal::LIMITS;
use super::tls::{Certificates, Newest};
use crate::backoff::API;

/// Serves at `address` for the shard behind `socket` until `stop`.
pub(super) async fn serve(
    address: SocketAddr,
    socket: PathBuf,
    certificates: Arc<Certificates>,
    stop: CancellationToken,
) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = accept(address, &socket, &certificates, &stop) => {}
    }
}

async fn accept(
    address: SocketAddr,
    socket: &Path,
    certificates: &Arc<Certificates>,
    stop: &CancellationToken,
) {
    let tracker = TaskTracker::new();
    let mut failures = 0_u32;
    let mut listener = loop {
        // Every certificate of the cluster's own authority is a node of this cluster.
        let known = Newest(Arc::clone(certificates));
        let listener = TcpListener::bind(address)
            .await
            .and_then(|tcp| TlsListener::start(tcp, known, LIMITS, &tracker, stop.clone()));
        match listener {
            Ok(listener) => break listener,
            Err(error) => {
                warn!(%address, %error, "no replica can follow by TLS yet; trying on");
                failures = failures.saturating_add(1);
                tokio::time::sleep(API.delay(failures, rand::random())).await;
            }
        }
    };
    loop {
        let (replica, from) = listener.accept().await;
        let (socket, stop) = (socket.to_owned(), stop.clone());
        tracker.spawn(async move {
            let passed = tokio::select! {
                () = stop.cancelled() => return,
                passed = pass(replica, &socket) => passed,
            };
            match passed {
                Ok(()) => info!(%from, "a replica that followed by TLS has left"),
                Err(error) => warn!(%from, %error, "a replica's connection ended"),
            }
        });
    }
}

async fn pass(mut replica: TlsStream<TcpStream>, socket: &Path) -> std::io::Result<()> {
    let mut shard = UnixStream::connect(socket).await?;
    tokio::io::copy_bidirectional_with_sizes(&mut replica, &mut shard, BUFFER, BUFFER).await?;
    Ok(())
}

/// Bytes on their way, each way.
const BUFFER: usize = 64 << 10;
