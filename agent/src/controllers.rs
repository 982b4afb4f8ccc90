//! The controllers: one per kind, each `fetch → validate → build → apply → status`.

pub mod placement;
pub mod topology;
