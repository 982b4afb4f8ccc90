//! One fault, played and judged.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::cause::{Cause, Fault};
use super::client::now;
use super::history::{events, said_since};
use super::inject::{Undo, inject, prepare, undo};
use super::judge::{Judgement, Log, Reign, judge};
use super::site::{DATABASE, Place, SETTLED, Site};
use super::transaction::Transaction;
use super::writer::Writers;

/// Acknowledgements that the client of the Service must have before a fault, and after it.
const PROGRESS: u64 = 200;
/// How long writes may be away altogether before a run counts as stuck.
const STUCK: Duration = Duration::from_secs(180);

/// How long what lasts.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// How long a fault lasts that nobody needs to move for.
    pub outage: Duration,
    /// How long the API server is away.
    pub api_away: Duration,
    /// How old the copy is that the store is put back to.
    pub snapshot_age: Duration,
    /// How long it is waited for that another pod leads.
    pub moved: Duration,
}

impl Waits {
    /// A minute without the API server, and a fresh copy of the store.
    pub const SHORT: Self = Self {
        outage: Duration::from_secs(20),
        api_away: Duration::from_secs(60),
        snapshot_age: Duration::ZERO,
        moved: Duration::from_secs(60),
    };
    /// Ten minutes of each.
    pub const FULL: Self = Self {
        outage: Duration::from_secs(60),
        api_away: Duration::from_secs(600),
        snapshot_age: Duration::from_secs(600),
        moved: Duration::from_secs(60),
    };
}

/// What one run showed.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Name of the cause.
    pub cause: &'static str,
    /// Why the run did not come to its end; the rest is then what was known until there.
    pub stuck: Option<String>,
    /// Whether another pod was primary in the end.
    pub moved: bool,
    /// Who was primary, as the topology told.
    pub reigns: Vec<Reign>,
    /// What the judges found.
    pub judgement: Judgement,
    /// What became of a transaction that was queued before the fault.
    pub transaction: String,
    /// What people could read while the fault lasted.
    pub during: Vec<String>,
    /// Events about the database since.
    pub events: Vec<String>,
    /// From the end of the fault until everything was as before, milliseconds.
    pub settled_ms: u64,
    /// Processes of the machine that were running or waiting for a processor, over the minute before the fault.
    pub load: f64,
}

/// Plays a cause once.
///
/// # Errors
/// If the run cannot begin, or its logs cannot be read in the end. A database that does not come back is an outcome.
pub async fn play(site: &Site, cause: &'static Cause, run: &str, waits: &Waits) -> Result<Outcome> {
    let prepared = prepare(site, cause.fault, waits)
        .await
        .with_context(|| format!("prepare {}", cause.name))?;
    let place = site.settled(SETTLED).await?;
    let said = events(&site.cluster, DATABASE)?;
    let history = site.history().await?;
    let writers = site.start_writers(&place, run)?;
    writers.progress(PROGRESS, STUCK).await?;
    let key = format!("{run}:transaction");
    let transaction =
        Transaction::queue(site.direct(&place.primary)?, &place.primary, &key).await?;

    let began = now();
    let mut outcome = Outcome {
        cause: cause.name,
        load: load()?,
        ..Outcome::default()
    };
    let injected = inject(site, cause.fault, &place, &prepared).await;
    let (outlasted, undone) = match injected {
        Ok(undo) => {
            outlast(
                site,
                cause,
                &place,
                &writers,
                (began, &transaction, undo),
                waits,
            )
            .await
        }
        Err(error) => (Vec::new(), Err(error)),
    };
    outcome.during = outlasted;
    transaction.execute();
    let over = Instant::now();
    let back = match undone {
        Ok(()) => come_back(site, &writers).await,
        Err(error) => Err(error),
    };
    outcome.settled_ms = u64::try_from(over.elapsed().as_millis())?;

    let mut logs = writers.finish()?;
    let executed = transaction.finish()?;
    outcome.transaction = executed.words;
    logs.push(executed.log);
    outcome.reigns = history.finish().await?;
    if let Ok(after) = events(&site.cluster, DATABASE) {
        outcome.events = said_since(&said, after);
    }
    match back {
        Ok(after) => {
            outcome.moved = after.primary != place.primary;
            outcome.judgement = verdict(site, &after, &logs, &outcome.reigns, began).await?;
        }
        Err(error) => outcome.stuck = Some(format!("{error:#}")),
    }
    Ok(outcome)
}

fn load() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    let minute = text.split_whitespace().next().unwrap_or_default();
    minute
        .parse()
        .with_context(|| format!("/proc/loadavg begins with `{minute}`, and not with a number"))
}

/// Lets the fault last, looks at what people can read, and takes it back.
async fn outlast(
    site: &Site,
    cause: &Cause,
    place: &Place,
    writers: &Writers,
    (began, transaction, fault): (u64, &Transaction, Undo),
    waits: &Waits,
) -> (Vec<String>, Result<()>) {
    if cause.moves {
        // If nobody took over, the run goes on, and shows it.
        let _moved = writers.moved(&place.primary, began, waits.moved).await;
    } else if cause.outage {
        let away = cause.fault == Fault::ApiAway;
        tokio::time::sleep(if away { waits.api_away } else { waits.outage }).await;
    }
    let during = if cause.fault == Fault::ApiAway {
        Vec::new()
    } else {
        site.troubles()
    };
    // What was queued before is sent while the old primary is still away: it finds it when it comes back.
    transaction.execute();
    (during, undo(site, fault).await)
}

/// Waits until clients write again and everything is as before.
async fn come_back(site: &Site, writers: &Writers) -> Result<Place> {
    writers.progress(PROGRESS, STUCK).await?;
    let place = site.settled(SETTLED).await?;
    writers.progress(PROGRESS, STUCK).await?;
    Ok(place)
}

async fn verdict(
    site: &Site,
    after: &Place,
    logs: &[Log],
    reigns: &[Reign],
    began: u64,
) -> Result<Judgement> {
    let keys: Vec<String> = logs
        .iter()
        .flat_map(|log| &log.writes)
        .map(|write| write.key.clone())
        .collect();
    ensure!(!keys.is_empty(), "no write was acknowledged");
    ensure!(!reigns.is_empty(), "the topology was never seen");
    let there = site.take(&after.primary, keys).await?;
    Ok(judge(logs, reigns, &there, began))
}
