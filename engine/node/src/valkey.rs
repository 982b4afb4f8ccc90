//! Valkey as a child process: its configuration (pure) and a question whether it answers.

mod config;
mod ping;

pub use config::{ShardFiles, starts_without_aof, render_acl, render_config};
pub use ping::{Answer, ping};
