//! One step, taken on a fresh read of everything that it rests on.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ObjectReference, Pod},
};
use kube::{Resource as _, ResourceExt as _};
use meridian_api::crds::{
    DatabaseTopology, RedisEnterpriseActiveActiveDatabase, RedisEnterpriseDatabase,
    topology::DatabaseReference,
};
use tokio::time::Instant;

use super::{
    MANAGER, facts, status,
    world::{place, replace_ms},
};
use crate::{
    controllers::{
        Context,
        failover::{
            decide::{Step, View, decide},
            show::{self, News},
            watch::{PodFacts, Watch},
            write,
        },
        ledger::Turn,
        serve::apply::remember,
        topology::Memory,
    },
    k8s::{
        apply::ApplyError,
        conditions::Finding,
        events::Events,
        fault::Fault,
        own::{CLUSTER, ROLE_NODE},
    },
    metrics::Ended,
};

/// Attempts that follow one another at once. Nodes and controllers write into the status of a topology all the time, so that
/// somebody often writes between a read and the write that rests on it.
const ATTEMPTS: u32 = 8;

/// How an attempt ended.
#[derive(Debug)]
pub(super) struct Acted {
    /// Name of the topology.
    pub(super) name: String,
    /// The generation that was written; `None`: nothing was, and the next attempt waits.
    pub(super) wrote: Option<i64>,
    /// A planned move was given up.
    pub(super) gave_up: bool,
    /// What people are to be told, which holds nothing up.
    pub(super) tale: Option<Tale>,
}

impl Acted {
    fn nothing(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            wrote: None,
            gave_up: false,
            tale: None,
        }
    }
}

/// An attempt.
pub(super) struct Act {
    pub(super) context: Context,
    pub(super) name: String,
    /// Name of its REC.
    pub(super) rec: String,
    /// The database that it is about.
    pub(super) of: DatabaseReference,
    pub(super) watch: Watch,
    pub(super) start: Instant,
    /// The step gives out a place.
    pub(super) places: bool,
}

/// Everything that a step rests on, and the database that it is about.
struct Evidence {
    topology: DatabaseTopology,
    facts: BTreeMap<String, PodFacts>,
    replace_ms: u64,
    spare: Option<String>,
    database: Option<Database>,
}

enum Database {
    Plain(Box<RedisEnterpriseDatabase>),
    ActiveActive(Box<RedisEnterpriseActiveActiveDatabase>),
}

impl Act {
    /// Decides again on a fresh read, and writes; again at once where somebody wrote in between.
    pub(super) async fn take(&self) -> Acted {
        for _attempt in 0..ATTEMPTS {
            match self.try_take().await {
                Ok(acted) => return acted,
                Err(error) if error.fault() == Fault::Conflict => {
                    tracing::debug!(name = self.name, "somebody wrote in between");
                }
                Err(error) => {
                    tracing::warn!(name = self.name, %error, "a step of a failover did not go through");
                    break;
                }
            }
        }
        Acted::nothing(&self.name)
    }

    async fn try_take(&self) -> Result<Acted, ApplyError> {
        let objects = &self.context.objects;
        // Two databases that look for room at once would find the same. Who is primary never waits for that, and everything
        // is read only once nobody else chooses.
        let alone = if self.places {
            Some(self.context.ledger.turn().await)
        } else {
            None
        };
        let Some(evidence) = self.read(alone.as_ref()).await? else {
            return Ok(Acted::nothing(&self.name));
        };
        let topology = &evidence.topology;
        let passed = self.start.elapsed().as_millis();
        let now = u64::try_from(passed).unwrap_or(u64::MAX);
        let mut watch = self.watch.clone();
        watch.saw(topology, &evidence.facts, now);
        let step = decide(&View {
            topology,
            pods: &evidence.facts,
            spare: evidence.spare.as_deref(),
            replace_ms: evidence.replace_ms,
            watch: &watch,
            now,
        });
        let mut wrote = None;
        if let Some(next) = write::next(topology, &step) {
            self.remember(&evidence, &next).await?;
            let written: DatabaseTopology = objects.swap(&next).await?;
            wrote = Some(written.metadata.generation.unwrap_or(0));
            self.count(topology, &step);
        }
        drop(alone);
        Ok(Acted {
            wrote,
            gave_up: matches!(step, Step::AbandonFence { .. }),
            tale: Tale::of(&self.context, topology, &step, watch.reached(topology)),
            ..Acted::nothing(&self.name)
        })
    }

