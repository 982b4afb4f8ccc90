use serde_json::{Value, json};

use super::*;
use crate::crds::{
    RedisEnterpriseActiveActiveDatabase, RedisEnterpriseCluster, RedisEnterpriseDatabase,
    RedisEnterpriseRemoteCluster,
};

mod active_active;
mod among;
pub(super) mod refusals;
mod versions;
mod warnings;
mod words;

fn object<T: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: Value) -> T {
    let version = if kind == "RedisEnterpriseCluster" {
        "v1"
    } else {
        "v1alpha1"
    };
    serde_json::from_value(json!({
        "apiVersion": format!("app.redislabs.com/{version}"),
        "kind": kind,
        "metadata": { "name": name, "namespace": "ns" },
        "spec": spec,
    }))
    .unwrap()
}

fn rec(spec: Value) -> RedisEnterpriseCluster {
    object("RedisEnterpriseCluster", "rec", spec)
}

fn redb(spec: Value) -> RedisEnterpriseDatabase {
    object("RedisEnterpriseDatabase", "redb", spec)
}

fn rerc(spec: Value) -> RedisEnterpriseRemoteCluster {
    let mut full =
        json!({ "recName": "rec", "recNamespace": "ns", "apiFqdnUrl": "api.eu-1.example.com" });
    full.as_object_mut()
        .unwrap()
        .extend(spec.as_object().unwrap().clone());
    object("RedisEnterpriseRemoteCluster", "rerc1", full)
}

fn reaadb(settings: Value) -> RedisEnterpriseActiveActiveDatabase {
    reaadb_of(&["rerc1", "rerc2"], settings)
}

fn reaadb_of(names: &[&str], settings: Value) -> RedisEnterpriseActiveActiveDatabase {
    let participants: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
    object(
        "RedisEnterpriseActiveActiveDatabase",
        "aadb",
        json!({ "participatingClusters": participants, "globalConfigurations": settings }),
    )
}

/// Exactly one rule is broken: that of `field`, and the error is of use to a person.
#[track_caller]
fn refuses(errors: Vec<FieldError>, field: &str) {
    let [error] = &errors[..] else {
        panic!("{field}: expected one error, found {errors:?}");
    };
    assert_eq!(error.field, field);
    assert!(
        !error.found.is_empty() && !error.expected.is_empty() && !error.remedy.is_empty(),
        "{error:?}"
    );
}

/// Each spec breaks exactly the rule of its field, or none if that is empty.
#[track_caller]
fn holds<const N: usize>(rules: impl Fn(Value) -> Vec<FieldError>, cases: [(Value, &str); N]) {
    for (spec, field) in cases {
        let errors = rules(spec.clone());
        match field {
            "" => assert_eq!(errors, [], "{spec}"),
            field => refuses(errors, field),
        }
    }
}

#[test]
fn the_smallest_objects_are_valid() {
    assert_eq!(cluster(&rec(json!({}))), []);
    assert_eq!(database(&redb(json!({}))), []);
    assert_eq!(remote_cluster(&rerc(json!({}))), []);
    assert_eq!(active_active_database(&reaadb(json!({}))), []);
}

#[test]
fn an_error_reads_as_a_sentence_with_field_found_expected_and_remedy() {
    let error = &database(&redb(json!({ "evictionPolicy": "illegal" })))[0];
    assert_eq!(
        error.to_string(),
        "spec.evictionPolicy: found \"illegal\", expected one of volatile-lru, volatile-ttl, volatile-random, volatile-lfu, \
         allkeys-lru, allkeys-random, allkeys-lfu, noeviction; use one of these words"
    );
}

