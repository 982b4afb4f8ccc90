//! The listeners of the link and of the web.

use std::sync::Arc;
use std::time::Duration;

use meridian_tls::Limits;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use meridian_tls::{Peer as PeerAddress, TlsListener};

use super::LinkTls;

/// A handshake takes two round trips; whoever needs longer than this is cut off. Each costs about half a millisecond of a core, so
/// this many keep a small machine busy without starving the sessions that stand.
const LIMITS: Limits = Limits {
    purpose: "hub",
    handshake: Duration::from_secs(10),
    at_once: 256,
};

/// Accepts on the socket until the token is cancelled. What changes in `config` changes behind it.
#[must_use]
pub fn listen(
    tcp: TcpListener,
    config: Arc<ServerConfig>,
    tracker: &TaskTracker,
    stop: CancellationToken,
) -> TlsListener {
    TlsListener::tls(tcp, LIMITS, tracker, stop, move || Ok(Arc::clone(&config)))
}

/// As [`listen`], for the link: each handshake is under the roots that are in force when it begins.
#[must_use]
pub fn listen_link(
    tcp: TcpListener,
    link: Arc<LinkTls>,
    tracker: &TaskTracker,
    stop: CancellationToken,
) -> TlsListener {
    TlsListener::tls(tcp, LIMITS, tracker, stop, move || Ok(link.newest()?))
}
