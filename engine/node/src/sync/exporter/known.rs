//! Metrics under the names that users of Redis Enterprise know from its second endpoint, where they mean the same: a proxy that
//! we do not have counts requests there, so `endpoint_…` is not among them. Roles are `master` and `slave`, sizes are bytes.

use super::ours::ShardFamily;
use super::text::Family;

type Value = fn(&super::snapshot::ShardSample) -> Option<f64>;

const fn gauge(name: &'static str, help: &'static str, value: Value) -> ShardFamily {
    ShardFamily {
        family: Family::gauge(name, help),
        value,
    }
}

const fn counter(name: &'static str, help: &'static str, value: Value) -> ShardFamily {
    ShardFamily {
        family: Family::counter(name, help),
        value,
    }
}

/// The node answers.
pub(super) const NODE_UP: Family =
    Family::gauge("node_metrics_up", "1 as long as this node answers");

/// Tags of a database.
pub(super) const TAGS: Family = Family::gauge(
    "db_tags",
    "1; tags of the database that the cluster shows are labels, told by the node of its primary",
);

/// Lag of a link.
pub(super) const LAG: Family = Family::gauge(
    "database_syncer_lag_ms",
    "For how long this region has lacked something that the other has, in milliseconds",
);

/// State of a link.
pub(super) const STATUS: Family = Family::gauge(
    "database_syncer_current_status",
    "0 in sync, 1 syncing, 2 out of sync",
);

/// Bytes of a link.
pub(super) const INGRESS: Family = Family::counter(
    "database_syncer_ingress_bytes",
    "Bytes of effects pulled from the other region",
);

/// Internal state of a link, for those who look for a fault.
pub(super) const STATE: Family = Family::gauge(
    "database_syncer_state",
    "State of the link: 0 connecting, 1 syncing, 2 up, 3 paused, 4 stalled, 5 down",
);

/// Whether the other region is connected.
pub(super) const SOURCE: Family = Family::gauge(
    "database_syncer_src_connectivity_state",
    "1 if the other region is connected",
);

/// Age of the state of a link.
pub(super) const SOURCE_MS: Family = Family::gauge(
    "database_syncer_src_connectivity_state_ms",
    "For how long the link has been in its state, in milliseconds",
);

/// Whether what is pulled can be written here.
pub(super) const TARGET: Family = Family::gauge(
    "database_syncer_dst_connectivity_state",
    "1 if the shard here, into which effects are written, answers",
);

/// Age of that.
pub(super) const TARGET_MS: Family = Family::gauge(
    "database_syncer_dst_connectivity_state_ms",
    "For how long the shard here runs, in milliseconds; absent if it does not answer",
);

/// The same bytes as [`INGRESS`], by the name of the older counter.
pub(super) const SOURCE_INGRESS: Family = Family::counter(
    "crdt_src_ingress_bytes",
    "Bytes of effects pulled from the other region",
);

/// One sample per shard that runs on the node.
pub(super) const SHARDS: &[ShardFamily] = &[
    gauge("redis_server_up", "1 if the shard answers", |s| {
        s.process
            .as_ref()
            .map(|p| f64::from(u8::from(p.info.is_some())))
    }),
    gauge(
        "redis_server_used_memory",
        "Memory that the shard has allocated, in bytes",
        |s| s.number("used_memory"),
    ),
    gauge(
        "redis_server_maxmemory",
        "Limit of the data's memory, in bytes; 0: none",
        |s| s.number("maxmemory"),
    ),
    gauge(
        "redis_server_mem_fragmentation_ratio",
        "Resident memory by allocated memory",
        |s| s.number("mem_fragmentation_ratio"),
    ),
    gauge(
        "redis_server_mem_replication_backlog",
        "Memory of the backlog for replicas, in bytes",
        |s| s.number("mem_replication_backlog"),
    ),
    gauge(
        "redis_server_mem_aof_buffer",
        "Memory of buffers of the append-only file, in bytes",
        |s| s.number("mem_aof_buffer"),
    ),
    gauge(
        "redis_server_connected_clients",
        "Open connections, ours included",
        |s| s.number("connected_clients"),
    ),
    gauge(
        "redis_server_blocked_clients",
        "Clients that wait in a blocking command",
        |s| s.number("blocked_clients"),
    ),
    gauge("redis_server_connected_slaves", "Connected replicas", |s| {
        s.number("connected_slaves")
    }),
    gauge("redis_server_db_keys", "Keys", |s| {
        Some(s.info()?.keyspace("keys"))
    }),
    gauge(
        "redis_server_db_expires",
        "Keys that have a time to live",
        |s| Some(s.info()?.keyspace("expires")),
    ),
    counter(
        "redis_server_total_commands_processed",
        "Commands, ours included",
        |s| s.number("total_commands_processed"),
    ),
    counter(
        "redis_server_total_connections_received",
        "Connections accepted",
        |s| s.number("total_connections_received"),
    ),
    counter(
        "redis_server_total_net_input_bytes",
        "Bytes read from the network",
        |s| s.number("total_net_input_bytes"),
    ),
    counter(
        "redis_server_total_net_output_bytes",
        "Bytes written to the network",
        |s| s.number("total_net_output_bytes"),
    ),
    counter(
        "redis_server_keyspace_read_hits",
        "Reads that found their key",
        |s| s.number("keyspace_hits"),
    ),
    counter(
        "redis_server_keyspace_read_misses",
        "Reads that did not find their key",
        |s| s.number("keyspace_misses"),
    ),
    counter(
        "redis_server_evicted_keys",
        "Keys removed for want of memory",
        |s| s.number("evicted_keys"),
    ),
    counter(
        "redis_server_expired_keys",
        "Keys removed at the end of their time to live",
        |s| s.number("expired_keys"),
    ),
    gauge(
        "redis_server_master_repl_offset",
        "Bytes written to the replication stream",
        |s| s.number("master_repl_offset"),
    ),
    gauge(
        "redis_server_master_link_status",
        "Replica: 1 if its primary is connected",
        |s| s.info()?.says("master_link_status", "up"),
    ),
    gauge(
        "redis_server_master_sync_in_progress",
        "Replica: 1 while it copies everything",
        |s| s.number("master_sync_in_progress"),
    ),
    gauge(
        "redis_server_aof_rewrite_in_progress",
        "1 while the append-only file is rewritten",
        |s| s.number("aof_rewrite_in_progress"),
    ),
    counter(
        "redis_server_aof_delayed_fsync",
        "Writes that waited for an fsync",
        |s| s.number("aof_delayed_fsync"),
    ),
    gauge(
        "redis_server_rdb_bgsave_in_progress",
        "1 while a snapshot is written",
        |s| s.number("rdb_bgsave_in_progress"),
    ),
    counter(
        "redis_server_rdb_saves",
        "Snapshots written since the start",
        |s| s.number("rdb_saves"),
    ),
];
