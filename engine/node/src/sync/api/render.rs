//! The words of the API: a picture in, JSON out. Pure. Names and words are those that clients of this API know; what has no
//! counterpart there is said in keys of our own (`as_of`, `available`, `unavailable_reason`, `status_reason`).

use std::collections::BTreeMap;

use axum::http::StatusCode;
use meridian_api::crds::shared::Persistence;
use meridian_api::crds::topology::{
    DatabaseTopology, DatabaseTopologySpec, LinkState, ShardAssignment,
};
use meridian_api::login::database_number;
use meridian_api::version::running;
use serde_json::{Value, json};

use super::answer::Refusal;
use super::picture::{Picture, Serves, copies, report};

/// Port of the API.
pub(in crate::sync) const API_PORT: u16 = 9443;
/// Port of the status page.
pub(in crate::sync) const PAGE_PORT: u16 = 8443;
/// How far another region may be behind where a lag-aware check names no number, milliseconds.
const TOLERANCE_MS: i64 = 100;

/// What an availability check asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LagCheck {
    /// Nothing about lag.
    No,
    /// No other region may be behind by more than this, milliseconds.
    Within(i64),
}

impl LagCheck {
    /// Reads the query.
    ///
    /// # Errors
    /// A value that is not understood: a check that asks for less than was meant would be worse than none.
    pub(super) fn asked(query: &BTreeMap<String, String>) -> Result<Self, Refusal> {
        let bad = |key: &str, found: &str, expected: &str| {
            let text = format!("{key}: found {found:?}, expected {expected}");
            Refusal::new(StatusCode::BAD_REQUEST, "bad_query", text)
        };
        match query.get("extend_check").map(String::as_str) {
            None => return Ok(Self::No),
            Some("lag") => {}
            Some(other) => return Err(bad("extend_check", other, "lag")),
        }
        let key = "availability_lag_tolerance_ms";
        let Some(text) = query.get(key) else {
            return Ok(Self::Within(TOLERANCE_MS));
        };
        match text.parse() {
            Ok(tolerance) if tolerance >= 0 => Ok(Self::Within(tolerance)),
            _ => Err(bad(key, text, "milliseconds, 0 or more")),
        }
    }
}

pub(super) fn cluster(picture: &Picture) -> Value {
    let facts = &picture.facts;
    json!({
        "name": facts.host,
        "created_time": facts.created,
        "cnm_https_port": API_PORT,
        "cm_port": PAGE_PORT,
        "rack_aware": facts.rack_aware,
        "software_version": facts.release,
        "nodes_count": facts.nodes,
        "bdbs_count": picture.topologies.len(),
        "kubernetes_away_since": picture.away_since,
        "as_of": picture.as_of,
    })
}

/// The word for a node, and what lies behind it.
pub(super) fn node_status(picture: &Picture, node: &str) -> (&'static str, &'static str) {
    match picture.nodes.get(node) {
        Some(Some(answer)) if answer.stopping => ("going_offline", "it was asked to stop"),
        Some(Some(_)) => ("active", "its supervisor answers"),
        Some(None) => ("down", "its supervisor does not answer this node"),
        None => ("unknown", "it is no node of this cluster"),
    }
}

pub(super) fn nodes(picture: &Picture) -> Value {
    let mut all: Vec<(u64, Value)> = picture
        .nodes
        .iter()
        .map(|(name, answer)| {
            let (status, reason) = node_status(picture, name);
            let uid = uid_of(name);
            let shards = answer.as_ref().map(|answer| answer.ready.len());
            let shown = json!({
                "uid": uid,
                "name": name,
                "addr": answer.as_ref().map(|answer| answer.address.to_string()),
                "status": status,
                "status_reason": reason,
                "shard_count": shards,
                "total_memory": picture.facts.memory_bytes,
                "software_version": picture.facts.release,
                "as_of": picture.as_of,
            });
            (uid, shown)
        })
        .collect();
    all.sort_by_key(|(uid, _)| *uid);
    all.into_iter().map(|(_, shown)| shown).collect()
}

/// The number of a node: its ordinal, counted from 1.
fn uid_of(node: &str) -> u64 {
    let ordinal = node
        .rsplit_once('-')
        .and_then(|(_, text)| text.parse().ok());
    ordinal.map_or(0, |ordinal: u64| ordinal + 1)
}

pub(super) fn databases(picture: &Picture) -> Value {
    let mut all: Vec<_> = picture.topologies.iter().collect();
    all.sort_by_key(|topology| database_number(topology.spec.port));
    all.into_iter()
        .map(|topology| database(picture, topology))
        .collect()
}

