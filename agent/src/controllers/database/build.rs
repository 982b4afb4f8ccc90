//! What a REDB asks of its topology. Pure.

use kube::ResourceExt as _;
use meridian_api::crds::{RedisEnterpriseDatabase, topology::DatabaseReference};

use crate::controllers::{serve::settings::Settings, topology::Wanted};

/// Kind of the database in its topology.
pub(super) const KIND: &str = "RedisEnterpriseDatabase";

/// The topology that `redb` asks for from the REC `rec`.
#[must_use]
pub(super) fn topology(redb: &RedisEnterpriseDatabase, rec: &str, settings: &Settings) -> Wanted {
    Wanted {
        database: DatabaseReference {
            kind: KIND.to_owned(),
            namespace: redb.namespace().unwrap_or_default(),
            name: redb.name_any(),
            uid: redb.uid().unwrap_or_default(),
        },
        cluster: rec.to_owned(),
        port: settings.port,
        memory_bytes: settings.memory_bytes,
        eviction_policy: settings.eviction_policy.clone(),
        persistence: settings.persistence.clone(),
        replication: settings.replication,
        active_active: None,
    }
}
