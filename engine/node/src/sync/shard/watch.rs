//! Keeps one connection to a shard, brings the shard's settings up to date whenever it (re)appears, and follows its clock.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::encrypt;
use super::healing::{Healing, SECTIONS, Seen};
use super::{Clock, Drift, Shard, ShardAddress, ShardError};
use crate::backoff::Schedule;
use crate::desired::DesiredShard;
use crate::kept;
use crate::sync::topology::Membership;

/// A shard that starts or restarts is found within this.
const RECONNECT: Schedule = Schedule {
    min: Duration::from_millis(20),
    max: Duration::from_millis(500),
};

/// How often a shard is asked for its clock (or a sign of life). This bounds what polling adds to the lag between regions;
/// one question costs the shard about ten microseconds.
const POLL: Duration = Duration::from_millis(3);

/// A plain shard has no clock to follow.
const POLL_PLAIN: Duration = Duration::from_millis(500);

/// How often settings are compared with what they should be.
const DRIFT: Duration = Duration::from_secs(2);

/// What a shard should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    /// How to reach it.
    pub address: ShardAddress,
    /// Its settings.
    pub desired: DesiredShard,
    /// Its membership, if it is Active-Active.
    pub membership: Option<Membership>,
}

/// What a shard is.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShardState {
    /// A connection, while it answers and is configured.
    pub shard: Option<Shard>,
    /// Its clock, while it answers and is Active-Active.
    pub clock: Option<Clock>,
    /// Why it does not answer.
    pub error: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// The hash of the users that it has taken over.
    pub access: Option<String>,
    /// The hash of what it has taken over of the cluster's internal Secret.
    pub internal: Option<String>,
}

/// Follows a shard until `stop`; what it should be may change while it runs.
pub(crate) async fn watch(
    mut wanted: watch::Receiver<Watched>,
    state: watch::Sender<ShardState>,
    stop: CancellationToken,
) {
    let mut attempt = 0;
    let mut healing = Healing::default();
    loop {
        let now = wanted.borrow_and_update().clone();
        let error = tokio::select! {
            () = stop.cancelled() => break,
            ended = follow(&now, &mut wanted, &state, (&mut attempt, &mut healing)) => ended,
        };
        let Err(error) = error else { continue };
        let refused = kept::refused(&now.address.refused).filter(|r| r.aside.is_none());
        let text = refused.map_or_else(|| crate::run::chain(&error), |r| r.text());
        let known = state.borrow().error.as_ref() == Some(&text);
        if !known {
            warn!(shard = now.address.name, error = text, "not usable yet");
        }
        state.send_replace(ShardState {
            error: Some(text),
            ..ShardState::default()
        });
        let wait = RECONNECT.delay(attempt, rand::random());
        attempt += 1;
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
        }
    }
    state.send_replace(ShardState::default());
}

/// One connection; returns `Ok` when what the shard should be has changed.
async fn follow(
    now: &Watched,
    wanted: &mut watch::Receiver<Watched>,
    state: &watch::Sender<ShardState>,
    (attempt, healing): (&mut u32, &mut Healing),
) -> Result<(), ShardError> {
    let shard = Shard::connect(&now.address).await?;
    shard.ping().await?;
    forget_last_stop(&shard, &now.address.saved).await?;
    let mut files = encrypt::files(&now.desired, &now.address);
    shard.settle(&now.desired, &now.address).await?;
    if let Some(membership) = &now.membership {
        shard.configure(membership).await?;
    }
    let version = shard.info_field("server", "valkey_version").await?;
    let mut clock = read_clock(&shard, now).await?;
    info!(
        shard = now.address.name,
        port = now.desired.port,
        version,
        "serves"
    );
    *attempt = 0;
    state.send_replace(ShardState {
        shard: Some(shard.clone()),
        clock: clock.clone(),
        error: None,
        version: Some(version),
        access: Some(now.desired.access.clone()),
        internal: Some(now.desired.mutual.digest.clone()).filter(|digest| !digest.is_empty()),
    });
    let mut drift = tokio::time::interval(DRIFT);
    drift.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let pause = if now.membership.is_some() {
        POLL
    } else {
        POLL_PLAIN
    };
    loop {
        tokio::select! {
            // The sender lives as long as the watch.
            _changed = wanted.changed() => return Ok(()),
            _ = drift.tick() => {
                put_back(&shard, now).await?;
                heal(&shard, now, healing).await?;
                exchange_certificates(&shard, now, &mut files).await?;
            }
            () = tokio::time::sleep(pause) => {}
        }
        let newer = read_clock(&shard, now).await?;
        if newer != clock {
            clock = newer;
            state.send_modify(|state| state.clock.clone_from(&clock));
        }
    }
}

/// Undoes what somebody else changed of our settings; everything else is theirs.
async fn put_back(shard: &Shard, now: &Watched) -> Result<(), ShardError> {
    let drifted = shard.drifted(&now.desired).await?;
    for Drift {
        name,
        found,
        wanted,
    } in &drifted
    {
        warn!(
            shard = now.address.name,
            setting = name,
            found,
            wanted,
            "a setting was changed behind the cluster's back and is put back; change the database's spec instead"
        );
    }
    if drifted.is_empty() {
        return Ok(());
    }
    shard.settle(&now.desired, &now.address).await
}

/// Replaces an append-only file that could not be written for a while as soon as it can be: nobody must depend later on what a
/// full disk left in the middle of it.
async fn heal(shard: &Shard, now: &Watched, healing: &mut Healing) -> Result<(), ShardError> {
    if !healing.looked(&Seen::of(&shard.info(SECTIONS).await?)) {
        return Ok(());
    }
    match shard.rewrite().await {
        Ok(()) => {
            info!(
                shard = now.address.name,
                "the append-only file can be written again and is made anew"
            );
            Ok(())
        }
        Err(error @ ShardError::Refused { .. }) => {
            warn!(
                shard = now.address.name,
                error = crate::run::chain(&error),
                "the append-only file is not made anew yet"
            );
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Makes the shard read certificates that have changed. If it cannot use them it goes on with those that it has.
async fn exchange_certificates(
    shard: &Shard,
    now: &Watched,
    files: &mut String,
) -> Result<(), ShardError> {
    let newer = encrypt::files(&now.desired, &now.address);
    if newer == *files {
        return Ok(());
    }
    match shard.encrypt(&now.desired, &now.address).await {
        Ok(()) => info!(shard = now.address.name, "new certificates are in use"),
        Err(error @ ShardError::Refused { .. }) => {
            warn!(
                shard = now.address.name,
                error = crate::run::chain(&error),
                "new certificates cannot be used; those before stay"
            );
        }
        Err(error) => return Err(error),
    }
    *files = newer;
    Ok(())
}

/// Once a process has loaded what its predecessor saved, that is no truth for any later one.
async fn forget_last_stop(shard: &Shard, saved: &Path) -> Result<(), ShardError> {
    let Ok(ended) = std::fs::read_to_string(saved) else {
        return Ok(());
    };
    if shard.process().await? == ended.trim() {
        // It is about to end, and has been seen for the last time.
        return Ok(());
    }
    if let Err(error) = std::fs::remove_file(saved) {
        warn!(path = %saved.display(), %error, "a later start may load an old copy: remove the file");
    }
    Ok(())
}

async fn read_clock(shard: &Shard, now: &Watched) -> Result<Option<Clock>, ShardError> {
    if now.membership.is_some() {
        shard.clock().await.map(Some)
    } else {
        shard.ping().await.map(|()| None)
    }
}
