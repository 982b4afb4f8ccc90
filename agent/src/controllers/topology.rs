//! The `DatabaseTopology` of one database, the same for REDB and REAADB: what it must say, decided without I/O.
//!
//! Only the agent writes its spec, by compare-and-swap. Where a topology stood is remembered on the database object
//! (annotation [`MEMORY`], written **before** the topology itself) and on its EndpointSlices. A topology that was
//! deleted is therefore rebuilt on the node that holds the data, with a higher epoch than any before; a database that
//! has served but of which nobody remembers where is not placed anew, because a new place would be an empty one.

use std::collections::BTreeMap;

use meridian_api::crds::cluster::UpgradePolicy;
use meridian_api::crds::shared::Persistence;
use meridian_api::crds::topology::{
    ActiveActiveMembership, DatabaseReference, DatabaseTls, DatabaseTopology, DatabaseTopologySpec,
    Placement, ShardAssignment,
};
use meridian_api::version::{Asked, Bundle, Series, TooNew, reported};
use thiserror::Error;

pub(super) use super::failover::renew::Memory;
use super::{
    failover::renew::{self, Renewed},
    placement::{NoPlace, Node, Placed, place},
};
use crate::k8s::{
    fault::Fault,
    own::{MEMORY, Owner},
};

/// All hash slots: the one shard that a database has for now.
const ALL_SLOTS: &str = "0-16383";
/// Client ports that are given out, both ends included.
pub(super) const PORTS: std::ops::RangeInclusive<i32> = 10_000..=19_999;
/// How far above its client port every node takes clients of a database that is entered by every node. Replicas that follow by
/// TLS enter half as far above.
pub(super) const ENTRY: i32 = 20_000;

/// What the database asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    /// The database.
    pub database: DatabaseReference,
    /// Name of the REC.
    pub cluster: String,
    /// Port that the spec asks for, if any.
    pub port: Option<i32>,
    /// Memory of the dataset, bytes.
    pub memory_bytes: i64,
    /// Eviction policy.
    pub eviction_policy: String,
    /// Persistence that is really used.
    pub persistence: Persistence,
    /// What decides by which Valkey it runs.
    pub version: Version,
    /// What is encrypted.
    pub tls: Option<DatabaseTls>,
    /// Every node takes its clients and passes them on to the primary.
    pub by_every_node: bool,
    /// What it says of the places of its copies.
    pub placement: Option<Placement>,
    /// Labels that metrics show of it.
    pub metric_labels: BTreeMap<String, String>,
    /// Each shard has a replica.
    pub replication: bool,
    /// Membership in an Active-Active database.
    pub active_active: Option<ActiveActiveMembership>,
}

/// What decides by which Valkey a database runs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Version {
    /// What its spec asks for.
    pub asked: Asked,
    /// What its REC gives to one that asks for nothing.
    pub policy: Option<UpgradePolicy>,
    /// What there is.
    pub bundle: Bundle,
}

impl Version {
    /// The series; `kept` is what it had so far. `None`: the lowest that the nodes bring, whatever that is.
    fn choose(&self, kept: Option<Series>) -> Result<Option<String>, TopologyError> {
        let unasked = self.asked == Asked::Nothing && (kept.is_some() || self.policy.is_none());
        if self.bundle.is_empty() && !unasked {
            return match kept {
                // Before the nodes have said what they bring nothing is raised, and nothing refused.
                Some(kept) => Ok(Some(kept.to_string())),
                None => Err(TopologyError::NoVersions),
            };
        }
        let chosen = self
            .bundle
            .choose(self.asked, self.policy.as_ref(), kept)
            .map_err(TopologyError::Version)?;
        Ok(chosen.map(|series| series.to_string()))
    }
}

/// What is there.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// The topology under the database's name.
    pub existing: Option<DatabaseTopology>,
    /// Places that are remembered, from the database object and from its EndpointSlices.
    pub memories: Vec<Memory>,
    /// Whether the database's status says that it has been served before.
    pub has_served: bool,
    /// What every other database of the REC has; not asked for where the database has a topology, whose place is given.
    pub others: Vec<Given>,
    /// The REC's pods.
    pub nodes: Vec<Node>,
}

