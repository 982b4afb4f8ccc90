//! Bodies of the hub's web interface under `/api/v1/`.
//!
//! Objects have the shape of Kubernetes objects (`apiVersion`, `kind`, `metadata`, `spec`, `status`), lists have `items` and
//! `metadata.resourceVersion`, failures are problems of RFC 9457. `RemoteCluster` and `ActiveActiveDatabase` carry the spec
//! of the custom resource that users know; a body may also be that custom resource itself.

mod api_token;
mod audit;
mod decision;
mod freeze;
mod lost;
mod objects;
mod problem;
mod session;
mod token;

pub use self::{
    api_token::{ApiRole, ApiToken, ApiTokenSpec, ApiTokenStatus},
    audit::AuditList,
    freeze::{Freeze, FrozenDeletion},
    lost::{LostCluster, LostResidue},
    objects::{
        ActiveActiveDatabase, ActiveActiveDatabaseStatus, Certificate, ClockDifference, Cluster,
        ClusterSpec, ClusterStatus, Connection, Link, List, ListMeta, Metadata, Object, Observed,
        Participant, Rec, RemoteCluster, RemoteClusterStatus,
    },
    problem::{PROBLEM_CONTENT_TYPE, Problem},
    session::{CodeExchange, Session, SessionGrant, SessionPerson, SessionRole},
    token::{JoinMaterial, Token, TokenSpec, TokenStatus},
};
pub use decision::{Approval, Denial, TokenApproval};

#[cfg(test)]
mod tests;

/// `apiVersion` of the kinds that are the hub's own (`Cluster`, `Token`, `ApiToken`).
pub const API_VERSION: &str = "meridian.dev/v1alpha1";

/// `apiVersion` of `RedisEnterpriseRemoteCluster` and `RedisEnterpriseActiveActiveDatabase`.
pub const CLASSIC_API_VERSION: &str = "app.redislabs.com/v1alpha1";

/// Label that names the project of an Active-Active database: who may see and change it.
pub const PROJECT_LABEL: &str = "meridian.dev/project";

/// Project of a database that names none.
pub const DEFAULT_PROJECT: &str = "default";

/// Content type of what is watched.
pub const EVENTS_CONTENT_TYPE: &str = "text/event-stream";
