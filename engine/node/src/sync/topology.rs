//! What topologies mean for one node. Pure: topologies and users in, shards, replication links and routes out.

use std::collections::{BTreeMap, BTreeSet};

use meridian_api::crds::shared::Persistence as ApiPersistence;
use meridian_api::crds::topology::{DatabaseTopologySpec, Fence as ApiFence, ShardAssignment};
use meridian_api::version::Series;
use serde::{Deserialize, Serialize};

use crate::desired::{
    Access, DesiredDatabase, DesiredShard, DesiredState, Engine, Fence, Mutual, Persistence,
    Replication, Role, ShardName, Tls,
};

/// A topology object, reduced to what a node needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Topology {
    /// The object's name, which is the database's.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: u64,
    /// What the agent ordered.
    pub spec: DatabaseTopologySpec,
}

impl Topology {
    /// The epoch; a negative one counts as 0, below every obeyed epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        u64::try_from(self.spec.epoch).unwrap_or(0)
    }
}

/// What the node itself adds to the topologies.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "it holds a function")]
pub struct NodeFacts<'a> {
    /// The name of this node, as topologies spell it.
    pub node: &'a str,
    /// The address shards listen on.
    pub bind: &'a str,
    /// Who may log in to databases; of one that is missing it is not known yet.
    pub access: &'a BTreeMap<String, Access>,
    /// By what the nodes know each other.
    pub mutual: &'a Mutual,
    /// The host of another node.
    pub host: &'a (dyn Fn(&str) -> String + Send + Sync),
}

/// Something about a topology that keeps this node from following it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The database.
    pub database: String,
    /// What was found, what was expected, what to do.
    pub message: String,
}

/// What the node proposes to PID 1.
///
/// A database with a problem keeps what `last` has of it. A topology without any shard is an order to every node to run
/// none: each takes it over, so that each can confirm it, whether or not it ever had a place.
#[must_use]
pub fn propose(
    topologies: &[Topology],
    facts: &NodeFacts<'_>,
    last: &DesiredState,
) -> (DesiredState, Vec<Problem>) {
    let mut state = DesiredState::default();
    let mut problems = Vec::new();
    for topology in topologies {
        match database(topology, facts) {
            Ok(desired) => {
                // Without a place here, now or before, the node has nothing to remember about the database.
                let for_everybody = topology.spec.shards.is_empty();
                if for_everybody
                    || !desired.shards.is_empty()
                    || last.databases.contains_key(&topology.name)
                {
                    state.databases.insert(topology.name.clone(), desired);
                }
            }
            Err(message) => {
                problems.push(Problem {
                    database: topology.name.clone(),
                    message,
                });
                if let Some(kept) = last.databases.get(&topology.name) {
                    state.databases.insert(topology.name.clone(), kept.clone());
                }
            }
        }
    }
    (state, problems)
}

fn database(topology: &Topology, facts: &NodeFacts<'_>) -> Result<DesiredDatabase, String> {
    let spec = &topology.spec;
    let mut shards = BTreeMap::new();
    for assignment in &spec.shards {
        let Some(role) = role(assignment, facts) else {
            continue;
        };
        let id = u32::try_from(assignment.id).map_err(|_| {
            format!(
                "spec.shards[].id is {}, expected 0 or higher",
                assignment.id
            )
        })?;
        let shared = spec.replication || !copies(assignment).is_empty();
        let replication = shared.then(|| replication(spec.epoch, assignment, facts.node));
        let shard = DesiredShard {
            role,
            replication,
            version: version(assignment, facts.node)?,
            ..shard(topology, facts)?
        };
        shards.insert(id, shard);
    }
    Ok(DesiredDatabase {
        topology_uid: topology.uid.clone(),
        epoch: topology.epoch(),
        generation: topology.generation,
        owner: spec.database.uid.clone(),
        fence: spec.fence.as_ref().map(fence).transpose()?,
        shards,
    })
}

/// By which Valkey the node is to serve its copy.
fn version(assignment: &ShardAssignment, node: &str) -> Result<Option<String>, String> {
    let Some(version) = assignment.versions.get(node) else {
        return Ok(None);
    };
    match version.parse::<Series>() {
        Ok(_) => Ok(Some(version.clone())),
        Err(error) => Err(format!("spec.shards[].versions[{node}]: {error}")),
    }
}

