//! Fields that are accepted and have no effect, as every kind's condition `FieldsNotImplemented` tells them. The lists
//! are those of [`meridian_api::validate`], which admission shows as warnings.

use meridian_api::{
    crds::{
        RedisEnterpriseActiveActiveDatabase, RedisEnterpriseCluster, RedisEnterpriseDatabase,
        RedisEnterpriseRemoteCluster,
    },
    validate::{self, Warning},
};

use crate::k8s::conditions::Finding;

fn texts(warnings: Vec<Warning>) -> Vec<String> {
    warnings.iter().map(ToString::to_string).collect()
}

/// Fields without effect of a REC.
pub(super) fn cluster(rec: &RedisEnterpriseCluster) -> Vec<String> {
    texts(validate::cluster_warnings(rec))
}

/// Fields without effect of a REDB.
pub(super) fn database(redb: &RedisEnterpriseDatabase) -> Vec<String> {
    texts(validate::database_warnings(redb))
}

/// Fields without effect of a REAADB.
pub(super) fn active_active(reaadb: &RedisEnterpriseActiveActiveDatabase) -> Vec<String> {
    texts(validate::active_active_database_warnings(reaadb))
}

/// Fields without effect of a RERC.
pub(super) fn remote_cluster(rerc: &RedisEnterpriseRemoteCluster) -> Vec<String> {
    texts(validate::remote_cluster_warnings(rerc))
}

/// The condition, shown always, so that its absence means nothing.
pub(super) fn finding(inert: &[String]) -> Finding {
    if inert.is_empty() {
        return Finding::no(
            "FieldsNotImplemented",
            "AllEffective",
            "every field of the spec has its effect",
        );
    }
    Finding::yes("FieldsNotImplemented", "SomeInert", inert.join("; "))
}
