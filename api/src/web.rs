//! Bodies of the hub's web interface under `/api/v1/`.
//!
//! Objects have the shape of Kubernetes objects (`apiVersion`, `kind`, `metadata`, `spec`, `status`), lists have `items` and
//! `metadata.resourceVersion`, failures are problems of RFC 9457. `RemoteCluster` and `ActiveActiveDatabase` carry the spec
//! of the custom resource that users know; a body may also be that custom resource itself.

mod objects;
mod problem;
mod token;

pub use self::{
    objects::{
        ActiveActiveDatabase, ActiveActiveDatabaseStatus, Cluster, ClusterSpec, ClusterStatus,
        Connection, Link, List, ListMeta, Metadata, Object, Observed, Participant, Rec,
        RemoteCluster, RemoteClusterStatus,
    },
    problem::{PROBLEM_CONTENT_TYPE, Problem},
    token::{JoinMaterial, Token, TokenSpec, TokenStatus},
};

#[cfg(test)]
mod tests;

/// `apiVersion` of the kinds that are the hub's own (`Cluster`, `Token`).
pub const API_VERSION: &str = "meridian.dev/v1alpha1";

/// `apiVersion` of `RedisEnterpriseRemoteCluster` and `RedisEnterpriseActiveActiveDatabase`.
pub const CLASSIC_API_VERSION: &str = "app.redislabs.com/v1alpha1";
