//! What one look does for a valid REC: writes what was built, and takes at most one step of growth, recovery and rollout.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::{
    api::{apps::v1::StatefulSet, core::v1::Secret},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{Resource as _, ResourceExt as _};
use meridian_api::crds::{
    RedisEnterpriseCluster,
    cluster::{ClusterState, PersistenceStatus},
};
use serde_json::json;

use super::{
    ClusterError, Clusters,
    act::{self, Eviction},
    apply,
    build::{self, Material},
    certificates::Certificates,
    fetch::{self, Credentials},
    licence,
    observe::Node,
    racks::{self, Racks},
    recovery,
    rollout::{self, Step},
    state,
    status::{self, Outcome, Sight},
    storage,
    validate::Cluster,
    world::{self, World},
};
use crate::{
    clock,
    controllers::failover::{Leaving, request_move},
    k8s::{
        apply::ApplyError,
        conditions::Finding,
        fault::Fault,
        own::{RACK, RECOVERY, TEMPLATE},
        quantity,
    },
};

/// Pause before the next look while something is under way whose end no watch tells.
const SOON: Duration = Duration::from_secs(2);
/// Pause while a StatefulSet is on its way out.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What happened to the volumes in one look.
struct Growth {
    shown: Option<(PersistenceStatus, Option<String>)>,
    /// The StatefulSet is to be made again with the new claim template.
    recreate: bool,
}

/// What was written.
struct Written {
    set: StatefulSet,
    certificates: Certificates,
    /// What keeps the administrator's credentials from being used.
    lacks: Option<String>,
    /// How soon what the nodes trust each other by may go a step on.
    renewal: Option<Duration>,
}

impl Clusters {
    pub(super) fn new(context: crate::controllers::Context) -> Self {
        let bundles = Default::default();
        Self { context, bundles }
    }

    /// Only shows what is there: nothing of the REC may be changed.
    pub(super) async fn look_on(
        &self,
        rec: &RedisEnterpriseCluster,
        cluster: &Cluster,
        mut world: World,
        why: &str,
    ) -> Result<Option<Duration>, ClusterError> {
        world.shards = world::shards(&self.context.objects, &cluster.name).await?;
        let world = &world;
        let template = world.set.as_ref().and_then(template_of).unwrap_or_default();
        let view = rollout_view(cluster, &template, true, world);
        let progress = rollout::progress(&view, shown(rec));
        let mut sight = sight(rec, cluster, world, progress, None);
        sight.suspended = Some(why);
        sight.bundle = self.bundles.of(&world.pods).await;
        let events = &self.context.report.events;
        events.warning(&rec.object_ref(&()), "Suspended", why).await;
        self.show(rec, &Outcome::Seen(&sight)).await?;
        Ok(None)
    }

    /// Makes the REC true, and goes one step on.
    pub(super) async fn make(
        &self,
        rec: &RedisEnterpriseCluster,
        mut cluster: Cluster,
        world: World,
    ) -> Result<Option<Duration>, ClusterError> {
        let objects = &self.context.objects;
        if world
            .set
            .as_ref()
            .is_some_and(|set| set.metadata.deletion_timestamp.is_some())
        {
            return Ok(Some(AT_ONCE));
        }
        if let Some(text) = foreign_claim(&cluster, &world) {
            return self.blocked(rec, "ForeignObject", text).await;
        }
        let racks = match self.racks(&cluster).await? {
            Ok(racks) => racks,
            Err(text) => return self.blocked(rec, "RackUnknown", text).await,
        };
        let growth = self.grow(&mut cluster, &world).await?;
        if growth.recreate
            && let Some(set) = &world.set
        {
            act::orphan(objects, set).await?;
            return Ok(Some(AT_ONCE));
        }
        let written = match self.write(rec, &cluster).await? {
            Ok(written) => written,
            Err(problem) => return self.invalid(rec, vec![problem]).await,
        };

        let mut world = world::read(objects, &cluster.name).await?;
        world.shards = world::shards(objects, &cluster.name).await?;
        let template = template_of(&written.set).unwrap_or_default();
        let settled = world.seen().is_some_and(|set| set.settled);
        let phase = self.recover(rec, &cluster, &world).await?;
        let view = rollout_view(&cluster, &template, settled, &world);
        let progress = rollout::progress(&view, shown(rec));
        let mut sight = sight(rec, &cluster, &world, progress, phase);
        if phase.is_none() {
            sight.rollout = self.roll(rec, rollout::next(&view)).await?;
        }
        if let Some(label) = &cluster.scheduling.rack_label {
            sight.racks = Some(self.label_racks(label, &racks, &world).await?);
        }
        self.tell_secrets(rec, &written).await;
        sight.certificates = Some(&written.certificates);
        sight.credentials = written.lacks.clone();
        sight.persistence = growth.shown;
        sight.bundle = self.bundles.of(&world.pods).await;
        sight.licence = self.licence(rec).await?;
        let under_way = phase.is_some() || progress != rollout::Progress::Current;
        self.show(rec, &Outcome::Seen(&sight)).await?;
        Ok(under_way.then_some(SOON).or(written.renewal))
    }

