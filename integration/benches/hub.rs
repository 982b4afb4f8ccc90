//! What the hub costs and how fast it is, with many members: the links of as many agents run in this process, each whole and
//! over an API server in memory, and join a real hub over real connections.
//!
//! `make bench-hub`, or `make bench-hub SHORT=1` for two minutes of it. Nothing but the databases' controllers is simulated:
//! they would only write statuses, which the bench does where it measures them. Processor time and memory are the hub's own, as
//! the kernel counts them; times are of the whole way and include the simulated agents, which share the machine with the hub.

#![expect(clippy::print_stdout, reason = "a bench prints")]

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context as _, Result, ensure};

#[path = "hub/api.rs"]
mod api;
#[path = "hub/apiserver.rs"]
mod apiserver;
#[path = "hub/etcd.rs"]
mod etcd;
#[path = "hub/fleet.rs"]
mod fleet;
#[path = "hub/kube.rs"]
mod kube;
#[path = "hub/load.rs"]
mod load;
#[path = "hub/member.rs"]
mod member;
#[path = "hub/members.rs"]
mod members;
#[path = "hub/observe.rs"]
mod observe;
#[path = "hub/process.rs"]
mod process;
#[path = "hub/replicas.rs"]
mod replicas;
#[path = "hub/report.rs"]
mod report;
#[path = "hub/scale.rs"]
mod scale;
#[path = "hub/selector.rs"]
mod selector;
#[path = "hub/stopped.rs"]
mod stopped;

use load::Size;
use members::Programs;

/// What can be measured alone.
const PARTS: [&str; 6] = ["load", "scale", "members", "replicas", "observe", "stopped"];
/// Members of the long run and of the short one, step by step.
const STEPS: [usize; 3] = [100, 1000, 5000];
const SHORT_STEPS: [usize; 2] = [100, 1000];
/// Members that observe databases.
const OBSERVED: usize = 4;

const SIZE: Size = Size {
    members: 256,
    creates: (30, 10),
    bursts: &[200, 500],
    edges: 48,
};
const SHORT_SIZE: Size = Size {
    members: 64,
    creates: (10, 2),
    bursts: &[200],
    edges: 12,
};

fn main() -> Result<()> {
    // `cargo test --benches` calls benches too; only `cargo bench` asks for a measurement.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    // Others than the first only come where several libraries bring one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    tokio::runtime::Runtime::new()?.block_on(bench())
}

/// The value that follows an argument.
fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)
}

/// The program that an argument names.
fn program(argument_name: &str) -> Result<PathBuf> {
    let named =
        argument(argument_name).with_context(|| format!("{argument_name} PROGRAM is missing"))?;
    fs::canonicalize(&named).with_context(|| format!("no program {named}"))
}

async fn bench() -> Result<()> {
    let short = std::env::args().any(|argument| argument == "--short");
    let program = program("--hub")?;
    let only = argument("--only");
    let wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    ensure!(
        PARTS.into_iter().any(wanted),
        "--only {}: expected one of {}",
        only.as_deref().unwrap_or_default(),
        PARTS.join(", ")
    );
    let begun = Instant::now();
    machine("before")?;
    report::head();
    if wanted("load") {
        load::measure(&program, if short { SHORT_SIZE } else { SIZE }).await?;
    }
    if wanted("scale") {
        scale::measure(&program, if short { &SHORT_STEPS } else { &STEPS }).await?;
    }
    if wanted("members") {
        let agent = self::program("--agent")?;
        let programs = Programs {
            hub: program.clone(),
            agent,
        };
        members::measure(&programs, if short { 20 } else { 200 }).await?;
    }
    if wanted("replicas") {
        replicas::measure(&program, if short { 5 } else { 30 }).await?;
    }
    if wanted("observe") {
        // A thousand members with a hundred databases each take an hour, and are measured by who asks for them.
        let members = argument("--members").map_or(Ok(OBSERVED), |count| count.parse())?;
        observe::measure(&program, members).await?;
    }
    if wanted("stopped") {
        stopped::measure(&program, if short { 4 } else { 16 }).await?;
    }
    machine("after")?;
    println!("the bench took {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Prints how busy the machine is.
fn machine(when: &str) -> Result<()> {
    let load = fs::read_to_string("/proc/loadavg")?;
    let cores = std::thread::available_parallelism()?;
    println!("machine, {when}: {cores} cores, load {}", load.trim());
    Ok(())
}
