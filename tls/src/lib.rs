//! Accepts connections so that no peer holds up another: each handshake runs in a task of its own, within a time, and so many at once.
//!
//! [`Incoming`] is the loop, for any handshake; [`TlsListener`] is the one for TLS, which asks for the newest configuration at every
//! handshake and hands the peer's certificate on. Both are listeners for axum, and streams for tonic. Every server of ours uses this;
//! who may connect is the business of the configuration, and of whoever takes the connection.

mod incoming;

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use incoming::{Incoming, Limits};

/// Why a handshake failed.
pub type Refusal = Box<dyn Error + Send + Sync>;

/// A connection that was refused.
#[derive(Debug)]
pub struct Refused {
    /// For the log.
    pub why: Refusal,
    /// The connection, if the peer was told something that it should be able to read.
    pub stream: Option<TcpStream>,
}

impl From<Refusal> for Refused {
    fn from(why: Refusal) -> Self {
        Self { why, stream: None }
    }
}

impl From<io::Error> for Refused {
    fn from(why: io::Error) -> Self {
        Refusal::from(why).into()
    }
}

/// Yields connections after their TLS handshake.
pub type TlsListener = Incoming<TlsStream<TcpStream>>;

impl TlsListener {
    /// Accepts on `tcp` until `stop`, in tasks of `tasks`. `newest` is asked at each handshake.
    pub fn tls(
        tcp: TcpListener,
        limits: Limits,
        tasks: &TaskTracker,
        stop: CancellationToken,
        newest: impl Fn() -> Result<Arc<ServerConfig>, Refusal> + Send + Sync + 'static,
    ) -> Self {
        let newest = Arc::new(newest);
        Self::start(tcp, limits, tasks, stop, move |stream, _from| {
            let config = newest();
            async move { Ok(Some(shake_hands(stream, config?).await?)) }
        })
    }
}

/// One handshake. Who fails it gets an alert.
async fn shake_hands(
    stream: TcpStream,
    config: Arc<ServerConfig>,
) -> Result<TlsStream<TcpStream>, Refused> {
    stream.set_nodelay(true)?;
    let shaken = TlsAcceptor::from(config).accept(stream).into_fallible();
    shaken.await.map_err(|(error, stream)| Refused {
        why: error.into(),
        stream: Some(stream),
    })
}

/// Who is at the other end of a connection, as TLS knows it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Remote address.
    pub address: SocketAddr,
    /// Verified certificate of the peer, `None` if it presented none.
    pub certificate: Option<CertificateDer<'static>>,
}

impl Connected<IncomingStream<'_, TlsListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        let (_, session) = stream.io().get_ref();
        let chain = session.peer_certificates();
        let certificate = chain.and_then(|chain| chain.first()).cloned();
        Self {
            address: *stream.remote_addr(),
            certificate: certificate.map(CertificateDer::into_owned),
        }
    }
}
