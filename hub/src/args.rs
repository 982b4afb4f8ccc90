//! The command line. Every default is spelled here and nowhere else.

mod oidc;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;

pub use oidc::Oidc;

/// The Meridian hub: holds the global state and decides for every cluster.
#[derive(Debug, Parser)]
#[command(name = "meridian-hub", version, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  A hub on one machine, for clusters that reach it as hub.example.com:
    meridian-hub serve --data-dir /var/lib/meridian-hub --advertise-link hub.example.com:8444

  The token of the first administrator, and whether the hub is up:
    cat /var/lib/meridian-hub/admin-token
    curl --cacert /var/lib/meridian-hub/ca/root.crt https://hub.example.com:8443/readyz

  Three replicas with their state in an etcd of three members. Once, for what they share (files, or a Secret):
    meridian-hub init --ca-dir ca
  and on each of them, hub-1 here:
    meridian-hub serve --data-dir /var/lib/meridian-hub --ca-dir ca --advertise-link hub.example.com:8444 \\
      --advertise-web hub.example.com:8443 --replica-web hub-1.example.com:8443 \\
      --etcd-endpoints https://etcd-1:2379,https://etcd-2:2379,https://etcd-3:2379 \\
      --etcd-ca etcd-ca.crt --etcd-cert hub.crt --etcd-key hub.key";

const RESTORING: &str = "Examples:
  What would be done:
    meridian-hub restore --file hub.backup --data-dir /var/lib/meridian-hub --dry-run
  Into a file, on a machine that has the certificate authority in /var/lib/meridian-hub/ca:
    meridian-hub restore --file hub.backup --data-dir /var/lib/meridian-hub
  Into etcd, for hubs of several replicas:
    meridian-hub restore --file hub.backup --ca-dir ca --etcd-endpoints https://etcd-1:2379 --etcd-ca etcd-ca.crt

The store must be empty, and no hub may run on it. `meridian hub backup` takes a backup of a hub that runs, whichever store it
has. A backup does not contain the certificate authority's keys: keep a copy of its directory (DATA-DIR/ca, or that of --ca-dir)
apart from it, and another after each rotation. A root that was given up since the backup stays given up: trust.json in that
directory remembers it.

The hub that is started then opens a new term and only observes: it applies and deletes nothing. Once its members are connected
and `meridian hub status` shows what they doubt, `meridian hub promote` lets it decide. If the newest store can be found, start
the hub on that instead.";

const NEXT_ROOT: &str = "Example:
  meridian-hub next-root --ca-dir ca

Makes root-NAME.key and root-NAME.crt. Give both files to every replica, beside those that are there; `meridian ca rotate` then
takes the new root up. A hub on a file makes the files by itself.";

/// What the hub can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the web API and the link until SIGTERM or SIGINT.
    #[command(after_help = EXAMPLES)]
    Serve(Box<Serve>),
    /// Make what the replicas of a hub share: its certificate authority and the token of its first administrator.
    Init(Init),
    /// Make the root that is to take over from the present one, beside it, for replicas that share an authority (--ca-dir).
    #[command(after_help = NEXT_ROOT)]
    NextRoot(Init),
    /// Put a backup into an empty store, while no hub runs on it.
    #[command(after_help = RESTORING)]
    Restore(Box<Restore>),
}

/// Settings of `init` and `next-root`.
#[derive(Args, Clone, Debug)]
pub struct Init {
    /// Directory of the authority: for `init` empty or missing. Every replica is given a copy of it.
    #[arg(long, value_name = "DIR")]
    pub ca_dir: PathBuf,
    /// First part of every identity that the hub signs.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "meridian.local",
        env = "MERIDIAN_HUB_TRUST_DOMAIN"
    )]
    pub trust_domain: String,
}

/// Settings of `restore`.
#[derive(Args, Clone, Debug)]
pub struct Restore {
    /// The backup, as `meridian hub backup` wrote it.
    #[arg(long, value_name = "PATH")]
    pub file: PathBuf,
    /// Directory of the new store, and of the certificate authority unless --ca-dir names another.
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "etcd_endpoints",
        env = "MERIDIAN_HUB_DATA_DIR"
    )]
    pub data_dir: Option<PathBuf>,
    /// Directory with root.key and root.crt of the certificate authority that the members trust.
    #[arg(long, value_name = "DIR", env = "MERIDIAN_HUB_CA_DIR")]
    pub ca_dir: Option<PathBuf>,
    /// Only verify the file, the authority and that the store is empty, and say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Where the state is kept.
    #[command(flatten)]
    pub etcd: Etcd,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Lines for people.
    Text,
    /// One JSON object.
    Json,
}

