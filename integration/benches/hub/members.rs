//! Eight members with real API servers and whole agents beside one hub: how long a database takes to all of them, as a multiple of
//! what one API server needs to show it to a watch, in the same sitting.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{
    api::{Api, DATABASES, database},
    fleet::{self, Fleet},
    kube::Arrival,
    member::Member,
    process::{Backing, Hub},
    report::{Bar, line, millis, section},
    scale::{as_f64, mib, settled},
};

/// Members.
const MEMBERS: usize = 8;
/// Databases of a burst, and how many are asked for at the same time.
const BURST: usize = 200;
const AT_ONCE: usize = 16;
/// How long what was ordered may take to arrive.
const ARRIVED: Duration = Duration::from_secs(300);

/// The programs that are measured.
pub(crate) struct Programs {
    pub(crate) hub: PathBuf,
    pub(crate) agent: PathBuf,
}

struct Bench {
    hub: Hub,
    api: Api,
    members: Vec<Member>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    made: usize,
    /// What one API server needs, at the median, ms.
    floor: f64,
    _dir: TempDir,
}

/// Measures with both stores, with so many databases one after another.
pub(crate) async fn measure(programs: &Programs, databases: usize) -> Result<()> {
    for backing in [Backing::Redb, Backing::Etcd] {
        section(format_args!(
            "{MEMBERS} real API servers with a whole agent each, store in {backing:?}"
        ));
        let mut bench = Bench::start(programs, backing).await?;
        bench.floor(databases).await?;
        bench.join(&programs.agent).await?;
        bench.memory("nothing to do").await?;
        bench.one_by_one(databases).await?;
        bench.burst().await?;
        bench.memory("after the load").await?;
        bench.crash().await?;
    }
    Ok(())
}

