//! Words, ranges and parts of pods that an object of the older version, or one that the schema did not see, can have wrong.

use super::*;

#[test]
fn each_word_and_range_of_a_cluster_names_its_field() {
    let entry =
        |method: &str| json!({ "apiFqdnUrl": "a.b", "dbFqdnSuffix": ".b", "method": method });
    let legacy = |host: &str, suffix: &str, method: &str| json!({ "apiIngressUrl": host, "dbIngressSuffix": suffix, "method": method });
    let server = |port: i64| json!({ "servers": [{ "host": "h", "port": port }], "protocol": "LDAP", "authenticationQuery": {}, "authorizationQuery": {} });
    let audit = json!({ "auditAddress": "a", "auditProtocol": "TCP", "auditPort": 70_000 });
    holds(
        |spec| cluster(&rec(spec)),
        [
            (
                json!({ "ingressOrRouteSpec": entry("tunnel") }),
                "spec.ingressOrRouteSpec.method",
            ),
            (json!({ "ingressOrRouteSpec": entry("istio") }), ""),
            (
                json!({ "activeActive": legacy("a:1", ".b", "ingress") }),
                "spec.activeActive.apiIngressUrl",
            ),
            (
                json!({ "activeActive": legacy("a.b", "b", "ingress") }),
                "spec.activeActive.dbIngressSuffix",
            ),
            (
                json!({ "activeActive": legacy("a.b", ".b", "tunnel") }),
                "spec.activeActive.method",
            ),
            (
                json!({ "auditing": { "config": audit } }),
                "spec.auditing.config.auditPort",
            ),
            (
                json!({ "clusterCredentialSecretType": "safe" }),
                "spec.clusterCredentialSecretType",
            ),
            (json!({ "ldap": server(0) }), "spec.ldap.servers[0].port"),
            (json!({ "ldap": server(636) }), ""),
            (
                json!({ "redisEnterpriseIPFamily": "IPv5" }),
                "spec.redisEnterpriseIPFamily",
            ),
            (
                json!({ "redisUpgradePolicy": "minor" }),
                "spec.redisUpgradePolicy",
            ),
            (
                json!({ "servicesRiggerSpec": { "serviceNaming": "by-colour" } }),
                "spec.servicesRiggerSpec.serviceNaming",
            ),
            (
                json!({ "servicesRiggerSpec": { "databaseServicePortPolicy": "Any" } }),
                "spec.servicesRiggerSpec.databaseServicePortPolicy",
            ),
        ],
    );
}

#[test]
fn each_amount_and_pod_part_of_a_cluster_names_its_field() {
    let amount = json!({ "limits": { "memory": "4GB" } });
    let flash = json!({ "enabled": true, "storageClassName": "s", "flashDiskSize": "-1Gi" });
    let grace = "redisEnterpriseTerminationGracePeriodSeconds";
    holds(
        |spec| cluster(&rec(spec)),
        [
            (
                json!({ "bootstrapperResources": amount }),
                "spec.bootstrapperResources.limits.memory",
            ),
            (
                json!({ "redisEnterpriseServicesRiggerResources": amount }),
                "spec.redisEnterpriseServicesRiggerResources.limits.memory",
            ),
            (
                json!({ "redisOnFlashSpec": flash }),
                "spec.redisOnFlashSpec.flashDiskSize",
            ),
            (
                json!({ grace: -1 }),
                "spec.redisEnterpriseTerminationGracePeriodSeconds",
            ),
            (json!({ grace: 31_536_000 }), ""),
            (
                json!({ "serviceAccountName": "?" }),
                "spec.serviceAccountName",
            ),
            (
                json!({ "servicesRiggerSpec": { "extraEnvVars": [{ "value": "v" }] } }),
                "spec.servicesRiggerSpec.extraEnvVars[0].name",
            ),
            (
                json!({ "extraEnvVars": [{ "name": "A" }, { "name": "A" }] }),
                "spec.extraEnvVars[1].name",
            ),
            (
                json!({ "hostAliases": [{ "hostnames": ["h"] }] }),
                "spec.hostAliases[0].ip",
            ),
            (
                json!({ "redisEnterpriseVolumeMounts": [{ "mountPath": "/a" }] }),
                "spec.redisEnterpriseVolumeMounts[0].name",
            ),
        ],
    );
}

#[test]
fn each_word_and_range_of_a_database_names_its_field() {
    let backup = |part: Value| {
        let mut backup = json!({ "mount": { "path": "/a" } });
        backup
            .as_object_mut()
            .unwrap()
            .extend(part.as_object().unwrap().clone());
        json!({ "backup": backup })
    };
    holds(
        |spec| database(&redb(spec)),
        [
            (
                backup(json!({ "intervalOffset": -1 })),
                "spec.backup.intervalOffset",
            ),
            (
                backup(json!({ "interval": 3600, "intervalOffset": 60 })),
                "",
            ),
            (
                json!({ "connectionSettings": { "connectionSchedulingPolicy": "random" } }),
                "spec.connectionSettings.connectionSchedulingPolicy",
            ),
            (
                json!({ "connectionSettings": { "internalConnections": -1 } }),
                "spec.connectionSettings.internalConnections",
            ),
            (
                json!({ "connectionSettings": { "minDedicatedConnections": -1 } }),
                "spec.connectionSettings.minDedicatedConnections",
            ),
            (
                json!({ "replicaSources": [{ "replicaSourceName": "?", "replicaSourceType": "REDB" }] }),
                "spec.replicaSources[0].replicaSourceName",
            ),
        ],
    );
}

#[test]
fn each_part_of_a_participant_names_its_field() {
    for (part, field) in [
        (
            json!({ "externalReplicationPort": 0 }),
            "spec.participatingClusters[0].externalReplicationPort",
        ),
        (
            json!({ "namespace": "a.b" }),
            "spec.participatingClusters[0].namespace",
        ),
    ] {
        let mut participant = json!({ "name": "rerc1" });
        participant
            .as_object_mut()
            .unwrap()
            .extend(part.as_object().unwrap().clone());
        let object: RedisEnterpriseActiveActiveDatabase = object(
            "RedisEnterpriseActiveActiveDatabase",
            "aadb",
            json!({ "participatingClusters": [participant] }),
        );
        refuses(active_active_database(&object), field);
    }
}