fn fence(fence: &ApiFence) -> Result<Fence, String> {
    Ok(Fence {
        epoch: u64::try_from(fence.epoch)
            .map_err(|_| format!("spec.fence.epoch is {}, expected 1 or higher", fence.epoch))?,
        candidate: fence.candidate.clone(),
        planned: fence.planned,
    })
}

/// Everybody but the primary who has a part in the shard.
fn copies(assignment: &ShardAssignment) -> BTreeSet<String> {
    let ShardAssignment {
        id: _,
        slots: _,
        primary: _,
        replicas,
        in_sync,
        joining,
        as_is: _,
        versions: _,
    } = assignment;
    [replicas, in_sync, joining]
        .into_iter()
        .flatten()
        .cloned()
        .collect()
}

/// What the node is to the shard; `None`: nothing.
fn role(assignment: &ShardAssignment, facts: &NodeFacts<'_>) -> Option<Role> {
    let primary = assignment.primary.as_deref()?;
    if primary == facts.node {
        Some(Role::Primary)
    } else {
        copies(assignment)
            .contains(facts.node)
            .then(|| Role::Replica {
                host: (facts.host)(primary),
            })
    }
}

fn replication(epoch: i64, assignment: &ShardAssignment, me: &str) -> Replication {
    // The primary needs nobody's permission to be itself.
    let others = |pod: &&String| assignment.primary.as_ref() != Some(*pod);
    let set = |pods: &[String]| pods.iter().filter(others).cloned().collect();
    Replication {
        me: me.to_owned(),
        primary: assignment.primary.clone(),
        replicas: set(&assignment.replicas),
        in_sync: set(&assignment.in_sync),
        joining: set(&assignment.joining),
        as_is: assignment.as_is == Some(epoch),
    }
}

fn shard(topology: &Topology, facts: &NodeFacts<'_>) -> Result<DesiredShard, String> {
    let spec = &topology.spec;
    let port = u16::try_from(spec.port)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| format!("spec.port is {}, expected 1 to 65535", spec.port))?;
    let max_memory_bytes = u64::try_from(spec.memory_bytes).map_err(|_| {
        format!(
            "spec.memoryBytes is {}, expected 0 or more",
            spec.memory_bytes
        )
    })?;
    let access = facts.access.get(&topology.name).cloned().ok_or(
        "its password is not known yet: the users Secret has no key of the database's name",
    )?;
    let tls = tls(spec, &access)?;
    let engine = if spec.active_active.is_some() {
        Engine::ActiveActive
    } else {
        Engine::Plain
    };
    Ok(DesiredShard {
        role: Role::Primary,
        bind: facts.bind.to_owned(),
        port,
        max_memory_bytes,
        eviction_policy: spec.eviction_policy.clone(),
        persistence: persistence(&spec.persistence, engine)?,
        engine,
        version: None,
        password: access.password,
        users: access.users,
        access: access.hash,
        mutual: facts.mutual.clone(),
        tls,
        replication: None,
    })
}

fn tls(spec: &DatabaseTopologySpec, access: &Access) -> Result<Option<Tls>, String> {
    let Some(wanted) = &spec.tls else {
        return Ok(None);
    };
    if wanted.client_certificates && access.certificates.is_empty() {
        return Err(
            "the certificates of its clients are not known yet: the users Secret has no key <database>.clients"
                .to_owned(),
        );
    }
    Ok(Some(Tls {
        clients: wanted.clients,
        certificates: if wanted.client_certificates {
            access.certificates.clone()
        } else {
            String::new()
        },
        replicas: wanted.replicas,
    }))
}

/// Active-Active shards always have an AOF: a region may only report clocks that it cannot lose.
fn persistence(wanted: &ApiPersistence, engine: Engine) -> Result<Persistence, String> {
    let plain = match wanted {
        ApiPersistence::Disabled => Persistence::Disabled,
        ApiPersistence::AofEverySecond => Persistence::AofEverySecond,
        ApiPersistence::AofAlways => Persistence::AofAlways,
        ApiPersistence::SnapshotEvery1Hour => Persistence::SnapshotEveryHours(1),
        ApiPersistence::SnapshotEvery6Hour => Persistence::SnapshotEveryHours(6),
        ApiPersistence::SnapshotEvery12Hour => Persistence::SnapshotEveryHours(12),
        ApiPersistence::Other(word) => {
            return Err(format!(
                "spec.persistence is {word:?}, expected one of {}",
                ApiPersistence::WORDS.join(", ")
            ));
        }
    };
    Ok(match (engine, plain) {
        (Engine::ActiveActive, Persistence::AofAlways) => Persistence::AofAlways,
        (Engine::ActiveActive, _) => Persistence::AofEverySecond,
        (Engine::Plain, plain) => plain,
    })
}

