//! The HTTPS side: a certificate that is swapped while running.

use std::{sync::Arc, time::Duration};

use meridian_tls::{Limits, TlsListener};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::certificate::Live;

const LIMITS: Limits = Limits {
    purpose: "admission",
    handshake: Duration::from_secs(4),
    at_once: 64,
};

/// Accepts on the socket until `stop`, with the newest certificate of `live`. TLS 1.2 or 1.3, HTTP/1.1 or HTTP/2, no client
/// certificates: API servers show none unless they are told to.
///
/// # Errors
/// The library refused the settings.
pub(super) fn listen(
    tcp: TcpListener,
    live: Arc<Live>,
    stop: CancellationToken,
) -> Result<TlsListener, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(live);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let config = Arc::new(config);
    let newest = move || Ok(Arc::clone(&config));
    Ok(TlsListener::tls(
        tcp,
        LIMITS,
        &TaskTracker::new(),
        stop,
        newest,
    ))
}
