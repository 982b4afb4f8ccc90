//! The hub: holds the global state, decides for every cluster, and tells each agent what to make true.

pub mod app;
pub mod args;
pub mod ca;
pub mod clock;
pub mod domain;
#[cfg(test)]
mod golden;
pub mod link;
pub mod logging;
pub mod metrics;
pub mod planner;
pub mod random;
pub mod run;
pub mod sign_in;
pub mod store;
pub mod tasks;
pub mod tls;
pub mod web;
