//! Words, ranges and parts of pods that an object of the older version, or one that the schema did not see, can have wrong.

use super::*;

#[test]
pub(super) fn each_word_and_range_of_a_cluster_names_its_field() {
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
pub(super) fn each_amount_and_pod_part_of_a_cluster_names_its_field() {
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
pub(super) fn each_word_and_range_of_a_database_names_its_field() {
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
pub(super) fn each_word_and_range_of_metrics_names_its_field() {
    let keys = |keys: &[&str]| json!({ "metricsConfig": { "metricsTagKeysExposed": keys } });
    let many: Vec<String> = (0..51).map(|n| format!("k{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = "k".repeat(65);
    let at = "spec.metricsConfig.metricsTagKeysExposed";
    let one = |field: &str, value: Value| json!({ "metricsConfig": { field: value } });
    let mut cases = vec![
        (keys(&many), at.to_owned()),
        (keys(&many[..50]), String::new()),
        (keys(&["cost centre", "a.b+c@d:e-f_1"]), String::new()),
    ];
    for wrong in ["", "  ", "é", "db", "cluster", "__x", long.as_str()] {
        cases.push((keys(&["env", wrong]), format!("{at}[1]")));
    }
    for twice in [["env", "Env"], ["a.b", "a-b"]] {
        cases.push((keys(&twice), format!("{at}[1]")));
    }
    for (field, low) in [
        ("maxRequestsInFlight", 0),
        ("localStorageMaxSizeMb", 1),
        ("localStorageRetentionDays", 1),
    ] {
        cases.push((one(field, json!(low)), String::new()));
        cases.push((
            one(field, json!(low - 1)),
            format!("spec.metricsConfig.{field}"),
        ));
    }
    for field in ["keySizeBuckets", "keyItemsBuckets"] {
        for right in ["", "128M,512M", "1, 2B,1K", "1023E"] {
            cases.push((one(field, json!(right)), String::new()));
        }
        for wrong in ["1K,1K", "2,1", "1024", "0", "K", "1k", "1,,2", "-1"] {
            cases.push((
                one(field, json!(wrong)),
                format!("spec.metricsConfig.{field}"),
            ));
        }
    }
    for (spec, field) in &cases {
        holds(|spec| cluster(&rec(spec)), [(spec.clone(), field.as_str())]);
    }
}

#[test]
pub(super) fn each_word_and_range_of_auditing_names_its_field() {
    let filter = |name: &str, part: Value| json!({ "auditing": { name: part } });
    let many = vec!["u"; 513];
    let at = |rest: &str| format!("spec.auditing.{rest}");
    let ip = "sourceIpFilter";
    for (spec, field) in [
        (
            json!({ "auditing": { "auditMode": "all" } }),
            at("auditMode"),
        ),
        (
            json!({ "auditing": { "auditMode": "connection_and_crud" } }),
            String::new(),
        ),
        (
            filter(ip, json!({ "filterType": "some" })),
            at("sourceIpFilter.filterType"),
        ),
        (
            filter(ip, json!({ "ipAddresses": ["::1", "a"] })),
            at("sourceIpFilter.ipAddresses[1]"),
        ),
        (
            filter(ip, json!({ "cidrRanges": ["10.0.1.0/24", "::/129"] })),
            at("sourceIpFilter.cidrRanges[1]"),
        ),
        (
            filter(ip, json!({ "cidrRanges": ["10.0.1.0/+4"] })),
            at("sourceIpFilter.cidrRanges[0]"),
        ),
        (
            filter(ip, json!({ "cidrRanges": vec!["::/0"; 513] })),
            at("sourceIpFilter.cidrRanges"),
        ),
        (
            filter(
                "usernameFilter",
                json!({ "filterType": "inclusive", "usernames": ["a"] }),
            ),
            String::new(),
        ),
        (
            filter("usernameFilter", json!({ "usernames": many })),
            at("usernameFilter.usernames"),
        ),
    ] {
        holds(|spec| database(&redb(spec)), [(spec, field.as_str())]);
    }
}

#[test]
pub(super) fn each_part_of_a_participant_names_its_field() {
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