#[test]
fn each_simple_rule_of_a_database_names_its_field() {
    holds(
        |spec| database(&redb(spec)),
        [
            (json!({ "memorySize": "100M" }), ""),
            (json!({ "memorySize": "95MB" }), "spec.memorySize"),
            (json!({ "memorySize": "lots" }), "spec.memorySize"),
            (json!({ "persistence": "sometimes" }), "spec.persistence"),
            (json!({ "databasePort": 9999 }), "spec.databasePort"),
            (json!({ "databasePort": 20000 }), "spec.databasePort"),
            (json!({ "databasePort": 10000 }), ""),
            (
                json!({ "databaseServicePort": 0 }),
                "spec.databaseServicePort",
            ),
            (json!({ "shardCount": 0 }), "spec.shardCount"),
            (json!({ "rofRamRatio": 101 }), "spec.rofRamRatio"),
            (
                json!({ "databaseSecretName": "Not_A_Name" }),
                "spec.databaseSecretName",
            ),
            (
                json!({ "redisEnterpriseCluster": { "name": "" } }),
                "spec.redisEnterpriseCluster.name",
            ),
            (json!({ "type": "memcached" }), "spec.type"),
            (json!({ "type": "redis" }), ""),
            (json!({ "tlsMode": "maybe" }), "spec.tlsMode"),
            (json!({ "proxyPolicy": "none" }), "spec.proxyPolicy"),
            (
                json!({ "shardsPlacement": "loose" }),
                "spec.shardsPlacement",
            ),
        ],
    );
}

#[test]
fn each_rule_about_parts_of_a_database_names_its_field() {
    holds(
        |spec| database(&redb(spec)),
        [
            (json!({ "backup": { "interval": 60 } }), "spec.backup"),
            (
                json!({ "backup": { "mount": { "path": "/a" }, "ftp": { "url": "ftp://a/b" } } }),
                "spec.backup",
            ),
            (
                json!({ "backup": { "mount": { "path": "/a" }, "interval": 0 } }),
                "spec.backup.interval",
            ),
            (
                json!({ "replicaSources": [{ "replicaSourceName": "a", "replicaSourceType": "OTHER" }] }),
                "spec.replicaSources[0].replicaSourceType",
            ),
            (
                json!({ "replicaSources": [{ "replicaSourceName": "a", "replicaSourceType": "REDB", "compression": 7 }] }),
                "spec.replicaSources[0].compression",
            ),
            (
                json!({ "connectionSettings": { "connectionLimitType": "per-moon" } }),
                "spec.connectionSettings.connectionLimitType",
            ),
            (
                json!({ "clientAuthenticationCertificates": ["ok", "/"] }),
                "spec.clientAuthenticationCertificates[1]",
            ),
            (
                json!({ "modulesList": [{ "name": "" }] }),
                "spec.modulesList[0].name",
            ),
            (
                json!({ "rolesPermissions": [{ "role": "r", "acl": "a", "type": "x" }] }),
                "spec.rolesPermissions[0].type",
            ),
        ],
    );
}

#[test]
fn names_of_databases_can_be_names_of_services() {
    for name in ["a", "db-1", &"a".repeat(63)] {
        let database_object: RedisEnterpriseDatabase =
            object("RedisEnterpriseDatabase", name, json!({}));
        assert_eq!(database(&database_object), [], "{name}");
    }
    for name in ["", "1db", "-db", "db-", "Db", "d.b", "d_b", &"a".repeat(64)] {
        let database_object: RedisEnterpriseDatabase =
            object("RedisEnterpriseDatabase", name, json!({}));
        refuses(database(&database_object), "metadata.name");
    }
}

#[test]
fn what_a_database_was_created_with_stays() {
    let old = redb(
        json!({ "databasePort": 12000, "redisEnterpriseCluster": { "name": "rec" }, "memorySize": "100MB" }),
    );
    let change = |spec: Value| {
        let mut full = serde_json::to_value(&old.spec).unwrap();
        full.as_object_mut()
            .unwrap()
            .extend(spec.as_object().unwrap().clone());
        database_update(&old, &redb(full))
    };
    assert_eq!(
        change(
            json!({ "memorySize": "1GB", "replication": true, "type": "redis", "isRof": false })
        ),
        []
    );
    refuses(
        change(json!({ "databasePort": 12001 })),
        "spec.databasePort",
    );
    refuses(change(json!({ "databasePort": null })), "spec.databasePort");
    refuses(change(json!({ "isRof": true })), "spec.isRof");
    refuses(change(json!({ "type": "memcached" })), "spec.type");
    refuses(
        change(json!({ "redisEnterpriseCluster": { "name": "other" } })),
        "spec.redisEnterpriseCluster.name",
    );
    assert_eq!(
        database_update(&redb(json!({})), &old),
        [],
        "a value may be set once"
    );
}

