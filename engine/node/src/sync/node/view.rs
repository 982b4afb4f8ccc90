//! What the node shows: to people as JSON, to the exporter, and to the agent as status.

use serde::Serialize;

use super::{Inner, LinkRow};
use crate::clock;
use crate::desired::Refusal;
use crate::sync::INSECURE_WARNING;
use crate::sync::link::Security;
use crate::sync::settings::Settings;
use crate::sync::topology::Problem;

/// Everything there is to see of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::sync) struct NodeView {
    pub(in crate::sync) node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) warning: Option<&'static str>,
    pub(in crate::sync) databases: Vec<DatabaseView>,
    /// Orders that were not followed.
    pub(in crate::sync) refusals: Vec<Refusal>,
    /// Topologies that make no sense yet.
    pub(in crate::sync) problems: Vec<Problem>,
    pub(in crate::sync) as_of: String,
}

/// One database's place on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::sync) struct DatabaseView {
    pub(in crate::sync) name: String,
    pub(in crate::sync) topology_uid: String,
    pub(in crate::sync) epoch: u64,
    pub(in crate::sync) generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) guid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) instance_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) config_version: Option<u64>,
    pub(in crate::sync) shards: Vec<ShardView>,
    pub(in crate::sync) links: Vec<LinkRow>,
}

/// One shard of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::sync) struct ShardView {
    pub(in crate::sync) id: u32,
    /// `primary`, or `stopped` if nothing of it runs here any more.
    pub(in crate::sync) role: &'static str,
    pub(in crate::sync) ready: bool,
    pub(in crate::sync) port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) clock: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) error: Option<String>,
}

pub(super) fn of(settings: &Settings, inner: &Inner) -> NodeView {
    NodeView {
        node: settings.node.clone(),
        warning: matches!(settings.security, Security::Insecure).then_some(INSECURE_WARNING),
        databases: inner
            .obeyed
            .databases
            .keys()
            .map(|name| database(name, inner))
            .collect(),
        refusals: inner
            .report
            .as_ref()
            .map(|r| r.refusals.clone())
            .unwrap_or_default(),
        problems: inner.problems.clone(),
        as_of: clock::rfc3339(clock::wall_ms()),
    }
}

fn database(name: &str, inner: &Inner) -> DatabaseView {
    let running: Vec<_> = inner.shards.values().filter(|d| d.name() == name).collect();
    let membership = running.iter().find_map(|d| d.membership());
    let mut shards: Vec<ShardView> = running
        .iter()
        .map(|d| {
            let state = d.state();
            ShardView {
                id: d.id(),
                role: "primary",
                ready: state.shard.is_some(),
                port: d.port(),
                clock: state
                    .clock
                    .map(|c| serde_json::from_str(&c.text).unwrap_or_else(|_| c.text.into())),
                error: state.error,
            }
        })
        .collect();
    shards.extend(stopped(name, inner, &shards));
    let obeyed = inner.obeyed.databases.get(name);
    DatabaseView {
        name: name.to_owned(),
        topology_uid: obeyed.map(|d| d.topology_uid.clone()).unwrap_or_default(),
        epoch: obeyed.map_or(0, |d| d.epoch),
        generation: obeyed.map_or(0, |d| d.generation),
        guid: membership.as_ref().map(|m| m.guid.clone()),
        instance_id: membership.as_ref().map(|m| m.instance_id),
        config_version: membership.as_ref().map(|m| m.config_version),
        shards,
        links: running.iter().flat_map(|d| d.rows()).collect(),
    }
}

/// Shards of the topology that are not this node's: `stopped`, once PID 1 runs nothing of them any more.
fn stopped(name: &str, inner: &Inner, running: &[ShardView]) -> Vec<ShardView> {
    let Some(topology) = inner.followed.get(name) else {
        return Vec::new();
    };
    let ids = topology
        .spec
        .shards
        .iter()
        .filter_map(|s| u32::try_from(s.id).ok());
    let still = |id: u32| {
        let unit = crate::desired::ShardName::new(name, id);
        inner
            .report
            .as_ref()
            .is_none_or(|r| r.units.contains_key(unit.as_str()))
    };
    ids.filter(|id| !running.iter().any(|shard| shard.id == *id))
        .map(|id| {
            let role = if still(id) { "primary" } else { "stopped" };
            ShardView {
                id,
                role,
                ready: false,
                port: 0,
                clock: None,
                error: None,
            }
        })
        .collect()
}
