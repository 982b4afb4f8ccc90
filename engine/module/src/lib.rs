//! The Valkey module.
