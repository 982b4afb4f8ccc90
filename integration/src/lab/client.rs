//! Clients of clusters, from kubeconfig files.

use std::path::Path;

use kube::config::{KubeConfigOptions, Kubeconfig};

use super::error::{LabError, Result};

/// A client for the current context of a kubeconfig.
pub(crate) async fn of_kubeconfig(path: &Path) -> Result<kube::Client> {
    // The first call of the process decides; a program that has installed a provider keeps its own.
    let _already_there = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let refused = |reason: String| LabError::Kubeconfig {
        path: path.to_owned(),
        reason,
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| refused(error.to_string()))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| refused(error.to_string()))?;
    kube::Client::try_from(config).map_err(|error| refused(error.to_string()))
}

/// The name that a kubeconfig gives its cluster: its current context.
pub(crate) fn name_in_kubeconfig(path: &Path) -> Result<String> {
    let refused = |reason: String| LabError::Kubeconfig {
        path: path.to_owned(),
        reason,
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| refused(error.to_string()))?;
    kubeconfig
        .current_context
        .ok_or_else(|| refused("it has no current-context; name the cluster there".to_owned()))
}
