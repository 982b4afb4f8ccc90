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
    /// It did not go through; it is tried again after a pause.
    pub(super) failed: bool,
    /// A planned move was given up.
    pub(super) gave_up: bool,
}

impl Acted {
    pub(super) fn nothing(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            failed: false,
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
}

impl Act {
    /// Decides again on a fresh read, writes and tells.
    pub(super) async fn take(&self) -> Acted {
        match self.try_take().await {
            Ok(gave_up) => Acted {
                gave_up,
                ..Acted::nothing(&self.name)
            },
            Err(error) => {
                if error.fault() != Fault::Conflict {
                    tracing::warn!(name = self.name, %error, "a step of a failover did not go through");
                }
                Acted {
                    failed: true,
                    ..Acted::nothing(&self.name)
                }
            }
        }
    }

    async fn try_take(&self) -> Result<bool, ApplyError> {
        let objects = &self.context.objects;
        let Some(topology) = objects.get::<DatabaseTopology>(&self.name).await? else {
            return Ok(false);
        };
        let rec = &topology.spec.cluster;
        let selector = format!("{CLUSTER}={rec},{}={}", ROLE_NODE.0, ROLE_NODE.1);
        let pods = objects.list::<Pod>(&selector).await?;
        let set = objects.get::<StatefulSet>(rec).await?;
        let facts = facts(&pods, set.as_ref());
        // Two databases that look for room at once would find the same.
        let alone = self.context.allocation.lock().await;
        let all = objects.list::<DatabaseTopology>("").await?;
        let spare = place(&topology, &all, &pods).ok();

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
        if let Some(next) = write::next(&topology, &step) {
            self.remember(&topology, &next).await?;
            objects.swap(&next).await?;
            self.count(&topology, &step);
        }
        drop(alone);
        self.tell(&topology, &step).await;
        Ok(matches!(step, Step::AbandonFence { .. }))
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

    /// Where the primary is stands on the database before it stands in the topology. A fence that is still there keeps what
    /// was remembered from being taken for a newer order, should the write after this one fail.
    async fn remember(
        &self,
        before: &DatabaseTopology,
        next: &DatabaseTopology,
    ) -> Result<(), ApplyError> {
        let memory = Memory::of(&next.spec);
        if Memory::of(&before.spec) == memory {
            return Ok(());
        }
        let objects = &self.context.objects;
        let database = &before.spec.database;
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
    async fn tell(&self, topology: &DatabaseTopology, step: &Step) {
        let Some(news) = show::news(topology, step) else {
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
