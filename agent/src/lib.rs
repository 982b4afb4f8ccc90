//! The agent: the database operator of one cluster and its link to the hub.

pub mod link;
