//! TLS between regions: 1.3 only, both sides show a certificate of the same authority, and each side checks that the other *is*
//! the member it should be (its exact SPIFFE id). Server names route; they never identify.

mod between;
#[cfg(test)]
pub(super) mod testing;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

pub(super) use between::Between;
use verify::MemberVerifier;
pub(super) use verify::{own_words, spiffe_id};

/// The application protocol: HTTP/2.
const ALPN: &[u8] = b"h2";

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    /// A file is missing or is not PEM.
    #[error("read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The files do not fit together.
    #[error("use the certificate, key and authority in {directory}")]
    Use {
        /// Their directory.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// The authority cannot verify clients.
    #[error("verify other regions with {directory}/ca.crt")]
    Verifier {
        /// The directory.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: rustls::server::VerifierBuilderError,
    },
    /// There are no certificates.
    #[error("no certificate yet: {directory} has no usable tls.crt, tls.key and ca.crt")]
    Missing {
        /// Where they are looked for.
        directory: PathBuf,
    },
}

/// One set of certificates, ready for use.
#[derive(Debug)]
pub(super) struct Material {
    /// The bytes it was made from, to notice changes.
    raw: [Vec<u8>; 3],
    server: Arc<ServerConfig>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    directory: PathBuf,
}

/// The certificates of this node, exchanged while running when their files change.
#[derive(Debug)]
pub(super) struct Certificates {
    directory: PathBuf,
    current: ArcSwapOption<Material>,
}

impl Certificates {
    /// Certificates from `tls.crt`, `tls.key` and `ca.crt` in `directory`; nothing is read yet.
    #[must_use]
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            current: ArcSwapOption::empty(),
        }
    }

    /// Reads the files again; `true` if they changed and are in use now.
    ///
    /// # Errors
    /// [`TlsError`] if they cannot be used; the earlier ones then stay in use.
    pub(super) fn reload(&self) -> Result<bool, TlsError> {
        let raw = read_all(&self.directory);
        if self
            .current
            .load()
            .as_ref()
            .is_some_and(|current| current.raw == raw)
        {
            return Ok(false);
        }
        self.current
            .store(Some(Arc::new(Material::load(&self.directory, raw)?)));
        Ok(true)
    }

    /// The certificates in use.
    ///
    /// # Errors
    /// [`TlsError::Missing`] if there are none.
    pub(super) fn current(&self) -> Result<Arc<Material>, TlsError> {
        self.current.load_full().ok_or_else(|| TlsError::Missing {
            directory: self.directory.clone(),
        })
    }
}

fn read_all(directory: &Path) -> [Vec<u8>; 3] {
    // A file that cannot be read is reported by the parser, with its name.
    ["tls.crt", "tls.key", "ca.crt"]
        .map(|name| std::fs::read(directory.join(name)).unwrap_or_default())
}

impl Material {
    fn load(directory: &Path, raw: [Vec<u8>; 3]) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = certificates(&directory.join("tls.crt"))?;
        let key_path = directory.join("tls.key");
        let key = PrivateKeyDer::from_pem_file(&key_path).map_err(|source| TlsError::Read {
            path: key_path,
            source,
        })?;
        let mut roots = RootCertStore::empty();
        let in_use = |source| TlsError::Use {
            directory: directory.to_owned(),
            source,
        };
        for authority in certificates(&directory.join("ca.crt"))? {
            roots.add(authority).map_err(in_use)?;
        }
        let roots = Arc::new(roots);
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|source| TlsError::Verifier {
                    directory: directory.to_owned(),
                    source,
                })?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(in_use)?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(in_use)?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        // A resumed session would skip the check of a certificate that was exchanged or has ended meanwhile.
        server.send_tls13_tickets = 0;
        Ok(Self {
            raw,
            server: Arc::new(server),
            chain,
            key,
            roots,
            provider,
            directory: directory.to_owned(),
        })
    }

    /// Names the certificate and the roots in use, see [`meridian_api::trust::peer_files`].
    #[must_use]
    pub(super) fn files(&self) -> String {
        let [certificate, _key, roots] = &self.raw;
        meridian_api::trust::peer_files(roots, certificate)
    }

    /// For accepting another region; its chain is verified, its identity is the caller's to check.
    #[must_use]
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// For dialling the region whose certificate carries exactly `spiffe_id`.
    ///
    /// # Errors
    /// [`TlsError::Use`] if the own certificate and key do not fit together.
    pub(super) fn client(&self, spiffe_id: &str) -> Result<Arc<ClientConfig>, TlsError> {
        let verifier = MemberVerifier::new(
            Arc::clone(&self.roots),
            Arc::clone(&self.provider),
            spiffe_id.to_owned(),
        );
        let in_use = |source| TlsError::Use {
            directory: self.directory.clone(),
            source,
        };
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(in_use)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(in_use)?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(client))
    }

    /// For dialling another node of the same cluster, which shows a certificate of the same authority for the dialled name.
    ///
    /// # Errors
    /// [`TlsError::Use`] if the own certificate and key do not fit together.
    pub(super) fn client_by_name(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let in_use = |source| TlsError::Use {
            directory: self.directory.clone(),
            source,
        };
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(in_use)?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(in_use)?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(client))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = |source| TlsError::Read {
        path: path.to_owned(),
        source,
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(read)?
        .collect::<Result<_, _>>()
        .map_err(read)?;
    if chain.is_empty() {
        Err(read(rustls::pki_types::pem::Error::NoItemsFound))
    } else {
        Ok(chain)
    }
}

#[cfg(test)]
mod tests;