    async fn blocked(
        &self,
        rec: &RedisEnterpriseCluster,
        reason: &'static str,
        text: String,
    ) -> Result<Option<Duration>, ClusterError> {
        self.show(rec, &Outcome::Blocked(reason, &text)).await?;
        Err(ClusterError::Blocked(text))
    }

    /// An Event for each named Secret that cannot be used.
    async fn tell_secrets(&self, rec: &RedisEnterpriseCluster, written: &Written) {
        let about = rec.object_ref(&());
        let events = &self.context.report.events;
        for trouble in &written.certificates.troubles {
            let text = trouble.to_string();
            events.warning(&about, "CertificateUnusable", &text).await;
        }
        if let Some(lacks) = &written.lacks {
            events.warning(&about, "CredentialsUnusable", lacks).await;
        }
    }

    /// Builds and writes everything. `Ok(Err(…))`: what the user merges in cannot be built.
    async fn write(
        &self,
        rec: &RedisEnterpriseCluster,
        cluster: &Cluster,
    ) -> Result<Result<Written, String>, ClusterError> {
        let objects = &self.context.objects;
        let credentials = fetch::credentials(objects, &cluster.name, &cluster.credentials).await?;
        let api = fetch::api(objects, cluster, credentials.administrator()).await?;
        let (password, lacks) = match credentials {
            Credentials::Theirs(read) => (None, read.err()),
            Credentials::Ours(administrator) => (Some(administrator.password), None),
        };
        let now = clock::now().0;
        let internal = fetch::internal(objects, cluster, now).await?;
        let renewal = internal.step_in(now);
        let shown = rec.status.as_ref();
        let shown = shown.and_then(|status| status.certificates_status.as_ref()?.generation);
        let certificates = fetch::certificates(objects, cluster, shown, now).await?;
        let material = Material {
            password,
            internal,
            certificates,
            api,
            peer_ports: fetch::peer_ports(objects, &cluster.name).await?,
        };
        let built = match build::build(cluster, &material) {
            Ok(built) => built,
            Err(error) => return Ok(Err(error.to_string())),
        };
        match apply::apply(objects, &cluster.name, built).await {
            Ok(applied) => Ok(Ok(Written {
                set: applied.stateful_set,
                certificates: material.certificates,
                lacks,
                renewal,
            })),
            Err(error) => {
                self.show(rec, &Outcome::Failed(&error)).await?;
                Err(error.into())
            }
        }
    }

    /// The racks of the hosts, or why they are not known.
    async fn racks(&self, cluster: &Cluster) -> Result<Result<Racks, String>, ClusterError> {
        let Some(label) = &cluster.scheduling.rack_label else {
            return Ok(Ok(Racks::new()));
        };
        let hosts = match world::hosts(&self.context.objects).await {
            Ok(hosts) => hosts,
            Err(error) if error.fault() == Fault::Refused => {
                return Ok(Err(format!(
                    "spec.rackAwarenessNodeLabel: the agent may not read the hosts ({}): give it the right with \
                     deploy/bundle/racks.yaml, or remove the field",
                    answer(&error)
                )));
            }
            Err(error) => return Err(error.into()),
        };
        let found = racks::read(label, &hosts, &cluster.scheduling);
        Ok(found.map_err(|bare| racks::refusal(label, &bare)))
    }

