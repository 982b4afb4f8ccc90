//! The entry of replicas that follow by TLS: a port of its own on every node that holds the shard. Both sides show what
//! the nodes of the cluster know each other by, and what comes through is passed to the shard's Unix socket, where the replica logs in
//! as ever.
//!
//! A port of its own, because the client port shows the certificate that people chose, which replicas have no reason to believe,
//! and asks for certificates of people's clients.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meridian_tls::{Limits, TlsListener};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::tls::Between;
use crate::backoff::API;

const LIMITS: Limits = Limits {
    purpose: "replicas",
    handshake: Duration::from_secs(2),
    at_once: 16,
};

/// Serves at `address` for the shard behind `socket` until `stop`.
pub(super) async fn serve(
    address: SocketAddr,
    socket: PathBuf,
    between: Between,
    stop: CancellationToken,
) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = accept(address, &socket, between, &stop) => {}
    }
}

async fn accept(address: SocketAddr, socket: &Path, between: Between, stop: &CancellationToken) {
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
    let newest = move || Ok(between.server()?);
    let tasks = TaskTracker::new();
    let mut replicas = TlsListener::tls(listener, LIMITS, &tasks, stop.clone(), newest);
    while let Some((replica, from)) = replicas.next().await {
        let (socket, stop) = (socket.to_owned(), stop.clone());
        drop(tokio::spawn(async move {
            let passed = tokio::select! {
                () = stop.cancelled() => return,
                passed = pass(replica, &socket) => passed,
            };
            match passed {
                Ok(()) => info!(%from, "a replica that followed by TLS has left"),
                Err(error) => warn!(%from, %error, "a replica's connection ended"),
            }
        }));
    }
}

async fn pass(mut replica: TlsStream<TcpStream>, socket: &Path) -> std::io::Result<()> {
    let mut shard = UnixStream::connect(socket).await?;
    tokio::io::copy_bidirectional_with_sizes(&mut replica, &mut shard, BUFFER, BUFFER).await?;
    Ok(())
}

/// Bytes on their way, each way.
const BUFFER: usize = 64 << 10;