#[test]
fn each_rule_about_nodes_and_entry_of_a_cluster_names_its_field() {
    let entry = |suffix: &str, host: &str| json!({ "ingressOrRouteSpec": { "apiFqdnUrl": host, "dbFqdnSuffix": suffix, "method": "openShiftRoute" } });
    let class_missing = json!({ "ingressOrRouteSpec": { "apiFqdnUrl": "a.b", "dbFqdnSuffix": ".b", "method": "ingress" } });
    let legacy = json!({ "apiIngressUrl": "a.b", "dbIngressSuffix": ".b", "method": "istio" });
    holds(
        |spec| cluster(&rec(spec)),
        [
            (json!({ "nodes": 1 }), "spec.nodes"),
            (json!({ "nodes": 4 }), "spec.nodes"),
            (json!({ "nodes": 5 }), ""),
            (entry(".db.example.com", "api.example.com"), ""),
            (entry("-db.example.com", "API.example.com"), ""),
            (
                entry("db.example.com", "api.example.com"),
                "spec.ingressOrRouteSpec.dbFqdnSuffix",
            ),
            (
                entry(".", "api.example.com"),
                "spec.ingressOrRouteSpec.dbFqdnSuffix",
            ),
            (
                entry(".db.example.com", "https://api.example.com"),
                "spec.ingressOrRouteSpec.apiFqdnUrl",
            ),
            (
                entry(".db.example.com", "api.example.com:443"),
                "spec.ingressOrRouteSpec.apiFqdnUrl",
            ),
            (
                entry(".db.example.com", "*.example.com"),
                "spec.ingressOrRouteSpec.apiFqdnUrl",
            ),
            (
                entry(".*.example.com", "api.example.com"),
                "spec.ingressOrRouteSpec.dbFqdnSuffix",
            ),
            (class_missing, "spec.ingressOrRouteSpec.ingressAnnotations"),
            (json!({ "activeActive": legacy }), ""),
        ],
    );
}

#[test]
fn each_rule_about_parts_of_a_cluster_names_its_field() {
    holds(
        |spec| cluster(&rec(spec)),
        [
            (json!({ "persistentSpec": { "volumeSize": "20Gi" } }), ""),
            (
                json!({ "persistentSpec": { "volumeSize": 21_474_836_480_u64 } }),
                "",
            ),
            (
                json!({ "persistentSpec": { "volumeSize": "1.5Gi" } }),
                "spec.persistentSpec.volumeSize",
            ),
            (
                json!({ "persistentSpec": { "volumeSize": "0" } }),
                "spec.persistentSpec.volumeSize",
            ),
            (
                json!({ "persistentSpec": { "volumeSize": "-1Gi" } }),
                "spec.persistentSpec.volumeSize",
            ),
            (
                json!({ "redisEnterpriseNodeResources": { "limits": { "memory": "4GB" } } }),
                "spec.redisEnterpriseNodeResources.limits.memory",
            ),
            (
                json!({ "redisEnterpriseNodeResources": { "limits": { "cpu": "500m" }, "requests": { "cpu": 1 } } }),
                "spec.redisEnterpriseNodeResources.requests.cpu",
            ),
            (
                json!({ "license": "l", "licenseSecretName": "s" }),
                "spec.licenseSecretName",
            ),
            (
                json!({ "redisEnterpriseImageSpec": { "digestHash": "sha256:a" }, "upgradeSpec": { "autoUpgradeRedisEnterprise": true } }),
                "spec.redisEnterpriseImageSpec.digestHash",
            ),
            (json!({ "uiServiceType": "Door" }), "spec.uiServiceType"),
            (
                json!({ "services": { "apiService": { "type": "Door" } } }),
                "spec.services.apiService.type",
            ),
            (
                json!({ "servicesRiggerSpec": { "databaseServiceType": "cluster_ip, headless" } }),
                "",
            ),
            (
                json!({ "servicesRiggerSpec": { "databaseServiceType": "cluster_ip,door" } }),
                "spec.servicesRiggerSpec.databaseServiceType",
            ),
            (
                json!({ "ocspConfiguration": { "queryFrequency": 59 } }),
                "spec.ocspConfiguration.queryFrequency",
            ),
            (
                json!({ "podStartingPolicy": { "enabled": true, "startingThresholdSeconds": 0 } }),
                "spec.podStartingPolicy.startingThresholdSeconds",
            ),
            (
                json!({ "clusterCredentialSecretName": "?" }),
                "spec.clusterCredentialSecretName",
            ),
        ],
    );
}

