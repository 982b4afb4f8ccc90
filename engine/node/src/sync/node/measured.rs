//! What the exporter needs of each shard beside the view: how to ask it, and numbers that are only counted.

use std::collections::BTreeMap;

use super::{Node, ShardName, Topology};
use crate::sync::shard::Shard;

/// One shard that runs here.
#[derive(Clone, Debug)]
pub(in crate::sync) struct Measured {
    pub(in crate::sync) database: String,
    pub(in crate::sync) id: u32,
    /// A connection, while it answers.
    pub(in crate::sync) shard: Option<Shard>,
    /// How many replicas may become primary; `None`: no other node has a part in it.
    pub(in crate::sync) in_sync: Option<usize>,
    /// How often PID 1 has started it.
    pub(in crate::sync) starts: Option<u64>,
}

impl Node {
    /// The cluster resource that this node belongs to.
    pub(in crate::sync) fn cluster_name(&self) -> &str {
        &self.settings.cluster
    }

    /// How often PID 1 has started this process, and how often it killed it because it hung.
    pub(in crate::sync) fn sync_starts(&self) -> Option<(u64, u64)> {
        let inner = self.inner();
        let units = &inner.report.as_ref()?.units;
        units.get("sync").map(|unit| (unit.starts, unit.hangs))
    }

    /// Labels of the databases whose primary is here, by the newest order: of one database only one node tells them.
    pub(in crate::sync) fn tags(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let inner = self.inner();
        let topologies = inner.followed.values();
        topologies
            .filter_map(|topology| tags(topology, &self.settings.node))
            .collect()
    }

    /// Every shard that runs here.
    pub(in crate::sync) fn measured(&self) -> Vec<Measured> {
        let inner = self.inner();
        let units = inner.report.as_ref().map(|report| &report.units);
        let measured = inner.shards.values().map(|running| {
            let (database, id) = (running.name().to_owned(), running.id());
            let desired = inner.obeyed.databases.get(&database);
            let replication = desired
                .and_then(|database| database.shards.get(&id))
                .and_then(|shard| shard.replication.as_ref());
            let name = ShardName::new(&database, id);
            Measured {
                shard: running.state().shard,
                in_sync: replication.map(|r| r.in_sync.len()),
                starts: units
                    .and_then(|units| units.get(name.as_str()))
                    .map(|unit| unit.starts),
                database,
                id,
            }
        });
        measured.collect()
    }
}

/// Name and labels of a database whose first shard is led by `node`.
fn tags(topology: &Topology, node: &str) -> Option<(String, BTreeMap<String, String>)> {
    let spec = &topology.spec;
    let first = spec.shards.iter().min_by_key(|shard| shard.id)?;
    let here = first.primary.as_deref() == Some(node);
    here.then(|| (topology.name.clone(), spec.metric_labels.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_told_by_the_node_of_the_primary_alone() {
        let topology: Topology = serde_json::from_value(serde_json::json!({
            "name": "db", "uid": "u", "generation": 1, "spec": {
                "database": {"kind": "K", "namespace": "ns", "name": "db", "uid": "d"}, "cluster": "rec", "epoch": 1,
                "port": 12000, "memoryBytes": 1, "evictionPolicy": "noeviction", "persistence": "disabled",
                "replication": true, "metricLabels": {"env": "prod"},
                "shards": [{"id": 0, "slots": "0-16383", "primary": "rec-0", "replicas": ["rec-1"]}]}}))
        .unwrap();
        let labels = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
        assert_eq!(tags(&topology, "rec-0"), Some(("db".to_owned(), labels)));
        assert_eq!(tags(&topology, "rec-1"), None);
        assert_eq!(tags(&topology, "rec-2"), None);
    }
}
