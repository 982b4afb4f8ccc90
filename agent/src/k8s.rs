//! What the agent needs of Kubernetes beyond the client itself: ownership, apply, names, conditions, Events, the loop
//! that drives a controller, the leader lease.
//! Used by `controllers`, `rigger`, `link` and `run`; knows none of them.

pub mod apply;
pub mod calm;
pub mod conditions;
pub mod crds;
pub mod drive;
pub mod dynamic;
pub mod events;
pub mod fault;
pub mod finalizer;
pub mod lacks;
pub mod lease;
pub mod names;
pub mod news;
pub mod own;
pub mod permitted;
mod pruned;
pub mod quantity;
pub mod retry;
mod theirs;
mod told;
pub mod touched;

#[cfg(test)]
pub(crate) mod testing;
