//! The life of a REC on one real cluster of five hosts: rollouts, growth, deletion, faults. The scenarios share the lab
//! and run one after another, each with a REC of its own.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a scenario that cannot go on has failed"
)]

#[path = "clusters/access.rs"]
mod access;
#[path = "clusters/deletion.rs"]
mod deletion;
#[path = "clusters/entry.rs"]
mod entry;
#[path = "clusters/faults.rs"]
mod faults;
#[path = "clusters/growth.rs"]
mod growth;
#[path = "clusters/known.rs"]
mod known;
#[path = "clusters/load.rs"]
mod load;
#[path = "clusters/namespaces.rs"]
mod namespaces;
#[path = "clusters/observe.rs"]
mod observe;
#[path = "clusters/outages.rs"]
mod outages;
#[path = "clusters/placing.rs"]
mod placing;
#[path = "clusters/recovery.rs"]
mod recovery;
#[path = "clusters/rollout.rs"]
mod rollout;
#[path = "clusters/services.rs"]
mod services;
#[path = "clusters/support.rs"]
mod support;
#[path = "clusters/upgrade.rs"]
mod upgrade;
#[path = "clusters/versions.rs"]
mod versions;
#[path = "clusters/watched.rs"]
mod watched;
#[path = "clusters/web.rs"]
mod web;
#[path = "clusters/wire.rs"]
mod wire;
