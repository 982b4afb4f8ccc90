//! The agent's end of the link to the hub: enrolment, the session, what comes in, what goes out.
//!
//! Controllers and link meet only in the Kubernetes API: the link writes what the hub wants as custom resources
//! and reads their status; it never calls a controller.

pub mod backoff;
pub mod identity;
pub mod join;
pub mod journal;
pub mod kinds;
pub mod order;
pub mod settle;

#[cfg(test)]
mod testing;
