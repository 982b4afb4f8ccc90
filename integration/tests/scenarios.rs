//! Scenarios on three real clusters with a hub, agents and RECs. They share one stack and run one after another.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a scenario that cannot go on has failed"
)]

#[path = "scenarios/deletion.rs"]
mod deletion;
#[path = "scenarios/demo.rs"]
mod demo;
#[path = "scenarios/failover.rs"]
mod failover;
#[path = "scenarios/faults.rs"]
mod faults;
#[path = "scenarios/ledger.rs"]
mod ledger;
#[path = "scenarios/load.rs"]
mod load;
#[path = "scenarios/objects.rs"]
mod objects;
#[path = "scenarios/registration.rs"]
mod registration;
#[path = "scenarios/support.rs"]
mod support;
#[path = "scenarios/truth.rs"]
mod truth;
