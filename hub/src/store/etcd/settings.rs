//! How etcd is reached.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::args::Etcd;
use crate::store::StoreError;

/// How etcd is reached, and what of it is ours.
#[derive(Clone, Debug)]
pub struct EtcdSettings {
    /// `http://HOST:PORT` or `https://HOST:PORT` of each member, at least one.
    pub endpoints: Vec<String>,
    /// Prefix of everything that this hub stores, beginning with a slash and ending without one. Two hubs never share it.
    pub root: String,
    /// For `https`.
    pub tls: Tls,
    /// Where etcd demands a login.
    pub login: Option<Login>,
}

impl EtcdSettings {
    /// What the command line says; nothing where it names no endpoint.
    ///
    /// # Errors
    /// [`SettingsError::File`]: the password cannot be read.
    pub fn of(args: Etcd) -> Result<Option<Self>, SettingsError> {
        let Etcd {
            etcd_endpoints: endpoints,
            etcd_root: root,
            etcd_ca: ca,
            etcd_cert,
            etcd_key,
            etcd_user,
            etcd_password_file,
        } = args;
        if endpoints.is_empty() {
            return Ok(None);
        }
        let login = match etcd_user.zip(etcd_password_file) {
            Some((user, path)) => Some(Login {
                user,
                password: password(&path)?,
            }),
            None => None,
        };
        let identity = etcd_cert.zip(etcd_key);
        Ok(Some(Self {
            endpoints,
            root,
            tls: Tls { ca, identity },
            login,
        }))
    }
}

/// The first line of the file: editors end it with a line feed that is no part of the password.
fn password(path: &Path) -> Result<Zeroizing<String>, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|source| SettingsError::File {
        path: path.to_owned(),
        source,
    })?;
    let text = Zeroizing::new(text);
    let line = text.lines().next().unwrap_or_default();
    Ok(Zeroizing::new(line.to_owned()))
}

/// Files of PEM texts, read when the store is opened.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Authorities that may sign etcd's certificates.
    pub ca: Option<PathBuf>,
    /// Certificate and key of the hub, where etcd demands them.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A user of etcd.
#[derive(Clone)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: Zeroizing<String>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Why a store cannot be opened with these settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// No endpoint.
    #[error(
        "--etcd-endpoints is empty: expected http://HOST:PORT or https://HOST:PORT of each member of etcd"
    )]
    NoEndpoint,
    /// An endpoint that is no address.
    #[error(
        "--etcd-endpoints: {endpoint:?} is no address of a member of etcd: {reason}; expected http://HOST:PORT or \
         https://HOST:PORT"
    )]
    Endpoint {
        /// What was found.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// A prefix that is none.
    #[error(
        "--etcd-root {root:?}: expected a path that begins with a slash and ends without one, such as /meridian"
    )]
    Root {
        /// What was found.
        root: String,
    },
    /// A file of certificates or keys cannot be read.
    #[error("read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No endpoint answers as it should.
    #[error(
        "no member of etcd answers at {} (--etcd-endpoints); look whether it runs there, and at the certificates and the login \
         that are given",
        endpoints.join(", ")
    )]
    Unreachable {
        /// Where they were looked for.
        endpoints: Vec<String>,
        /// What the last one said, or that it said nothing.
        #[source]
        source: StoreError,
    },
}
