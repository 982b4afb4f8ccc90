//! The hub: holds the global state, decides for every cluster, and tells each agent what to make true.

pub mod ca;
pub mod clock;
pub mod store;
pub mod tls;
