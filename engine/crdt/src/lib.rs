//! Merge semantics of the Active-Active data types.
