//! The services rigger: keeps the Services of every database, and leads them to the pod that serves it.
//!
//! Parts: this file keeps the Services of one database; `entry` keeps what leads into a REC from outside; `orphans` removes
//! what was left behind. Objects in other namespaces than the REC's are not made here.
//!
//! It works from `DatabaseTopology` and needs neither the hub nor the other controllers. What it finds out stands in
//! the topology's conditions, where the database's controller reads it.

mod build;
mod endpoints;
mod entry;
mod fetch;
mod follow;
mod memo;
mod orphans;
mod shortcut;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{Pod, Service},
        discovery::v1::EndpointSlice,
    },
};
use kube::{
    Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use meridian_api::crds::{
    DatabaseTopology, DatabaseTopologyStatus, RedisEnterpriseActiveActiveDatabase,
    RedisEnterpriseCluster, RedisEnterpriseDatabase,
};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{
    build::{Built, NameProblem},
    endpoints::Decision,
    fetch::World,
    follow::Follower,
    memo::{Unconfirmed, hash_of},
    shortcut::{Known, Shortcut, Way},
};
use crate::{
    clock,
    k8s::{
        apply::{ApplyError, Object, Objects},
        conditions::{Finding, conditions},
        drive::{self, Driver, Failure, Report},
        fault::Fault,
        news::{self, Gate, Look},
        own::{DATABASE, NAME_TAKEN, Owner, ROLE_NODE, SERVICES_READY},
        touched::{self, Touched},
    },
};

/// Why the Services of a database are not all as they shall be.
#[derive(Debug, Error)]
enum RiggerError {
    /// An object could not be read or written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A Service cannot have its name.
    #[error(transparent)]
    Name(#[from] NameProblem),
}

impl Failure for RiggerError {
    fn fault(&self) -> Fault {
        match self {
            Self::Apply(error) => error.fault(),
            Self::Name(_) => Fault::Invalid,
        }
    }
}

impl RiggerError {
    /// Reason of the condition.
    fn reason(&self) -> &'static str {
        match self {
            Self::Apply(ApplyError::Taken { .. }) => NAME_TAKEN,
            Self::Apply(error) => error.fault().reason(),
            Self::Name(problem) => problem.reason(),
        }
    }
}

/// A complete look follows a shortcut after this long, if the watch of what was written has not brought it before.
const AFTER: Duration = Duration::from_secs(1);

/// An object that may be unreadable.
type Guarded<K> = DeserializeGuard<K>;

struct Rigger {
    objects: Objects,
    gate: Gate,
    follower: Follower,
    unconfirmed: Unconfirmed,
    known: Store<DeserializeGuard<DatabaseTopology>>,
    shortcut: Shortcut,
}

impl Driver for Rigger {
    type Kind = DatabaseTopology;
    type Error = RiggerError;
    const NAME: &'static str = "ServicesRigger";

    async fn look(&self, topology: &DatabaseTopology) -> Result<Option<Duration>, RiggerError> {
        if topology.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let look = match self.gate.enter(topology) {
            Ok(look) => look,
            Err(rests) => return Ok(Some(rests)),
        };
        match self.shortcut.way(topology, self.objects.namespace()) {
            Way::None => {}
            Way::Stands(decision) => {
                // Who waits for the Services to follow compares generations: also those of which nothing follows.
                self.show(topology, &decision, None).await?;
                self.leave(look);
                return Ok(None);
            }
            Way::Wait => {
                if let Some(soon) = self.unconfirmed.wait(topology) {
                    return Ok(Some(soon));
                }
            }
            Way::Lead(lead) => {
                if self.follower.lead(topology, lead).await {
                    return Ok(Some(AFTER));
                }
            }
        }
        let began = self.shortcut.begin(&topology.name_any());
        let Some(world) = fetch::fetch(&self.objects, topology).await? else {
            return Ok(None);
        };

        let pods: Vec<_> = world.pods.iter().filter_map(endpoints::target).collect();
        let decision = endpoints::decide(topology, &pods, world.slices.first());
        let memory = fetch::memory(topology, &world.slices, &decision);
        let lead = match &decision {
            Decision::Lead(target) => Some(Some(target)),
            Decision::Nowhere { .. } => Some(None),
            Decision::Keep { .. } => None,
        };
        let entries = endpoints::entries(topology, &pods);
        let (policy, memory) = (&world.policy, memory.as_deref());
        let built = build::build(&topology.spec, policy, lead, &entries, memory);

        let applied = self.apply(topology, built.clone(), &world).await;
        let error = applied.as_ref().err();
        if error.is_some() {
            // Part of it may be written.
            self.shortcut.forget(&topology.name_any());
        }
        if error.is_some_and(|error| error.fault() == Fault::Conflict) {
            // Somebody knows more: the next look, which comes at once, says what.
            return applied.map(|_| None);
        }
        if let (Decision::Keep { .. }, None) = (&decision, error) {
            // A new primary confirms within moments. Saying so at once would only hold up the look that follows it.
            if let Some(soon) = self.unconfirmed.wait(topology) {
                return Ok(Some(soon));
            }
        }
        self.show(topology, &decision, error).await?;
        let written = applied?;
        let World { policy, slices, .. } = world;
        let mut known = Known {
            policy,
            slices,
            decision,
            stands: hash_of(&built),
            at: Instant::now(),
        };
        known.stand(written);
        self.shortcut.remember(began, &topology.name_any(), known);
        self.leave(look);
        Ok(None)
    }

    fn unreadable() -> Value {
        json!({})
    }
}

impl Rigger {
    fn leave(&self, look: Look) {
        let rest = drive::rest(self.known.len(), rand::random());
        self.gate.leave(look, rest);
    }

    /// Writes what was built; when all of it stands, removes Services of the database that are not wanted any more, so
    /// that a new name or type that cannot be had takes nothing away. A name that is taken keeps none of the others from
    /// being made; the first error is returned. Gives the slices that were written.
    async fn apply(
        &self,
        topology: &DatabaseTopology,
        built: Vec<Built>,
        world: &World,
    ) -> Result<Vec<EndpointSlice>, RiggerError> {
        let spec = &topology.spec;
        let owner = Owner::of(spec);
        let wanted: BTreeSet<String> = built.iter().map(|one| one.service.name_any()).collect();
        let writes = built.into_iter().map(async |one| {
            build::check_name(&one.service.name_any(), spec)?;
            self.apply_one(one, world, &owner)
                .await
                .map_err(RiggerError::from)
        });
        let written: Result<Vec<_>, _> = join_all(writes).await.into_iter().collect();
        let written = written?.into_iter().flatten().collect();
        for service in world
            .services
            .iter()
            .map(ResourceExt::name_any)
            .filter(|name| !wanted.contains(name))
        {
            self.objects.remove::<Service>(&service, &owner).await?;
            self.objects
                .remove::<EndpointSlice>(&build::slice_name(&service), &owner)
                .await?;
        }
        Ok(written)
    }

    /// The slice before its Service, so that a Service is never seen without knowing where it leads; but neither where
    /// the Service is another's, because a slice of ours would lead that one's clients astray.
    async fn apply_one(
        &self,
        Built { service, slice }: Built,
        world: &World,
        owner: &Owner,
    ) -> Result<Option<EndpointSlice>, ApplyError> {
        let found = named(&world.services, &service);
        if found.is_none() {
            self.objects.refuse_foreign(&service, owner).await?;
        }
        let written = match slice {
            Some(slice) => {
                let found = named(&world.slices, &slice);
                self.follower.write_slice(&slice, found, owner).await?
            }
            None => None,
        };
        self.follower.write(&service, found, owner).await?;
        Ok(written)
    }

    /// Says in the topology's conditions where its Services lead, unless that stands there.
    async fn show(
        &self,
        topology: &DatabaseTopology,
        decision: &Decision,
        error: Option<&RiggerError>,
    ) -> Result<(), ApplyError> {
        let finding = finding(topology.spec.entry_port, decision, error);
        let mut before = topology
            .status
            .as_ref()
            .map(|status| status.conditions.clone())
            .unwrap_or_default();
        before.retain(|condition| condition.type_ == SERVICES_READY);
        let conditions = conditions(
            &before,
            &[finding],
            topology.metadata.generation,
            &clock::now_text(),
        );
        let ours = |conditions| DatabaseTopologyStatus {
            conditions,
            ..DatabaseTopologyStatus::default()
        };
        self.objects
            .status(topology, Some(&ours(before)), &ours(conditions))
            .await
            .map(|_| ())
    }
}

fn named<'a, K: Object>(all: &'a [K], like: &K) -> Option<&'a K> {
    all.iter().find(|one| one.meta().name == like.meta().name)
}

