//! Regions without Kubernetes: real processes, real Valkey with the module, real certificates, on loopback.
//!
//! Needs `target/debug/meridian-node` and `target/debug/libcrdt.so` (`make unit` builds them) and Valkey 8.1: the program that
//! `MERIDIAN_VALKEY_SERVER` names, or `tools/valkey-server`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "what tests share fails them as they do themselves, and shows the logs"
)]

#[path = "standalone/convergence.rs"]
mod convergence;
#[path = "standalone/faults.rs"]
mod faults;
#[path = "standalone/group.rs"]
mod group;
#[path = "standalone/trust.rs"]
mod trust;
