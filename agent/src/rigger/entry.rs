//! External access: what `spec.ingressOrRouteSpec` of a REC asks for. One host leads to the REC's API, one to each
//! Active-Active database: there the sync endpoints, which find the database by the host (SNI) that was asked for.
//!
//! A look compares all that is wanted of one REC with all that the agent made for it, so the end of a database, another
//! method and the end of `ingressOrRouteSpec` are one path, and what a crash left behind goes at the next start. What is
//! found out stands in the condition [`ENTRY_READY`] of the REC and of the databases' topologies.

mod build;
mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::{core::v1::Service, networking::v1::Ingress};
use kube::{
    Api, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{reflector::ObjectRef, watcher},
};
use meridian_api::{
    crds::{
        DatabaseTopology, RedisEnterpriseActiveActiveDatabase, RedisEnterpriseCluster,
        shared::Condition,
    },
    validate::{EntryWay, entry_way},
};
use serde_json::{Value, json};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use self::{
    build::{ALL, Common, Door},
    plan::{DoorProblem, Doors},
};
use crate::{
    clock,
    k8s::{
        apply::{ApplyError, Object, Objects},
        conditions::{Finding, conditions},
        drive::{self, Driver, Failure, Report},
        dynamic::{Discovery, OptionalKind, is_absent},
        fault::Fault,
        own::{
            CLUSTER, DATABASE, DatabaseName, ENTRY_READY, FIELD_MANAGER, MANAGED_BY, NAME_TAKEN,
            Owner,
        },
    },
};

/// Field manager of the conditions that are written here; others on the same objects belong to their controllers.
const MANAGER: &str = "meridian-agent-entry";
/// The kind of database that is reached from outside by its host.
const ACTIVE_ACTIVE: &str = "RedisEnterpriseActiveActiveDatabase";

/// Why a host does not lead where it should.
#[derive(Debug, Error)]
enum EntryError {
    /// An object could not be read or written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// There is nothing to make.
    #[error(transparent)]
    Door(#[from] DoorProblem),
    /// The cluster does not know a kind that the method needs.
    #[error(
        "this Kubernetes cluster serves no {kind} (CRD {definition}), which spec.ingressOrRouteSpec.method {method} needs: \
         install what brings it, or choose another method. It is used within a minute after it appears"
    )]
    Missing {
        /// Kind.
        kind: &'static str,
        /// Name of its CRD.
        definition: String,
        /// The method as written.
        method: String,
    },
}

impl EntryError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Apply(ApplyError::Taken { .. }) => NAME_TAKEN,
            Self::Apply(error) => error.fault().reason(),
            Self::Door(problem) => problem.reason(),
            Self::Missing { .. } => "KindMissing",
        }
    }
}

impl Failure for EntryError {
    fn fault(&self) -> Fault {
        match self {
            Self::Apply(error) => error.fault(),
            Self::Door(DoorProblem::NoService { .. }) | Self::Missing { .. } => Fault::Waiting,
            Self::Door(_) => Fault::Invalid,
        }
    }
}

/// Outcome of each door, by the name of its objects.
type Outcomes = BTreeMap<String, Result<(), EntryError>>;
/// Kinds, by the name of their CRD.
type Kinds = BTreeSet<String>;

struct Entry {
    objects: Objects,
    discovery: Discovery,
    /// By uid of the REC: kinds of which there may be objects. Absent before the first look: then any.
    kinds: Mutex<BTreeMap<String, Kinds>>,
}

impl Driver for Entry {
    type Kind = RedisEnterpriseCluster;
    type Error = EntryError;
    const NAME: &'static str = "Entry";

