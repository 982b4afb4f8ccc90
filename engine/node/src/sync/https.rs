//! HTTPS for people: handshakes that do not wait for each other, with the newest certificate of a role at each of them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use meridian_api::certificates::Role;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::certificates::Own;

/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// Handshakes at once; more wait.
const HANDSHAKES: usize = 16;

/// Pause after the system gave no connection, most often for want of files.
const REFUSED: Duration = Duration::from_millis(50);

/// Serves `router` with the certificate of `role` until `stop`.
pub(super) async fn serve(
    listener: TcpListener,
    own: Arc<Own>,
    role: Role,
    router: Router,
    stop: CancellationToken,
) {
    let mut config = match own.server(role) {
        Ok(config) => config,
        Err(error) => {
            error!(role = role.name(), %error, "there is no TLS: nothing is served");
            return;
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let listener = Tls::start(listener, Arc::new(config), stop.clone());
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        error!(role = role.name(), %error, "is no longer served");
    }
}

/// Connections after their handshake.
struct Tls {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: io::Result<SocketAddr>,
}

impl Tls {
    fn start(listener: TcpListener, config: Arc<ServerConfig>, stop: CancellationToken) -> Self {
        let address = listener.local_addr();
        let (sender, ready) = mpsc::channel(1);
        tokio::spawn(accept(listener, TlsAcceptor::from(config), sender, stop));
        Self { ready, address }
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
    stop: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = stop.cancelled() => return,
            () = ready.closed() => return,
            next = next => next,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(REFUSED).await;
                continue;
            }
        };
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
                // Nobody takes it: the server has stopped.
                Ok(Ok(stream)) => drop(ready.send((stream, address)).await),
                Ok(Err(error)) => debug!(%address, %error, "a handshake failed"),
                Err(_elapsed) => debug!(%address, "a handshake took too long"),
            }
            drop(permit);
        });
    }
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(ready) => ready,
            // No more come; the server ends by its own signal.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        match &self.address {
            Ok(address) => Ok(*address),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }
}