/// What a database has been given: the next one cannot have the same port, and finds less room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    /// Name of the database.
    pub name: String,
    /// Name of its REC.
    pub cluster: String,
    /// Its port.
    pub port: i32,
    /// Memory that each copy may take, bytes.
    pub memory_bytes: i64,
    /// The pods that hold a copy.
    pub pods: Vec<String>,
}

impl Given {
    /// What `topology` gives its database.
    #[must_use]
    pub(super) fn of(topology: &DatabaseTopology) -> Self {
        let spec = &topology.spec;
        let shards = spec.shards.iter();
        let pods = shards.flat_map(|shard| shard.primary.iter().chain(&shard.replicas));
        Self {
            name: spec.database.name.clone(),
            cluster: spec.cluster.clone(),
            port: spec.port,
            memory_bytes: spec.memory_bytes,
            pods: pods.cloned().collect(),
        }
    }

    /// What its copies may take, where they are.
    fn placed(&self) -> impl Iterator<Item = Placed> {
        let bytes = self.memory_bytes;
        let pods = self.pods.iter();
        pods.map(move |pod| Placed {
            pod: pod.clone(),
            bytes,
        })
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    /// It says what it must.
    Keep(Box<DatabaseTopology>),
    /// Replace it by compare-and-swap.
    Swap(Box<DatabaseTopology>),
    /// Create it, after writing `memory` to the database object.
    Create {
        /// The object.
        topology: Box<DatabaseTopology>,
        /// What to remember first.
        memory: Memory,
        /// Whether it existed before and was lost.
        rebuilt: bool,
    },
}

/// Why there is no topology to write.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum TopologyError {
    /// Another database has the name.
    #[error(
        "the name `{name}` is taken: the {kind} `{namespace}/{name}` has it. Services, passwords and data are found by the \
         name, so no two databases that one agent serves may share it, whatever their namespaces; rename one"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Kind of the database that has it.
        kind: String,
        /// Namespace of that database.
        namespace: String,
    },
    /// The port that the spec asks for is another database's.
    #[error(
        "spec.databasePort {port} is the port of database `{other}`: choose another or leave the field out"
    )]
    PortTaken {
        /// The port.
        port: i32,
        /// Who has it.
        other: String,
    },
    /// All ports are given out.
    #[error("all ports from {} to {} of this cluster are given out", PORTS.start(), PORTS.end())]
    NoPort,
    /// Nothing that the nodes bring is as new as the spec asks for.
    #[error("redisVersion: {0}")]
    Version(TooNew),
    /// The nodes have not said yet what they bring.
    #[error(
        "which versions of Valkey the nodes of the cluster bring is not known yet: it is placed once one of them has started"
    )]
    NoVersions,
    /// No node can take it now.
    #[error("no node can take the shard: {0}")]
    NoPlace(NoPlace),
    /// It has served, and nobody remembers where.
    #[error(
        "its DatabaseTopology is gone, and neither the annotation {MEMORY} nor an EndpointSlice says which node holds \
         the data. Nothing was placed, so that no empty copy takes its place: write the annotation \
         {{\"epoch\":<last>,\"primary\":\"<pod>\",\"port\":<port>}} on the database"
    )]
    Lost,
}

impl TopologyError {
    /// The class of this error.
    #[must_use]
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::NameTaken { .. } => Fault::Foreign,
            Self::PortTaken { .. } | Self::Version(_) => Fault::Invalid,
            Self::NoVersions => Fault::Waiting,
            Self::NoPort | Self::Lost => Fault::Refused,
            Self::NoPlace(NoPlace::NotReady { .. }) => Fault::Waiting,
            Self::NoPlace(NoPlace::NoRoom { .. } | NoPlace::NoOther { .. }) => Fault::Refused,
        }
    }
}

