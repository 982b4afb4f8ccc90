//! Words that cross a border: custom resources, validation, wire protocol, web bodies.
//!
//! Every part of Meridian that speaks to another part or to a person does it in the types of this crate. It does no I/O,
//! reads no clock and runs no task, so that every crate may depend on it.

pub mod access;
pub mod audit;
pub mod backup;
pub mod certificates;
pub mod crds;
pub mod fault;
pub mod identity;
pub mod ids;
pub mod installation;
pub mod internal;
pub mod link;
pub mod login;
pub mod renewal;
pub mod trace;
pub mod trust;
pub mod validate;
pub mod version;
pub mod web;
pub mod words;