#[test]
fn a_cluster_has_one_way_of_entry() {
    let spec = json!({
        "activeActive": { "apiIngressUrl": "a.b", "dbIngressSuffix": ".b", "method": "ingress" },
        "ingressOrRouteSpec": { "apiFqdnUrl": "a.b", "dbFqdnSuffix": ".b", "method": "istio" },
    });
    refuses(cluster(&rec(spec)), "spec.activeActive");
}

#[test]
fn a_cluster_grows_and_never_shrinks() {
    let old = rec(
        json!({ "nodes": 5, "persistentSpec": { "volumeSize": "20Gi", "storageClassName": "fast" } }),
    );
    let change = |spec: Value| cluster_update(&old, &rec(spec));
    let storage = |size: &str, class: &str, resize: bool| {
        json!({ "nodes": 5, "persistentSpec": {
            "volumeSize": size, "storageClassName": class, "enablePersistentVolumeResize": resize,
        } })
    };
    assert_eq!(change(storage("20Gi", "fast", false)), []);
    assert_eq!(change(storage("40Gi", "fast", true)), []);
    refuses(
        change(storage("40Gi", "fast", false)),
        "spec.persistentSpec.volumeSize",
    );
    refuses(
        change(storage("10Gi", "fast", true)),
        "spec.persistentSpec.volumeSize",
    );
    refuses(
        change(storage("20Gi", "slow", false)),
        "spec.persistentSpec.storageClassName",
    );
    let mut fewer = storage("20Gi", "fast", false);
    fewer["nodes"] = json!(3);
    refuses(change(fewer), "spec.nodes");
    let mut vault = storage("20Gi", "fast", false);
    vault["clusterCredentialSecretType"] = json!("vault");
    refuses(change(vault), "spec.clusterCredentialSecretType");
    let mut memory_only = storage("20Gi", "fast", false);
    memory_only["persistentSpec"]["enabled"] = json!(false);
    refuses(change(memory_only), "spec.persistentSpec.enabled");
}

#[test]
fn each_rule_of_a_remote_cluster_names_its_field() {
    holds(
        |spec| remote_cluster(&rerc(spec)),
        [
            (json!({ "secretName": "redis-enterprise-rerc1" }), ""),
            (json!({ "secretName": "" }), ""),
            (json!({ "secretName": "my-secret" }), "spec.secretName"),
            (json!({ "dbFqdnSuffix": "-db.example.com" }), ""),
            (
                json!({ "dbFqdnSuffix": "db.example.com" }),
                "spec.dbFqdnSuffix",
            ),
            (json!({ "apiFqdnUrl": "https://api" }), "spec.apiFqdnUrl"),
            (json!({ "apiPort": 70000 }), "spec.apiPort"),
            (json!({ "recName": "Rec" }), "spec.recName"),
            (json!({ "recNamespace": "a.b" }), "spec.recNamespace"),
        ],
    );
}