    async fn look(&self, rec: &RedisEnterpriseCluster) -> Result<Option<Duration>, EntryError> {
        let uid = rec.uid().unwrap_or_default();
        let known = self.kinds().get(&uid).cloned();
        let Some(entry) = &rec.spec.ingress_or_route_spec else {
            if known.as_ref().is_none_or(|kinds| !kinds.is_empty()) {
                self.clear(rec, known.as_ref(), &BTreeSet::new(), &BTreeSet::new())
                    .await?;
                self.kinds().insert(uid, Kinds::new());
            }
            self.show(rec, &status_of(rec), None).await?;
            return Ok(None);
        };
        let databases = self.databases(rec).await?;
        if rec.metadata.deletion_timestamp.is_some() {
            // Nothing new is made, whatever the spec says now; what leads to a database goes with it.
            let mut names: BTreeSet<String> = databases.iter().map(ResourceExt::name_any).collect();
            names.insert(plan::api_name(&rec.name_any()));
            self.clear(rec, known.as_ref(), &BTreeSet::new(), &names)
                .await?;
            return Ok(None);
        }
        let way = match entry_way(entry) {
            Ok(way) => way,
            Err(problem) => {
                // The REC's own controller says so, too; what stands stays as it is.
                let finding = Finding::no(ENTRY_READY, "Invalid", problem.to_string());
                self.show(rec, &status_of(rec), Some(finding)).await?;
                return Ok(None);
            }
        };
        let names: Vec<DatabaseName> = databases
            .iter()
            .filter_map(|topology| Owner::of(&topology.spec).database)
            .collect();
        let services = self.objects.list::<Service>(&selector(rec)).await?;
        let doors = plan::doors(&rec.name_any(), entry, &names, &services);
        let (wanted, outcomes) = self.make(rec, &way, &doors).await;
        let used: Kinds = wanted.iter().map(|(kind, _)| kind.clone()).collect();
        let failed = outcomes
            .iter()
            .filter(|(_, outcome)| outcome.is_err())
            .map(|(name, _)| name.clone())
            .collect::<BTreeSet<_>>();
        let cleared = self.clear(rec, known.as_ref(), &wanted, &failed).await;
        if cleared.is_ok() {
            // What a failed door left standing may be of any kind that was there before.
            let kept = match (failed.is_empty(), known) {
                (true, _) => Some(used),
                (false, Some(known)) => Some(known.union(&used).cloned().collect()),
                (false, None) => None,
            };
            if let Some(kept) = kept {
                self.kinds().insert(uid, kept);
            }
        }
        self.tell(rec, &databases, &doors, &outcomes).await?;
        cleared?;
        outcomes.into_values().collect::<Result<(), _>>()?;
        Ok(None)
    }

    /// As its own controller says it: whoever comes first writes it.
    fn unreadable() -> Value {
        json!({ "state": "Invalid" })
    }
}

impl Entry {
    fn kinds(&self) -> MutexGuard<'_, BTreeMap<String, Kinds>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topologies of the REC's Active-Active databases.
    async fn databases(
        &self,
        rec: &RedisEnterpriseCluster,
    ) -> Result<Vec<DatabaseTopology>, ApplyError> {
        let mut all = self.objects.list::<DatabaseTopology>("").await?;
        all.retain(|topology| {
            topology.spec.cluster == rec.name_any()
                && topology.spec.database.kind == ACTIVE_ACTIVE
                && topology.metadata.deletion_timestamp.is_none()
        });
        Ok(all)
    }

    /// Makes every door; tells which objects are wanted (CRD, name), made or not.
    async fn make(
        &self,
        rec: &RedisEnterpriseCluster,
        way: &EntryWay,
        doors: &Doors,
    ) -> (BTreeSet<(String, String)>, Outcomes) {
        let (mut wanted, mut outcomes) = (BTreeSet::new(), Outcomes::new());
        for (name, door) in doors {
            let outcome = match door {
                Ok(door) => {
                    let made = build::objects(way, door, &common(rec));
                    wanted.extend(
                        made.iter()
                            .map(|(kind, _)| (kind.definition(), name.clone())),
                    );
                    self.make_one(rec, door, made).await
                }
                Err(problem) => Err(problem.clone().into()),
            };
            outcomes.insert(name.clone(), outcome);
        }
        (wanted, outcomes)
    }

