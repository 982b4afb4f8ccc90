//! The settings of the HTTPS side: a certificate that is swapped while running.

use std::{sync::Arc, time::Duration};

use meridian_tls::Limits;
use rustls::ServerConfig;

use super::certificate::Live;

/// API servers give up after five seconds.
pub(super) const LIMITS: Limits = Limits {
    handshake: Duration::from_secs(4),
    handshakes: 64,
};

/// TLS 1.2 or 1.3, HTTP/1.1 or HTTP/2, no client certificates: API servers show none unless they are told to.
///
/// # Errors
/// The library refused the settings.
pub(super) fn config(live: Arc<Live>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(live);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
