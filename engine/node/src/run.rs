//! The composition root: from a command line to running parts.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::args::{
    Args, CertsArgs, Command, NodeDir, Programs, RunArgs, ShardArgs, StandaloneArgs, SyncAction,
    SyncArgs,
};
use crate::lock::Lock;
use crate::pid1::{self, Source};
use crate::shard_exec::{absolute_layout, default_module, resolve};
use crate::sync::{self, control};
use crate::valkey::Servers;
use crate::{certs, clock, shard_exec, standalone};

/// Logs go to stderr; `MERIDIAN_LOG` sets the level, as `info` or `meridian_node=debug,warn`.
pub fn init_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("MERIDIAN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .init();
}

/// Prints an error with all its causes on stderr.
pub fn report(error: &anyhow::Error) {
    // If stderr is closed there is nobody to tell.
    let _closed = writeln!(std::io::stderr(), "meridian-node: {error:#}");
}

/// An error and its causes in one line; what an error repeats of its cause is said once.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

/// Does what the command line says.
///
/// # Errors
/// Whatever stopped it, with its context.
pub fn run(args: Args) -> anyhow::Result<()> {
    let Args { command } = args;
    match command {
        Command::Run(args) => run_pid1(args),
        Command::Standalone(args) => run_standalone(args),
        Command::Sync(args) => run_sync(args),
        Command::Certs(args) => run_certs(&args),
        Command::Shard(ShardArgs {
            dir,
            valkey_server,
            examine,
            keeps,
            unreadable,
        }) => {
            let left = shard_exec::Left {
                examine,
                keeps,
                unreadable,
            };
            match shard_exec::exec(&dir, &valkey_server, left)? {}
        }
    }
}

fn supervise(config: pid1::Config, held: Lock) -> anyhow::Result<()> {
    // Current-thread on purpose: children are told when the thread that started them dies.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(pid1::run(config, held))?;
    Ok(())
}

fn run_pid1(args: RunArgs) -> anyhow::Result<()> {
    let RunArgs {
        dir,
        run_dir,
        probe_listen,
        internal_dir,
        source,
        programs,
    } = args;
    let parts = Parts {
        dir: &dir,
        run_dir: Some(&run_dir),
        probe_listen: Some(probe_listen),
        source,
        internal: &internal_dir,
    };
    let config = pid1_config(&parts, programs)?;
    let held = pid1::hold(&config.layout)?;
    supervise(config, held)
}

struct Parts<'a> {
    dir: &'a Path,
    run_dir: Option<&'a Path>,
    probe_listen: Option<SocketAddr>,
    source: Source,
    internal: &'a Path,
}

fn pid1_config(parts: &Parts<'_>, programs: Programs) -> anyhow::Result<pid1::Config> {
    let Programs {
        valkey_server,
        module,
        grace,
    } = programs;
    let own_path = std::env::current_exe().ok();
    let search = std::env::var_os("PATH");
    let programs: Vec<PathBuf> = valkey_server
        .iter()
        .map(|program| resolve(program, search.as_deref()))
        .collect();
    let module = match module {
        Some(path) => std::path::absolute(path)?,
        None => default_module(own_path.as_deref()),
    };
    Ok(pid1::Config {
        layout: absolute_layout(parts.dir, parts.run_dir)?,
        probe_listen: parts.probe_listen,
        servers: Servers::look(&programs),
        module,
        source: parts.source,
        internal: std::path::absolute(parts.internal)?,
        shards_log_to_file: parts.source != Source::Kubernetes,
        grace: Duration::from_secs(grace),
    })
}

fn run_standalone(args: StandaloneArgs) -> anyhow::Result<()> {
    let StandaloneArgs {
        id,
        listen,
        sync_listen,
        peers,
        dir,
        certs,
        insecure,
        database,
        max_memory,
        aof_always,
        metrics_listen,
        probe_listen,
        programs,
    } = args;
    if insecure {
        let _closed = writeln!(std::io::stderr(), "{}", sync::INSECURE_WARNING);
    }
    let region = standalone::Region {
        id,
        listen,
        sync_listen,
        peers: peers
            .into_iter()
            .map(|peer| (peer.id, peer.endpoint))
            .collect(),
        certs: certs.map(std::path::absolute).transpose()?,
        database,
        max_memory_bytes: max_memory,
        aof_always,
        metrics_listen,
    };
    let config = pid1_config(
        &Parts {
            dir: &dir,
            run_dir: None,
            probe_listen,
            source: Source::Standalone,
            // A region of one node has no others.
            internal: &dir.join("internal"),
        },
        programs,
    )?;
    let held = pid1::hold(&config.layout)?;
    standalone::store(&config.layout, &region)?;
    supervise(config, held)
}

fn run_sync(args: SyncArgs) -> anyhow::Result<()> {
    let SyncArgs {
        action,
        dir,
        run_dir,
        source,
        internal_dir,
    } = args;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let question = match action {
        None => {
            let dir = dir.context("--dir is missing")?;
            sync::prepare_child()?;
            return Ok(runtime.block_on(sync::run(
                absolute_layout(&dir, run_dir.as_deref())?,
                source,
                &internal_dir,
            ))?);
        }
        Some(SyncAction::Pause(args)) => (args.node, control::Question::Pause { peer: args.peer }),
        Some(SyncAction::Resume(args)) => {
            (args.node, control::Question::Resume { peer: args.peer })
        }
        Some(SyncAction::Status(node)) => (node, control::Question::Status),
    };
    let (NodeDir { dir, run_dir }, question) = question;
    let run_dir = run_dir.or_else(|| {
        (dir == Path::new("/var/lib/meridian")).then(|| PathBuf::from("/run/meridian"))
    });
    let layout = absolute_layout(&dir, run_dir.as_deref())?;
    let answer = runtime.block_on(control::ask(&layout.control_socket(), &question))?;
    writeln!(
        std::io::stdout(),
        "{}",
        serde_json::to_string_pretty(&answer)?
    )?;
    Ok(())
}

fn run_certs(args: &CertsArgs) -> anyhow::Result<()> {
    let CertsArgs { regions, dir, days } = args;
    certs::make_group(dir, *regions, *days, clock::wall_ms())?;
    writeln!(
        std::io::stdout(),
        "{} identities in {}, valid for {days} days",
        regions,
        dir.display()
    )?;
    Ok(())
}
