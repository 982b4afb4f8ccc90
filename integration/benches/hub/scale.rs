//! What members cost that only are there, and how they come back after a crash of the hub.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{
    fleet::Fleet,
    process::{Hub, Usage},
    report::{Bar, line, section},
};

/// How long a hub rests until its memory is looked at, and how long its idle processor time is counted.
const REST: Duration = Duration::from_secs(5);
/// Members that come back after a crash.
const RETURNING: usize = 1000;
/// How long they may take.
const BACK: Duration = Duration::from_secs(300);
/// The core that the hub is held to while they do.
const CORE: usize = 0;
/// How often it is looked how far they are.
const LOOK: Duration = Duration::from_millis(200);

/// Grows a fleet in steps on one hub, and lets it come back after a crash.
pub(crate) async fn measure(program: &Path, steps: &[usize]) -> Result<()> {
    let (mut hub, api) = Hub::start(program).await?;
    let mut fleet = Fleet::of(api, hub.link());
    let empty = rested(&hub).await?.1;
    section("members that are there and do nothing");
    line(
        "hub without members, resident",
        mib(empty.resident),
        "MiB",
        None,
    );
    for &count in steps {
        let (before, known) = (hub.usage()?, fleet.len());
        let took = fleet.grow(count).await?;
        let joined = count - known;
        let what = format!("{count} members");
        let cpu = hub.usage()?.cpu_since(&before).as_secs_f64();
        line(
            &format!("{what}: joins a second"),
            ratio(joined, took.as_secs_f64()),
            "1/s",
            None,
        );
        line(
            &format!("{what}: hub CPU per join"),
            cpu * 1000.0 / as_f64(joined),
            "ms",
            None,
        );
        let (begun, ended) = rested(&hub).await?;
        let resident = ended.resident;
        let bar = (count == 1000).then(|| Bar::most(150.0));
        line(&format!("{what}: hub resident"), mib(resident), "MiB", bar);
        let each = as_f64(usize::try_from(resident.saturating_sub(empty.resident))?)
            / 1024.0
            / as_f64(count);
        line(
            &format!("{what}: hub resident per member"),
            each,
            "KiB",
            Some(Bar::most(100.0)),
        );
        line(
            &format!("{what}: hub CPU"),
            ended.busy_since(&begun),
            "% of a core",
            None,
        );
        line(
            &format!("{what}: written"),
            per_second(&begun, &ended) / 1024.0,
            "KiB/s",
            None,
        );
        if count == RETURNING {
            come_back(&mut hub, &mut fleet).await?;
        }
    }
    fleet.leave().await;
    Ok(())
}

/// Kills the hub, starts it on one core, and watches the members come back.
async fn come_back(hub: &mut Hub, fleet: &mut Fleet) -> Result<()> {
    section("members that come back after kill -9, the hub on one core");
    let started = hub.crash(Some(CORE))?;
    let count = fleet.len();
    let (mut reached, mut peak, mut rate) = ([None; 3], 0.0_f64, 0.0_f64);
    let goals = [count.div_ceil(2), count * 95 / 100, count];
    let mut last = (hub.usage()?, 0);
    let mut all = last.0;
    while reached[2].is_none() {
        ensure!(
            started.elapsed() < BACK,
            "of {count} members {} are back after {BACK:?}",
            last.1
        );
        tokio::time::sleep(LOOK).await;
        // It does not answer yet.
        let Ok(connected) = fleet.hub().connected().await else {
            continue;
        };
        for (reached, goal) in reached.iter_mut().zip(goals) {
            if connected >= goal {
                reached.get_or_insert_with(|| started.elapsed());
            }
        }
        all = hub.usage()?;
        let seconds = all.at.duration_since(last.0.at).as_secs_f64();
        if seconds >= 1.0 || reached[2].is_some() {
            peak = peak.max(all.busy_since(&last.0));
            rate = rate.max(ratio(connected.saturating_sub(last.1), seconds));
            last = (all, connected);
        }
    }
    let seconds = reached.map(|at| at.unwrap_or_default().as_secs_f64());
    line(
        &format!("{count} members: half are back after"),
        seconds[0],
        "s",
        None,
    );
    line(
        &format!("{count} members: 95 % are back after"),
        seconds[1],
        "s",
        Some(Bar::most(30.0)),
    );
    line(
        &format!("{count} members: all are back after"),
        seconds[2],
        "s",
        None,
    );
    line("most sessions in a second", rate, "1/s", None);
    line("peak hub CPU over a second", peak, "% of a core", None);
    line(
        "hub CPU per member that came back",
        all.cpu.as_secs_f64() * 1000.0 / as_f64(count),
        "ms",
        None,
    );
    let (_, rested) = rested(hub).await?;
    line(
        "hub resident afterwards",
        mib(rested.resident),
        "MiB",
        Some(Bar::most(150.0)),
    );
    hub.unpin()
}

/// Lets what was just done end, and looks at a time in which nothing happens.
async fn rested(hub: &Hub) -> Result<(Usage, Usage)> {
    settled(hub).await?;
    let begun = hub.usage()?;
    tokio::time::sleep(REST).await;
    Ok((begun, hub.usage()?))
}

/// Waits until the hub does next to nothing for a second.
pub(crate) async fn settled(hub: &Hub) -> Result<()> {
    let begun = Instant::now();
    loop {
        let before = hub.usage()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let busy = hub.usage()?.busy_since(&before);
        if busy < 10.0 {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < BACK,
            "the hub does not come to rest: {busy:.0} % of a core"
        );
    }
}

fn per_second(begun: &Usage, ended: &Usage) -> f64 {
    let seconds = ended.at.duration_since(begun.at).as_secs_f64();
    bytes(ended.written.saturating_sub(begun.written)) / seconds
}

/// Exact up to 2^52.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn bytes(count: u64) -> f64 {
    count as f64
}

pub(crate) fn as_f64(count: usize) -> f64 {
    bytes(count as u64)
}

pub(crate) fn ratio(count: usize, seconds: f64) -> f64 {
    as_f64(count) / seconds
}

pub(crate) fn mib(count: u64) -> f64 {
    bytes(count) / 1024.0 / 1024.0
}
