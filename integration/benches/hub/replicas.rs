//! Three replicas of the hub over one etcd: how long nothing can be written when the one that leads is killed.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    api::Api,
    fleet,
    process::{Hub, Shared},
    report::{Bar, line, millis, section},
};

const REPLICAS: usize = 3;
/// How long a new one may take.
const LED: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(5);

/// Kills the one that leads so often.
pub(crate) async fn measure(program: &Path, rounds: usize) -> Result<()> {
    section(format_args!(
        "the leader of {REPLICAS} replicas is killed {rounds} times, store in Etcd"
    ));
    let shared = Shared::start(program)?;
    let mut hubs = Vec::new();
    for _ in 0..REPLICAS {
        hubs.push(Hub::start_with(program, Some(shared.clone())).await?);
    }
    let (mut written, mut led) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let leader = leader(&hubs).await?;
        hubs[leader].0.kill()?;
        let begun = Instant::now();
        let follower = &hubs[(leader + 1) % REPLICAS].1;
        accepts(follower, round).await?;
        written.push(begun.elapsed());
        self::leader(&hubs).await?;
        led.push(begun.elapsed());
        hubs[leader].0.restart(None)?;
        hubs[leader].0.ready().await?;
    }
    let bar = Some(Bar::most(5000.0));
    line(
        "killed → a write is accepted: P50",
        millis(&written, 50),
        "ms",
        None,
    );
    line(
        "killed → a write is accepted: worst",
        millis(&written, 100),
        "ms",
        bar,
    );
    line(
        "killed → members are let in: P50",
        millis(&led, 50),
        "ms",
        None,
    );
    line(
        "killed → members are let in: worst",
        millis(&led, 100),
        "ms",
        bar,
    );
    Ok(())
}

/// Waits until one of them lets members in.
async fn leader(hubs: &[(Hub, Api)]) -> Result<usize> {
    let begun = Instant::now();
    loop {
        if let Some(leader) = hubs.iter().position(|(hub, _)| hub.leads()) {
            return Ok(leader);
        }
        ensure!(begun.elapsed() < LED, "nobody leads after {LED:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Writes until that is accepted.
async fn accepts(api: &Api, round: usize) -> Result<()> {
    let begun = Instant::now();
    loop {
        let Err(refused) = fleet::token(api, round).await else {
            return Ok(());
        };
        if begun.elapsed() > LED {
            return Err(refused).context(format!("no write is accepted after {LED:?}"));
        }
        tokio::time::sleep(LOOK).await;
    }
}
