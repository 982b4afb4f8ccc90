//! The command `failover-bench`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use super::figure::{self, Figure};
use super::report::missed;
use super::{CAUSES, Cause, Outcome, Site, Waits, json, play, table, words};
use crate::lab::{Lab, LabConfig};
use crate::shell;
use crate::stack::{Cluster, Paths};

/// What clusters of others are spared.
const FAULTS: &str = "playing faults on hosts, their network and the control plane";
/// How far back logs are kept of a run that missed its bar, seconds.
const LOGGED: u64 = 300;

/// Plays faults against a database with a replica on a cluster of three nodes, and prints what clients saw.
#[derive(Debug, Parser)]
#[command(name = "failover-bench", version)]
struct Cli {
    /// How often each cause is played; with --record until the file holds so many runs of it
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only these causes (see --list)
    #[arg(long, value_name = "CAUSE", value_parser = parse_cause)]
    only: Vec<&'static Cause>,
    /// Print every figure of every run as JSON
    #[arg(long)]
    json: bool,
    /// Append the figures of every run to this file as soon as it is over, one line of JSON each, and play only what is
    /// missing there
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Keep what agents and nodes logged, and the Events, of each run that took longer than its bar, as <DIR>/<run>.log
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
    /// Print the table of the runs that --record holds and end
    #[arg(long, requires = "record")]
    summary: bool,
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
    let mut known = match &cli.record {
        Some(path) => figure::read(path)?,
        None => Vec::new(),
    };
    if cli.summary {
        print(&table(&known))?;
        return within_bars(&known);
    }
    let outcomes = play_missing(cli, &causes, &mut known).await?;
    print(&if cli.json {
        json(&outcomes)?
    } else {
        table(&known) + &words(&outcomes)
    })?;
    within_bars(&known)
}

/// Fails if a run missed its bar, so that nobody has to read the table for it.
fn within_bars(runs: &[Figure]) -> Result<()> {
    let missed = missed(runs);
    ensure!(
        missed.is_empty(),
        "a bar was MISSED by {}: the table above has the figures",
        missed.join(", ")
    );
    Ok(())
}

/// Plays each cause as often as it is missing, and adds the figures to those that are known.
async fn play_missing(
    cli: &Cli,
    causes: &[&'static Cause],
    known: &mut Vec<Figure>,
) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    if figure::rarest(known, causes, cli.runs).is_none() {
        return Ok(outcomes);
    }
    let commit = shell::succeed("git", &["rev-parse", "--short", "HEAD"], &[], "")?;
    let day = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let waits = if cli.full { Waits::FULL } else { Waits::SHORT };
    let mut site = bring_up().await?;
    while let Some((cause, number)) = figure::rarest(known, causes, cli.runs) {
        let run = format!("{}-{number}-{}", cause.name, std::process::id());
        let outcome = play(&site, cause, &run, &waits).await?;
        tell(&line(number, &outcome));
        if let (true, Some(folder)) = (missed_its_bar(cause, &outcome), &cli.logs) {
            keep_logs(&site, &outcome, &folder.join(format!("{run}.log")))?;
        }
        let figure = Figure::of(&outcome, &day, commit.trim(), cli.full);
        if let Some(path) = &cli.record {
            figure::append(path, &figure).with_context(|| format!("keep {run}"))?;
        }
        known.push(figure);
        let stuck = outcome.stuck.is_some();
        outcomes.push(outcome);
        if stuck {
            site.remake_database()
                .await
                .with_context(|| format!("make the database anew after {run}"))?;
        }
    }
    Ok(outcomes)
}

fn missed_its_bar(cause: &Cause, outcome: &Outcome) -> bool {
    let gap = u128::from(outcome.judgement.gap_ms);
    outcome.stuck.is_some() || cause.bar.is_some_and(|bar| gap > bar.as_millis())
}

/// Writes what there is to read about a run; whoever looks for the cause of a missed bar has nothing else.
fn keep_logs(site: &Site, outcome: &Outcome, path: &Path) -> Result<()> {
    let text = format!("{}\n\n{}", outcome.events.join("\n"), site.logged(LOGGED)?);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

async fn bring_up() -> Result<Site> {
    Lab::refuse_others(FAULTS)?;
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
fn line(number: usize, outcome: &Outcome) -> String {
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