/// Decides what the topology of a database must say.
///
/// # Errors
/// [`TopologyError`]: there is nothing that may be written now.
pub(super) fn decide(wanted: &Wanted, found: &Found) -> Result<Change, TopologyError> {
    if let Some(existing) = &found.existing {
        refuse_taken(&wanted.database, existing)?;
        return update(wanted, existing, found);
    }
    let all = ShardAssignment {
        slots: ALL_SLOTS.to_owned(),
        ..ShardAssignment::default()
    };
    let last = found.memories.iter().max_by_key(|memory| memory.epoch);
    let (port, renewed) = match renew::rebuilt(&found.memories, !found.has_served, all.clone()) {
        Some(renewed) => (last.map_or(0, |last| last.port), renewed),
        None if found.has_served => return Err(TopologyError::Lost),
        None => (
            choose_port(wanted, found)?,
            first(all, choose_node(wanted, found)?),
        ),
    };
    let version = wanted.version.choose(remembered(found))?;
    let mut topology =
        DatabaseTopology::new(&wanted.database.name, spec(wanted, port, version, renewed));
    order_all(&mut topology.spec);
    // A replica without a place is placed later: the database serves meanwhile, and says that nobody can take over.
    let placed = topology
        .spec
        .shards
        .iter()
        .any(|shard| !shard.replicas.is_empty());
    if wanted.replication
        && !placed
        && let Ok(pod) = replica_place(&topology, &found.others, &found.nodes)
    {
        let shards = topology.spec.shards.iter_mut();
        shards.for_each(|shard| shard.replicas.push(pod.clone()));
        order_all(&mut topology.spec);
    }
    topology.metadata.labels = Some(Owner::of(&topology.spec).labels());
    let memory = Memory::of(&topology.spec).ok_or(TopologyError::Lost)?;
    Ok(Change::Create {
        topology: Box::new(topology),
        memory,
        rebuilt: !found.memories.is_empty(),
    })
}

/// Refuses a name that another database has.
///
/// # Errors
/// [`TopologyError::NameTaken`].
fn refuse_taken(
    database: &DatabaseReference,
    existing: &DatabaseTopology,
) -> Result<(), TopologyError> {
    let holder = &existing.spec.database;
    if is_of(existing, &database.kind, &database.namespace) {
        return Ok(());
    }
    Err(TopologyError::NameTaken {
        name: database.name.clone(),
        kind: holder.kind.clone(),
        namespace: holder.namespace.clone(),
    })
}

/// Whether the topology is that of the database of its name of this kind in this namespace.
#[must_use]
pub(super) fn is_of(topology: &DatabaseTopology, kind: &str, namespace: &str) -> bool {
    let holder = &topology.spec.database;
    holder.kind == kind && holder.namespace == namespace
}

fn update(
    wanted: &Wanted,
    existing: &DatabaseTopology,
    found: &Found,
) -> Result<Change, TopologyError> {
    // One that came out of a backup of the API server is older than what was ordered since. Those who remember the newest
    // order tell where the data is.
    let renewed = renew::raised(existing, &found.memories);
    let turned_on = wanted.replication && !existing.spec.replication;
    let version = wanted.version.choose(kept(existing, found))?;
    let mut next = match renewed {
        Some(renewed) => spec(wanted, existing.spec.port, version, renewed),
        None => DatabaseTopologySpec {
            epoch: existing.spec.epoch,
            fence: existing.spec.fence.clone(),
            shards: existing.spec.shards.clone(),
            ..spec(wanted, existing.spec.port, version, Renewed::default())
        },
    };
    if turned_on {
        // Its process is started anew to be guarded, and nobody else has had a part so far.
        let epoch = next.epoch;
        let alone = next
            .shards
            .iter_mut()
            .filter(|shard| shard.replicas.is_empty());
        alone.for_each(|shard| shard.as_is = Some(epoch));
    }
    if next == existing.spec {
        return Ok(Change::Keep(Box::new(existing.clone())));
    }
    Ok(Change::Swap(Box::new(DatabaseTopology {
        spec: next,
        ..existing.clone()
    })))
}