fn finding(entry_port: Option<i32>, decision: &Decision, error: Option<&RiggerError>) -> Finding {
    if let Some(error) = error {
        return Finding::no(SERVICES_READY, error.reason(), error.to_string());
    }
    match decision {
        Decision::Lead(target) => Finding::yes(
            SERVICES_READY,
            "Leads",
            match entry_port {
                None => format!("the Services lead to `{}`", target.pod),
                Some(port) => format!(
                    "the Services lead to `{}`, by port {port} of every node that takes its clients",
                    target.pod
                ),
            },
        ),
        Decision::Keep { why } => Finding::unknown(
            SERVICES_READY,
            "NotConfirmed",
            format!("the Services stay as they are: {why}"),
        ),
        Decision::Nowhere { why } => Finding::no(
            SERVICES_READY,
            "NoEndpoint",
            format!("the Services lead nowhere: {why}"),
        ),
    }
}

/// Runs the rigger until `stop`.
pub async fn run(objects: Objects, report: Report, stop: CancellationToken) {
    tokio::join!(
        services(objects.clone(), report.clone(), stop.clone()),
        entry::run(objects.clone(), report, stop.clone()),
        orphans::run(objects, stop),
    );
}

async fn services(objects: Objects, report: Report, stop: CancellationToken) {
    let namespace = objects.namespace().to_owned();
    let shortcut = Shortcut::default();
    let follower = Follower::new(objects.clone(), shortcut.clone());
    let (tell, follow) = follower.clone().start(stop.clone());
    let controller = drive::controller_that_tells::<DatabaseTopology>(&objects, tell);
    let (by_pod, by_rec, known) = (controller.store(), controller.store(), controller.store());
    let gate = Gate::default();
    // What is remembered of a database goes with whatever wakes its complete look.
    let of_service = news_of::<Service>(&follower, &shortcut, &namespace);
    let of_slice = news_of::<EndpointSlice>(&follower, &shortcut, &namespace);
    let (pod_concerns, rec_concerns) = (news::of_pods(), news::of_clusters());
    let of_rec = shortcut.forgotten_by(move |rec: Touched<Guarded<RedisEnterpriseCluster>>| {
        if rec_concerns(&rec) {
            served(&by_rec.state(), |topology| {
                topology.spec.cluster == rec.name()
            })
        } else {
            Vec::new()
        }
    });
    let of_redb = shortcut.forgotten_by(of_spec::<Guarded<RedisEnterpriseDatabase>>(
        namespace.clone(),
    ));
    let of_reaadb = shortcut.forgotten_by(of_spec::<Guarded<RedisEnterpriseActiveActiveDatabase>>(
        namespace,
    ));
    // Where clients can be led is remembered of each pod by itself.
    let pods = shortcut.clone();
    let of_pod = move |pod: Touched<Pod>| {
        pods.saw(&pod);
        if pod_concerns(&pod) {
            let name = pod.name();
            served(&by_pod.state(), |topology| pods.concerns(topology, &name))
        } else {
            Vec::new()
        }
    };
    let all = watcher::Config::default;
    let nodes = all().labels(&format!("{}={}", ROLE_NODE.0, ROLE_NODE.1));
    let controller = touched::wakes(controller, objects.api(), nodes, gate.opened_by(of_pod));
    let controller = touched::wakes(controller, objects.api(), all(), gate.opened_by(of_rec))
        .watches(objects.api(), drive::ours(), gate.opened_by(of_service))
        .watches(objects.api(), drive::ours(), gate.opened_by(of_slice))
        .watches(objects.api(), all(), gate.opened_by(of_redb))
        .watches(objects.api(), all(), gate.opened_by(of_reaadb));
    let looks = drive::run(
        Rigger {
            objects: objects.clone(),
            gate,
            follower,
            unconfirmed: Unconfirmed::default(),
            known,
            shortcut,
        },
        controller,
        objects,
        report,
        stop,
    );
    tokio::join!(looks, follow);
}

