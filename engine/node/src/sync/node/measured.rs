//! What the exporter needs of each shard beside the view: how to ask it, and numbers that are only counted.

use super::{Node, ShardName};
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
