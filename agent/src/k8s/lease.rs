//! Leader election of the agent's replicas over a `coordination.k8s.io/v1` Lease.
//!
//! [`decide`] is pure. A holder is believed to be gone only when its record has not changed for a whole lease duration
//! **on our own monotonic clock**; times inside the record were written by another machine's clock and are never
//! compared. Every write is a compare-and-swap on the resource version. A leader that could not renew for
//! [`RENEW_DEADLINE`] steps down before another replica can take over. (Same rules as Kubernetes' own components.)
//!
//! A standby asks for nothing while the leader renews: a watch tells it each renewal, and it reads the record itself only
//! when it was told none for a whole lease. A watch that breaks or lags thus makes it read, or wait longer, never less.
//!
//! The Lease also tells when the cluster's etcd was put back from a snapshot: its resource version, which only grows
//! (KEP-5504), is then lower than before. Every watch of this process waits behind a version of the lost future, and the
//! API server says nothing to it until its counter has caught up, so the process ends and lists everything anew.

use std::time::Duration;

use futures::{StreamExt as _, stream::BoxStream};
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    api::ObjectMeta,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use thiserror::Error;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    apply::{ApplyError, Objects},
    fault::Fault,
    retry,
};
use crate::clock;

/// How long a record holds after its last change.
pub const DURATION: Duration = Duration::from_secs(10);
/// A leader that has not renewed for this long is no leader any more. Shorter than [`DURATION`], with a margin for
/// the work that it still has in flight.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(7);
/// Pause between two renewals. An idle agent asks for little else, so it is as long as two attempts may be lost.
pub const PERIOD: Duration = Duration::from_millis(2_500);
/// Pause after one that failed, and between two looks while the record cannot be read.
const RETRY: Duration = Duration::from_secs(1);
/// Longest time that one request may take.
const REQUEST: Duration = Duration::from_secs(2);

/// What to do with the record as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nobody holds it, or its holder has been silent for a whole lease: write ourselves in, counting a transition.
    Take {
        /// The value of `leaseTransitions` to write.
        transitions: i32,
    },
    /// It is ours: renew it.
    Renew,
    /// Somebody else holds it.
    Wait {
        /// The holder.
        holder: String,
    },
}

/// Decides about a record (`None`: the Lease does not exist) that has been unchanged for `unchanged_for`.
#[must_use]
pub fn decide(record: Option<&LeaseSpec>, me: &str, unchanged_for: Duration) -> Decision {
    let Some(record) = record else {
        return Decision::Take { transitions: 0 };
    };
    let next = record.lease_transitions.unwrap_or(0).saturating_add(1);
    let lasts = lasts(record);
    match record.holder_identity.as_deref() {
        None | Some("") => Decision::Take { transitions: next },
        Some(holder) if holder == me => Decision::Renew,
        Some(_) if unchanged_for >= lasts => Decision::Take { transitions: next },
        Some(holder) => Decision::Wait {
            holder: holder.to_owned(),
        },
    }
}

/// How long a record holds after its last change.
fn lasts(record: &LeaseSpec) -> Duration {
    record
        .lease_duration_seconds
        .and_then(|s| u64::try_from(s).ok())
        .map_or(DURATION, Duration::from_secs)
}

/// What this replica is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The record could not be read yet.
    Unknown,
    /// Another replica leads.
    Standby {
        /// Its identity.
        leader: String,
    },
    /// This replica leads.
    Leader,
}

/// Why the election ended.
#[derive(Debug, Error)]
pub enum ElectionError {
    /// The lease was held and then lost.
    #[error("the lease `{name}` was lost: {why}. This process ends and starts again as a standby")]
    Lost {
        /// Name of the Lease.
        name: String,
        /// What was found.
        why: String,
    },
    /// The API server's store is older than it was.
    #[error(
        "the Lease `{name}` has resource version {found} after {newest}: the cluster's etcd was put back from a \
         snapshot. This process ends and starts again, because its watches would stay silent until the versions \
         have caught up; restart other controllers of this cluster too"
    )]
    WentBack {
        /// Name of the Lease.
        name: String,
        /// Its highest resource version seen before.
        newest: u64,
        /// Its resource version now.
        found: u64,
    },
}

