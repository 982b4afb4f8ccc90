//! Valkey as a child process: its configuration (pure) and a question whether it answers.

mod bundle;
mod config;
mod ping;
mod replication;

pub use bundle::{ServerError, Servers};
pub(crate) use config::managed;
pub use config::{ShardFiles, needs_module, render_acl, render_config};
pub use ping::{Answer, ping};
pub use replication::{Copy, Replicated};
