//! The custom resources: four that users write (`app.redislabs.com`) and two between our own parts (`meridian.dev`).

mod definition;
mod open_enum;

pub mod active_active;
pub mod cluster;
pub mod database;
pub mod instance;
pub mod remote_cluster;
pub mod shared;
pub mod topology;

pub use self::{
    active_active::{
        RedisEnterpriseActiveActiveDatabase, RedisEnterpriseActiveActiveDatabaseSpec,
        RedisEnterpriseActiveActiveDatabaseStatus,
    },
    cluster::{RedisEnterpriseCluster, RedisEnterpriseClusterSpec, RedisEnterpriseClusterStatus},
    database::{
        RedisEnterpriseDatabase, RedisEnterpriseDatabaseSpec, RedisEnterpriseDatabaseStatus,
    },
    definition::{DefinitionError, all_crds},
    instance::{ActiveActiveInstance, ActiveActiveInstanceSpec, ActiveActiveInstanceStatus},
    remote_cluster::{
        RedisEnterpriseRemoteCluster, RedisEnterpriseRemoteClusterSpec,
        RedisEnterpriseRemoteClusterStatus,
    },
    shared::{Condition, FreeForm, Persistence, Quantity, SpecStatus},
    topology::{DatabaseTopology, DatabaseTopologySpec, DatabaseTopologyStatus},
};
