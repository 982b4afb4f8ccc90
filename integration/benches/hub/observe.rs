//! What observations cost the store: members whose databases stand, and of which only the lag moves.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use super::{
    api::{Api as HubApi, DATABASES, database},
    fleet::Fleet,
    kube::Api,
    process::{Backing, Hub},
    report::{Bar, line, section},
    scale::{as_f64, bytes, mib, settled},
};

/// Databases of each member.
const EACH: usize = 100;
/// Requests that are under way at the same time.
const AT_ONCE: usize = 16;
/// How long it is counted: agents tell of what moves with time after at most 30 s.
const COUNTED: Duration = Duration::from_secs(35);
/// How often lags move.
const MOVES: Duration = Duration::from_secs(2);
/// How long the databases may take to stand and to be told of, for each thousand of them.
const TOLD: Duration = Duration::from_secs(120);

/// Measures it with both stores.
pub(crate) async fn measure(program: &Path, members: usize) -> Result<()> {
    for backing in [Backing::Redb, Backing::Etcd] {
        section(format_args!(
            "{members} members × {EACH} databases of which nothing moves but the lag, store in {backing:?}"
        ));
        with_store(program, members, backing).await?;
    }
    Ok(())
}

async fn with_store(program: &Path, members: usize, backing: Backing) -> Result<()> {
    let (hub, api) = Hub::start_over(program, backing).await?;
    let mut fleet = Fleet::of(api.clone(), hub.link());
    fleet.grow(members).await?;
    let wanted = (0..members * EACH).map(|n| {
        let name = format!("db-{n:06}");
        database(&name, &Fleet::names(n % members, 1))
    });
    let posts = stream::iter(wanted).map(|wanted| {
        let api = &api;
        async move { api.post(DATABASES, &wanted).await }
    });
    posts
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<Value>>()
        .await?;
    stand(&fleet, members).await?;
    (0..members).for_each(|n| observe(fleet.member(n), 0));
    all_told(&api, members).await?;
    settled(&hub).await?;
    let (before, size) = (Counted::of(&api, &hub).await?, hub.store_bytes()?);
    let begun = Instant::now();
    let mut lag = 1;
    while begun.elapsed() < COUNTED {
        (0..members).for_each(|n| observe(fleet.member(n), lag));
        lag = lag % 900 + 1;
        tokio::time::sleep(MOVES).await;
    }
    let (after, seconds) = (
        Counted::of(&api, &hub).await?,
        begun.elapsed().as_secs_f64(),
    );
    after.tell(&before, seconds);
    let grown = hub.store_bytes()?.saturating_sub(size);
    line("store: size", mib(hub.store_bytes()?), "MiB", None);
    line(
        "store: growth",
        bytes(grown) / 1024.0 / seconds,
        "KiB/s",
        None,
    );
    line("hub resident", mib(hub.usage()?.resident), "MiB", None);
    fleet.leave().await;
    Ok(())
}

/// Waits until every database stands on its member.
async fn stand(fleet: &Fleet, members: usize) -> Result<()> {
    let begun = Instant::now();
    loop {
        let there: usize = (0..members)
            .map(|n| fleet.member(n).databases().len())
            .sum();
        if there == members * EACH {
            return Ok(());
        }
        in_time(begun, members, there, "stand")?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until the hub has heard of every database.
async fn all_told(api: &HubApi, members: usize) -> Result<()> {
    let begun = Instant::now();
    loop {
        let stored = usize::try_from(api.metric("observations_stored_total").await?)?;
        if stored >= members * EACH {
            return Ok(());
        }
        in_time(begun, members, stored, "are told of")?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn in_time(begun: Instant, members: usize, count: usize, what: &str) -> Result<()> {
    let all = members * EACH;
    let limit = TOLD * u32::try_from(all.div_ceil(1000))?;
    ensure!(
        begun.elapsed() < limit,
        "{count} of {all} databases {what} after {limit:?}"
    );
    Ok(())
}

/// Writes what the controllers and nodes of a member would: the databases are active, and their only link lags so much.
fn observe(member: &Api, lag_ms: u64) {
    let now = jiff::Timestamp::now().to_string();
    let since = "2026-01-01T00:00:00Z";
    for name in member.databases() {
        let status =
            json!({ "status": "active", "replicationStatus": "up", "specStatus": "Valid" });
        member.set_status(&name, &status);
        let link = json!({
            "instanceId": 2, "name": "elsewhere", "state": "up", "lagMs": lag_ms, "since": since, "asOf": now,
        });
        let shard =
            json!({ "id": 0, "role": "primary", "ready": true, "writable": true, "port": 10_000 });
        let reported = json!({
            "node": "rec-0", "topologyUid": "u", "epoch": 1, "generation": 1, "asOf": now,
            "shards": [shard], "links": [link],
        });
        member.put(
            "databasetopologies",
            json!({
                "apiVersion": "meridian.dev/v1alpha1",
                "kind": "DatabaseTopology",
                "metadata": { "name": name },
                "spec": {
                    "cluster": "rec",
                    "database": { "kind": "RedisEnterpriseActiveActiveDatabase", "name": name },
                },
                "status": { "members": [reported] },
            }),
        );
    }
}

/// What was counted up to a moment.
struct Counted {
    heard: u64,
    stored: u64,
    transactions: u64,
    written: u64,
    cpu: Duration,
}

impl Counted {
    async fn of(api: &HubApi, hub: &Hub) -> Result<Self> {
        let usage = hub.usage()?;
        Ok(Self {
            heard: api.metric("observations_total").await?,
            stored: api.metric("observations_stored_total").await?,
            transactions: api.revision().await?,
            written: usage.written,
            cpu: usage.cpu,
        })
    }

    fn tell(&self, before: &Self, seconds: f64) {
        let since = |count: fn(&Self) -> u64| bytes(count(self).saturating_sub(count(before)));
        let heard = since(|it| it.heard);
        line("observations: heard", heard / seconds, "1/s", None);
        let each = since(|it| it.stored) / heard;
        line(
            "observations: stored, of each that is heard",
            each,
            "",
            Some(Bar::most(0.0)),
        );
        let transactions = since(|it| it.transactions);
        line("store: transactions", transactions / seconds, "1/s", None);
        line(
            "store: transactions for each observation",
            transactions / heard,
            "",
            Some(Bar::most(0.01)),
        );
        let written = since(|it| it.written) / 1024.0;
        line("hub: written", written / seconds, "KiB/s", None);
        let cpu = self.cpu.saturating_sub(before.cpu).as_secs_f64() * 1000.0;
        line("hub: CPU for each observation", cpu / heard, "ms", None);
        line("observations: counted", heard, "", None);
        line("databases in all", as_f64(EACH), "a member", None);
    }
}
