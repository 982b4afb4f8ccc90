//! What one agent that is stopped costs the others (I10): how long a database takes to its members while it is, and while it is not,
//! in turns, with as much to tell it either way.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use super::{
    api::{Api, DATABASES, database},
    fleet::{Fleet, Stoppable},
    kube,
    process::Hub,
    report::{Bar, difference, line, section, spread},
    scale::settled,
};

/// Members, the one that is stopped among them.
const MEMBERS: usize = 200;
/// Databases of one turn, and the members of each.
const DATABASES_EACH: usize = 20;
const WIDTH: usize = 8;
/// Databases for the one that is stopped, in each turn: more than may be on their way to it.
const FOR_IT: usize = 40;
/// How long a database may take.
const ARRIVED: Duration = Duration::from_secs(60);

struct Bench {
    api: Api,
    fleet: Fleet,
    one: Stoppable,
    made: usize,
}

/// Measures so many turns of each kind.
pub(crate) async fn measure(program: &Path, turns: usize) -> Result<()> {
    let (hub, api) = Hub::start(program).await?;
    let mut fleet = Fleet::of(api.clone(), hub.link());
    fleet.grow(MEMBERS - 1).await?;
    let one = fleet.join_apart().await?;
    settled(&hub).await?;
    section(format_args!(
        "one agent of {MEMBERS} is stopped, {turns} turns with and {turns} without"
    ));
    let mut bench = Bench {
        api,
        fleet,
        one,
        made: 0,
    };
    // What is slow once is so in neither.
    bench.turn(false).await?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for turn in 0..turns {
        // Which comes first changes, so that neither always has the larger store.
        for stopped in [turn % 2 == 0, turn % 2 == 1] {
            let taken = bench.turn(stopped).await?;
            if stopped { &mut with } else { &mut without }.extend(taken);
        }
    }
    spread("created → there, nobody stopped", &without.concat(), None);
    spread("created → there, one stopped", &with.concat(), None);
    for percent in [50, 99] {
        let more = difference(&without, &with, percent);
        line(
            &format!("P{percent} with one stopped: more"),
            more.percent,
            "%",
            None,
        );
        line("  95 % interval: from", more.lowest, "%", None);
        let bar = (percent == 99).then(|| Bar::most(5.0));
        line("  95 % interval: to", more.highest, "%", bar);
    }
    line(
        "hub resident",
        super::scale::mib(hub.usage()?.resident),
        "MiB",
        None,
    );
    bench.fleet.leave().await;
    Ok(())
}

impl Bench {
    /// Creates databases for the one, stopped or not, and others one after another, of which each gives the times of its members.
    async fn turn(&mut self, stopped: bool) -> Result<Vec<Vec<Duration>>> {
        let held = stopped.then(|| self.one.stop()).transpose()?;
        let names = (0..FOR_IT).map(|_| self.next()).collect::<Vec<_>>();
        let posts = stream::iter(&names).map(|name| {
            let wanted = database(name, &Fleet::names(MEMBERS - 1, 1));
            let api = &self.api;
            async move { api.post(DATABASES, &wanted).await }
        });
        posts
            .buffer_unordered(8)
            .try_collect::<Vec<Value>>()
            .await?;
        let mut taken = Vec::new();
        for n in 0..DATABASES_EACH {
            let first = (self.made + n * WIDTH) % (MEMBERS - 1 - WIDTH);
            let name = self.next();
            let wanted = database(&name, &Fleet::names(first, WIDTH));
            let begun = Instant::now();
            self.api.post(DATABASES, &wanted).await?;
            let arrived = self.arrived(&name).await?;
            taken.push(arrived.iter().map(|at| at.duration_since(begun)).collect());
        }
        drop(held);
        self.caught_up(&names).await?;
        Ok(taken)
    }

    fn next(&mut self) -> String {
        self.made += 1;
        format!("db-{:05}", self.made)
    }

    /// When a database came to each of its members.
    async fn arrived(&mut self, name: &str) -> Result<Vec<Instant>> {
        let mut found: BTreeMap<usize, Instant> = BTreeMap::new();
        while found.len() < WIDTH {
            let next = tokio::time::timeout(ARRIVED, self.fleet.arrivals.recv()).await;
            let next = next.with_context(|| format!("{name} is on {} members", found.len()))?;
            let next = next.context("no members")?;
            if next.plural == kube::DATABASES && next.name == name {
                found.entry(next.member).or_insert(next.at);
            }
        }
        Ok(found.into_values().collect())
    }

    /// Waits until the one has all that is for it.
    async fn caught_up(&self, names: &[String]) -> Result<()> {
        let begun = Instant::now();
        let api = self.fleet.member(MEMBERS - 1);
        loop {
            let there = api.databases();
            if names.iter().all(|name| there.contains(name)) {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < ARRIVED,
                "the agent that was stopped does not catch up"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
