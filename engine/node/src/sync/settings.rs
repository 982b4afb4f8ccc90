//! Who this node is and where it listens: from the pod's environment, or from the file of a standalone region.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::endpoint::PodAddress;
use super::link::Security;
use super::tls::Certificates;
use crate::atomic_file::{self, FileError};
use crate::layout::Layout;
use crate::pid1::Source;
use crate::standalone::{CLUSTER, StandaloneFile};

/// Where the agent mounts the certificates of a cluster's pods.
const PEER_TLS: &str = "/etc/meridian/peer-tls";

/// The port of every pod's sync endpoint.
const SYNC_PORT: u16 = 8444;

/// The port of every pod's metrics.
const METRICS_PORT: u16 = 8070;

/// What the child knows before it knows any topology.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The name of this node, as topologies spell it.
    pub(super) node: String,
    /// The cluster resource it belongs to.
    pub(super) cluster: String,
    /// The namespace of both.
    pub(super) namespace: String,
    /// The address shards listen on.
    pub(super) bind: String,
    pub(super) sync_listen: SocketAddr,
    pub(super) metrics_listen: Option<SocketAddr>,
    pub(super) security: Security,
}

/// Why the child does not know who it is.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The pod's specification lacks something.
    #[error("the environment variable {0} is not set: the agent sets it in every pod it makes")]
    Environment(&'static str),
    /// A file of ours.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no standalone region.
    #[error("{0} is not there: start the region with `meridian-node standalone`")]
    NotStandalone(PathBuf),
}

impl Settings {
    pub(super) fn load(layout: &Layout, source: Source) -> Result<Self, SettingsError> {
        match source {
            Source::Kubernetes => {
                Self::from_environment(&|name| std::env::var(name).ok().filter(|v| !v.is_empty()))
            }
            Source::Standalone => Ok(Self::from_file(&standalone_file(layout)?)),
        }
    }

    fn from_environment(get: &dyn Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let need = |name: &'static str| get(name).ok_or(SettingsError::Environment(name));
        Ok(Self {
            node: need("POD_NAME")?,
            cluster: need("REC_NAME")?,
            namespace: need("POD_NAMESPACE")?,
            bind: "0.0.0.0".to_owned(),
            sync_listen: SocketAddr::from(([0, 0, 0, 0], SYNC_PORT)),
            metrics_listen: Some(SocketAddr::from(([0, 0, 0, 0], METRICS_PORT))),
            security: tls(Path::new(PEER_TLS)),
        })
    }

    fn from_file(file: &StandaloneFile) -> Self {
        Self {
            node: file.node.clone(),
            cluster: CLUSTER.to_owned(),
            namespace: CLUSTER.to_owned(),
            bind: file.bind.clone(),
            sync_listen: file.sync_listen,
            metrics_listen: file.metrics_listen,
            security: file.certs.as_deref().map_or(Security::Insecure, tls),
        }
    }

    /// The address of another pod's sync endpoint, by the names that the headless Service gives.
    pub(super) fn pod_address(&self) -> PodAddress {
        let (cluster, namespace) = (self.cluster.clone(), self.namespace.clone());
        Arc::new(move |pod| format!("{pod}.{cluster}.{namespace}.svc:{SYNC_PORT}"))
    }
}

fn tls(directory: &Path) -> Security {
    let certificates = Certificates::new(directory);
    if let Err(error) = certificates.reload() {
        // Not fatal: the Secret may come later, and shards are served meanwhile.
        tracing::warn!(
            error = crate::run::chain(&error),
            "no replication until there are certificates"
        );
    }
    Security::Tls(Arc::new(certificates))
}

/// What `meridian-node standalone` wrote.
pub(super) fn standalone_file(layout: &Layout) -> Result<StandaloneFile, SettingsError> {
    let path = layout.standalone();
    atomic_file::read_json(&path)?.ok_or(SettingsError::NotStandalone(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_knows_itself_from_its_environment() {
        let settings =
            Settings::from_environment(&|name| Some(format!("my-{}", name.to_lowercase())))
                .unwrap();
        assert_eq!(
            (settings.pod_address())("rec-1"),
            "rec-1.my-rec_name.my-pod_namespace.svc:8444"
        );
        let missing =
            Settings::from_environment(&|name| (name != "REC_NAME").then(|| "x".to_owned()))
                .unwrap_err();
        assert!(missing.to_string().contains("REC_NAME"), "{missing}");
    }
}
