//! Nodes of one cluster without Kubernetes: real processes, real Valkey with the module, real certificates, on loopback. The test
//! is the agent: it writes the topology and reads what the nodes report. In the place of the API server, also for the linearizable
//! reads, stands a directory that a test can switch off (`meridian_node::sync::directory`); there is none of Kubernetes in it.
//!
//! Needs `target/debug/libcrdt.so` (`cargo build -p crdt-module`) and Valkey: the programs that `MERIDIAN_VALKEY_SERVER` names,
//! or those of `tools` of every series that is bundled, of which shards run by the lowest if nothing is said.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "what tests share fails them as they do themselves, and shows the logs"
)]

mod client;
mod cluster;
mod commands;
mod damage;
mod entry;
mod failures;
mod handover;
mod hangs;
mod keeping;
mod leases;
mod node;
mod tls;
mod trust;
mod users;
mod versions;
