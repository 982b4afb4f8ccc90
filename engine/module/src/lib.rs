//! The Valkey module `crdt`: Active-Active data types on native values.
//!
//! A filter renames client writes to the module's own commands ([`commands`]). Each makes its write through
//! `meridian_crdt`, which changes the native value and the metadata and yields one effect; the effect goes to the append-only
//! file, the replicas and, pulled by the node, the other regions. The metadata lies in the module's memory and travels in an
//! auxiliary section of snapshots.
//!
//! - [`commands`]: the command table, one file per family;
//! - [`write`]: the road of a local write; [`view`]: native values for the merge rules; [`shard`]: the state;
//! - [`policy`]: which commands are renamed, refused, or for the internal user only;
//! - [`fence`]: whether a write may be acknowledged; [`gate`]: that decision at work, and what becomes of replies on their way;
//! - [`arguments`]: how the module is loaded;
//! - [`callbacks`]: what the server calls; [`server`]: what the module calls. All unsafe code is in these two.

mod arguments;
mod callbacks;
mod commands;
mod digest;
mod error;
mod fence;
mod gate;
mod number;
mod policy;
mod server;
mod shard;
mod slot;
mod transaction;
mod view;
mod write;

/// Memory of the module counts as memory of the server, and so towards its limit. Unit tests run without a server.
#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: valkey_module::alloc::ValkeyAlloc = valkey_module::alloc::ValkeyAlloc;