fn database(picture: &Picture, topology: &DatabaseTopology) -> Value {
    let spec = &topology.spec;
    let uid = database_number(spec.port);
    let count = i64::try_from(spec.shards.len()).unwrap_or(i64::MAX);
    let why = unserved(picture, topology);
    let mut shown = json!({
        "uid": uid,
        "name": spec.database.name,
        "namespace": spec.database.namespace,
        "type": "redis",
        "status": status(topology, why.is_none()),
        "available": why.is_none(),
        "unavailable_reason": why,
        "memory_size": size(spec),
        "eviction_policy": spec.eviction_policy,
        "replication": spec.replication,
        "shards_count": count,
        "port": spec.port,
        "endpoints": [endpoint(picture, topology, uid)],
        "version": running(topology),
        "redis_version": picture.facts.database_version,
        "crdt": spec.active_active.is_some(),
        "crdt_guid": spec.active_active.as_ref().map(|member| &member.guid),
        "crdt_replica_id": spec.active_active.as_ref().map(|member| member.instance_id),
        "shards": spec.shards.iter().flat_map(|shard| shards(picture, topology, shard)).collect::<Value>(),
        "as_of": picture.as_of,
    });
    for (key, value) in persistence(&spec.persistence) {
        shown[key] = value;
    }
    shown
}

/// The memory of a database with its replicas, bytes.
fn size(spec: &DatabaseTopologySpec) -> i64 {
    let shards = i64::try_from(spec.shards.len()).unwrap_or(i64::MAX);
    let copies = if spec.replication { 2 } else { 1 };
    spec.memory_bytes
        .saturating_mul(shards.max(1))
        .saturating_mul(copies)
}

fn endpoint(picture: &Picture, topology: &DatabaseTopology, uid: i64) -> Value {
    let spec = &topology.spec;
    let primaries = spec
        .shards
        .iter()
        .filter_map(|shard| shard.primary.as_ref());
    let addresses: Vec<String> = primaries
        .filter_map(|node| Some(picture.nodes.get(node)?.as_ref()?.address.to_string()))
        .collect();
    let name = &topology.metadata.name;
    json!({
        "uid": format!("{uid}:1"),
        "dns_name": name.as_ref().map(|name| format!("{name}.{}.svc.cluster.local", picture.namespace)),
        "port": spec.port,
        "addr": addresses,
        "addr_type": "internal",
        "proxy_policy": "single",
    })
}

/// The copies of a shard, the primary first.
fn shards(picture: &Picture, topology: &DatabaseTopology, shard: &ShardAssignment) -> Vec<Value> {
    let name = topology.metadata.name.as_deref().unwrap_or_default();
    copies(shard)
        .map(|(node, is_primary)| {
            let told = report(topology, node, shard.id);
            let serves = match picture.serves(node, name, shard.id) {
                Serves::Yes => "active",
                Serves::No => "down",
                Serves::Unknown => "unknown",
            };
            json!({
                "uid": format!("{}:{}", shard.id, uid_of(node)),
                "node_uid": uid_of(node),
                "node": node,
                "role": if is_primary { "master" } else { "slave" },
                "status": serves,
                "assigned_slots": shard.slots,
                "reported_role": told.map(|(_, report)| &report.role),
                "reported_writable": told.map(|(_, report)| report.writable),
                "reported_as_of": told.map(|(member, _)| &member.as_of),
            })
        })
        .collect()
}

fn persistence(persistence: &Persistence) -> Vec<(&'static str, Value)> {
    let aof = |policy: &str| {
        vec![
            ("data_persistence", json!("aof")),
            ("aof_policy", json!(policy)),
        ]
    };
    let snapshot = |hours: u32| {
        let policy = json!([{ "secs": hours * 3600, "writes": 1 }]);
        vec![
            ("data_persistence", json!("snapshot")),
            ("snapshot_policy", policy),
        ]
    };
    match persistence {
        Persistence::AofEverySecond => aof("appendfsync-every-sec"),
        Persistence::AofAlways => aof("appendfsync-always"),
        Persistence::SnapshotEvery1Hour => snapshot(1),
        Persistence::SnapshotEvery6Hour => snapshot(6),
        Persistence::SnapshotEvery12Hour => snapshot(12),
        Persistence::Disabled => vec![("data_persistence", json!("disabled"))],
        // A word of a later version, as it stands.
        Persistence::Other(word) => vec![("data_persistence", json!(word))],
    }
}

