//! What the agent needs of Kubernetes beyond the client itself: ownership, apply, Events, the leader lease.
//! Used by `controllers`, `rigger`, `link` and `run`; knows none of them.

pub mod apply;
pub mod crds;
pub mod events;
pub mod fault;
pub mod lease;
pub mod own;