/// What the database runs by now, at least: what it was given, what is remembered of that, and what its primary tells.
fn kept(existing: &DatabaseTopology, found: &Found) -> Option<Series> {
    let primary = existing
        .spec
        .shards
        .first()
        .and_then(|shard| shard.primary.as_deref());
    let told = primary.and_then(|pod| reported(existing, pod));
    let given = existing.spec.version.as_deref();
    let known = given
        .into_iter()
        .chain(told)
        .filter_map(|text| text.parse().ok());
    known.max().max(remembered(found))
}

fn remembered(found: &Found) -> Option<Series> {
    let all = found.memories.iter();
    all.filter_map(|memory| memory.version.as_deref()?.parse().ok())
        .max()
}

/// Every copy of a topology that is made begins by what the database is to run: there is nothing that could be brought to it.
fn order_all(spec: &mut DatabaseTopologySpec) {
    let Some(version) = &spec.version else { return };
    for shard in &mut spec.shards {
        let pods = shard.primary.iter().chain(&shard.replicas);
        let orders = pods.map(|pod| (pod.clone(), version.clone())).collect();
        shard.versions = orders;
    }
}

/// The first roles of a new database: whoever it is placed on leads with the nothing that it has.
fn first(all: ShardAssignment, pod: String) -> Renewed {
    Renewed {
        epoch: 1,
        fence: None,
        shard: ShardAssignment {
            primary: Some(pod),
            as_is: Some(1),
            ..all
        },
    }
}

fn spec(
    wanted: &Wanted,
    at: i32,
    version: Option<String>,
    renewed: Renewed,
) -> DatabaseTopologySpec {
    let Wanted {
        database,
        cluster,
        port: _,
        memory_bytes,
        eviction_policy,
        persistence,
        version: _,
        tls,
        by_every_node,
        placement,
        metric_labels,
        replication,
        active_active,
    } = wanted.clone();
    DatabaseTopologySpec {
        database,
        cluster,
        epoch: renewed.epoch,
        fence: renewed.fence,
        port: at,
        entry_port: by_every_node.then_some(at + ENTRY),
        memory_bytes,
        eviction_policy,
        persistence,
        version,
        tls,
        placement,
        metric_labels,
        replication,
        shards: vec![renewed.shard],
        active_active,
    }
}

fn choose_node(wanted: &Wanted, found: &Found) -> Result<String, TopologyError> {
    let placed: Vec<Placed> = found.others.iter().flat_map(Given::placed).collect();
    let wish = wanted.placement.unwrap_or_default();
    place(&found.nodes, &placed, wanted.memory_bytes, &[], wish)
        .map(str::to_owned)
        .map_err(TopologyError::NoPlace)
}

/// Where one more replica of `topology` can go; `all` is what those have that share its nodes, itself or not.
///
/// # Errors
/// [`NoPlace`]: nowhere now.
pub(super) fn replica_place(
    topology: &DatabaseTopology,
    all: &[Given],
    nodes: &[Node],
) -> Result<String, NoPlace> {
    let own = topology.spec.shards.iter();
    let holders: Vec<&str> = own
        .flat_map(|shard| shard.primary.iter().chain(&shard.replicas))
        .map(String::as_str)
        .collect();
    let placed: Vec<Placed> = all.iter().flat_map(Given::placed).collect();
    let spec = &topology.spec;
    let wish = spec.placement.unwrap_or_default();
    place(nodes, &placed, spec.memory_bytes, &holders, wish).map(str::to_owned)
}

fn choose_port(wanted: &Wanted, found: &Found) -> Result<i32, TopologyError> {
    let holder = |port: i32| found.others.iter().find(|other| other.port == port);
    match wanted.port {
        Some(port) => match holder(port) {
            Some(other) => Err(TopologyError::PortTaken {
                port,
                other: other.name.clone(),
            }),
            None => Ok(port),
        },
        None => PORTS
            .into_iter()
            .find(|port| holder(*port).is_none())
            .ok_or(TopologyError::NoPort),
    }
}

#[cfg(test)]
mod tests;