/// Settings of `serve`.
#[derive(Args, Clone, Debug)]
pub struct Serve {
    /// Directory of the store, the certificate authority and the first administrator's token. Made if missing.
    #[arg(long, value_name = "DIR", env = "MERIDIAN_HUB_DATA_DIR")]
    pub data_dir: PathBuf,
    /// Directory with root.key and root.crt of the certificate authority, and perhaps the admin-token of the first
    /// administrator, as `init` makes it: the same for every replica, and only read. Without it the first start makes an
    /// authority in the data directory.
    #[arg(long, value_name = "DIR", env = "MERIDIAN_HUB_CA_DIR")]
    pub ca_dir: Option<PathBuf>,
    /// Address of the web API (HTTPS).
    #[arg(
        long,
        value_name = "IP:PORT",
        default_value = "0.0.0.0:8443",
        env = "MERIDIAN_HUB_WEB_LISTEN"
    )]
    pub web_listen: SocketAddr,
    /// Address of the link (gRPC over TLS 1.3) that agents connect to.
    #[arg(
        long,
        value_name = "IP:PORT",
        default_value = "0.0.0.0:8444",
        env = "MERIDIAN_HUB_LINK_LISTEN"
    )]
    pub link_listen: SocketAddr,
    /// Address of the link as agents reach it; part of the join material. May be given several times.
    #[arg(
        long,
        value_name = "HOST:PORT",
        required = true,
        value_delimiter = ',',
        env = "MERIDIAN_HUB_ADVERTISE_LINK"
    )]
    pub advertise_link: Vec<String>,
    /// Address of the web API as people reach it; the host of the first advertised link if not given.
    #[arg(long, value_name = "HOST:PORT", env = "MERIDIAN_HUB_ADVERTISE_WEB")]
    pub advertise_web: Option<String>,
    /// Address of this replica's own web API as the other replicas reach it: they send writes to the one that leads. The
    /// address for people if not given, which is wrong where several replicas share that.
    #[arg(
        long,
        value_name = "HOST:PORT",
        requires = "etcd_endpoints",
        env = "MERIDIAN_HUB_REPLICA_WEB"
    )]
    pub replica_web: Option<String>,
    /// First part of every identity that the hub signs. Cannot be changed once clusters have joined.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "meridian.local",
        env = "MERIDIAN_HUB_TRUST_DOMAIN"
    )]
    pub trust_domain: String,
    /// Records of the audit log that are kept; older ones go, and what is left can be verified all the same. Export it before
    /// (`meridian audit export`) to keep all. 20,000 take about 10 MB.
    #[arg(
        long,
        value_name = "RECORDS",
        default_value_t = 20_000,
        value_parser = clap::value_parser!(u64).range(100..=1_000_000),
        env = "MERIDIAN_HUB_AUDIT_KEEP"
    )]
    pub audit_keep: u64,
    /// Requests a second that are answered to one token of the web API, and twice as many at once; 0 sets no limit. The link of
    /// the members has none.
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 1000,
        env = "MERIDIAN_HUB_LIMIT_REQUESTS"
    )]
    pub limit_requests: u32,
    /// Tokens a second that are none, of one address, which are answered as such, and thirty times as many at once; 0 sets no
    /// limit. A good token from the same address is not held back.
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 1,
        env = "MERIDIAN_HUB_LIMIT_REFUSALS"
    )]
    pub limit_refusals: u32,
    /// Let no cluster join before a person has compared its words (`meridian cluster approve`), whatever its token says.
    #[arg(long, env = "MERIDIAN_HUB_APPROVE_CLUSTERS")]
    pub approve_clusters: bool,
    /// How long after the last member acknowledged its roots a rotation of the certificate authority may go on.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "1m",
        env = "MERIDIAN_HUB_CA_MARGIN"
    )]
    pub ca_margin: SignedDuration,
    /// Where the state is kept.
    #[command(flatten)]
    pub etcd: Etcd,
    /// How people sign in.
    #[command(flatten)]
    pub oidc: Oidc,
    /// Form of the log on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "MERIDIAN_HUB_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// What is logged, as directives of the tracing library.
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "MERIDIAN_HUB_LOG"
    )]
    pub log: String,
}

/// Keep the state in etcd (3.6 or later) instead of a file in the data directory.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "State in etcd")]
pub struct Etcd {
    /// Address of each member of etcd. Without it the state is the file hub.redb in the data directory.
    #[arg(
        long,
        value_name = "URL",
        value_delimiter = ',',
        env = "MERIDIAN_HUB_ETCD_ENDPOINTS"
    )]
    pub etcd_endpoints: Vec<String>,
    /// Prefix of all keys of this hub. The hubs on one prefix are replicas, of which one at a time leads.
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/meridian",
        env = "MERIDIAN_HUB_ETCD_ROOT"
    )]
    pub etcd_root: String,
    /// Certificates (PEM) of the authorities that may sign those of etcd.
    #[arg(
        long,
        value_name = "FILE",
        requires = "etcd_endpoints",
        env = "MERIDIAN_HUB_ETCD_CA"
    )]
    pub etcd_ca: Option<PathBuf>,
    /// Certificate (PEM) that the hub shows to etcd.
    #[arg(
        long,
        value_name = "FILE",
        requires = "etcd_key",
        env = "MERIDIAN_HUB_ETCD_CERT"
    )]
    pub etcd_cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(
        long,
        value_name = "FILE",
        requires = "etcd_cert",
        env = "MERIDIAN_HUB_ETCD_KEY"
    )]
    pub etcd_key: Option<PathBuf>,
    /// User of etcd that the hub logs in as.
    #[arg(
        long,
        value_name = "NAME",
        requires = "etcd_password_file",
        env = "MERIDIAN_HUB_ETCD_USER"
    )]
    pub etcd_user: Option<String>,
    /// File with that user's password.
    #[arg(
        long,
        value_name = "FILE",
        requires = "etcd_user",
        env = "MERIDIAN_HUB_ETCD_PASSWORD_FILE"
    )]
    pub etcd_password_file: Option<PathBuf>,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_hub_without_an_advertised_link_is_refused() {
        let refused =
            Cli::try_parse_from(["meridian-hub", "serve", "--data-dir", "d"]).unwrap_err();
        assert!(
            refused.to_string().contains("--advertise-link"),
            "{refused}"
        );
    }

    #[test]
    fn half_a_way_into_etcd_is_refused_with_the_missing_half() {
        let base =
            "meridian-hub serve --data-dir d --advertise-link h:1 --etcd-endpoints http://e:1";
        for (given, missing) in [
            ("--etcd-cert c", "--etcd-key"),
            ("--etcd-user u", "--etcd-password-file"),
        ] {
            let line = format!("{base} {given}");
            let refused = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert!(refused.to_string().contains(missing), "{refused}");
        }
    }
}
