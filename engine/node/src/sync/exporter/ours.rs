//! Metrics that only this engine has, or has with another meaning. Seconds, bytes, and `_total` for what only rises.

use super::snapshot::ShardSample;
use super::text::Family;

/// A metric with one sample per shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShardFamily {
    pub(super) family: Family,
    /// `None`: it does not apply to this shard, or is not known.
    pub(super) value: Value,
}

type Value = fn(&ShardSample) -> Option<f64>;

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

/// The release that runs.
pub(super) const BUILD: Family =
    Family::gauge("meridian_node_build_info", "1; the release is a label");

/// Orders that were not followed.
pub(super) const REFUSED: Family = Family::gauge(
    "meridian_node_refused_orders",
    "Topologies that are lost or went back: the last roles are kept",
);

/// Topologies that make no sense.
pub(super) const PROBLEMS: Family = Family::gauge(
    "meridian_node_topology_problems",
    "Topologies that say something that this node cannot do",
);

/// Starts of the replication process.
pub(super) const SYNC_STARTS: Family = Family::counter(
    "meridian_node_sync_starts_total",
    "Starts of the process that replicates, in this life of the pod's first process",
);

/// Times that the replication process hung.
pub(super) const SYNC_HANGS: Family = Family::counter(
    "meridian_node_sync_hangs_total",
    "Times that the process that replicates was killed because it hung, in this life of the pod's first process",
);

/// How far a replica is behind its primary.
pub(super) const REPLICA_LAG: Family = Family::gauge(
    "meridian_shard_replica_lag_bytes",
    "Primary: bytes of the replication stream that the replica has not acknowledged",
);

/// Whether a replica follows.
pub(super) const REPLICA_ONLINE: Family = Family::gauge(
    "meridian_shard_replica_online",
    "Primary: 1 if the replica follows the live stream",
);

/// Lag of a link.
pub(super) const LINK_LAG: Family = Family::gauge(
    "meridian_link_lag_seconds",
    "For how long this region has lacked something that the other has; absent if it was never heard",
);

/// State of a link.
pub(super) const LINK_STATE: Family = Family::gauge(
    "meridian_link_state",
    "1 for the state in which the link from the other region is, 0 for the others",
);

/// Bytes of a link.
pub(super) const LINK_INGRESS: Family = Family::counter(
    "meridian_link_ingress_bytes_total",
    "Bytes of effects pulled from the other region",
);

/// Effects of a link.
pub(super) const LINK_EFFECTS: Family = Family::counter(
    "meridian_link_effects_total",
    "Effects of the other region that were new here",
);

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a counter beyond 2^53 loses its last digit, not its meaning"
)]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}

/// Seconds until the permission to write ends; none for a replica and where no permission is needed.
fn lease(shard: &ShardSample) -> Option<f64> {
    let info = shard.info()?;
    if info.text("crdt_fence") != Some("on") || !shard.leads() {
        return None;
    }
    match info.text("crdt_fence_deadline")? {
        "none" => Some(0.0),
        "forever" => Some(f64::INFINITY),
        end => {
            let left = end.parse::<u64>().ok()?.saturating_sub(shard.boot_ms);
            Some(float(left) / 1000.0)
        }
    }
}

