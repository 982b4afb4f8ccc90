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

use proptest::test_runner::Config;

/// Few runs by default, so that all tests together take seconds.
fn runs() -> Config {
    let given = std::env::var_os("PROPTEST_CASES").is_some();
    let config = Config::default();
    Config {
        cases: if given { config.cases } else { 80 },
        max_shrink_iters: 20_000,
        ..config
    }
}