    /// Reads everything at once; `None`: the topology is gone, or about something else by now.
    async fn read(&self, turn: Option<&Turn<'_>>) -> Result<Option<Evidence>, ApplyError> {
        let objects = &self.context.objects;
        let selector = format!("{CLUSTER}={},{}={}", self.rec, ROLE_NODE.0, ROLE_NODE.1);
        let (topology, pods, set, database) = tokio::try_join!(
            objects.get::<DatabaseTopology>(&self.name),
            objects.list::<Pod>(&selector),
            objects.get::<StatefulSet>(&self.rec),
            self.database(),
        )?;
        let same = |topology: &DatabaseTopology| {
            topology.spec.cluster == self.rec && topology.spec.database == self.of
        };
        let Some(topology) = topology.filter(same) else {
            return Ok(None);
        };
        let spare = if let Some(turn) = turn {
            // Before it is read, and again for whoever comes next: what is given here is written down by nobody.
            turn.forget();
            let (others, _) = turn.others(objects, &self.rec, "").await?;
            turn.forget();
            place(&topology, &others, &pods).ok()
        } else {
            None
        };
        Ok(Some(Evidence {
            facts: facts(&pods, set.as_ref()),
            replace_ms: replace_ms(set.as_ref()),
            topology,
            spare,
            database,
        }))
    }

    /// The database object. Without access to its namespace its primary is still replaced, and only not remembered there.
    async fn database(&self) -> Result<Option<Database>, ApplyError> {
        let objects = &self.context.objects;
        let name = &self.of.name;
        if self.of.kind == RedisEnterpriseDatabase::kind(&()) {
            let own = objects.within(&self.of.namespace);
            let found = match own.get::<RedisEnterpriseDatabase>(name).await {
                Err(error) if error.fault() == Fault::Refused => None,
                found => found?,
            };
            return Ok(found.map(|found| Database::Plain(Box::new(found))));
        }
        let found = objects
            .get::<RedisEnterpriseActiveActiveDatabase>(name)
            .await?;
        Ok(found.map(|found| Database::ActiveActive(Box::new(found))))
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
            | Step::RemoveReplica { .. }
            | Step::Raise { .. } => return,
        };
        metrics.failed_over(&self.name, planned, ended, now);
    }

    /// Where the primary is, and who can take over, stands on the database before it stands in the topology. A fence that is
    /// still there keeps what was remembered from being taken for a newer order, should the write after this one fail.
    /// What stands there was read: it may be of a step that was remembered and never taken.
    async fn remember(
        &self,
        evidence: &Evidence,
        next: &DatabaseTopology,
    ) -> Result<(), ApplyError> {
        let (memory, over) = (Memory::ordered(next), Memory::beside);
        let objects = &self.context.objects;
        match &evidence.database {
            Some(Database::Plain(found)) => remember(objects, &**found, memory, over).await,
            Some(Database::ActiveActive(found)) => remember(objects, &**found, memory, over).await,
            None => Ok(()),
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

/// What people are told about a step that was taken.
pub(super) struct Tale {
    events: Events,
    about: Vec<ObjectReference>,
    news: News,
}

impl std::fmt::Debug for Tale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tale")
            .field("news", &self.news)
            .finish_non_exhaustive()
    }
}

impl Tale {
    /// What is told about `step`, taken on `topology` as it stood before. The Event goes to the topology, and to the database
    /// where its uid is that of an object of this cluster. `reached`: how far the primary certainly was.
    fn of(
        context: &Context,
        topology: &DatabaseTopology,
        step: &Step,
        reached: Option<i64>,
    ) -> Option<Self> {
        let news = show::news(topology, step, reached)?;
        tracing::info!(
            name = topology.name_any(),
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
        let events = context.report.events.clone();
        Some(Self {
            events,
            about,
            news,
        })
    }

    /// Tells it.
    pub(super) async fn tell(self) {
        for about in &self.about {
            let (reason, note) = (self.news.reason, &self.news.note);
            if self.news.warning {
                self.events.warning(about, reason, note).await;
            } else {
                self.events.normal(about, reason, note).await;
            }
        }
    }
}
