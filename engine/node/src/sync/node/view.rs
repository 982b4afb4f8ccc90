//! What the node shows: to people as JSON, to the exporter, and to the agent as status.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Database, Inner, LinkRow};
use crate::clock;
use crate::desired::{DesiredDatabase, DesiredShard, Refusal, RefusalReason, Role};
use crate::permission::Following;
use crate::pid1::UnitReport;
use crate::sync::INSECURE_WARNING;
use crate::sync::link::Security;
use crate::sync::roles::RoleView;
use crate::sync::settings::Settings;
use crate::sync::topology::Problem;
use crate::valkey::Copy;

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
    /// Why the newest orders are not followed yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) owed: Option<String>,
    /// The certificate with which it meets other regions, and the roots by which it believes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) peer_files: Option<String>,
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
    /// Why the topology that is there is not obeyed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) refused: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) guid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) instance_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) config_version: Option<u64>,
    pub(in crate::sync) shards: Vec<ShardView>,
    pub(in crate::sync) links: Vec<LinkRow>,
    /// How soon newer numbers are told.
    #[serde(skip)]
    pub(in crate::sync) pace: Pace,
}

/// How soon numbers that only moved are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sync) enum Pace {
    /// Nobody waits for them.
    Idle,
    /// Somebody joins or is being promoted.
    Moving,
    /// The candidate of a planned hand-over is caught up when its number says so.
    HandOver,
}

/// One shard of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::sync) struct ShardView {
    pub(in crate::sync) id: u32,
    /// `primary`, `replica`, or `stopped` if nothing of it runs here any more.
    pub(in crate::sync) role: &'static str,
    pub(in crate::sync) ready: bool,
    pub(in crate::sync) writable: bool,
    pub(in crate::sync) port: u16,
    #[serde(flatten)]
    pub(in crate::sync) replication: ReplicationView,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) clock: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) error: Option<String>,
    /// Version of the Valkey that answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) version: Option<String>,
    /// Hash of the users that it has taken over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) access: Option<String>,
    /// Hash of what it has taken over of the cluster's internal Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) internal: Option<String>,
}

/// A shard's part among its copies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::sync) struct ReplicationView {
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(in crate::sync) counts: BTreeSet<String>,
    /// By name: online, and how many bytes behind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::sync) replicas: BTreeMap<String, (bool, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) following: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) fenced: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) wants_failover: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) served: Option<u64>,
    /// The stream, and how much of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) held: Option<(String, u64)>,
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
        owed: inner.owed.clone(),
        peer_files: match &settings.security {
            Security::Tls(certificates) => certificates.current().ok().map(|it| it.files()),
            Security::Insecure => None,
        },
        as_of: clock::rfc3339(clock::wall_ms()),
    }
}

fn database(name: &str, inner: &Inner) -> DatabaseView {
    let running: Vec<_> = inner.shards.values().filter(|d| d.name() == name).collect();
    let membership = running.iter().find_map(|d| d.membership());
    let obeyed = inner.obeyed.databases.get(name);
    let mut shards: Vec<ShardView> = running.iter().map(|d| shard(d, obeyed)).collect();
    shards.extend(stopped(name, inner, &shards));
    DatabaseView {
        name: name.to_owned(),
        topology_uid: obeyed.map(|d| d.topology_uid.clone()).unwrap_or_default(),
        epoch: obeyed.map_or(0, |d| d.epoch),
        generation: obeyed.map_or(0, |d| d.generation),
        refused: refused(name, inner),
        guid: membership.as_ref().map(|m| m.guid.clone()),
        instance_id: membership.as_ref().map(|m| m.instance_id),
        config_version: membership.as_ref().map(|m| m.config_version),
        shards,
        links: running.iter().flat_map(|d| d.rows()).collect(),
        pace: obeyed.map_or(Pace::Idle, pace),
    }
}

/// A topology that is there and is no order. One that is not there has no place for a report.
fn refused(name: &str, inner: &Inner) -> Option<String> {
    let refusals = &inner.report.as_ref()?.refusals;
    let one = refusals.iter().find(|refusal| {
        refusal.database == name && refusal.reason == RefusalReason::TopologyRegressed
    });
    one.map(|refusal| format!("{:?}: {}", refusal.reason, refusal.message))
}

fn pace(obeyed: &DesiredDatabase) -> Pace {
    let joins = |shard: &DesiredShard| {
        let replication = shard.replication.as_ref();
        replication.is_some_and(|r| !r.joining.is_empty() || r.in_sync != r.replicas)
    };
    match &obeyed.fence {
        Some(fence) if fence.epoch > obeyed.epoch && fence.planned => Pace::HandOver,
        Some(fence) if fence.epoch > obeyed.epoch => Pace::Moving,
        Some(_) | None if obeyed.shards.values().any(joins) => Pace::Moving,
        Some(_) | None => Pace::Idle,
    }
}

fn shard(running: &Database, obeyed: Option<&DesiredDatabase>) -> ShardView {
    let state = running.state();
    let mut view = ShardView {
        id: running.id(),
        role: "primary",
        ready: state.shard.is_some(),
        writable: state.shard.is_some(),
        port: running.port(),
        replication: ReplicationView::default(),
        clock: state
            .clock
            .map(|c| serde_json::from_str(&c.text).unwrap_or_else(|_| c.text.into())),
        error: state.error,
        version: state.version,
        access: state.access,
        internal: state.internal,
    };
    let Some(role) = running.role() else {
        return view;
    };
    let wanted = obeyed.and_then(|database| database.shards.get(&view.id));
    let leads = role
        .view
        .leads
        .or_else(|| wanted.map(|shard| shard.role == Role::Primary));
    // What the driver says is about the order that it has seen; a promise under another order would be a wrong one.
    let current = obeyed.is_some_and(|database| {
        let order = (&database.topology_uid, database.epoch, database.generation);
        role.order.as_ref().map(|o| (&o.0, o.1, o.2)) == Some(order)
    });
    if leads == Some(false) {
        view.role = "replica";
    }
    view.writable = view.ready && role.view.writable;
    view.replication = replication(&role, current);
    view.error = view.error.or(role.problem);
    view
}

fn replication(role: &RoleView, current: bool) -> ReplicationView {
    let copy = |(name, copy): (&str, Copy)| {
        let behind = role.behind.get(name).copied().unwrap_or(u64::MAX);
        (name.to_owned(), (copy.online, behind))
    };
    ReplicationView {
        counts: if current {
            role.view.counts.clone()
        } else {
            BTreeSet::new()
        },
        replicas: role.copies().map(copy).collect(),
        following: role.following().map(|state| match state {
            Following::Down => "down",
            Following::Copying => "copying",
            Following::Up => "up",
        }),
        offset: role.offset(),
        fenced: role.view.fenced.filter(|_| current),
        wants_failover: role.wish().filter(|_| current),
        served: role.view.served,
        held: role.held().map(|held| (held.stream.clone(), held.offset)),
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
            writable: false,
            port: 0,
            replication: ReplicationView::default(),
            clock: None,
            error: None,
            version: None,
            access: None,
            internal: None,
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
            hangs: 0,
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
