//! The module in real servers, over sockets. Needs `cargo build -p crdt-module` first and a Valkey 8.1 server: the one that
//! `MERIDIAN_VALKEY_SERVER` names, or `tools/valkey-server`.

mod differential;
mod exchange;
mod harness;
mod persistence;
mod refusals;
mod replication;
mod transactions;