/// Names the topology of an object of a database, and forgets what is known of it, unless the object is as it was written
/// here: with many databases that fail over together, each would wait for looks that tell the others what they know.
fn news_of<K: Object>(
    follower: &Follower,
    shortcut: &Shortcut,
    namespace: &str,
) -> impl Fn(K) -> Vec<ObjectRef<Guarded<DatabaseTopology>>> + use<K> {
    let named = drive::named_in_label::<K, _>(DATABASE, namespace);
    let (follower, named) = (follower.clone(), shortcut.forgotten_by(named));
    move |object: K| {
        if follower.made(&object) {
            return Vec::new();
        }
        named(object)
    }
}

/// The topologies that `concerned` picks.
fn served(
    all: &[Arc<Guarded<DatabaseTopology>>],
    concerned: impl Fn(&DatabaseTopology) -> bool,
) -> Vec<ObjectRef<Guarded<DatabaseTopology>>> {
    let readable = |guard: &&Arc<Guarded<DatabaseTopology>>| guard.0.as_ref().is_ok_and(&concerned);
    all.iter()
        .filter(readable)
        .map(|guard| ObjectRef::from_obj(guard.as_ref()))
        .collect()
}

/// Maps a database whose spec changed, or that is going, to its topology.
fn of_spec<K>(namespace: String) -> impl Fn(K) -> Option<ObjectRef<Guarded<DatabaseTopology>>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let known = Mutex::new(BTreeMap::new());
    move |database: K| {
        let meta = database.meta();
        let name = meta.name.clone()?;
        let spec = (meta.uid.clone(), meta.generation);
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = known.insert(name.clone(), spec.clone()) != Some(spec);
        changed.then(|| ObjectRef::new(&name).within(&namespace))
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
