//! The command `lab`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{Lab, LabConfig, LabStatus, Result, cloud, supervise};

/// Real Kubernetes clusters on this machine.
#[derive(Debug, Parser)]
#[command(
    name = "lab",
    version,
    after_help = "Examples:
  lab up                                  three clusters of three nodes: lab-1, lab-2, lab-3
  lab up --clusters 1 --nodes 1 --id 4    one small cluster, lab4-1, beside other labs of this machine
  export KUBECONFIG=$(lab kubeconfig lab-1)
  lab load localhost/meridian-node:dev    an image from the machine's store, onto every node
  lab partition lab-1 lab-2               no packet passes between the two
  lab partition lab-3 host                pods of lab-3 do not reach programs of this machine, its API stays in sight
  lab heal
  lab kill-node lab-2-b                   power off, at once
  lab start-node lab-2-b
  lab unplug lab-2-b                      its cable is pulled, everything on it runs on; `lab plug` ends it
  lab stop-process lab-1-control-plane kube-apiserver
  lab start-process lab-1-control-plane kube-apiserver
  lab snapshot-store lab-1 /tmp/store     a copy of etcd at this moment
  lab restore-store lab-1 /tmp/store      what was written since is forgotten
  lab status -o json
  lab down                                nothing is left"
)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Place {
    /// Folder of the lab's state [default: .lab in the repository]
    #[arg(long, global = true, env = "MERIDIAN_LAB_STATE", value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// Tells labs of one machine apart, 0 to 40: names, addresses, bridge [default: the state folder's, else 0]
    #[arg(long, global = true, env = "MERIDIAN_LAB_ID", value_name = "NUMBER")]
    id: Option<u8>,
    /// Say nothing on the way
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring clusters up; what is up stays, what a killed run left half made is made anew
    Up {
        /// How many clusters
        #[arg(long, default_value_t = 3)]
        clusters: u8,
        /// How many nodes each has
        #[arg(long, default_value_t = 3)]
        nodes: u8,
        /// What names of clusters begin with [default: lab, lab1, lab2, … by id]
        #[arg(long)]
        name_prefix: Option<String>,
    },
    /// End everything and remove every trace
    Down,
    /// Show what is true now
    Status {
        /// How to print it
        #[arg(long, short, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Print the path of a cluster's kubeconfig
    Kubeconfig {
        /// The cluster, such as lab-1
        cluster: String,
    },
    /// Put an image on every node
    Load {
        /// An archive (image.tar), or an image of the machine's store (localhost/name:tag)
        image: String,
    },
    /// Drop all packets between two sides: host, a cluster, a node, or a control plane (lab-1-control-plane)
    Partition {
        /// One side
        a: String,
        /// The other side
        b: String,
        /// Only packets from the first to the second
        #[arg(long)]
        one_way: bool,
    },
    /// End the partition between two sides, or all partitions
    Heal {
        /// One side
        #[arg(requires = "b")]
        a: Option<String>,
        /// The other side
        b: Option<String>,
    },
    /// Take a node's power away
    KillNode {
        /// The node, such as lab-1-a
        node: String,
    },
    /// Give a node its power back
    StartNode {
        /// The node, such as lab-1-a
        node: String,
    },
    /// Pull a node's cable; what runs on it runs on
    Unplug {
        /// The node, such as lab-1-a
        node: String,
    },
    /// Plug a node in again
    Plug {
        /// The node, such as lab-1-a
        node: String,
    },
    /// End a process of a node or control plane, and keep it away
    StopProcess {
        /// A node, or a control plane (lab-1-control-plane)
        unit: String,
        /// The process: etcd, kube-apiserver, kubelet, …
        name: String,
    },
    /// Let a stopped process run again, and wait for it
    StartProcess {
        /// A node, or a control plane (lab-1-control-plane)
        unit: String,
        /// The process: etcd, kube-apiserver, kubelet, …
        name: String,
    },
    /// Copy a cluster's etcd as it is now
    SnapshotStore {
        /// The cluster, such as lab-1
        cluster: String,
        /// A folder that does not exist yet
        folder: PathBuf,
    },
    /// Put a copy of a cluster's etcd back
    RestoreStore {
        /// The cluster, such as lab-1
        cluster: String,
        /// What snapshot-store wrote
        folder: PathBuf,
    },
    /// Give a volume a size that is enforced, for pods started on this node from now on; what it holds is removed
    LimitVolume {
        /// The node, such as lab-1-a
        node: String,
        /// Name of the PersistentVolume
        volume: String,
        /// Its size in MiB
        mebibytes: u32,
    },
    /// Keep the processes of one control plane or node running (`lab up` calls this)
    #[command(hide = true)]
    Supervise {
        /// What to run
        unit: PathBuf,
        /// Whether this process is in the unit's control group already
        #[arg(long)]
        enclosed: bool,
    },
    /// Give out addresses and volumes (`lab up` calls this)
    #[command(hide = true)]
    Cloud {
        /// Folder of the lab's state
        state: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Does what the command line says; an error goes to the error stream.
pub async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _nobody_listens = writeln!(std::io::stderr().lock(), "lab: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Supervise { unit, enclosed } => supervise::supervise(&unit, enclosed)
            .await
            .map(|never| match never {}),
        Command::Cloud { state } => cloud::serve(&state).await,
        Command::Up {
            clusters,
            nodes,
            name_prefix,
        } => {
            let config = LabConfig {
                clusters,
                nodes,
                prefix: name_prefix,
                ..config(&cli.place)?
            };
            Lab::up(&config).await.map(drop)
        }
        Command::Down => Lab::down(&config(&cli.place)?).await,
        Command::Status { output } => show_status(&config(&cli.place)?, output).await,
        Command::Kubeconfig { cluster } => {
            let lab = attach(&cli.place)?;
            print(&format!(
                "{}\n",
                lab.cluster(&cluster)?.kubeconfig().display()
            ))
        }
        Command::Load { image } => attach(&cli.place)?.load_image(&image).await,
        Command::Partition {
            a,
            b,
            one_way: true,
        } => attach(&cli.place)?.partition_one_way(&a, &b).await,
        Command::Partition {
            a,
            b,
            one_way: false,
        } => attach(&cli.place)?.partition(&a, &b).await,
        Command::Heal {
            a: Some(a),
            b: Some(b),
        } => attach(&cli.place)?.heal_between(&a, &b).await,
        Command::Heal { .. } => attach(&cli.place)?.heal().await,
        Command::KillNode { node } => attach(&cli.place)?.kill_node(&node).await,
        Command::StartNode { node } => attach(&cli.place)?.start_node(&node).await,
        Command::Unplug { node } => attach(&cli.place)?.unplug(&node).await,
        Command::Plug { node } => attach(&cli.place)?.plug(&node).await,
        Command::StopProcess { unit, name } => attach(&cli.place)?.stop_process(&unit, &name).await,
        Command::StartProcess { unit, name } => {
            attach(&cli.place)?.start_process(&unit, &name).await
        }
        Command::SnapshotStore { cluster, folder } => {
            attach(&cli.place)?.snapshot_store(&cluster, &folder).await
        }
        Command::RestoreStore { cluster, folder } => {
            attach(&cli.place)?.restore_store(&cluster, &folder).await
        }
        Command::LimitVolume {
            node,
            volume,
            mebibytes,
        } => {
            attach(&cli.place)?
                .limit_volume(&node, &volume, mebibytes)
                .await
        }
    }
}

fn config(place: &Place) -> Result<LabConfig> {
    let mut config = LabConfig::from_environment()?;
    config.id = place.id.or(config.id);
    config.quiet = place.quiet;
    if let Some(state_dir) = &place.state_dir {
        config.state_dir.clone_from(state_dir);
    }
    Ok(config)
}

fn attach(place: &Place) -> Result<Lab> {
    let config = config(place)?;
    Lab::attach(&config)?.ok_or_else(|| no_lab(&config))
}

fn no_lab(config: &LabConfig) -> super::LabError {
    super::LabError::Machine {
        what: format!("state folder {}", config.state_dir.display()),
        found: "no lab".to_owned(),
        next: "run `lab up`, or name the folder with --state-dir".to_owned(),
    }
}

async fn show_status(config: &LabConfig, output: Output) -> Result<()> {
    let lab = Lab::attach(config)?.ok_or_else(|| no_lab(config))?;
    let status = lab.status().await?;
    match output {
        Output::Table => print(&table(&status)),
        Output::Json => {
            let text =
                serde_json::to_string_pretty(&status).map_err(|error| super::LabError::State {
                    path: config.state_dir.clone(),
                    reason: error.to_string(),
                })?;
            print(&format!("{text}\n"))
        }
    }
}

/// The status for people: one line per unit.
fn table(status: &LabStatus) -> String {
    let mut text = format!(
        "{:<22} {:<15} {:<9} {:>8}  {}\n",
        "UNIT", "ADDRESS", "STATE", "MEMORY", "RESTARTS"
    );
    let mut line = |name: &str, address: &str, state: &str, unit: &super::UnitStatus| {
        let memory: u64 = unit.processes.iter().map(|process| process.resident).sum();
        let restarts: Vec<String> = unit
            .restarts
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        text.push_str(&format!(
            "{name:<22} {address:<15} {state:<9} {:>4} MiB  {}\n",
            memory >> 20,
            if restarts.is_empty() {
                "-".to_owned()
            } else {
                restarts.join(", ")
            }
        ));
    };
    for cluster in &status.clusters {
        let state = if cluster.error.is_empty() {
            "Up"
        } else {
            "Down"
        };
        line(
            &format!("{} (API)", cluster.name),
            "",
            state,
            &cluster.control_plane,
        );
        for node in &cluster.nodes {
            line(&node.name, &node.address, &node.state, &node.unit);
        }
    }
    for cluster in &status.clusters {
        if !cluster.error.is_empty() {
            text.push_str(&format!("\n{}: {}\n", cluster.name, cluster.error));
        }
        for (service, address) in &cluster.load_balancers {
            text.push_str(&format!("\n{}: {service} has {address}\n", cluster.name));
        }
    }
    for cut in &status.cuts {
        text.push_str(&format!("\ncut: {cut}\n"));
    }
    if !status.cloud_running {
        text.push_str(
            "\nnobody gives out addresses and volumes: `lab up` starts that process again\n",
        );
    }
    text
}

fn print(text: &str) -> Result<()> {
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .map_err(|source| super::LabError::File {
            action: "write to",
            path: "/dev/stdout".into(),
            source,
        })
}
