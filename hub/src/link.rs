//! The hub's end of the link: enrolment, and one session per member. Everything that is known about a caller comes from
//! its TLS certificate; what it says about itself is compared with that and otherwise ignored.

pub mod outbox;
pub mod server;
pub mod session;
pub mod sessions;
mod wire;
