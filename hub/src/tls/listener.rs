//! A listener whose handshakes run beside each other, so that a peer that never speaks holds up nobody.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A handshake takes two round trips; whoever needs longer than this is cut off.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at one time. Each costs about half a millisecond of a core, so this many keep a small machine busy
/// without starving the sessions that stand; further connections wait in the kernel's queue.
const HANDSHAKES: usize = 256;
/// Pause after the system refused a connection (most often: too many open files).
const REFUSED: Duration = Duration::from_millis(50);

/// Accepts connections and yields them after their handshake.
#[derive(Debug)]
pub struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl TlsListener {
    /// Starts to accept on the socket until the token is cancelled.
    ///
    /// # Errors
    /// If the socket has no local address.
    pub fn start(
        tcp: TcpListener,
        config: Arc<ServerConfig>,
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let address = tcp.local_addr()?;
        // One place: the server takes a connection as soon as it stands, and a handshake that waits for it holds
        // its permit.
        let (sender, ready) = mpsc::channel(1);
        let acceptor = TlsAcceptor::from(config);
        tracker.spawn(accept(tcp, acceptor, sender, tracker.clone(), stop));
        Ok(Self { ready, address })
    }
}

async fn accept(
    tcp: TcpListener,
    acceptor: TlsAcceptor,
    ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
    tracker: TaskTracker,
    stop: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, tcp.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = stop.cancelled() => return,
            () = ready.closed() => return,
            next = next => next,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(REFUSED).await;
                continue;
            }
        };
        let (acceptor, ready, stop) = (acceptor.clone(), ready.clone(), stop.clone());
        tracker.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = shake_hands(stream, address, acceptor, ready) => {}
            }
            drop(permit);
        });
    }
}

async fn shake_hands(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%address, %error, "the delay of small packets could not be switched off");
    }
    match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            if ready.send((stream, address)).await.is_err() {
                tracing::debug!(%address, "the server stopped before it took the connection");
            }
        }
        Ok(Err(error)) => tracing::info!(%address, %error, "TLS handshake refused"),
        Err(_) => tracing::info!(%address, limit = ?HANDSHAKE, "TLS handshake took too long"),
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(ready) => ready,
            // The listener has stopped; the server ends by its own signal.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}

/// Who is at the other end of a connection, as TLS knows it.
#[derive(Clone, Debug)]
pub struct PeerAddress {
    /// Remote address.
    pub address: SocketAddr,
    /// Verified certificate of the peer, `None` if it presented none.
    pub certificate: Option<CertificateDer<'static>>,
}

impl Connected<IncomingStream<'_, TlsListener>> for PeerAddress {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        let (_, session) = stream.io().get_ref();
        let certificate = session
            .peer_certificates()
            .and_then(|chain| chain.first())
            .cloned();
        Self {
            address: *stream.remote_addr(),
            certificate: certificate.map(CertificateDer::into_owned),
        }
    }
}
