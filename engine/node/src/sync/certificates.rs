//! The certificates that this node shows to people, clients and other nodes, one per role, as the agent's Secret `<rec>-tls` has
//! them.
//!
//! Each pair that is always there is written below the directory of sockets and secrets, as `tls/<role>/tls.crt` and `tls.key`, for processes that
//! read files. `tls/<role>` is a symbolic link to a directory that never changes, so both files always belong together.
//! Listeners of this process take their key from memory, at each handshake ([`Own::server`]). [`Own::generation`] rises after
//! a change is in place. A pair that cannot be used changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use k8s_openapi::api::core::v1::Secret;
use meridian_api::certificates::Role;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::atomic_file::{self, FileError};
use crate::secret::sha256_hex;

/// Why a pair is not used.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// The Secret lacks it.
    #[error("the Secret has no key {0:?}")]
    Lacks(String),
    /// It is no PEM.
    #[error("{part} is no PEM")]
    Pem {
        /// Its key in the Secret.
        part: String,
        /// Why not.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The crypto library refuses it.
    #[error("the certificate and key of {role} cannot be used together")]
    Use {
        /// Its role.
        role: Role,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// It could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The key of one role in use; connections that stand keep theirs.
#[derive(Debug, Default)]
struct Live(ArcSwapOption<CertifiedKey>);

impl ResolvesServerCert for Live {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// The certificates of this node.
#[derive(Debug)]
pub struct Own {
    directory: PathBuf,
    live: BTreeMap<Role, Arc<Live>>,
    generation: watch::Sender<u64>,
}

impl Own {
    /// Certificates below `directory`. None is known until the first [`Self::apply`]; files of an earlier process stay.
    pub fn new(directory: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            directory,
            live: Role::ALL.map(|role| (role, Arc::default())).into(),
            generation: watch::channel(0).0,
        })
    }

    /// Rises after files and listeners have something new; 0 until there is anything.
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// A TLS configuration that shows the newest certificate of `role` at each handshake, and fails the handshake while
    /// there is none. Clients of TLS 1.2 are served too.
    ///
    /// # Errors
    /// The crypto library does not support TLS at all.
    pub fn server(&self, role: Role) -> Result<ServerConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let live: Arc<dyn ResolvesServerCert> = match self.live.get(&role) {
            Some(live) => Arc::clone(live) as Arc<dyn ResolvesServerCert>,
            None => Arc::new(Live::default()),
        };
        Ok(ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(live))
    }

    /// What is shown in `role` now.
    pub(super) fn chosen(&self, role: Role) -> Option<Arc<CertifiedKey>> {
        self.live.get(&role)?.0.load_full()
    }

    /// Uses what the Secret has. A role whose pair cannot be used keeps what it had.
    pub fn apply(&self, secret: &Secret) {
        let mut changed = Vec::new();
        for role in Role::ALL {
            match self.apply_role(role, secret) {
                Ok(true) => changed.push(role.name()),
                Ok(false) => {}
                Err(error) => warn!(
                    role = role.name(),
                    error = crate::run::chain(&error),
                    "this certificate cannot be used; the one before stays"
                ),
            }
        }
        if !changed.is_empty() {
            info!(roles = changed.join(","), "new certificates are in use");
            self.generation.send_modify(|generation| *generation += 1);
        }
    }

    fn apply_role(&self, role: Role, secret: &Secret) -> Result<bool, OwnError> {
        if !role.is_always_there() && lacks(secret, role) {
            let shown = self.live.get(&role).and_then(|live| live.0.swap(None));
            return Ok(shown.is_some());
        }
        let part = |key: String| {
            let found = secret.data.as_ref().and_then(|data| data.get(&key));
            match found {
                Some(bytes) => Ok((key, bytes.0.as_slice())),
                None => Err(OwnError::Lacks(key)),
            }
        };
        let (certificate, key) = (part(role.certificate_key())?, part(role.private_key())?);
        let certified = certified(role, &certificate, &key)?;
        // No process reads the others from files.
        let written = role.is_always_there() && write(&self.directory, role, certificate.1, key.1)?;
        let Some(live) = self.live.get(&role) else {
            return Ok(written);
        };
        let before = live.0.load();
        let same = before
            .as_ref()
            .is_some_and(|before| before.cert == certified.cert);
        live.0.store(Some(Arc::new(certified)));
        Ok(written || !same)
    }
}

fn lacks(secret: &Secret, role: Role) -> bool {
    let data = secret.data.as_ref();
    let has = |key: &String| data.is_some_and(|data| data.contains_key(key));
    ![role.certificate_key(), role.private_key()].iter().any(has)
}

fn certified(
    role: Role,
    certificate: &(String, &[u8]),
    key: &(String, &[u8]),
) -> Result<CertifiedKey, OwnError> {
    let pem = |part: &str, source| OwnError::Pem {
        part: part.to_owned(),
        source,
    };
    let chain = CertificateDer::pem_slice_iter(certificate.1)
        .map(|der| der.map(CertificateDer::into_owned))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| pem(&certificate.0, source))?;
    let private = PrivateKeyDer::from_pem_slice(key.1).map_err(|source| pem(&key.0, source))?;
    let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&private)
        .map_err(|source| OwnError::Use { role, source })?;
    let certified = CertifiedKey::new(chain, signing);
    certified
        .keys_match()
        .map_err(|source| OwnError::Use { role, source })?;
    Ok(certified)
}

/// Puts a pair in place; `false`: it is there already.
fn write(directory: &Path, role: Role, certificate: &[u8], key: &[u8]) -> Result<bool, FileError> {
    let both: String = [certificate, key]
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat();
    let mut name = sha256_hex(&both);
    name.truncate(16);
    let name = format!("{role}-{name}");
    let link = directory.join(role.name());
    let before = std::fs::read_link(&link).ok();
    if before.as_deref() == Some(Path::new(&name)) {
        return Ok(false);
    }
    let pair = directory.join(&name);
    atomic_file::make_dir(&pair)?;
    atomic_file::write(&pair.join("tls.crt"), certificate)?;
    atomic_file::write(&pair.join("tls.key"), key)?;
    atomic_file::link(Path::new(&name), &link)?;
    sweep(directory, role, &[Some(PathBuf::from(name)), before]);
    Ok(true)
}

/// Removes pairs of `role` that are in use no more. The one before stays, for whoever has read the link already.
fn sweep(directory: &Path, role: Role, keep: &[Option<PathBuf>]) {
    let prefix = format!("{role}-");
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let old = name.to_string_lossy().starts_with(&prefix)
            && !keep.iter().flatten().any(|kept| kept.as_os_str() == name);
        if old && let Err(error) = std::fs::remove_dir_all(entry.path()) {
            warn!(path = %entry.path().display(), %error, "an old certificate cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests;
