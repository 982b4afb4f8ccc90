//! The lab (real clusters on one machine) and what scenario tests, the demo and the mutation run share.

pub mod mutants;
