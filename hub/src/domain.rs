//! The hub's nouns. Pure: no I/O, no clock, no randomness; moments and identities come in as arguments.

pub mod abilities;
pub mod access;
pub mod approval;
pub mod breaker;
pub mod buckets;
pub mod clones;
pub mod cluster;
pub mod comeback;
pub mod database;
pub mod denial;
pub mod desired;
pub mod election;
pub mod limits;
pub mod lineage;
pub mod lost;
pub mod remote;
pub mod sign_in;
pub mod trust;
