//! What a REDB asks of its topology. Pure.

use kube::ResourceExt as _;
use meridian_api::crds::{RedisEnterpriseDatabase, topology::DatabaseReference};

use crate::controllers::{
    serve::settings::{Policy, Settings},
    topology::{Version, Wanted},
};

/// Kind of the database in its topology.
pub(super) const KIND: &str = "RedisEnterpriseDatabase";

/// The topology that `redb` asks for from the REC `rec`, as far as `policy` lets it.
#[must_use]
pub(super) fn topology(
    redb: &RedisEnterpriseDatabase,
    rec: &str,
    settings: &Settings,
    policy: &Policy,
) -> Wanted {
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
        version: Version {
            asked: settings.version,
            policy: policy.upgrades.clone(),
            bundle: policy.bundle.clone(),
        },
        tls: settings.encryption.under(policy.encrypts(None)),
        by_every_node: settings.by_every_node,
        placement: settings.placement,
        metric_labels: policy.metrics.labels(&settings.tags),
        replication: settings.replication,
        active_active: None,
    }
}

#[cfg(test)]
mod tests {
    use meridian_api::crds::{Persistence, cluster::UpgradePolicy, topology::Placement};
    use meridian_api::version::{Asked, Bundle, Bundled};
    use serde_json::json;

    use super::*;
    use crate::controllers::serve::settings;

    #[test]
    fn a_topology_asks_for_what_the_spec_says() {
        let redb: RedisEnterpriseDatabase = serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "ns", "uid": "U"},
            "spec": {"databasePort": 12_345, "memorySize": "200MB", "evictionPolicy": "allkeys-lfu",
                     "persistence": "aofAlways", "replication": true, "redisVersion": "latest", "shardsPlacement": "dense", "rackAware": false, "tags": {"env": "prod", "app": "a"}},
        }))
        .unwrap();
        let settings = settings::read(&redb.spec, "db").unwrap();
        let bundled = Bundle::of(&[Bundled {
            version: "8.1.1".to_owned(),
            active_active: true,
        }])
        .show();
        let rec = json!({"metadata": {"name": "rec"}, "spec": {"redisUpgradePolicy": "major", "metricsConfig": {
            "exposeDatabaseTags": true, "metricsTagKeysExposed": ["env"]}},
            "status": {"bundledDatabaseVersions": bundled}});
        let policy = Policy::of(Some(&serde_json::from_value(rec).unwrap()));
        let wanted = topology(&redb, "rec", &settings, &policy);
        assert_eq!(
            wanted,
            Wanted {
                database: DatabaseReference {
                    kind: KIND.to_owned(),
                    namespace: "ns".to_owned(),
                    name: "db".to_owned(),
                    uid: "U".to_owned(),
                },
                cluster: "rec".to_owned(),
                port: Some(12_345),
                memory_bytes: 100 << 20,
                eviction_policy: "allkeys-lfu".to_owned(),
                persistence: Persistence::AofAlways,
                version: Version {
                    asked: Asked::Latest,
                    policy: Some(UpgradePolicy::Major),
                    bundle: Bundle::shown(&bundled),
                },
                tls: None,
                by_every_node: false,
                placement: Some(Placement {
                    dense: true,
                    any_rack: true,
                }),
                metric_labels: [("env".to_owned(), "prod".to_owned())].into(),
                replication: true,
                active_active: None,
            }
        );
    }
}
