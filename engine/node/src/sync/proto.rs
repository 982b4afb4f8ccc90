//! The replication protocol as Rust types, and the numbers both sides agree on.

use std::time::Duration;

pub(super) use generated::*;

mod generated {
    #![allow(
        missing_docs,
        unused_qualifications,
        unreachable_pub,
        clippy::all,
        clippy::too_many_lines,
        clippy::allow_attributes_without_reason,
        reason = "made from proto/replication.proto, where everything is explained"
    )]
    tonic::include_proto!("meridian.replication.v1");
}

/// What the nodes of one cluster ask each other.
pub(super) mod nodes {
    #![allow(
        missing_docs,
        unused_qualifications,
        unreachable_pub,
        clippy::all,
        clippy::too_many_lines,
        clippy::allow_attributes_without_reason,
        reason = "made from proto/nodes.proto, where everything is explained"
    )]
    tonic::include_proto!("meridian.internal.v1");
}

/// The only version so far.
pub(super) const PROTOCOL: u32 = 1;

/// A batch is asked for in about this size.
pub(super) const BATCH_BYTES: u64 = 1 << 20;

/// And sent in parts of at most this size.
pub(super) const PART_BYTES: usize = 1 << 20;

/// No message is larger than a part and its frame.
pub(super) const MESSAGE_MAX: usize = PART_BYTES + (64 << 10);

/// An effect can be as large as a Valkey value.
pub(super) const BATCH_MAX: usize = (512 << 20) + (64 << 20);

/// How often a source that has nothing says so.
pub(super) const IDLE_INTERVAL: Duration = Duration::from_millis(500);

/// HTTP/2 pings: without them a connection that died in the middle is never noticed.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(2);

/// How long a ping may take.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(3);