/// The classic word for a database.
fn status(topology: &DatabaseTopology, serves: bool) -> &'static str {
    let spec = &topology.spec;
    let reported = topology
        .status
        .as_ref()
        .is_some_and(|status| !status.members.is_empty());
    if spec.shards.is_empty() {
        "delete-pending"
    } else if spec.fence.is_some() {
        "active-change-pending"
    } else if serves {
        "active"
    } else if reported {
        "recovery"
    } else {
        "pending"
    }
}

/// Why somebody who writes to the database now may not be served; `None`: every primary was seen to serve.
pub(super) fn unserved(picture: &Picture, topology: &DatabaseTopology) -> Option<String> {
    let spec = &topology.spec;
    let name = topology.metadata.name.as_deref().unwrap_or_default();
    if spec.shards.is_empty() {
        return Some("the database is being stopped".to_owned());
    }
    spec.shards.iter().find_map(|shard| {
        let number = shard.id;
        let Some(node) = &shard.primary else {
            return Some(format!("shard {number} has no primary"));
        };
        match picture.serves(node, name, number) {
            Serves::Yes => {}
            Serves::No => return Some(format!("shard {number} does not answer on node {node}")),
            Serves::Unknown => {
                return Some(format!("node {node} of shard {number} does not answer"));
            }
        }
        match report(topology, node, number) {
            Some((member, report)) if report.writable && member.epoch == spec.epoch => None,
            Some((member, _)) => Some(format!(
                "node {node} did not take writes to shard {number} in epoch {} when it last reported, at {}",
                spec.epoch, member.as_of
            )),
            None => Some(format!("node {node} has not reported shard {number} yet")),
        }
    })
}

/// The answer to an availability check; `None`: the database is available.
pub(super) fn unavailable(
    picture: &Picture,
    topology: &DatabaseTopology,
    check: LagCheck,
) -> Option<Refusal> {
    let refuse = |text| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "bdb_unavailable", text);
    if let Some(why) = unserved(picture, topology) {
        return Some(refuse(why));
    }
    match check {
        LagCheck::No => None,
        LagCheck::Within(tolerance) => behind(topology, tolerance).map(refuse),
    }
}

/// Which other region's writes arrive too late, or not at all.
fn behind(topology: &DatabaseTopology, tolerance: i64) -> Option<String> {
    let membership = topology.spec.active_active.as_ref()?;
    let primaries = topology.spec.shards.iter().filter_map(|shard| {
        let node = shard.primary.as_deref()?;
        report(topology, node, shard.id)
    });
    let links: Vec<_> = primaries.flat_map(|(member, _)| &member.links).collect();
    let others = membership.members.iter().filter(|member| !member.local);
    others.into_iter().find_map(|other| {
        let name = &other.name;
        let mut of_other = links.iter().filter(|l| l.instance_id == other.instance_id);
        let Some(link) = of_other.next() else {
            return Some(format!("nothing is known of the link to {name}"));
        };
        match (&link.state, link.lag_ms) {
            (LinkState::Up, Some(lag)) if lag <= tolerance => None,
            (LinkState::Up, Some(lag)) => Some(format!(
                "{name} is behind by {lag} ms as of {}, more than {tolerance} ms",
                link.as_of
            )),
            (LinkState::Up, None) => Some(format!("the lag of {name} is unknown")),
            (state, _) => Some(format!(
                "the link to {name} is {} since {}",
                state.as_str(),
                link.since
            )),
        }
    })
}

pub(super) fn active_actives(picture: &Picture) -> Value {
    let ours = picture.topologies.iter().filter_map(|topology| {
        let membership = topology.spec.active_active.as_ref()?;
        let spec = &topology.spec;
        let uid = database_number(spec.port).to_string();
        let instance = |member: &meridian_api::crds::topology::TopologyMember| {
            json!({
                "id": member.instance_id,
                "cluster": { "name": member.name, "replication_endpoint": member.endpoint },
                // The number that another cluster gives to its database is not known here.
                "db_uid": if member.local { uid.as_str() } else { "" },
            })
        };
        Some(json!({
            "guid": membership.guid,
            "name": spec.database.name,
            "encryption": true,
            "config_version": membership.config_version,
            "instances": membership.members.iter().map(instance).collect::<Value>(),
            "local_databases": [{ "bdb_uid": uid, "id": membership.instance_id }],
            "default_db_config": {
                "name": spec.database.name,
                "memory_size": size(spec),
                "port": spec.port,
                "replication": spec.replication,
                "eviction_policy": spec.eviction_policy,
            },
            "as_of": picture.as_of,
        }))
    });
    ours.collect()
}
