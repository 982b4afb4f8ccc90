//! The agent's end of the link to the hub: enrolment, the session, what comes in, what goes out.
//!
//! Controllers and link meet only in the Kubernetes API: the link writes what the hub wants as custom resources
//! and reads their status; it never calls a controller.

pub mod applier;
pub mod backoff;
pub mod dial;
pub mod enroll;
pub mod identity;
pub mod inventory;
pub mod join;
pub mod journal;
pub mod keep;
pub mod kinds;
pub mod member;
pub mod observe;
pub mod order;
pub mod outbox;
pub mod session;
pub mod settle;
pub mod watch;
pub mod wishes;

#[cfg(test)]
mod testing;
