//! Stages of a set of objects. A status is made from [`Applied`] ones only, so the compiler proves that it never
//! speaks of objects that were not written.

/// Built in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Built;

/// Written, and as the API server answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Applied;
