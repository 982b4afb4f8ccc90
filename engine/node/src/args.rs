//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::desired::{Keeps, Unreadable};
use crate::pid1::Source;

/// Runs the databases of one node, in a pod or standalone.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Three regions on one machine that take writes and converge:
  meridian-node certs --regions 3 --dir certs
  meridian-node standalone --id 1 --listen 127.0.0.1:7001 --sync-listen 127.0.0.1:8001 \\
      --peer 2=127.0.0.1:8002 --peer 3=127.0.0.1:8003 --certs certs/region-1 --dir r1 &
  meridian-node standalone --id 2 --listen 127.0.0.1:7002 --sync-listen 127.0.0.1:8002 \\
      --peer 1=127.0.0.1:8001 --peer 3=127.0.0.1:8003 --certs certs/region-2 --dir r2 &
  meridian-node standalone --id 3 --listen 127.0.0.1:7003 --sync-listen 127.0.0.1:8003 \\
      --peer 1=127.0.0.1:8001 --peer 2=127.0.0.1:8002 --certs certs/region-3 --dir r3 &

Cut region 3 off, look at it, and let it catch up:
  meridian-node sync pause --dir r3
  meridian-node sync status --dir r3
  meridian-node sync resume --dir r3";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run as PID 1 of a pod
    Run(RunArgs),
    /// Run one region without Kubernetes
    Standalone(StandaloneArgs),
    /// Look at or pause the replication of a running node
    #[command(
        after_help = "Without a subcommand this is the process that PID 1 starts as its child."
    )]
    Sync(SyncArgs),
    /// Make certificates for a group of standalone regions
    Certs(CertsArgs),
    /// Become one shard's Valkey (started by PID 1)
    #[command(hide = true)]
    Shard(ShardArgs),
}

/// Programs that shards are made of.
#[derive(Debug, ClapArgs)]
pub struct Programs {
    /// Valkey's servers, one for each series that this node brings, with commas between
    #[arg(
        long,
        env = "MERIDIAN_VALKEY_SERVER",
        default_value = "valkey-server",
        value_delimiter = ',',
        value_name = "PATH,…"
    )]
    pub valkey_server: Vec<PathBuf>,
    /// The module of Active-Active databases [default: libcrdt.so beside this program, then /usr/lib/meridian/libcrdt.so]
    #[arg(long, env = "MERIDIAN_CRDT_MODULE", value_name = "PATH")]
    pub module: Option<PathBuf>,
    /// Seconds that a shard may take for an orderly stop
    #[arg(long, default_value_t = 25, value_name = "SECONDS")]
    pub grace: u64,
}

/// `run`.
#[derive(Debug, ClapArgs)]
pub struct RunArgs {
    /// Where data is kept
    #[arg(long, default_value = "/var/lib/meridian", value_name = "DIR")]
    pub dir: PathBuf,
    /// Where sockets and secrets of this life are kept
    #[arg(long, default_value = "/run/meridian", value_name = "DIR")]
    pub run_dir: PathBuf,
    /// Where /livez and /readyz are served
    #[arg(long, default_value = "0.0.0.0:8080", value_name = "IP:PORT")]
    pub probe_listen: SocketAddr,
    /// The Secret that the nodes of a cluster share: ca.crt, tls.crt, tls.key, replication-password
    #[arg(long, default_value = "/etc/meridian/internal", value_name = "DIR")]
    pub internal_dir: PathBuf,
    /// Where the topology comes from
    #[arg(long, hide = true, value_enum, default_value = "kubernetes")]
    pub source: Source,
    /// Programs that shards are made of.
    #[command(flatten)]
    pub programs: Programs,
}

/// `standalone`.
#[derive(Debug, ClapArgs)]
pub struct StandaloneArgs {
    /// This region's instance id, 1 or higher, different in each region
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65535))]
    pub id: u32,
    /// Where clients connect
    #[arg(long, value_name = "IP:PORT")]
    pub listen: SocketAddr,
    /// Where other regions pull from
    #[arg(long, value_name = "IP:PORT")]
    pub sync_listen: SocketAddr,
    /// Another region, as ID=HOST:PORT of its --sync-listen; once per region
    #[arg(long = "peer", value_name = "ID=HOST:PORT")]
    pub peers: Vec<PeerArg>,
    /// Where data is kept
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// This region's certificates: tls.crt, tls.key, ca.crt (see `certs`)
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "insecure",
        conflicts_with = "insecure"
    )]
    pub certs: Option<PathBuf>,
    /// Replicate without encryption and without knowing who is at the other end
    #[arg(long)]
    pub insecure: bool,
    /// The name of the database
    #[arg(long, default_value = "db")]
    pub database: String,
    /// Bytes the data may take; 0: no limit
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    pub max_memory: u64,
    /// fsync before each reply instead of once a second
    #[arg(long)]
    pub aof_always: bool,
    /// Where /metrics is served
    #[arg(long, value_name = "IP:PORT")]
    pub metrics_listen: Option<SocketAddr>,
    /// Where /livez and /readyz are served
    #[arg(long, value_name = "IP:PORT")]
    pub probe_listen: Option<SocketAddr>,
    /// Programs that shards are made of.
    #[command(flatten)]
    pub programs: Programs,
}

