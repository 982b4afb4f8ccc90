//! Where the lab keeps what: its own state folder, and the cache that `tools/prerequisites.sh` fills.

use std::path::{Path, PathBuf};

use super::error::{LabError, Result};

/// Version of Kubernetes in the cache; `integration/kubernetes/go.mod` decides it (a test compares).
pub(crate) const KUBERNETES_VERSION: &str = "1.36.3";
/// Version of CoreDNS in the cache; `integration/coredns/go.mod` decides it (a test compares).
pub(crate) const COREDNS_VERSION: &str = "1.14.7";
/// Longest path of a state folder: sockets below it must fit into the kernel's 107 bytes.
const MAX_STATE_PATH: usize = 46;

/// The programs that a lab starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    kubernetes: PathBuf,
    coredns: PathBuf,
}

impl Binaries {
    /// The programs of this cache, or what is missing in it.
    pub fn find(cache: &Path) -> Result<Self> {
        let found = Self {
            kubernetes: cache.join(format!("kubernetes-{KUBERNETES_VERSION}")),
            coredns: cache.join(format!("coredns-{COREDNS_VERSION}")),
        };
        for path in [
            found.kubernetes.join("pause.tar"),
            found.kubernetes("kube-apiserver"),
            found.coredns(),
        ] {
            if !path.exists() {
                return Err(LabError::Machine {
                    what: "the lab's programs".to_owned(),
                    found: format!("{} is missing", path.display()),
                    next: "run tools/prerequisites.sh".to_owned(),
                });
            }
        }
        Ok(found)
    }

    /// One of Kubernetes' programs, `etcd` among them.
    #[must_use]
    pub fn kubernetes(&self, name: &str) -> PathBuf {
        self.kubernetes.join(name)
    }

    /// The cluster DNS.
    #[must_use]
    pub fn coredns(&self) -> PathBuf {
        self.coredns.join("coredns")
    }

    /// The image that every pod needs, as an archive.
    #[must_use]
    pub fn pause_image(&self) -> PathBuf {
        self.kubernetes.join("pause.tar")
    }
}

/// The cache: `MERIDIAN_CACHE`, else `~/.cache/meridian`.
pub(crate) fn default_cache() -> Result<PathBuf> {
    if let Some(cache) = std::env::var_os("MERIDIAN_CACHE") {
        return Ok(cache.into());
    }
    std::env::var_os("HOME")
        .map(|home| Path::new(&home).join(".cache/meridian"))
        .ok_or_else(|| LabError::Machine {
            what: "environment".to_owned(),
            found: "neither MERIDIAN_CACHE nor HOME is set".to_owned(),
            next: "set MERIDIAN_CACHE to the folder that tools/prerequisites.sh filled".to_owned(),
        })
}

/// The state folder of a lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// A lab's state in this folder.
    pub fn new(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).map_err(super::error::file("find", root))?;
        if root.as_os_str().len() > MAX_STATE_PATH {
            return Err(LabError::Argument {
                field: "state folder",
                found: root.display().to_string(),
                expected: format!(
                    "{MAX_STATE_PATH} characters at most (sockets below it have a short limit)"
                ),
            });
        }
        Ok(Self { root })
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the lab consists of.
    #[must_use]
    pub fn lab_file(&self) -> PathBuf {
        self.root.join("lab.json")
    }

    /// Held by whoever changes the lab.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Record and log of the process that gives out addresses and volumes.
    #[must_use]
    pub fn cloud(&self) -> PathBuf {
        self.root.join("cloud")
    }

    /// A cluster's folder.
    #[must_use]
    pub fn cluster(&self, cluster: &str) -> PathBuf {
        self.root.join(cluster)
    }

    /// Is there once the cluster's API server has answered: from then on its data is worth keeping.
    #[must_use]
    pub fn made(&self, cluster: &str) -> PathBuf {
        self.cluster(cluster).join("made")
    }

    /// The kubeconfig of a cluster's administrator.
    #[must_use]
    pub fn kubeconfig(&self, cluster: &str) -> PathBuf {
        self.cluster(cluster).join("kubeconfig")
    }

    /// A cluster's certificates and keys.
    #[must_use]
    pub fn pki(&self, cluster: &str) -> PathBuf {
        self.cluster(cluster).join("pki")
    }

    /// Where the volumes of a cluster's claims are.
    #[must_use]
    pub fn volumes(&self, cluster: &str) -> PathBuf {
        self.cluster(cluster).join("volumes")
    }

    /// Folder of a cluster's control plane.
    #[must_use]
    pub fn control_plane(&self, cluster: &str) -> PathBuf {
        self.cluster(cluster).join("control-plane")
    }

    /// Folder of a node: of its whole name, only the letter.
    #[must_use]
    pub fn node(&self, cluster: &str, node: &str) -> PathBuf {
        self.cluster(cluster)
            .join(node.rsplit('-').next().unwrap_or(node))
    }

    /// A node's container runtime.
    #[must_use]
    pub fn runtime_socket(&self, cluster: &str, node: &str) -> PathBuf {
        self.node(cluster, node).join("containerd.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_that_the_go_modules_pin() {
        let pins = |modules: &str, line: &str| {
            modules.lines().any(|found| {
                found
                    .trim_start_matches("require ")
                    .trim()
                    .starts_with(line)
            })
        };
        let kubernetes = include_str!("../../kubernetes/go.mod");
        assert!(pins(
            kubernetes,
            &format!("k8s.io/kubernetes v{KUBERNETES_VERSION}")
        ));
        let coredns = include_str!("../../coredns/go.mod");
        assert!(pins(
            coredns,
            &format!("github.com/coredns/coredns v{COREDNS_VERSION}")
        ));
    }

    #[test]
    fn a_state_folder_too_deep_for_sockets_is_refused() {
        let deep = format!("/{}", "x".repeat(MAX_STATE_PATH));
        let error = Layout::new(Path::new(&deep)).unwrap_err().to_string();
        assert!(error.contains("state folder"), "{error}");
        let longest =
            Layout::new(Path::new(&format!("/{}", "x".repeat(MAX_STATE_PATH - 1)))).unwrap();
        let socket = longest
            .node(&format!("{}-40", "p".repeat(20)), "p-40-a")
            .join("kubelet/pod-resources/kubelet.sock");
        assert!(
            socket.as_os_str().len() <= 107,
            "{}",
            socket.as_os_str().len()
        );
    }

    #[test]
    fn a_cache_without_programs_names_the_script_that_fills_it() {
        let empty = tempfile::tempdir().unwrap();
        let error = Binaries::find(empty.path()).unwrap_err().to_string();
        assert!(error.contains("tools/prerequisites.sh"), "{error}");
    }
}
