//! The lab (real clusters on one machine) and what scenario tests, the demo and the mutation run share.

pub mod demo;
pub mod failover;
pub mod lab;
pub mod mutants;
pub mod shell;
pub mod stack;
pub mod wait;