/// `sync`.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SyncArgs {
    /// What to do with the running child; nothing: be the child.
    #[command(subcommand)]
    pub action: Option<SyncAction>,
    /// Where data is kept
    #[arg(long, hide = true, required = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Where sockets are kept
    #[arg(long, hide = true, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Where the topology comes from
    #[arg(long, hide = true, value_enum, default_value = "kubernetes")]
    pub source: Source,
    /// The Secret that the nodes of a cluster share
    #[arg(
        long,
        hide = true,
        default_value = "/etc/meridian/internal",
        value_name = "DIR"
    )]
    pub internal_dir: PathBuf,
}

/// `sync pause`, `sync resume`, `sync status`.
#[derive(Debug, Subcommand)]
pub enum SyncAction {
    /// Stop pulling from other regions; clients stay connected
    Pause(PauseArgs),
    /// Pull again
    Resume(PauseArgs),
    /// Own and observed clocks, lag and state per peer, as JSON
    Status(NodeDir),
}

/// `sync pause`, `sync resume`.
#[derive(Debug, ClapArgs)]
pub struct PauseArgs {
    /// Only this region [default: all]
    #[arg(long, value_name = "ID")]
    pub peer: Option<u32>,
    /// Which node.
    #[command(flatten)]
    pub node: NodeDir,
}

/// Which node to talk to.
#[derive(Debug, ClapArgs)]
pub struct NodeDir {
    /// The directory of the node's data
    #[arg(long, default_value = "/var/lib/meridian", value_name = "DIR")]
    pub dir: PathBuf,
    /// The directory of its sockets [default: run below --dir, or /run/meridian for the default --dir]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
}

/// `certs`.
#[derive(Debug, ClapArgs)]
pub struct CertsArgs {
    /// How many regions, with ids from 1
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub regions: u32,
    /// Where the certificates are written: ca.crt and region-1, region-2, …
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Days until they end
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
}

/// `shard`.
#[derive(Debug, ClapArgs)]
pub struct ShardArgs {
    /// The shard's directory
    #[arg(long)]
    pub dir: PathBuf,
    /// Valkey's server
    #[arg(long)]
    pub valkey_server: PathBuf,
    /// The last process ended with an error: look first whether its files can be read
    #[arg(long)]
    pub examine: bool,
    /// By what it is configured to know its data again
    #[arg(long, value_enum)]
    pub keeps: Keeps,
    /// What becomes of files that cannot be read
    #[arg(long, value_enum)]
    pub unreadable: Unreadable,
}

/// Another region on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerArg {
    /// Its instance id.
    pub id: u32,
    /// `host:port` of its sync endpoint.
    pub endpoint: String,
}

impl FromStr for PeerArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape = || format!("{text:?} is not ID=HOST:PORT, such as 2=127.0.0.1:8002");
        let (id, endpoint) = text.split_once('=').ok_or_else(shape)?;
        let id = id
            .parse()
            .ok()
            .filter(|id| (1..=65535).contains(id))
            .ok_or_else(shape)?;
        let (host, port) = endpoint.rsplit_once(':').ok_or_else(shape)?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(shape());
        }
        Ok(Self {
            id,
            endpoint: endpoint.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_peer_needs_id_host_and_port() {
        assert_eq!(
            "2=h:1".parse(),
            Ok(PeerArg {
                id: 2,
                endpoint: "h:1".to_owned()
            })
        );
        for bad in ["2", "0=h:1", "x=h:1", "2=h", "2=:1", "2=h:99999"] {
            assert!(
                bad.parse::<PeerArg>().unwrap_err().contains("ID=HOST:PORT"),
                "{bad}"
            );
        }
    }

    #[test]
    fn plain_text_replication_must_be_asked_for() {
        let base = [
            "meridian-node",
            "standalone",
            "--id",
            "1",
            "--listen",
            "127.0.0.1:1",
            "--sync-listen",
            "127.0.0.1:2",
            "--dir",
            "d",
        ];
        assert!(Args::try_parse_from(base).is_err());
        assert!(Args::try_parse_from(base.iter().chain(&["--insecure"])).is_ok());
        assert!(Args::try_parse_from(base.iter().chain(&["--certs", "c"])).is_ok());
    }

    #[test]
    fn the_child_and_the_commands_to_it_share_a_word() {
        let child = Args::try_parse_from([
            "meridian-node",
            "sync",
            "--dir",
            "d",
            "--source",
            "standalone",
        ])
        .unwrap();
        assert!(matches!(
            child.command,
            Command::Sync(SyncArgs {
                action: None,
                source: Source::Standalone,
                ..
            })
        ));
        let pause = Args::try_parse_from([
            "meridian-node",
            "sync",
            "pause",
            "--peer",
            "2",
            "--dir",
            "d",
        ])
        .unwrap();
        assert!(matches!(
            pause.command,
            Command::Sync(SyncArgs {
                action: Some(SyncAction::Pause(PauseArgs { peer: Some(2), .. })),
                ..
            })
        ));
        assert!(Args::try_parse_from(["meridian-node", "sync"]).is_err());
    }
}