/// One sample per shard that the node knows.
pub(super) const SHARDS: &[ShardFamily] = &[
    gauge(
        "meridian_shard_role",
        "1; the role is a label, `stopped` if nothing of it runs here",
        |_| Some(1.0),
    ),
    gauge(
        "meridian_shard_ready",
        "1 if the shard answers and has its settings",
        |s| Some(flag(s.view.ready)),
    ),
    gauge(
        "meridian_shard_writable",
        "1 if the shard acknowledges writes now",
        |s| Some(flag(s.view.writable)),
    ),
    gauge(
        "meridian_shard_epoch",
        "The epoch of the roles that this node obeys",
        |s| Some(float(s.epoch)),
    ),
    gauge(
        "meridian_shard_fenced",
        "1 while a failover takes the right to write from the present primary",
        |s| {
            Some(flag(
                s.view
                    .replication
                    .fenced
                    .is_some_and(|fence| fence > s.epoch),
            ))
        },
    ),
    gauge(
        "meridian_shard_wants_failover",
        "1 if the shard asks that another takes over",
        |s| Some(flag(s.view.replication.wants_failover.is_some())),
    ),
    gauge(
        "meridian_shard_lease_remaining_seconds",
        "Primary that has replicas: until when it may write without hearing from them",
        lease,
    ),
    gauge(
        "meridian_shard_in_sync_members",
        "Replicas that may become primary",
        |s| {
            s.process
                .as_ref()?
                .in_sync
                .map(|n| float(u64::try_from(n).unwrap_or(u64::MAX)))
        },
    ),
    gauge(
        "meridian_shard_offset_bytes",
        "Position in the replication stream: written (primary) or applied (replica)",
        |s| s.view.replication.offset.map(float),
    ),
    counter(
        "meridian_shard_starts_total",
        "Starts of the shard's process, in this life of the pod's first process",
        |s| s.process.as_ref()?.starts.map(float),
    ),
    counter(
        "meridian_shard_refused_writes_total",
        "Writes refused for want of a permission",
        |s| s.number("crdt_fence_refused_writes"),
    ),
    gauge(
        "meridian_shard_uptime_seconds",
        "Since when the shard's process runs",
        |s| s.number("uptime_in_seconds"),
    ),
    counter(
        "meridian_shard_cpu_seconds_total",
        "Processor time of the shard's process",
        |s| Some(s.number("used_cpu_sys")? + s.number("used_cpu_user")?),
    ),
    gauge(
        "meridian_shard_memory_used_bytes",
        "Memory that the shard has allocated",
        |s| s.number("used_memory"),
    ),
    gauge(
        "meridian_shard_memory_resident_bytes",
        "Memory of the shard's process",
        |s| s.number("used_memory_rss"),
    ),
    gauge(
        "meridian_shard_memory_max_bytes",
        "Limit of the data's memory; 0: none",
        |s| s.number("maxmemory"),
    ),
    gauge("meridian_shard_keys", "Keys", |s| {
        Some(s.info()?.keyspace("keys"))
    }),
    gauge(
        "meridian_shard_clients",
        "Open connections, ours included",
        |s| s.number("connected_clients"),
    ),
    counter(
        "meridian_shard_clients_refused_total",
        "Connections refused because there were too many",
        |s| s.number("rejected_connections"),
    ),
    counter(
        "meridian_shard_commands_total",
        "Commands, ours included",
        |s| s.number("total_commands_processed"),
    ),
    counter(
        "meridian_shard_errors_total",
        "Commands answered with an error",
        |s| s.number("total_error_replies"),
    ),
    counter(
        "meridian_shard_hits_total",
        "Reads that found their key",
        |s| s.number("keyspace_hits"),
    ),
    counter(
        "meridian_shard_misses_total",
        "Reads that did not find their key",
        |s| s.number("keyspace_misses"),
    ),
    counter(
        "meridian_shard_evicted_keys_total",
        "Keys removed for want of memory",
        |s| s.number("evicted_keys"),
    ),
    counter(
        "meridian_shard_expired_keys_total",
        "Keys removed at the end of their time to live",
        |s| s.number("expired_keys"),
    ),
    gauge(
        "meridian_shard_aof_enabled",
        "1 if the shard keeps an append-only file",
        |s| s.number("aof_enabled"),
    ),
    gauge(
        "meridian_shard_aof_write_ok",
        "1 if the last write to the append-only file went well",
        |s| s.info()?.says("aof_last_write_status", "ok"),
    ),
    gauge(
        "meridian_shard_aof_bytes",
        "Size of the append-only file",
        |s| s.number("aof_current_size"),
    ),
    gauge(
        "meridian_shard_last_save_ok",
        "1 if the last snapshot went well",
        |s| s.info()?.says("rdb_last_bgsave_status", "ok"),
    ),
    gauge(
        "meridian_shard_last_save_timestamp_seconds",
        "When the last snapshot was written, since the Unix epoch",
        |s| s.number("rdb_last_save_time"),
    ),
    gauge(
        "meridian_shard_unsaved_changes",
        "Changes since the last snapshot",
        |s| s.number("rdb_changes_since_last_save"),
    ),
    gauge(
        "meridian_crdt_backlog_bytes",
        "Memory of effects kept for regions that lack them",
        |s| s.number("crdt_backlog_bytes"),
    ),
    gauge(
        "meridian_crdt_backlog_effects",
        "Effects kept for regions that lack them",
        |s| s.number("crdt_backlog_effects"),
    ),
    gauge(
        "meridian_crdt_unstable_keys",
        "Keys with metadata, because not every region is known to have their last change",
        |s| s.number("crdt_gc_pending"),
    ),
    gauge(
        "meridian_crdt_waiting_removals",
        "Removals that are remembered until every region has them",
        |s| s.number("crdt_gc_waiting_removals"),
    ),
    counter(
        "meridian_crdt_collected_total",
        "Metadata dropped because every region has the change",
        |s| s.number("crdt_gc_collected"),
    ),
    counter(
        "meridian_crdt_effects_written_total",
        "Effects that this region has written",
        |s| s.number("crdt_written"),
    ),
    counter(
        "meridian_crdt_effects_applied_total",
        "Effects of other regions that were new",
        |s| s.number("crdt_effect_reqs"),
    ),
    counter(
        "meridian_crdt_effects_duplicate_total",
        "Effects of other regions that were known",
        |s| s.number("crdt_ovc_filtered_effect_reqs"),
    ),
    counter(
        "meridian_crdt_effects_refused_total",
        "Effects of other regions that were not taken",
        |s| s.number("crdt_refused_effect_reqs"),
    ),
    gauge(
        "meridian_crdt_config_version",
        "The number of the membership that the shard follows",
        |s| s.number("crdt_config_version"),
    ),
];
