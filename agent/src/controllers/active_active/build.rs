//! What an instance of an Active-Active database asks of its topology. Pure.

use kube::ResourceExt as _;
use meridian_api::crds::{
    ActiveActiveInstance, DatabaseTopology, Persistence, RedisEnterpriseActiveActiveDatabase,
    topology::{ActiveActiveMembership, DatabaseReference, TopologyMember},
};

use crate::controllers::{
    serve::settings::{Policy, Settings},
    topology::{Version, Wanted},
};

/// Kind of the database in its topology.
pub(super) const KIND: &str = "RedisEnterpriseActiveActiveDatabase";

/// The topology that the instance asks for.
#[must_use]
pub(super) fn topology(
    reaadb: &RedisEnterpriseActiveActiveDatabase,
    instance: &ActiveActiveInstance,
    settings: &Settings,
    policy: &Policy,
    existing: Option<&DatabaseTopology>,
) -> Wanted {
    Wanted {
        database: DatabaseReference {
            kind: KIND.to_owned(),
            namespace: reaadb.namespace().unwrap_or_default(),
            name: reaadb.name_any(),
            uid: instance.spec.guid.clone(),
        },
        cluster: instance.spec.cluster.clone(),
        port: settings.port,
        memory_bytes: settings.memory_bytes,
        eviction_policy: settings.eviction_policy.clone(),
        persistence: persistence(&settings.persistence),
        version: Version {
            asked: settings.version,
            policy: policy.upgrades.clone(),
            bundle: policy.bundle.clone().for_active_active(),
        },
        tls: settings
            .encryption
            .under(policy.encrypts(existing.and_then(|topology| topology.spec.tls.as_ref()))),
        by_every_node: settings.by_every_node,
        placement: settings.placement,
        metric_labels: policy.metrics.labels(&settings.tags),
        replication: settings.replication,
        active_active: Some(newest(instance, existing)),
    }
}

/// A region may only report clocks that it cannot lose, so there is always an append-only file.
fn persistence(asked: &Persistence) -> Persistence {
    if *asked == Persistence::AofAlways {
        Persistence::AofAlways
    } else {
        Persistence::AofEverySecond
    }
}

/// The membership, which never goes back to an older configuration: an instance out of a backup changes nothing.
fn newest(
    instance: &ActiveActiveInstance,
    existing: Option<&DatabaseTopology>,
) -> ActiveActiveMembership {
    let told = membership(instance);
    match existing.and_then(|topology| topology.spec.active_active.as_ref()) {
        Some(obeyed) if obeyed.guid == told.guid && obeyed.config_version > told.config_version => {
            obeyed.clone()
        }
        _ => told,
    }
}

fn membership(instance: &ActiveActiveInstance) -> ActiveActiveMembership {
    let spec = &instance.spec;
    let mut members: Vec<_> = spec
        .members
        .iter()
        .map(|member| TopologyMember {
            instance_id: member.instance_id,
            name: member.name.clone(),
            endpoint: member.endpoint.clone(),
            server_name: member.server_name.clone(),
            spiffe_id: member.spiffe_id.clone(),
            local: member.instance_id == spec.instance_id,
        })
        .collect();
    members.sort_by_key(|member| member.instance_id);
    ActiveActiveMembership {
        guid: spec.guid.clone(),
        instance_id: spec.instance_id,
        config_version: spec.config_version,
        members,
        ghosts: spec.ghosts.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::serve::settings;

    fn instance(version: i64) -> ActiveActiveInstance {
        let member = |id: i64, name: &str| {
            json!({"instanceId": id, "name": name, "clusterUid": "c", "endpoint": "10.0.0.1:443",
                                                  "serverName": format!("db.{name}"), "spiffeId": format!("spiffe://x/{name}")})
        };
        serde_json::from_value(json!({"metadata": {"name": "db"}, "spec": {
            "guid": "g", "objectId": "o", "instanceId": 3, "configVersion": version, "planNumber": 1, "hubTerm": 1,
            "storeId": "s", "database": {"namespace": "ns", "name": "db"}, "cluster": "rec",
            "members": [member(3, "eu"), member(1, "us")], "ghosts": [2]}}))
        .unwrap()
    }

    fn built(version: i64, existing: Option<&DatabaseTopology>) -> Wanted {
        let mut reaadb = RedisEnterpriseActiveActiveDatabase::new("db", Default::default());
        reaadb.metadata.namespace = Some("ns".to_owned());
        let settings = settings::read(&Default::default(), "db").unwrap();
        topology(
            &reaadb,
            &instance(version),
            &settings,
            &Policy::of(None),
            existing,
        )
    }

    #[test]
    fn an_instance_has_all_members_its_own_marked_local_and_always_an_append_only_file() {
        let wanted = built(4, None);
        assert_eq!(
            wanted.persistence,
            Persistence::AofEverySecond,
            "the spec says disabled"
        );
        assert_eq!(wanted.database.uid, "g");
        let membership = wanted.active_active.unwrap();
        let shown: Vec<_> = membership
            .members
            .iter()
            .map(|m| (m.instance_id, m.name.as_str(), m.local))
            .collect();
        assert_eq!(shown, [(1, "us", false), (3, "eu", true)]);
        assert_eq!(
            (
                membership.instance_id,
                membership.config_version,
                membership.ghosts
            ),
            (3, 4, vec![2])
        );
    }

    #[test]
    fn an_older_configuration_does_not_replace_a_newer_one() {
        let wanted = built(5, None);
        let existing: DatabaseTopology = serde_json::from_value(json!({"metadata": {"name": "db"}, "spec": {
            "database": wanted.database, "cluster": "rec", "epoch": 1, "port": 10000, "memoryBytes": 1,
            "evictionPolicy": "x", "persistence": "disabled", "replication": false, "shards": [],
            "activeActive": wanted.active_active}}))
        .unwrap();
        assert_eq!(
            built(4, Some(&existing))
                .active_active
                .unwrap()
                .config_version,
            5
        );
        assert_eq!(
            built(6, Some(&existing))
                .active_active
                .unwrap()
                .config_version,
            6
        );
    }
    #[test]
    fn an_instance_asks_for_what_the_global_configurations_say() {
        let reaadb: RedisEnterpriseActiveActiveDatabase = serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "ns"},
            "spec": {"participatingClusters": [{"name": "eu"}], "globalConfigurations": {
                "databasePort": 12_345, "memorySize": "200MB", "evictionPolicy": "allkeys-lfu",
                "persistence": "aofAlways", "replication": true, "tags": {"env": "prod", "app": "a"}}},
        }))
        .unwrap();
        let settings =
            settings::read(reaadb.spec.global_configurations.as_ref().unwrap(), "db").unwrap();
        let rec = json!({"metadata": {"name": "rec"}, "spec": {"metricsConfig": {
            "exposeDatabaseTags": true, "metricsTagKeysExposed": ["env"]}}});
        let policy = Policy::of(Some(&serde_json::from_value(rec).unwrap()));
        let wanted = topology(&reaadb, &instance(1), &settings, &policy, None);
        assert_eq!(
            wanted.metric_labels,
            [("env".to_owned(), "prod".to_owned())].into()
        );
        assert_eq!(
            (
                wanted.port,
                wanted.memory_bytes,
                wanted.eviction_policy.as_str()
            ),
            (Some(12_345), 100 << 20, "allkeys-lfu")
        );
        assert_eq!(
            (wanted.persistence, wanted.replication),
            (Persistence::AofAlways, true)
        );
    }
}
