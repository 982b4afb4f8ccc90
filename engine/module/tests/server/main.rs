//! The module in real servers, over sockets. Needs `cargo build -p crdt-module` first and a Valkey 8.1 server: the one that
//! `MERIDIAN_VALKEY_SERVER` names, or `tools/valkey-server`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which end a test as the tests themselves do"
)]

mod differential;
mod exchange;
mod fence;
mod harness;
mod persistence;
mod refusals;
mod replication;
mod trace;
mod transactions;
