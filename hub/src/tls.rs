//! TLS for both listeners: a certificate that is swapped while running, and the listener that shakes hands.

mod listener;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, UnixTime};

pub use listener::{PeerAddress, TlsListener, listen, listen_link};

use crate::ca::{Authority, ServerIdentity};
use crate::clock::Clock;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The library refused the certificate, the key or the settings.
    #[error("TLS could not be set up")]
    Rustls(#[from] rustls::Error),
    /// The root that client certificates are checked against was refused.
    #[error("the verifier of client certificates could not be made: {0}")]
    Verifier(String),
}

/// The server certificate in use. Connections that stand keep theirs; new ones get the newest.
#[derive(Debug)]
pub struct LiveCertificate(ArcSwap<CertifiedKey>);

impl LiveCertificate {
    /// Starts with this certificate.
    ///
    /// # Errors
    /// [`TlsError::Rustls`] if the key cannot be used.
    pub fn new(identity: ServerIdentity) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(certified(identity)?))))
    }

    /// Uses this certificate for every handshake from now on.
    ///
    /// # Errors
    /// As [`LiveCertificate::new`]; the old certificate stays in use.
    pub fn swap(&self, identity: ServerIdentity) -> Result<(), TlsError> {
        self.0.store(Arc::new(certified(identity)?));
        Ok(())
    }
}

impl ResolvesServerCert for LiveCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn certified(identity: ServerIdentity) -> Result<CertifiedKey, TlsError> {
    let ServerIdentity { chain, key, .. } = identity;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
    Ok(CertifiedKey::new(chain, key))
}

/// The hub's clock as TLS asks for it: certificates of members live by it.
#[derive(Debug)]
struct HubTime(Arc<dyn Clock>);

impl TimeProvider for HubTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// Settings of the link, which follow the roots in force: TLS 1.3 and HTTP/2 only. A client certificate is asked for and, if given,
/// must verify; the services decide which calls demand one, because a cluster that joins has none yet.
///
/// Connections that stand keep what they were made with. A session that was made under other roots is never resumed: what may be
/// resumed is a part of the settings.
#[derive(Debug)]
pub struct LinkTls {
    certificate: Arc<LiveCertificate>,
    ca: Arc<Authority>,
    clock: Arc<dyn Clock>,
    made: ArcSwap<(u64, Arc<ServerConfig>)>,
}

impl LinkTls {
    /// With the roots in force.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(
        certificate: Arc<LiveCertificate>,
        ca: Arc<Authority>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, TlsError> {
        let (version, roots) = ca.versioned();
        let config = link_config(Arc::clone(&certificate), &roots, Arc::clone(&clock))?;
        Ok(Arc::new(Self {
            certificate,
            ca,
            clock,
            made: ArcSwap::from_pointee((version, config)),
        }))
    }

    /// For the next handshake.
    ///
    /// # Errors
    /// [`TlsError`]: then nobody is let in, rather than by roots that are trusted no more.
    pub fn newest(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let made = self.made.load();
        if made.0 == self.ca.version() {
            return Ok(Arc::clone(&made.1));
        }
        let (version, roots) = self.ca.versioned();
        let config = link_config(
            Arc::clone(&self.certificate),
            &roots,
            Arc::clone(&self.clock),
        )?;
        self.made.store(Arc::new((version, Arc::clone(&config))));
        Ok(config)
    }
}

fn link_config(
    certificate: Arc<LiveCertificate>,
    roots: &[CertificateDer<'static>],
    clock: Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(
        Arc::new(trusted(roots)?),
        Arc::clone(&provider),
    )
    .allow_unauthenticated()
    .build()
    .map_err(|e| TlsError::Verifier(e.to_string()))?;
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(HubTime(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn trusted(roots: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone())?;
    }
    Ok(store)
}

/// Settings of a client of another replica's web API: TLS 1.3, and no roots but the hub's own.
///
/// # Errors
/// [`TlsError`].
pub fn client_config(roots: &[CertificateDer<'static>]) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(trusted(roots)?)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Settings of the web API: TLS 1.2 or 1.3, HTTP/1.1 or HTTP/2, no client certificates.
///
/// # Errors
/// [`TlsError`].
pub fn web_config(certificate: Arc<LiveCertificate>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