    async fn make_one(
        &self,
        rec: &RedisEnterpriseCluster,
        door: &Door,
        made: Vec<(&'static OptionalKind, Value)>,
    ) -> Result<(), EntryError> {
        for (kind, mut body) in made {
            let found = self.discovery.find(&self.objects, kind).await?;
            let Some(resource) = found else {
                return Err(missing(rec, kind));
            };
            body["apiVersion"] = json!(resource.api_version);
            let applied = self
                .objects
                .ensure_dynamic(&resource, &door.name, body, &door.owner)
                .await;
            match applied {
                Err(error) if is_absent(&error) => {
                    self.discovery.forget(kind);
                    return Err(missing(rec, kind));
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// Removes what was made for the REC before and is not `wanted` any more; nothing under the names `kept`.
    async fn clear(
        &self,
        rec: &RedisEnterpriseCluster,
        kinds: Option<&Kinds>,
        wanted: &BTreeSet<(String, String)>,
        kept: &BTreeSet<String>,
    ) -> Result<(), EntryError> {
        for kind in ALL {
            let definition = kind.definition();
            let asked = kinds.is_none_or(|kinds| kinds.contains(&definition));
            let used = wanted.iter().any(|(of, _)| *of == definition);
            if !asked && !used {
                continue;
            }
            let Some(resource) = self.discovery.find(&self.objects, kind).await? else {
                continue;
            };
            let found = match self.objects.list_dynamic(&resource, &selector(rec)).await {
                Err(error) if is_absent(&error) => {
                    self.discovery.forget(kind);
                    continue;
                }
                other => other?,
            };
            for object in found {
                let name = object.name_any();
                if wanted.contains(&(definition.clone(), name.clone())) || kept.contains(&name) {
                    continue;
                }
                tracing::info!(
                    kind = kind.kind,
                    name,
                    "removed: nothing leads there any more"
                );
                self.objects.remove_dynamic(&resource, &object).await?;
            }
        }
        Ok(())
    }

    /// Says in the conditions what became of each door.
    async fn tell(
        &self,
        rec: &RedisEnterpriseCluster,
        databases: &[DatabaseTopology],
        doors: &Doors,
        outcomes: &Outcomes,
    ) -> Result<(), ApplyError> {
        for topology in databases {
            let name = topology.name_any();
            let before = topology.status.as_ref();
            let before = before.map_or(&[][..], |status| &status.conditions);
            let finding = match (&outcomes[&name], &doors[&name]) {
                (Ok(()), Ok(door)) => Finding::yes(ENTRY_READY, "Made", leads(door)),
                (Err(error), _) => Finding::no(ENTRY_READY, error.reason(), error.to_string()),
                (Ok(()), Err(_)) => continue,
            };
            self.show(topology, before, Some(finding)).await?;
        }
        let failed: Vec<_> = outcomes
            .iter()
            .filter_map(|(name, outcome)| Some((name, outcome.as_ref().err()?)))
            .collect();
        let finding = match failed.first() {
            None => {
                let hosts: Vec<String> = doors.values().flatten().map(leads).collect();
                Finding::yes(ENTRY_READY, "Made", hosts.join("; "))
            }
            Some((_, first)) => {
                let mut texts: Vec<String> = failed
                    .iter()
                    .map(|(name, error)| format!("{name}: {error}"))
                    .collect();
                // The same reason once, however many databases it holds up.
                if failed
                    .iter()
                    .all(|(_, error)| error.to_string() == first.to_string())
                {
                    texts = vec![first.to_string()];
                }
                Finding::no(ENTRY_READY, first.reason(), texts.join("; "))
            }
        };
        self.show(rec, &status_of(rec), Some(finding)).await
    }

    /// Makes the condition say `finding`, or go; only if that is news.
    async fn show<K: Object>(
        &self,
        target: &K,
        before: &[Condition],
        finding: Option<Finding>,
    ) -> Result<(), ApplyError> {
        let before: Vec<Condition> = before
            .iter()
            .filter(|condition| condition.type_ == ENTRY_READY)
            .cloned()
            .collect();
        let findings: Vec<Finding> = finding.into_iter().collect();
        let generation = target.meta().generation;
        let wanted = conditions(&before, &findings, generation, &clock::now_text());
        if wanted == before {
            return Ok(());
        }
        self.objects
            .status_as(MANAGER, target, &json!({ "conditions": wanted }))
            .await
    }
}

fn leads(door: &Door) -> String {
    format!("{} leads to Service `{}`", door.host, door.behind.service)
}

fn status_of(rec: &RedisEnterpriseCluster) -> Vec<Condition> {
    let status = rec.status.as_ref();
    status.map_or_else(Vec::new, |status| status.conditions.clone())
}

fn common(rec: &RedisEnterpriseCluster) -> Common<'_> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    let entry = rec.spec.ingress_or_route_spec.as_ref();
    Common {
        rec: (
            rec.metadata.name.as_deref().unwrap_or_default(),
            rec.metadata.uid.as_deref().unwrap_or_default(),
        ),
        labels: &rec.spec.extra_labels,
        annotations: entry.map_or(&NONE, |entry| &entry.ingress_annotations),
    }
}

fn missing(rec: &RedisEnterpriseCluster, kind: &OptionalKind) -> EntryError {
    let entry = rec.spec.ingress_or_route_spec.as_ref();
    EntryError::Missing {
        kind: kind.kind,
        definition: kind.definition(),
        method: entry.map_or_else(String::new, |entry| entry.method.to_string()),
    }
}

/// Everything that the agent made for the REC and its databases.
fn selector(rec: &RedisEnterpriseCluster) -> String {
    format!("{MANAGED_BY}={FIELD_MANAGER},{CLUSTER}={}", rec.name_any())
}

/// Names the REC of an object whose existence matters, but not its reports: once for each generation, and every
/// time while it goes.
fn once<K, F>(
    rec: F,
    namespace: &str,
) -> impl Fn(K) -> Option<ObjectRef<DeserializeGuard<RedisEnterpriseCluster>>> + use<K, F>
where
    K: Resource,
    F: Fn(&K) -> Option<String>,
{
    let namespace = namespace.to_owned();
    let seen: Mutex<BTreeMap<String, String>> = Mutex::default();
    move |object| {
        let meta = object.meta();
        // The last word about an object is what it said before; only its version is new.
        let going = meta
            .deletion_timestamp
            .as_ref()
            .and(meta.resource_version.as_ref());
        let state = json!([meta.uid, meta.generation, going]);
        let name = object.name_any();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.insert(name, state.to_string());
        let named = rec(&object)?;
        (before != Some(state.to_string())).then(|| ObjectRef::new(&named).within(&namespace))
    }
}

/// Runs until `stop`.
pub(super) async fn run(objects: Objects, report: Report, stop: CancellationToken) {
    let namespace = objects.namespace().to_owned();
    let controller = drive::controller::<RedisEnterpriseCluster>(&objects);
    let all = controller.store();
    let topologies: Api<DeserializeGuard<DatabaseTopology>> = objects.api();
    let reaadbs: Api<DeserializeGuard<RedisEnterpriseActiveActiveDatabase>> = objects.api();
    let of_topology = once(
        |guard: &DeserializeGuard<DatabaseTopology>| {
            guard
                .0
                .as_ref()
                .ok()
                .map(|topology| topology.spec.cluster.clone())
        },
        &namespace,
    );
    // The end of a database is seen on its object, which goes after the topology; which REC served it does not matter.
    let ended = once(
        |_: &DeserializeGuard<RedisEnterpriseActiveActiveDatabase>| Some(String::new()),
        &namespace,
    );
    let own = drive::named_in_label(CLUSTER, &namespace);
    let controller = controller
        .watches(topologies, watcher::Config::default(), of_topology)
        .watches(reaadbs, watcher::Config::default(), move |reaadb| {
            let recs = ended(reaadb).map(|_| all.state()).unwrap_or_default();
            recs.iter()
                .map(|rec| ObjectRef::from_obj(rec.as_ref()))
                .collect::<Vec<_>>()
        })
        .watches(
            objects.api::<Service>(),
            drive::ours(),
            move |service: Service| {
                let of_database = service.labels().contains_key(DATABASE);
                (!of_database).then(|| own(service)).flatten()
            },
        )
        .watches(
            objects.api::<Ingress>(),
            drive::ours(),
            drive::named_in_label(CLUSTER, &namespace),
        );
    let entry = Entry {
        objects: objects.clone(),
        discovery: Discovery::default(),
        kinds: Mutex::default(),
    };
    drive::run(entry, controller, objects, report, stop).await;
}

#[cfg(test)]
mod tests;
