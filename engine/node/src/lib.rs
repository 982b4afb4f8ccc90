//! Runs the databases of one node.
//!
//! Two processes share this library. **PID 1** ([`pid1`]) supervises Valkey shards and its one child, and serves probes; it has no
//! TLS, no Kubernetes client and nothing that grows with the data. The **child** ([`sync`]) does everything else: it learns the
//! topology, replicates between regions, serves other regions and exports metrics. It may crash or be killed at any time: no
//! client of a shard notices, and PID 1 starts it again.
//!
//! The two meet in three files and one socket: `proposed.json` (what the child asks for), `obeyed.json` (what PID 1 accepted,
//! also its memory over restarts), the secret of the internal user, and `supervisor.sock` ("look again" and "what is running?").
//!
//! Only the binary `meridian-node` and scenario tests use this crate.

pub mod args;
pub mod atomic_file;
pub mod backoff;
pub mod certs;
pub mod clock;
pub mod desired;
pub mod kept;
pub mod layout;
pub mod lock;
pub mod permission;
pub mod pid1;
pub mod run;
pub mod sacrifice;
pub mod secret;
pub mod shard_exec;
pub mod standalone;
pub mod supervisor;
pub mod sync;
pub mod valkey;
