//! Properties of the engine, checked against an oracle that knows only the set of writes.
//!
//! `PROPTEST_CASES` raises the number of runs.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what builds a case for a test fails like the test itself"
)]

mod bytes;
mod convergence;
mod history;
#[path = "../oracle/value.rs"]
mod oracle;
mod pairs;
mod rules;
mod steps;
mod transport;
mod view;
mod world;