/// An Active-Active database that this node replicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The shard that holds it here.
    pub shard: ShardName,
    /// Identity of the database in all regions.
    pub guid: String,
    /// This region.
    pub instance_id: u32,
    /// The number of this membership.
    pub config_version: u64,
    /// The other regions, by instance id.
    pub peers: BTreeMap<u32, Peer>,
    /// Former members.
    pub ghosts: Vec<u32>,
}

/// Another region of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its instance id.
    pub instance_id: u32,
    /// Its name.
    pub name: String,
    /// `host:port` of its sync endpoint.
    pub endpoint: String,
    /// The name that routes to the database there.
    pub server_name: String,
    /// The identity its certificate must carry.
    pub spiffe_id: String,
}

/// The membership of a database whose primary shard is on `node`; `None` if it is elsewhere, or if the database is not
/// Active-Active.
///
/// # Errors
/// A sentence that names the field that makes no sense.
pub fn membership(topology: &Topology, node: &str) -> Result<Option<Membership>, String> {
    let Some(active_active) = &topology.spec.active_active else {
        return Ok(None);
    };
    let Some(shard) = topology
        .spec
        .shards
        .iter()
        .find(|s| s.primary.as_deref() == Some(node))
    else {
        return Ok(None);
    };
    let shard_id =
        u32::try_from(shard.id).map_err(|_| format!("spec.shards[].id is {}", shard.id))?;
    let mut peers = BTreeMap::new();
    for member in &active_active.members {
        let id = instance_id("spec.activeActive.members[].instanceId", member.instance_id)?;
        if member.instance_id == active_active.instance_id {
            continue;
        }
        let peer = Peer {
            instance_id: id,
            name: member.name.clone(),
            endpoint: member.endpoint.clone(),
            server_name: member.server_name.clone(),
            spiffe_id: member.spiffe_id.clone(),
        };
        if peers.insert(id, peer).is_some() {
            return Err(format!(
                "spec.activeActive.members names instance {id} twice"
            ));
        }
    }
    let ghosts = active_active
        .ghosts
        .iter()
        .map(|ghost| instance_id("spec.activeActive.ghosts[]", *ghost))
        .collect::<Result<_, _>>()?;
    Ok(Some(Membership {
        shard: ShardName::new(&topology.name, shard_id),
        guid: active_active.guid.clone(),
        instance_id: instance_id("spec.activeActive.instanceId", active_active.instance_id)?,
        config_version: u64::try_from(active_active.config_version).map_err(|_| {
            format!(
                "spec.activeActive.configVersion is {}",
                active_active.config_version
            )
        })?,
        peers,
        ghosts,
    }))
}

fn instance_id(field: &str, value: i64) -> Result<u32, String> {
    u32::try_from(value)
        .ok()
        .filter(|id| *id > 0)
        .ok_or_else(|| format!("{field} is {value}, expected 1 or higher"))
}

/// Where a server name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The database's primary shard is on this node.
    Here(String),
    /// It is on another pod of this cluster.
    Relay(String),
}

/// The server names of all Active-Active databases of this cluster that have a primary.
#[must_use]
pub fn routes<'a>(
    topologies: impl Iterator<Item = &'a Topology>,
    node: &str,
) -> BTreeMap<String, Route> {
    let mut routes = BTreeMap::new();
    for topology in topologies {
        let Some(active_active) = &topology.spec.active_active else {
            continue;
        };
        let Some(pod) = topology.spec.shards.iter().find_map(|s| s.primary.clone()) else {
            continue;
        };
        let own = active_active
            .members
            .iter()
            .find(|m| m.instance_id == active_active.instance_id);
        let Some(own) = own.filter(|m| !m.server_name.is_empty()) else {
            continue;
        };
        let route = if pod == node {
            Route::Here(topology.name.clone())
        } else {
            Route::Relay(pod)
        };
        routes.insert(own.server_name.to_ascii_lowercase(), route);
    }
    routes
}

#[cfg(test)]
mod tests;
