//! The command `failover-bench`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use super::{CAUSES, Cause, Outcome, Site, Waits, json, play, table};
use crate::lab::{Lab, LabConfig};
use crate::stack::{Cluster, Paths};

/// Plays faults against a database with a replica on a cluster of three nodes, and prints what clients saw.
#[derive(Debug, Parser)]
#[command(name = "failover-bench", version)]
struct Cli {
    /// How often each cause is played
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Only these causes (see --list)
    #[arg(long, value_name = "CAUSE", value_parser = parse_cause)]
    only: Vec<&'static Cause>,
    /// Print every figure of every run as JSON
    #[arg(long)]
    json: bool,
    /// Append every run to this file as soon as it is over, one line of JSON each
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Ten minutes without the API server, and a copy of the store that is ten minutes old
    #[arg(long)]
    full: bool,
    /// Print the causes and end
    #[arg(long)]
    list: bool,
}

fn parse_cause(name: &str) -> Result<&'static Cause, String> {
    Cause::named(name).ok_or_else(|| {
        let names: Vec<&str> = CAUSES.iter().map(|cause| cause.name).collect();
        format!("no such cause; there are: {}", names.join(", "))
    })
}

/// Does what the command line says.
pub async fn main() -> ExitCode {
    match run(&Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("failover-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: &Cli) -> Result<()> {
    if cli.list {
        return print(&list());
    }
    let causes: Vec<&'static Cause> = if cli.only.is_empty() {
        CAUSES.iter().collect()
    } else {
        cli.only.clone()
    };
    let waits = if cli.full { Waits::FULL } else { Waits::SHORT };
    let mut site = bring_up().await?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    for cause in causes {
        for number in 1..=cli.runs {
            let run = format!("{}-{number}-{}", cause.name, std::process::id());
            let outcome = play(&site, cause, &run, &waits).await?;
            tell(&line(number, &outcome));
            if let Some(path) = &cli.record {
                record(path, &outcome)
                    .with_context(|| format!("append {run} to {}", path.display()))?;
            }
            let stuck = outcome.stuck.is_some();
            outcomes.push(outcome);
            if stuck {
                site.remake_database()
                    .await
                    .with_context(|| format!("make the database anew after {run}"))?;
            }
        }
    }
    print(&if cli.json {
        json(&outcomes)?
    } else {
        table(&outcomes)
    })
}

fn record(path: &Path, outcome: &Outcome) -> Result<()> {
    let mut line = serde_json::to_string(outcome)?;
    line.push('\n');
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    Ok(file.write_all(line.as_bytes())?)
}

async fn bring_up() -> Result<Site> {
    let paths = Paths::from_environment()?;
    let config = LabConfig {
        clusters: 1,
        nodes: 3,
        ..LabConfig::from_environment()?
    };
    let lab = Lab::up(&config).await?;
    let cluster = Cluster::with_agent(&paths, &lab).await?;
    Site::prepare(lab, cluster).await
}

fn list() -> String {
    let line = |cause: &Cause| format!("{:<18} {}\n", cause.name, cause.what);
    CAUSES.iter().map(line).collect()
}

/// One run in one line.
fn line(number: u32, outcome: &Outcome) -> String {
    let found = &outcome.judgement;
    let taken = found
        .took_over_ms
        .map_or("-".to_owned(), |ms| ms.to_string());
    let mut text = format!(
        "{} {number}: gap {} ms, taken over after {taken} ms, {} acknowledged, {} lost{}, {} double, EXEC {}, settled after {} ms, load {:.0}",
        outcome.cause,
        found.gap_ms,
        found.acknowledged,
        found.lost.len(),
        if found.tail_only {
            ""
        } else {
            " (NOT ONLY A TAIL)"
        },
        found.doubles.len(),
        outcome.transaction,
        outcome.settled_ms,
        outcome.load
    );
    if let Some(why) = &outcome.stuck {
        text.push_str(&format!("\n  STUCK {why}"));
    }
    for double in found.doubles.iter().take(3) {
        text.push_str(&format!("\n  DOUBLE {double:?}"));
    }
    text
}

fn print(text: &str) -> Result<()> {
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

/// For those who watch; the figures go to the output.
fn tell(text: &str) {
    let _nobody_watches = writeln!(std::io::stderr().lock(), "{text}");
}
