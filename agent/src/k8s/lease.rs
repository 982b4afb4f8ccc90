//! Leader election of the agent's replicas over a `coordination.k8s.io/v1` Lease.
//!
//! [`decide`] is pure. A holder is believed to be gone only when its record has not changed for a whole lease duration
//! **on our own monotonic clock**; times inside the record were written by another machine's clock and are never
//! compared. Every write is a compare-and-swap on the resource version. A leader that could not renew for
//! [`RENEW_DEADLINE`] steps down before another replica can take over. (Same rules as Kubernetes' own components.)

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::api::ObjectMeta;
use thiserror::Error;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    apply::{ApplyError, Objects},
    fault::Fault,
};
use crate::clock;

/// How long a record holds after its last change.
pub const DURATION: Duration = Duration::from_secs(10);
/// A leader that has not renewed for this long is no leader any more. Shorter than [`DURATION`], with a margin for
/// the work that it still has in flight.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(7);
/// Pause between two looks at the record.
pub const PERIOD: Duration = Duration::from_secs(2);
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
    let lasts = record
        .lease_duration_seconds
        .and_then(|s| u64::try_from(s).ok())
        .map_or(DURATION, Duration::from_secs);
    match record.holder_identity.as_deref() {
        None | Some("") => Decision::Take { transitions: next },
        Some(holder) if holder == me => Decision::Renew,
        Some(_) if unchanged_for >= lasts => Decision::Take { transitions: next },
        Some(holder) => Decision::Wait {
            holder: holder.to_owned(),
        },
    }
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
}

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
        }
    }

    /// Takes part until `stop`, telling `role` every change; then gives the lease back, so that the other replica
    /// need not wait for it to end.
    ///
    /// # Errors
    /// [`ElectionError::Lost`]: this replica led and does not any more.
    pub async fn run(
        mut self,
        role: watch::Sender<Role>,
        stop: CancellationToken,
    ) -> Result<(), ElectionError> {
        let mut tick = tokio::time::interval(PERIOD);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(self.deadline()), if self.renewed_at.is_some() => {
                    return Err(self.lost("it could not be renewed in time".to_owned()));
                }
                _ = tick.tick() => {}
            }
            let started = Instant::now();
            let limit = (started + REQUEST).min(self.deadline());
            let found = match tokio::time::timeout_at(limit, self.turn()).await {
                Ok(Ok(found)) => found,
                Ok(Err(error)) if error.fault() == Fault::Conflict => continue,
                Ok(Err(error)) => self.failed(&error.to_string())?,
                Err(_) => self.failed("the API server did not answer in time")?,
            };
            match (&found, self.renewed_at) {
                (Role::Leader, _) => self.renewed_at = Some(started),
                (Role::Standby { leader }, Some(_)) => {
                    return Err(self.lost(format!("`{leader}` holds it")));
                }
                _ => {}
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

    /// Reads the record unless it is known, decides, writes.
    async fn turn(&mut self) -> Result<Role, ApplyError> {
        // Given up before the write: after one that failed or got no answer the record is read again.
        let current = match self.held.take() {
            Some(held) => Some(held),
            None => self.objects.get::<Lease>(&self.name).await?,
        };
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
        self.seen.clone_from(&written.spec);
        self.seen_at = Instant::now();
        self.held = Some(written);
        Ok(())
    }

    fn failed(&self, why: &str) -> Result<Role, ElectionError> {
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
            Some(_) => Ok(Role::Leader),
            None => Ok(Role::Unknown),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record(holder: &str, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_transitions: Some(transitions),
            lease_duration_seconds: Some(10),
            ..LeaseSpec::default()
        }
    }

    fn lease(version: &str) -> serde_json::Value {
        serde_json::json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "l", "namespace": "ns", "resourceVersion": version},
            "spec": {"holderIdentity": "me", "leaseDurationSeconds": 10, "leaseTransitions": 0},
        })
    }

    #[tokio::test]
    async fn a_leader_renews_without_a_look_and_looks_again_after_a_conflict() {
        let (objects, server) = crate::k8s::testing::objects();
        let conflict = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409,
                                          "reason": "Conflict", "message": "the object has been modified"});
        let answers = vec![
            (200, lease("1")),
            (200, lease("2")),
            (200, lease("3")),
            (409, conflict),
            (200, lease("9")),
            (200, lease("10")),
        ];
        let asked = tokio::spawn(crate::k8s::testing::answer(server, answers));
        let mut elector = Elector::new(objects, "l", "me");
        for leads in [true, true, false, true] {
            assert_eq!(matches!(elector.turn().await, Ok(Role::Leader)), leads);
        }
        drop(elector);
        let asked = asked.await.unwrap();
        let seen: Vec<_> = asked
            .iter()
            .map(|(method, _, body)| {
                let version = body["metadata"]["resourceVersion"].as_str();
                format!("{method} {}", version.unwrap_or_default())
            })
            .collect();
        assert_eq!(seen, ["GET ", "PUT 1", "PUT 2", "PUT 3", "GET ", "PUT 9"]);
    }

    #[test]
    fn decisions_follow_the_table() {
        let wait = |holder: &str| Decision::Wait {
            holder: holder.to_owned(),
        };
        let cases = [
            ("no lease", None, 0, Decision::Take { transitions: 0 }),
            (
                "given back",
                Some(record("", 4)),
                0,
                Decision::Take { transitions: 5 },
            ),
            ("ours", Some(record("me", 4)), 3, Decision::Renew),
            (
                "ours and old: still nobody else took it",
                Some(record("me", 4)),
                60,
                Decision::Renew,
            ),
            ("other, fresh", Some(record("other", 4)), 0, wait("other")),
            (
                "other, almost over",
                Some(record("other", 4)),
                9,
                wait("other"),
            ),
            (
                "other, over",
                Some(record("other", 4)),
                10,
                Decision::Take { transitions: 5 },
            ),
        ];
        for (name, lease, unchanged, expected) in cases {
            assert_eq!(
                decide(lease.as_ref(), "me", Duration::from_secs(unchanged)),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn a_record_with_a_longer_duration_is_respected() {
        let long = LeaseSpec {
            lease_duration_seconds: Some(60),
            ..record("other", 0)
        };
        assert_eq!(
            decide(Some(&long), "me", Duration::from_secs(59)),
            Decision::Wait {
                holder: "other".to_owned()
            }
        );
    }

    #[test]
    fn a_leader_steps_down_before_another_may_take_over() {
        assert!(
            RENEW_DEADLINE + REQUEST < DURATION,
            "the old leader must stop, with a margin for its work, before the lease ends"
        );
    }
}