impl Bench {
    async fn start(programs: &Programs, backing: Backing) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let starts = (0..MEMBERS).map(|n| Member::start(n, dir.path(), arrived.clone()));
        let members = futures::future::try_join_all(starts).await?;
        let (hub, api) = Hub::start_over(&programs.hub, backing).await?;
        Ok(Self {
            hub,
            api,
            members,
            arrivals,
            made: 0,
            floor: f64::NAN,
            _dir: dir,
        })
    }

    /// How long one API server needs from a request to the event of a watch.
    async fn floor(&mut self, databases: usize) -> Result<()> {
        let mut taken = Vec::new();
        for n in 0..databases {
            let name = format!("floor-{n:05}");
            let begun = self.members[n % MEMBERS].create_elsewhere(&name).await?;
            taken.push(self.last(&BTreeSet::from([name]), 1).await? - begun);
        }
        self.floor = millis(&taken, 50);
        line("floor, one API server: P50", self.floor, "ms", None);
        line("floor, one API server: P99", millis(&taken, 99), "ms", None);
        Ok(())
    }

    async fn join(&mut self, agent: &Path) -> Result<()> {
        let link = self.hub.link();
        for (n, member) in self.members.iter_mut().enumerate() {
            let token = fleet::token(&self.api, n).await?;
            member.join(agent, &token, &link).await?;
        }
        fleet::connected(&self.api, MEMBERS).await?;
        fleet::reported(&self.api, MEMBERS).await
    }

    async fn memory(&self, when: &str) -> Result<()> {
        settled(&self.hub).await?;
        let hub = mib(self.hub.usage()?.resident);
        let bar = Bar::most(40.0);
        line(&format!("hub resident, {when}"), hub, "MiB", Some(bar));
        let mut most = 0;
        for member in &self.members {
            most = most.max(member.agent()?.resident);
        }
        let what = format!("largest agent resident, {when}");
        line(&what, mib(most), "MiB", Some(bar));
        Ok(())
    }

    /// Creates databases one after another, each when all rest.
    async fn one_by_one(&mut self, databases: usize) -> Result<()> {
        let mut taken = Vec::new();
        for _ in 0..databases {
            self.rest().await?;
            let begun = Instant::now();
            let names = self.create(1).await?;
            taken.push(self.last(&names, MEMBERS).await? - begun);
        }
        for (percent, bar) in [(50, Some(6.0)), (90, None), (99, Some(12.0))] {
            let millis = millis(&taken, percent);
            line(
                &format!("created → on all {MEMBERS}: P{percent}"),
                millis,
                "ms",
                None,
            );
            let times = millis / self.floor;
            line("  of the floor", times, "×", bar.map(Bar::most));
        }
        Ok(())
    }

    async fn burst(&mut self) -> Result<()> {
        settled(&self.hub).await?;
        let before = self.used()?;
        let begun = Instant::now();
        let names = self.create(BURST).await?;
        let took = self.last(&names, MEMBERS).await? - begun;
        let what = format!("{BURST} at once → all on all {MEMBERS}");
        line(&what, took.as_secs_f64(), "s", Some(Bar::most(5.0)));
        settled(&self.hub).await?;
        let after = self.used()?;
        let deliveries = as_f64(BURST * MEMBERS);
        let bars = [Some(0.5), Some(2.0), None];
        for (n, (what, bar)) in ["hub", "agents", "API servers"]
            .iter()
            .zip(bars)
            .enumerate()
        {
            let each = after[n].saturating_sub(before[n]).as_secs_f64() * 1000.0 / deliveries;
            let what = format!("{what}: CPU for each database and member");
            line(&what, each, "ms", bar.map(Bar::most));
        }
        Ok(())
    }

    /// Kills the hub, and asks for a database as soon as it answers again.
    async fn crash(&mut self) -> Result<()> {
        let begun = self.hub.crash(None)?;
        self.hub.ready().await?;
        let answers = begun.elapsed();
        let names = self.create(1).await?;
        let took = self.last(&names, MEMBERS).await? - begun;
        line("hub killed → it answers", answers.as_secs_f64(), "s", None);
        let bar = Some(Bar::most(1.0));
        let what = format!("hub killed → the next database on all {MEMBERS}");
        line(&what, took.as_secs_f64(), "s", bar);
        Ok(())
    }

    /// Processor time of the hub, of all agents, and of all API servers with their etcd.
    fn used(&self) -> Result<[Duration; 3]> {
        let mut used = [self.hub.usage()?.cpu, Duration::ZERO, Duration::ZERO];
        for member in &self.members {
            used[1] += member.agent()?.cpu;
            used[2] += member.api_cpu()?;
        }
        Ok(used)
    }

    /// Waits until the agents have done what followed from the last database.
    async fn rest(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let before = self.used()?;
            tokio::time::sleep(Duration::from_millis(200)).await;
            let after = self.used()?;
            let busy = after[0] + after[1] - before[0] - before[1];
            if busy < Duration::from_millis(30) {
                return Ok(());
            }
            anyhow::ensure!(
                begun.elapsed() < ARRIVED,
                "hub and agents do not come to rest"
            );
        }
    }

    /// Asks for databases over all members.
    async fn create(&mut self, count: usize) -> Result<BTreeSet<String>> {
        let names: BTreeSet<String> = (self.made..self.made + count)
            .map(|n| format!("db-{n:05}"))
            .collect();
        self.made += count;
        let participants = Fleet::names(0, MEMBERS);
        let posts = stream::iter(&names).map(|name| {
            let wanted = database(name, &participants);
            let api = &self.api;
            async move { api.post(DATABASES, &wanted).await }
        });
        let answers = posts.buffer_unordered(AT_ONCE);
        answers.try_collect::<Vec<Value>>().await?;
        Ok(names)
    }

    /// When the last of these stood on so many members.
    async fn last(&mut self, names: &BTreeSet<String>, members: usize) -> Result<Instant> {
        let mut missing = names.len() * members;
        let mut seen = BTreeSet::new();
        loop {
            let next = tokio::time::timeout(ARRIVED, self.arrivals.recv()).await;
            let next = next.with_context(|| format!("{missing} have not arrived"))?;
            let next = next.context("no member is watched")?;
            if names.contains(&next.name) && seen.insert((next.member, next.name)) {
                missing -= 1;
                if missing == 0 {
                    return Ok(next.at);
                }
            }
        }
    }
}
