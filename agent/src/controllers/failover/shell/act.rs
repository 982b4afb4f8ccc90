//! One step, taken on a fresh read of everything that it rests on.

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ObjectReference, Pod},
};
use kube::{Resource as _, ResourceExt as _};
use meridian_api::crds::{
    DatabaseTopology, RedisEnterpriseActiveActiveDatabase, RedisEnterpriseDatabase,
};
use tokio::time::Instant;

use super::{MANAGER, facts, status, world::place};
use crate::{
    controllers::{
        Context,
        failover::{
            decide::{Step, View, decide},
            show,
            watch::Watch,
            write,
        },
        serve::apply::remember,
        topology::Memory,
    },
    k8s::{
        apply::ApplyError,
        conditions::Finding,
        fault::Fault,
        own::{CLUSTER, ROLE_NODE},
    },
    metrics::Ended,
};

/// How an attempt ended.
#[derive(Debug)]
pub(super) struct Acted {
    /// Name of the topology.
    pub(super) name: String,
    /// The generation that was written; `None`: nothing was, and the next attempt waits.
    pub(super) wrote: Option<i64>,
    /// A planned move was given up.
    pub(super) gave_up: bool,
}

impl Acted {
    pub(super) fn nothing(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            wrote: None,
            gave_up: false,
        }
    }
}

/// An attempt.
pub(super) struct Act {
    pub(super) context: Context,
    pub(super) name: String,
    pub(super) watch: Watch,
    pub(super) start: Instant,
    /// The step gives out a place.
    pub(super) places: bool,
}

impl Act {
    /// Decides again on a fresh read, writes and tells.
    pub(super) async fn take(&self) -> Acted {
        match self.try_take().await {
            Ok(acted) => acted,
            Err(error) => {
                if error.fault() != Fault::Conflict {
                    tracing::warn!(name = self.name, %error, "a step of a failover did not go through");
                }
                Acted::nothing(&self.name)
            }
        }
    }

    async fn try_take(&self) -> Result<Acted, ApplyError> {
        let objects = &self.context.objects;
        // Two databases that look for room at once would find the same. Who is primary never waits for that, and everything
        // is read only once nobody else chooses.
        let alone = if self.places {
            Some(self.context.allocation.lock().await)
        } else {
            None
        };
        let Some(topology) = objects.get::<DatabaseTopology>(&self.name).await? else {
            return Ok(Acted::nothing(&self.name));
        };
        let rec = &topology.spec.cluster;
        let selector = format!("{CLUSTER}={rec},{}={}", ROLE_NODE.0, ROLE_NODE.1);
        let pods = objects.list::<Pod>(&selector).await?;
        let set = objects.get::<StatefulSet>(rec).await?;
        let facts = facts(&pods, set.as_ref());
        let spare = if self.places {
            let all = objects.list::<DatabaseTopology>("").await?;
            place(&topology, &all, &pods).ok()
        } else {
            None
        };

        let passed = self.start.elapsed().as_millis();
        let now = u64::try_from(passed).unwrap_or(u64::MAX);
        let mut watch = self.watch.clone();
        watch.saw(&topology, &facts, now);
        let step = decide(&View {
            topology: &topology,
            pods: &facts,
            spare: spare.as_deref(),
            watch: &watch,
            now,
        });
        let mut wrote = None;
        if let Some(next) = write::next(&topology, &step) {
            self.remember(&next).await?;
            let written: DatabaseTopology = objects.swap(&next).await?;
            wrote = Some(written.metadata.generation.unwrap_or(0));
            self.count(&topology, &step);
        }
        drop(alone);
        self.tell(&topology, &step, watch.reached(&topology)).await;
        Ok(Acted {
            wrote,
            gave_up: matches!(step, Step::AbandonFence { .. }),
            ..Acted::nothing(&self.name)
        })
    }

    /// Counts a failover that began or ended with `step`, which has been written.
    fn count(&self, topology: &DatabaseTopology, step: &Step) {
        let (metrics, now) = (&self.context.report.metrics, Instant::now());
        let fence = topology.spec.fence.as_ref();
        let planned = fence.is_some_and(|fence| fence.planned);
        let ended = match step {
            Step::Fence { .. } => return metrics.fenced(&self.name, now),
            Step::Promote => Ended::Promoted,
            Step::AbandonFence { .. } => Ended::Abandoned,
            Step::Reinstate { .. } => Ended::Reinstated,
            Step::Nothing
            | Step::NeedsPerson { .. }
            | Step::Shrink { .. }
            | Step::Join { .. }
            | Step::Admit { .. }
            | Step::Leave { .. }
            | Step::AddReplica { .. }
            | Step::RemoveReplica { .. } => return,
        };
        metrics.failed_over(&self.name, planned, ended, now);
    }

    /// Where the primary is, and who can take over, stands on the database before it stands in the topology. A fence that is
    /// still there keeps what was remembered from being taken for a newer order, should the write after this one fail.
    /// What stands there is read: it may be of a step that was remembered and never taken.
    async fn remember(&self, next: &DatabaseTopology) -> Result<(), ApplyError> {
        let memory = Memory::of(&next.spec);
        let objects = &self.context.objects;
        let database = &next.spec.database;
        if database.kind == RedisEnterpriseDatabase::kind(&()) {
            let found = objects
                .get::<RedisEnterpriseDatabase>(&database.name)
                .await?;
            return match found {
                Some(found) => remember(objects, &found, memory).await,
                None => Ok(()),
            };
        }
        let found = objects
            .get::<RedisEnterpriseActiveActiveDatabase>(&database.name)
            .await?;
        match found {
            Some(found) => remember(objects, &found, memory).await,
            None => Ok(()),
        }
    }

    /// The Event goes to the topology, and to the database where its uid is that of an object of this cluster.
    async fn tell(&self, topology: &DatabaseTopology, step: &Step, reached: Option<i64>) {
        let Some(news) = show::news(topology, step, reached) else {
            return;
        };
        tracing::info!(
            name = self.name,
            reason = news.reason,
            note = news.note,
            "failover"
        );
        let database = &topology.spec.database;
        let mut about = vec![topology.object_ref(&())];
        if database.kind == RedisEnterpriseDatabase::kind(&()) {
            about.push(ObjectReference {
                api_version: Some(RedisEnterpriseDatabase::api_version(&()).into_owned()),
                kind: Some(database.kind.clone()),
                namespace: topology.namespace(),
                name: Some(database.name.clone()),
                uid: Some(database.uid.clone()),
                ..ObjectReference::default()
            });
        }
        let events = &self.context.report.events;
        for about in about {
            if news.warning {
                events.warning(&about, news.reason, &news.note).await;
            } else {
                events.normal(&about, news.reason, &news.note).await;
            }
        }
    }

    /// Makes the topology's conditions say `findings`.
    pub(super) async fn show(&self, topology: &DatabaseTopology, findings: &[Finding]) {
        let wanted = status(topology, findings);
        let objects = &self.context.objects;
        let shown = objects.status_as(MANAGER, topology, &wanted).await;
        if let Err(error) = shown {
            tracing::warn!(name = self.name, %error, "the conditions of a failover were not written");
        }
    }
}
