//! A TLS listener whose handshakes run beside each other, so that a peer that never speaks holds up nobody. For every program
//! of Meridian that serves HTTPS or gRPC.
//!
//! It is a [`Listener`] of axum and a [`Stream`] of connections for tonic. What it shakes hands with is asked for anew at each
//! connection ([`Settings`]), so certificates may change while it runs.

use std::{
    error::Error,
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use futures::Stream;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Pause after the system refused a connection (most often: too many open files).
const REFUSED: Duration = Duration::from_millis(50);

/// Why no handshake was tried, or why it failed.
pub type Refusal = Box<dyn Error + Send + Sync>;

/// What the next handshake is made with.
pub trait Settings: Send + Sync + 'static {
    /// The settings of now.
    ///
    /// # Errors
    /// There are none, for instance because no certificate has come yet: the connection is closed, and the reason logged.
    fn current(&self) -> Result<Arc<ServerConfig>, Refusal>;
}

impl Settings for Arc<ServerConfig> {
    fn current(&self) -> Result<Arc<ServerConfig>, Refusal> {
        Ok(Self::clone(self))
    }
}

/// How much handshakes may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest handshake; it takes two round trips, and whoever needs longer is cut off.
    pub handshake: Duration,
    /// Handshakes at one time. Each costs about half a millisecond of a core; further connections wait in the kernel's queue.
    pub handshakes: usize,
}

/// Accepts connections and yields them after their handshake.
pub struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl fmt::Debug for TlsListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsListener").field(&self.address).finish()
    }
}

impl TlsListener {
    /// Accepts on the socket until `stop` or until it is dropped, in tasks of `tracker`.
    ///
    /// # Errors
    /// The socket has no local address.
    pub fn start(
        tcp: TcpListener,
        settings: impl Settings,
        limits: Limits,
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let address = tcp.local_addr()?;
        // One place: the server takes a connection as soon as it stands, and a handshake that waits for it holds its permit.
        let (sender, ready) = mpsc::channel(1);
        let door = Door {
            settings: Arc::new(settings),
            limit: limits.handshake,
            ready: sender,
            stop,
        };
        tracker.spawn(door.accept(tcp, limits.handshakes, tracker.clone()));
        Ok(Self { ready, address })
    }
}

struct Door<S> {
    settings: Arc<S>,
    limit: Duration,
    ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
    stop: CancellationToken,
}

impl<S> Clone for Door<S> {
    fn clone(&self) -> Self {
        Self {
            settings: Arc::clone(&self.settings),
            limit: self.limit,
            ready: self.ready.clone(),
            stop: self.stop.clone(),
        }
    }
}

impl<S: Settings> Door<S> {
    async fn accept(self, tcp: TcpListener, handshakes: usize, tracker: TaskTracker) {
        let permits = Arc::new(Semaphore::new(handshakes));
        loop {
            let next = async {
                let permit = Arc::clone(&permits).acquire_owned().await;
                (permit, tcp.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.ready.closed() => return,
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
            let door = self.clone();
            tracker.spawn(async move {
                tokio::select! {
                    () = door.stop.cancelled() => {}
                    () = door.let_in(stream, address) => {}
                }
                drop(permit);
            });
        }
    }

    async fn let_in(&self, stream: TcpStream, address: SocketAddr) {
        match timeout(self.limit, self.shake_hands(stream)).await {
            // Nobody takes it: the server has stopped.
            Ok(Ok(stream)) => drop(self.ready.send((stream, address)).await),
            Ok(Err(error)) => {
                let error = chain(error.as_ref());
                tracing::info!(%address, error, "TLS handshake refused");
            }
            Err(_) => {
                tracing::info!(%address, limit = ?self.limit, "TLS handshake took too long");
            }
        }
    }

    async fn shake_hands(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Refusal> {
        stream.set_nodelay(true)?;
        let acceptor = TlsAcceptor::from(self.settings.current()?);
        Ok(acceptor.accept(stream).await?)
    }
}

/// An error with its causes.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
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

impl Stream for TlsListener {
    type Item = io::Result<TlsStream<TcpStream>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready
            .poll_recv(context)
            .map(|ready| ready.map(|(stream, _)| Ok(stream)))
    }
}

#[cfg(test)]
mod tests;