/// One replica's part in the election.
#[derive(Debug)]
pub struct Elector {
    objects: Objects,
    name: String,
    me: String,
    seen: Option<LeaseSpec>,
    seen_at: Instant,
    renewed_at: Option<Instant>,
    /// The Lease as this replica wrote it last: a renewal needs no look before, because its write is refused if
    /// anybody else wrote since.
    held: Option<Lease>,
    /// The highest resource version that the Lease had.
    newest: u64,
    /// The first lower one that it had afterwards.
    went_back_to: Option<u64>,
    /// When the record is to be looked at or renewed next.
    due: Instant,
}

/// What a watch tells of the Lease: how it is, or that it is gone.
type News = BoxStream<'static, Option<Lease>>;

impl Elector {
    /// A replica called `me` that wants the Lease `name`.
    #[must_use]
    pub fn new(objects: Objects, name: &str, me: &str) -> Self {
        let seen_at = Instant::now();
        Self {
            objects,
            name: name.to_owned(),
            me: me.to_owned(),
            seen: None,
            seen_at,
            renewed_at: None,
            held: None,
            newest: 0,
            went_back_to: None,
            due: seen_at,
        }
    }

    /// Takes part until `stop`, telling `role` every change; then gives the lease back, so that the other replica
    /// need not wait for it to end.
    ///
    /// # Errors
    /// [`ElectionError::Lost`]: this replica led and does not any more. [`ElectionError::WentBack`]: the API server's store
    /// was put back.
    pub async fn run(
        mut self,
        role: watch::Sender<Role>,
        stop: CancellationToken,
    ) -> Result<(), ElectionError> {
        let mut news: Option<News> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(self.deadline()), if self.renewed_at.is_some() => {
                    return Err(self.lost("it could not be renewed in time".to_owned()));
                }
                told = next(&mut news) => {
                    self.hear(told);
                    self.goes_on()?;
                    continue;
                }
                () = tokio::time::sleep_until(self.due) => {}
            }
            let started = Instant::now();
            self.due = started + RETRY;
            let limit = (started + REQUEST).min(self.deadline());
            let turn = tokio::time::timeout_at(limit, self.turn()).await;
            self.goes_on()?;
            let found = match turn {
                Ok(Ok(found)) => found,
                Ok(Err(error)) if error.fault() == Fault::Conflict => continue,
                Ok(Err(error)) => {
                    self.failed(&error.to_string())?;
                    continue;
                }
                Err(_) => {
                    self.failed("the API server did not answer in time")?;
                    continue;
                }
            };
            match (&found, self.renewed_at) {
                (Role::Leader, _) => {
                    self.due = started + PERIOD;
                    self.renewed_at = Some(started);
                    news = None;
                }
                (Role::Standby { leader }, Some(_)) => {
                    return Err(self.lost(format!("`{leader}` holds it")));
                }
                (Role::Standby { .. }, None) => {
                    self.due = self.due.max(self.ends());
                    news.get_or_insert_with(|| self.news());
                }
                (Role::Unknown, _) => {}
            }
            role.send_if_modified(|known| {
                let changed = *known != found && found != Role::Unknown;
                if changed {
                    *known = found;
                }
                changed
            });
        }
        self.give_back().await;
        Ok(())
    }

    /// When this replica stops to lead unless it renews before. Far away while it does not lead.
    fn deadline(&self) -> Instant {
        self.renewed_at
            .map_or_else(|| Instant::now() + DURATION, |at| at + RENEW_DEADLINE)
    }

    /// When the record that was seen last ends unless it changes.
    fn ends(&self) -> Instant {
        self.seen_at + self.seen.as_ref().map_or(DURATION, lasts)
    }

    /// A watch of the Lease. Its errors are not told: without news the record is read when it ends.
    fn news(&self) -> News {
        let only = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        watcher(self.objects.api::<Lease>(), only)
            .backoff(retry::alone())
            .filter_map(async |event| match event.ok()? {
                Event::Apply(lease) | Event::InitApply(lease) => Some(Some(lease)),
                Event::Delete(_) => Some(None),
                Event::Init | Event::InitDone => None,
            })
            .boxed()
    }

    /// A watch told a standby of the record: a change is a sign of life, and one that nobody holds is taken at once.
    fn hear(&mut self, lease: Option<Lease>) {
        self.notice(lease.as_ref());
        let record = lease.and_then(|lease| lease.spec);
        let held = record
            .as_ref()
            .and_then(|record| record.holder_identity.as_ref());
        let is_held = held.is_some_and(|holder| !holder.is_empty());
        if record != self.seen {
            self.seen = record;
            self.seen_at = Instant::now();
        }
        self.due = if is_held { self.ends() } else { Instant::now() };
    }

    /// Reads the record unless it is known, decides, writes.
    async fn turn(&mut self) -> Result<Role, ApplyError> {
        // Given up before the write: after one that failed or got no answer the record is read again.
        let current = match self.held.take() {
            Some(held) => Some(held),
            None => self.objects.get::<Lease>(&self.name).await?,
        };
        self.notice(current.as_ref());
        if self.went_back_to.is_some() {
            return Ok(Role::Unknown);
        }
        let record = current.as_ref().and_then(|lease| lease.spec.clone());
        if record != self.seen {
            self.seen.clone_from(&record);
            self.seen_at = Instant::now();
        }
        let unchanged_for = self.seen_at.elapsed();
        let now = MicroTime(clock::now().0);
        let mut spec = record.clone().unwrap_or_default();
        match decide(record.as_ref(), &self.me, unchanged_for) {
            Decision::Wait { holder } => return Ok(Role::Standby { leader: holder }),
            Decision::Take { transitions } => {
                spec.acquire_time = Some(now.clone());
                spec.lease_transitions = Some(transitions);
            }
            Decision::Renew => {}
        }
        spec.holder_identity = Some(self.me.clone());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(now);
        self.write(current, spec).await?;
        Ok(Role::Leader)
    }

    async fn write(&mut self, current: Option<Lease>, spec: LeaseSpec) -> Result<(), ApplyError> {
        let written = match current {
            Some(lease) => {
                self.objects
                    .swap(&Lease {
                        spec: Some(spec),
                        ..lease
                    })
                    .await?
            }
            None => {
                let metadata = ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                };
                self.objects
                    .create(&Lease {
                        metadata,
                        spec: Some(spec),
                    })
                    .await?
            }
        };
        self.notice(Some(&written));
        self.seen.clone_from(&written.spec);
        self.seen_at = Instant::now();
        self.held = Some(written);
        Ok(())
    }

    /// Compares the Lease's resource version with the highest one it had. One that is no number says nothing.
    fn notice(&mut self, lease: Option<&Lease>) {
        let version = lease.and_then(|lease| lease.metadata.resource_version.as_deref());
        let Some(version) = version.and_then(|version| version.parse().ok()) else {
            return;
        };
        if version < self.newest {
            self.went_back_to = Some(version);
        }
        self.newest = self.newest.max(version);
    }

    /// Refuses to go on in a store that was put back.
    fn goes_on(&self) -> Result<(), ElectionError> {
        match self.went_back_to {
            None => Ok(()),
            Some(found) => Err(ElectionError::WentBack {
                name: self.name.clone(),
                newest: self.newest,
                found,
            }),
        }
    }

    /// A renewal or a look failed: what this replica is stays, until its time is over.
    fn failed(&self, why: &str) -> Result<(), ElectionError> {
        tracing::warn!(
            lease = self.name,
            why,
            "the leader lease could not be read or renewed"
        );
        match self.renewed_at {
            Some(at) if at.elapsed() >= RENEW_DEADLINE => Err(self.lost(format!(
                "not renewed for {} s: {why}",
                at.elapsed().as_secs()
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn lost(&self, why: String) -> ElectionError {
        ElectionError::Lost {
            name: self.name.clone(),
            why,
        }
    }

    async fn give_back(&mut self) {
        if self.renewed_at.is_none() {
            return;
        }
        let released = async {
            let Some(lease) = self.objects.get::<Lease>(&self.name).await? else {
                return Ok(());
            };
            let mut spec = lease.spec.clone().unwrap_or_default();
            if spec.holder_identity.as_deref() == Some(self.me.as_str()) {
                spec.holder_identity = None;
                spec.renew_time = Some(MicroTime(Timestamp::UNIX_EPOCH));
                self.objects
                    .swap(&Lease {
                        spec: Some(spec),
                        ..lease
                    })
                    .await?;
            }
            Ok::<(), ApplyError>(())
        };
        match tokio::time::timeout(REQUEST, released).await {
            Ok(Ok(())) => tracing::info!(lease = self.name, "gave the leader lease back"),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the leader lease could not be given back; it ends by itself")
            }
            Err(_) => tracing::warn!(
                "the leader lease could not be given back in time; it ends by itself"
            ),
        }
    }
}

/// What the watch tells next; never, where there is none or it ended.
async fn next(news: &mut Option<News>) -> Option<Lease> {
    if let Some(stream) = news {
        if let Some(told) = stream.next().await {
            return told;
        }
        *news = None;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests;
