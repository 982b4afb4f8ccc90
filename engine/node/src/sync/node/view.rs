//! What the node shows: to people as JSON, to the exporter, and to the agent as status.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Inner, LinkRow};
use crate::clock;
use crate::desired::Refusal;
use crate::pid1::UnitReport;
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

/// Shards that are not to run here: `stopped` once PID 1 runs nothing of them any more, until then what they were. PID 1 is
/// asked, not the topology alone: one without shards names none, and a shard takes some time to stop.
fn stopped(name: &str, inner: &Inner, running: &[ShardView]) -> Vec<ShardView> {
    let named = inner.followed.get(name).map(|topology| {
        let ids = topology.spec.shards.iter();
        ids.filter_map(|s| u32::try_from(s.id).ok()).collect()
    });
    let units = inner.report.as_ref().map(|report| &report.units);
    not_to_run(name, named.unwrap_or_default(), units)
        .into_iter()
        .filter(|(id, _)| !running.iter().any(|shard| shard.id == *id))
        .map(|(id, role)| ShardView {
            id,
            role,
            ready: false,
            port: 0,
            clock: None,
            error: None,
        })
        .collect()
}

/// The role of every shard that the topology names or that PID 1 still runs, if it is not to run here. `units` is `None`
/// while PID 1 has not answered: then nothing is known to have stopped.
fn not_to_run(
    database: &str,
    named: BTreeSet<u32>,
    units: Option<&BTreeMap<String, UnitReport>>,
) -> BTreeMap<u32, &'static str> {
    let prefix = format!("{database}-");
    let still: BTreeSet<u32> = units
        .into_iter()
        .flat_map(BTreeMap::keys)
        .filter_map(|unit| unit.strip_prefix(&prefix)?.parse().ok())
        .collect();
    let role = |id: &u32| {
        if units.is_none() || still.contains(id) {
            "primary"
        } else {
            "stopped"
        }
    };
    named.union(&still).map(|id| (*id, role(id))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(names: &[&str]) -> BTreeMap<String, UnitReport> {
        let unit = UnitReport {
            state: "stopping".to_owned(),
            pid: Some(1),
            starts: 1,
            last_end: None,
        };
        let all = names.iter().map(|name| ((*name).to_owned(), unit.clone()));
        all.collect()
    }

    #[test]
    fn a_shard_that_no_topology_names_is_told_as_long_as_its_process_is_there() {
        let before = units(&["sync", "db-0", "db-x-7", "other-3"]);
        assert_eq!(
            not_to_run("db", BTreeSet::new(), Some(&before)),
            [(0, "primary")].into()
        );
        let after = units(&["sync", "other-3"]);
        assert_eq!(
            not_to_run("db", BTreeSet::new(), Some(&after)),
            BTreeMap::new()
        );
    }

    #[test]
    fn a_shard_that_is_elsewhere_is_stopped_only_when_its_process_is_known_to_be_gone() {
        let named = || BTreeSet::from([0]);
        let running = units(&["db-0"]);
        assert_eq!(
            not_to_run("db", named(), Some(&running)),
            [(0, "primary")].into()
        );
        assert_eq!(
            not_to_run("db", named(), Some(&units(&[]))),
            [(0, "stopped")].into()
        );
        assert_eq!(not_to_run("db", named(), None), [(0, "primary")].into());
    }
}