    /// Writes the rack of each pod on it.
    async fn label_racks(
        &self,
        label: &str,
        racks: &Racks,
        world: &World,
    ) -> Result<String, ClusterError> {
        let mut told = Vec::new();
        for (pod, node) in world
            .pods
            .iter()
            .filter_map(|pod| Some((pod, Node::of(pod)?)))
        {
            let rack = node.host.as_ref().and_then(|host| racks.get(host));
            if let Some(rack) = rack {
                if node.rack.as_ref() != Some(rack) && !node.terminating {
                    act::annotate(&self.context.objects, pod, RACK, Some(rack)).await?;
                }
                told.push(format!("{} in {rack}", node.name));
            }
        }
        told.sort();
        Ok(format!("racks by the label {label}: {}", told.join(", ")))
    }

    /// Raises the claims that are smaller than the spec asks for.
    async fn grow(&self, cluster: &mut Cluster, world: &World) -> Result<Growth, ClusterError> {
        let Some(storage) = &mut cluster.storage else {
            return Ok(Growth {
                shown: None,
                recreate: false,
            });
        };
        let wanted = quantity::bytes(&storage.size.0).unwrap_or(0);
        let template = quantity::bytes(&storage.template.0).unwrap_or(0);
        let claims = world.claims_of(cluster.nodes);
        let step = storage::next(wanted, template, &claims);
        let mut refused = None;
        if let storage::Step::Raise(names) = &step {
            for (claim, _) in world
                .claims
                .iter()
                .filter(|(claim, _)| names.contains(&claim.name_any()))
            {
                let raised = act::raise(&self.context.objects, claim, &storage.size.0).await;
                match raised {
                    Ok(()) => {}
                    Err(error) if error.fault() == Fault::Refused => {
                        refused = Some(answer(&error));
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let shown = storage::shown(wanted, template, cluster.nodes, &claims, refused.as_deref());
        let failed = claims.iter().find_map(|claim| claim.failed.clone());
        let problem = refused
            .or(failed)
            .filter(|_| shown.status.as_deref() == Some("ResizeFailed"));
        let recreate = step == storage::Step::Recreate && world.set.is_some();
        if recreate {
            storage.template = Quantity(storage.size.0.clone());
        }
        Ok(Growth {
            shown: Some((shown, problem)),
            recreate,
        })
    }

    /// One step of a recovery that was ordered.
    async fn recover(
        &self,
        rec: &RedisEnterpriseCluster,
        cluster: &Cluster,
        world: &World,
    ) -> Result<Option<recovery::Phase>, ClusterError> {
        let objects = &self.context.objects;
        let ordered = rec.spec.cluster_recovery == Some(true);
        let doomed = rec.annotations().get(RECOVERY).map(|text| {
            let uids = text.split(',').filter(|uid| !uid.is_empty());
            uids.map(str::to_owned).collect::<BTreeSet<_>>()
        });
        let (step, phase) = recovery::next(ordered, doomed.as_ref(), cluster.nodes, &world.nodes);
        let events = &self.context.report.events;
        let about = rec.object_ref(&());
        let done = json!({ "spec": { "clusterRecovery": false }, "metadata": { "annotations": { RECOVERY: null } } });
        match step {
            recovery::Step::None | recovery::Step::Wait => {}
            recovery::Step::Begin(uids) => {
                let patch = json!({ "metadata": { "annotations": { RECOVERY: uids.join(",") } } });
                objects.merge(rec, patch).await?;
                let text = format!("{} pods that do not serve are made anew", uids.len());
                events.warning(&about, "RecoveryBegins", &text).await;
            }
            recovery::Step::Delete { pod, uid } => act::delete_pod(objects, &pod, &uid).await?,
            recovery::Step::Finish => {
                objects.merge(rec, done).await?;
                events
                    .normal(&about, "RecoveryCompleted", "every node serves")
                    .await;
            }
            recovery::Step::Decline => {
                objects.merge(rec, done).await?;
                let text = "spec.clusterRecovery was set, but more than half of the nodes serve: nothing was done";
                events.warning(&about, "RecoveryNotNeeded", text).await;
            }
        }
        Ok(phase)
    }

    /// One step of the rollout; tells what it does or waits for.
    async fn roll(
        &self,
        rec: &RedisEnterpriseCluster,
        step: Step,
    ) -> Result<Option<String>, ClusterError> {
        let objects = &self.context.objects;
        let (pod, uid, serves) = match step {
            Step::Done => return Ok(None),
            Step::Wait(why) => return Ok(Some(why)),
            Step::Restart { pod, uid, serves } => (pod, uid, serves),
        };
        if serves {
            let alone = match request_move(objects, &rec.name_any(), &pod).await? {
                Leaving::Done { stay } => stay,
                Leaving::Moving(moving) => {
                    let list: Vec<String> = moving
                        .iter()
                        .map(|(database, why)| format!("{database} ({why})"))
                        .collect();
                    return Ok(Some(format!(
                        "the primaries of pod {pod} move: {}",
                        list.join(", ")
                    )));
                }
            };
            if !alone.is_empty() {
                let text = format!(
                    "pod {pod} is made anew; the databases {} have no replica and are away until it serves again",
                    alone.join(", ")
                );
                let events = &self.context.report.events;
                events
                    .warning(&rec.object_ref(&()), "DatabasesAway", &text)
                    .await;
            }
        }
        match act::evict(objects, &pod, &uid).await? {
            Eviction::Granted => Ok(Some(format!("pod {pod} is made anew"))),
            Eviction::Refused(why) => Ok(Some(format!("pod {pod} may not go yet: {why}"))),
        }
    }

    /// What is told of the licence, whose Secret is read if the spec names one.
    async fn licence(&self, rec: &RedisEnterpriseCluster) -> Result<Option<Finding>, ApplyError> {
        let secret = match licence::secret_name(&rec.spec) {
            Some(name) => self.context.objects.get::<Secret>(name).await?,
            None => None,
        };
        Ok(licence::judge(&rec.spec, secret.as_ref()))
    }
}

/// What the API server said, without the form it said it in.
fn answer(error: &ApplyError) -> String {
    if let ApplyError::Api { source, .. } = error
        && let kube::Error::Api(status) = source.as_ref()
    {
        return status.message.clone();
    }
    error.to_string()
}

/// The state word that was shown last.
fn shown(rec: &RedisEnterpriseCluster) -> Option<&ClusterState> {
    rec.status.as_ref()?.state.as_ref()
}

fn template_of(set: &StatefulSet) -> Option<String> {
    let annotations = set.spec.template.metadata.as_ref()?.annotations.as_ref()?;
    annotations.get(TEMPLATE).cloned()
}

fn rollout_view<'a>(
    cluster: &'a Cluster,
    template: &'a str,
    settled: bool,
    world: &'a World,
) -> rollout::View<'a> {
    rollout::View {
        nodes: cluster.nodes,
        template,
        image: &cluster.image,
        settled,
        pods: &world.nodes,
        shards: &world.shards,
    }
}

/// A claim under a name that a pod would take, and that is not ours: Kubernetes would mount it without asking.
fn foreign_claim(cluster: &Cluster, world: &World) -> Option<String> {
    if world.set.is_some() || cluster.storage.is_none() {
        return None;
    }
    let claims = world.claims_of(cluster.nodes);
    let foreign = claims.iter().find(|claim| !claim.ours)?;
    Some(format!(
        "PersistentVolumeClaim `{}` exists and is not ours: a pod of this cluster would write into its volume. Nothing was \
         changed. Delete or rename it, or choose another name for the cluster",
        foreign.name
    ))
}

/// What is seen of the pods; the caller adds what else it found.
fn sight<'a>(
    rec: &RedisEnterpriseCluster,
    cluster: &'a Cluster,
    world: &'a World,
    progress: rollout::Progress,
    recovery: Option<recovery::Phase>,
) -> Sight<'a> {
    let nodes = u32::try_from(cluster.nodes).unwrap_or(0);
    let pods: Vec<&Node> = world
        .nodes
        .iter()
        .filter(|pod| pod.ordinal < nodes)
        .collect();
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let serves = |name: &str| pods.iter().any(|pod| pod.name == name && pod.ready);
    let troubled = pods.iter().filter(|pod| !pod.ready && !pod.terminating);
    let away = world.shards.iter().filter(|shard| {
        shard.replicas.is_empty() && shard.primary.as_deref().is_some_and(|name| !serves(name))
    });
    Sight {
        cluster,
        view: state::View {
            nodes: cluster.nodes,
            existing: count(pods.len()),
            ready: count(pods.iter().filter(|pod| pod.ready).count()),
            bootstrapped: status::bootstrapped(rec),
            progress,
            recovery,
        },
        suspended: None,
        rollout: None,
        shards: &world.shards,
        troubles: troubled
            .filter_map(|pod| Some(format!("{}: {}", pod.name, pod.trouble.as_ref()?)))
            .collect(),
        away: away.map(|shard| shard.database.clone()).collect(),
        persistence: None,
        racks: None,
        licence: None,
        certificates: None,
        credentials: None,
        bundle: None,
    }
}
