//! What can be typed about one member cluster, which is asked with the person's own kubeconfig.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::duration;

/// Help of `meridian preflight`.
pub(crate) const PREFLIGHT: &str = "\
Examples:
  meridian preflight --context eu-1 --namespace redis
  meridian preflight --context eu-1 --namespace redis --beside-vendor

Reads definitions, Deployments by name, and webhook configurations; changes nothing, and needs no hub. Where the vendor's \
definitions, operator or webhook are present it refuses (exit code 4) and names the next step. With --beside-vendor, which \
says that the namespace is Meridian's and that the present definitions stay as they are, it prints the commands that \
install only what is missing.";

/// Of which cluster, and where to.
#[derive(Debug, Args)]
pub(crate) struct BundleArgs {
    /// Kubeconfig of the cluster [default: KUBECONFIG, then ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context in it [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Namespace of the agent and its databases [default: that of the context]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// File to write [default: meridian-support-NAMESPACE-TIME.tar.gz]
    #[arg(short, long, value_name = "FILE.tar.gz")]
    pub(crate) output: Option<PathBuf>,
    /// Logs of this last time only, such as 2h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) since: Option<Duration>,
    /// All objects of the namespace, not only ours; fields are left out all the same
    #[arg(long)]
    pub(crate) all: bool,
}

/// Of which cluster, and what is known of it.
#[derive(Debug, Args)]
pub(crate) struct PreflightArgs {
    /// Kubeconfig of the cluster [default: KUBECONFIG, then ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context within it [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Namespace in which the agent is to work [default: that of the context]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// The namespace is Meridian's own, and definitions of another operator stay as they are
    #[arg(long)]
    pub(crate) beside_vendor: bool,
}
