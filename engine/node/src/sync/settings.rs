//! Who this node is and where it listens: from the pod's environment, or from the file of a standalone region.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::api::{API_PORT, PAGE_PORT};
use super::directory::DirectoryFile;
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

/// The port on which the pods of a cluster talk to each other.
const INTERNAL_PORT: u16 = 8445;

/// The port of every pod's metrics.
const METRICS_PORT: u16 = 8070;

/// What the child knows before it knows any topology.
#[derive(Clone)]
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
    /// Where the API and the status page are served; `None`: nowhere, because there is no cluster to show.
    pub(super) people_listen: Option<(SocketAddr, SocketAddr)>,
    pub(super) security: Security,
    /// The host of another node, by its name.
    pub(super) host: Host,
    /// How the nodes of this cluster talk to each other; `None`: there are no others.
    pub(super) internal: Option<Internal>,
}

/// How the host of a node is made of its name.
pub(super) type Host = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// How the nodes of one cluster talk to each other.
#[derive(Clone, Debug)]
pub(super) struct Internal {
    /// Where others reach this node.
    pub(super) listen: SocketAddr,
    /// The port of the others.
    pub(super) port: u16,
    /// The directory of the cluster's internal Secret.
    pub(super) directory: PathBuf,
    /// The name in every node's internal certificate.
    pub(super) server_name: String,
    /// Its certificates.
    pub(super) certificates: Arc<Certificates>,
}

impl Internal {
    fn new(listen: SocketAddr, directory: &Path, cluster: &str, namespace: &str) -> Self {
        Self {
            listen,
            port: listen.port(),
            directory: directory.to_owned(),
            server_name: format!("nodes.{cluster}.{namespace}.meridian.internal"),
            certificates: certificates(directory, "no replicas until there are"),
        }
    }
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
    /// There is no description of the directory of topologies.
    #[error("{0} is not there: --source directory needs it")]
    NoDirectory(PathBuf),
}

impl Settings {
    /// `internal`: the directory of the cluster's internal Secret.
    pub(super) fn load(
        layout: &Layout,
        source: Source,
        internal: &Path,
    ) -> Result<Self, SettingsError> {
        match source {
            Source::Kubernetes => Self::from_environment(
                &|name| std::env::var(name).ok().filter(|v| !v.is_empty()),
                internal,
            ),
            Source::Standalone => Ok(Self::from_file(&standalone_file(layout)?)),
            Source::Directory => Ok(Self::from_directory(&directory_file(layout)?, internal)),
        }
    }

    fn from_environment(
        get: &dyn Fn(&str) -> Option<String>,
        internal: &Path,
    ) -> Result<Self, SettingsError> {
        let need = |name: &'static str| get(name).ok_or(SettingsError::Environment(name));
        let (cluster, namespace) = (need("REC_NAME")?, need("POD_NAMESPACE")?);
        let listen = SocketAddr::from(([0, 0, 0, 0], INTERNAL_PORT));
        Ok(Self {
            node: need("POD_NAME")?,
            internal: Some(Internal::new(listen, internal, &cluster, &namespace)),
            host: pod_host(&cluster, &namespace),
            cluster,
            namespace,
            bind: "0.0.0.0".to_owned(),
            sync_listen: SocketAddr::from(([0, 0, 0, 0], SYNC_PORT)),
            metrics_listen: Some(SocketAddr::from(([0, 0, 0, 0], METRICS_PORT))),
            people_listen: Some((
                SocketAddr::from(([0, 0, 0, 0], API_PORT)),
                SocketAddr::from(([0, 0, 0, 0], PAGE_PORT)),
            )),
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
            people_listen: None,
            security: file.certs.as_deref().map_or(Security::Insecure, tls),
            host: pod_host(CLUSTER, CLUSTER),
            internal: None,
        }
    }

    fn from_directory(file: &DirectoryFile, internal: &Path) -> Self {
        let hosts = file.hosts.clone();
        let own = file.hosts.get(&file.node).cloned().unwrap_or_default();
        Self {
            node: file.node.clone(),
            cluster: file.cluster.clone(),
            namespace: file.cluster.clone(),
            bind: own,
            sync_listen: file.sync_listen,
            metrics_listen: None,
            people_listen: None,
            security: Security::Insecure,
            host: Arc::new(move |node| hosts.get(node).cloned().unwrap_or_else(|| node.to_owned())),
            internal: Some(Internal::new(
                file.internal_listen,
                internal,
                &file.cluster,
                &file.cluster,
            )),
        }
    }

    /// The address of another pod's sync endpoint.
    pub(super) fn pod_address(&self) -> PodAddress {
        let host = Arc::clone(&self.host);
        Arc::new(move |pod| format!("{}:{SYNC_PORT}", host(pod)))
    }
}

/// By the names that the headless Service gives.
fn pod_host(cluster: &str, namespace: &str) -> Host {
    let domain = format!("{cluster}.{namespace}.svc");
    Arc::new(move |pod| format!("{pod}.{domain}"))
}

fn tls(directory: &Path) -> Security {
    Security::Tls(certificates(
        directory,
        "no replication between regions until there are",
    ))
}

fn certificates(directory: &Path, without: &str) -> Arc<Certificates> {
    let certificates = Certificates::new(directory);
    if let Err(error) = certificates.reload() {
        // Not fatal: the Secret may come later, and shards are served meanwhile.
        tracing::warn!(error = crate::run::chain(&error), "{without} certificates");
    }
    Arc::new(certificates)
}

/// What the child reads at its start on a directory.
pub(super) fn directory_file(layout: &Layout) -> Result<DirectoryFile, SettingsError> {
    let path = layout.directory_source();
    atomic_file::read_json(&path)?.ok_or(SettingsError::NoDirectory(path))
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
        let settings = Settings::from_environment(
            &|name| Some(format!("my-{}", name.to_lowercase())),
            Path::new("/absent"),
        )
        .unwrap();
        let pod_address = settings.pod_address();
        assert_eq!(
            settings.internal.unwrap().server_name,
            "nodes.my-rec_name.my-pod_namespace.meridian.internal"
        );
        assert_eq!(
            pod_address("rec-1"),
            "rec-1.my-rec_name.my-pod_namespace.svc:8444"
        );
        let missing = Settings::from_environment(
            &|name| (name != "REC_NAME").then(|| "x".to_owned()),
            Path::new("/absent"),
        )
        .err()
        .unwrap();
        assert!(missing.to_string().contains("REC_NAME"), "{missing}");
    }
}
