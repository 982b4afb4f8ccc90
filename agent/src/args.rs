//! The command line of `meridian-agent`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand};

/// The agent of one Kubernetes cluster: database operator and link to the hub.
#[derive(Debug, Clone, Parser)]
#[command(name = "meridian-agent", version, about)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs of `meridian-agent`.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Run the operator and, where join material is present, the link to the hub.
    Run(RunArgs),
}

/// Settings of `meridian-agent run`.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// Namespace that this agent operates: its clusters stand there.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,

    /// Name of this replica in the leader lease; must differ between replicas.
    #[arg(long, env = "POD_NAME")]
    pub identity: String,

    /// Further namespaces whose databases it operates, with commas. The key of the same name in the ConfigMap
    /// `operator-environment-config` wins.
    #[arg(long, env = "REDB_NAMESPACES")]
    pub namespaces: Option<String>,

    /// Label (`key`, or `key=value`) of further namespaces whose databases it operates. The key of the same name in the
    /// ConfigMap `operator-environment-config` wins.
    #[arg(long, env = "REDB_NAMESPACES_LABEL")]
    pub namespaces_label: Option<String>,

    /// Image of the node pods of a cluster that names none itself.
    #[arg(
        long,
        env = "MERIDIAN_NODE_IMAGE",
        default_value = "localhost/meridian-node:dev"
    )]
    pub node_image: String,

    /// Address of the probes and metrics.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub probes_listen: SocketAddr,

    /// Address of the admission webhook, HTTPS.
    #[arg(long, default_value = "0.0.0.0:8443")]
    pub admission_listen: SocketAddr,

    /// How the hub is dialled.
    #[command(flatten)]
    pub hub_proxy: ProxyArgs,

    /// Kubeconfig to use; without it, the pod's service account or `KUBECONFIG`.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,

    /// Log lines as JSON.
    #[arg(long, env = "MERIDIAN_LOG_JSON")]
    pub log_json: bool,
}

/// The proxy before the hub.
#[derive(Debug, Clone, clap::Args)]
pub struct ProxyArgs {
    /// Proxy through which the hub is dialled: http://HOST:PORT or https://HOST:PORT, or `direct` for none. Wins over the file
    /// `url` of --hub-proxy-files, and that over the variables HTTPS_PROXY and ALL_PROXY.
    #[arg(
        long,
        env = "MERIDIAN_HUB_PROXY",
        value_name = "URL",
        hide_env_values = true
    )]
    pub hub_proxy: Option<String>,

    /// Hubs that are dialled without the proxy, as in NO_PROXY: names (with what stands under them), addresses, ranges, `*`;
    /// separated by commas. Wins over the file `no-proxy`, and that over the variable NO_PROXY.
    #[arg(long, env = "MERIDIAN_HUB_NO_PROXY", value_name = "HOSTS")]
    pub hub_no_proxy: Option<String>,

    /// Folder with the proxy's settings, as the bundle mounts the Secret `meridian-hub-proxy`: any of the files `url`, `no-proxy`,
    /// `username`, `password` (Basic authentication) and `ca.crt` (authority of an https:// proxy). Read at each dial.
    #[arg(
        long,
        env = "MERIDIAN_HUB_PROXY_FILES",
        value_name = "FOLDER",
        default_value = "/etc/meridian/hub-proxy"
    )]
    pub hub_proxy_files: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_run_without_a_namespace_is_refused() {
        let refused = Args::try_parse_from(["meridian-agent", "run", "--identity", "a"]);
        assert!(refused.is_err() || std::env::var("POD_NAMESPACE").is_ok());
    }
}
