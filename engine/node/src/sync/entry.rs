//! The entry of replicas that follow by TLS: a port of its own on every node that holds the shard. Both sides show a certificate of
//! the cluster's internal authority, and what comes through is passed to the shard's Unix socket, where the replica logs in as ever.
//!
//! A port of its own, because the client port shows the certificate that people chose, which replicas have no reason to believe,
//! and asks for certificates of people's clients.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::tls::Certificates;
use crate::backoff::API;

/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(2);

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
    let mut failures = 0_u32;
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => {
                warn!(%address, %error, "no replica can follow by TLS yet; trying on");
                failures = failures.saturating_add(1);
                tokio::time::sleep(API.delay(failures, rand::random())).await;
            }
        }
    };
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                // Out of file descriptors, most likely: give others time to end.
                warn!(%address, %error, "a replica's connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (socket, certificates, stop) =
            (socket.to_owned(), Arc::clone(certificates), stop.clone());
        drop(tokio::spawn(async move {
            let passed = tokio::select! {
                () = stop.cancelled() => return,
                passed = pass(stream, &socket, &certificates) => passed,
            };
            match passed {
                Ok(()) => info!(%from, "a replica that followed by TLS has left"),
                Err(error) => {
                    warn!(%from, error = crate::run::chain(error.as_ref()), "a replica's connection ended");
                }
            }
        }));
    }
}

/// Every certificate of the cluster's own authority is a node of this cluster.
async fn pass(
    stream: TcpStream,
    socket: &Path,
    certificates: &Certificates,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let acceptor = tokio_rustls::TlsAcceptor::from(certificates.current()?.server());
    let mut replica = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await??;
    let mut shard = UnixStream::connect(socket).await?;
    tokio::io::copy_bidirectional_with_sizes(&mut replica, &mut shard, BUFFER, BUFFER).await?;
    Ok(())
}

/// Bytes on their way, each way.
const BUFFER: usize = 64 << 10;
