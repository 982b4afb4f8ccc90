use super::*;

#[track_caller]
fn fields(warnings: &[Warning]) -> Vec<&str> {
    warnings
        .iter()
        .map(|warning| warning.field.as_str())
        .collect()
}

#[test]
fn fields_without_effect_are_named_and_others_are_not() {
    let warnings = cluster_warnings(&rec(json!({
        "nodes": 3,
        "persistentSpec": { "enabled": true, "volumeSize": "20Gi", "enablePersistentVolumeResize": true },
        "uiServiceType": "ClusterIP",
        "ldap": { "protocol": "LDAP", "servers": [{ "host": "h" }],
            "authenticationQuery": {}, "authorizationQuery": {} },
        "license": "text",
    })));
    assert_eq!(fields(&warnings), ["spec.ldap"]);

    let warnings = database_warnings(&redb(json!({
        "memorySize": "1GB", "tlsMode": "disabled", "type": "redis", "shardCount": 3,
        "modulesList": [{ "name": "search" }], "clientAuthenticationCertificates": ["one"],
    })));
    assert_eq!(
        fields(&warnings),
        [
            "spec.modulesList",
            "spec.shardCount",
            "spec.clientAuthenticationCertificates"
        ]
    );
    assert!(
        warnings[2].message.contains("NOT asked for"),
        "{}",
        warnings[2]
    );
    assert!(
        warnings[1].message.contains("1 shard of 3"),
        "{}",
        warnings[1]
    );

    for version in ["7.2", "latest", "major", "8.2", "7.4.0"] {
        let warnings = database_warnings(&redb(json!({ "redisVersion": version })));
        assert_eq!(warnings, [], "{version}");
    }

    assert_eq!(
        fields(&remote_cluster_warnings(&rerc(json!({ "secretName": "" })))),
        Vec::<&str>::new()
    );
    assert_eq!(
        fields(&remote_cluster_warnings(&rerc(
            json!({ "secretName": "redis-enterprise-rerc1" })
        ))),
        ["spec.secretName"]
    );
}

#[test]
fn the_suffix_of_a_remote_cluster_is_the_hubs_to_write() {
    let mut remote = rerc(json!({ "dbFqdnSuffix": ".db.eu-1.example.com" }));
    assert_eq!(
        fields(&remote_cluster_warnings(&remote)),
        ["spec.dbFqdnSuffix"]
    );
    let id = "00000000-0000-4000-8000-000000000001".to_owned();
    remote.metadata.annotations = Some([(OBJECT_ID.to_owned(), id)].into());
    assert_eq!(
        fields(&remote_cluster_warnings(&remote)),
        Vec::<&str>::new()
    );
}

/// Whoever reads the warning must learn what happens instead; that something has no effect says little.
#[test]
fn every_field_without_effect_says_what_that_means() {
    for crd in crate::crds::all_crds().unwrap() {
        let kind = crd.spec.names.kind;
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        for effect in field_effects(&kind, &schema["openAPIV3Schema"]["properties"]["spec"]) {
            let why = effect.inert.unwrap_or_default();
            assert!(
                !why.starts_with("accepted and kept"),
                "{kind} {}: {why}",
                effect.path
            );
        }
    }
}

#[test]
fn what_happens_anyway_is_nothing_to_warn_about() {
    let calm = database_warnings(&redb(json!({
        "shardCount": 1, "resp3": true, "proxyPolicy": "all-master-shards", "shardsPlacement": "dense",
    })));
    assert_eq!(fields(&calm), Vec::<&str>::new());
    let told = database_warnings(&redb(json!({ "resp3": false, "proxyPolicy": "all-nodes" })));
    assert_eq!(fields(&told), ["spec.resp3"]);
    let calm = cluster_warnings(&rec(json!({
        "slaveHA": { "slaveHAGracePeriod": 1800 }, "containerTimezone": { "timezoneName": "UTC" }, "license": "text",
    })));
    assert_eq!(fields(&calm), Vec::<&str>::new());
    let told = cluster_warnings(&rec(json!({
        "containerTimezone": { "timezoneName": "Asia/Tokyo" },
    })));
    assert_eq!(fields(&told), ["spec.containerTimezone.timezoneName"]);
    assert!(
        told[0].message.contains("UTC everywhere"),
        "the reason of the field around it: {}",
        told[0]
    );
}

#[test]
fn an_active_active_database_without_persistence_is_told_that_it_has_one() {
    let mut database =
        reaadb(json!({ "persistence": "disabled", "ossCluster": true, "databaseSecretName": "s" }));
    database.spec.participating_clusters[1].external_replication_port = Some(8443);
    database.spec.participating_clusters[1].namespace = Some("consumers".to_owned());
    assert_eq!(
        fields(&active_active_database_warnings(&database)),
        [
            "spec.participatingClusters[1].namespace",
            "spec.globalConfigurations.ossCluster",
            "spec.globalConfigurations.persistence",
        ]
    );
    let own_passwords = reaadb(json!({ "defaultUser": true }));
    assert_eq!(
        fields(&active_active_database_warnings(&own_passwords)),
        ["spec.globalConfigurations.databaseSecretName"]
    );
    let no_default_user = reaadb(json!({ "defaultUser": false }));
    assert_eq!(
        fields(&active_active_database_warnings(&no_default_user)),
        Vec::<&str>::new()
    );
}

#[test]
fn every_path_of_the_tables_is_a_field_of_its_kind() {
    let crds = crate::crds::all_crds().unwrap();
    for (kind, path) in warning::table_paths() {
        let crd = crds.iter().find(|crd| crd.spec.names.kind == kind).unwrap();
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let mut at = &schema["openAPIV3Schema"]["properties"]["spec"];
        for step in path.split('.') {
            at = &at["properties"][step.trim_end_matches("[]")];
            if step.ends_with("[]") {
                at = &at["items"];
            }
        }
        assert!(at.is_object(), "{kind} has no field {path}");
    }
}

#[test]
fn the_list_of_effects_agrees_with_the_warnings() {
    let crds = crate::crds::all_crds().unwrap();
    let crd = crds
        .iter()
        .find(|crd| crd.spec.names.kind == "RedisEnterpriseDatabase")
        .unwrap();
    let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
    let spec_schema = &schema["openAPIV3Schema"]["properties"]["spec"];
    let effects = field_effects("RedisEnterpriseDatabase", spec_schema);
    let effect = |path: &str| {
        effects
            .iter()
            .find(|effect| effect.path == path)
            .unwrap()
            .inert
    };
    assert_eq!(effect("memorySize"), None);
    assert_eq!(effect("redisEnterpriseCluster.name"), None);
    let warnings = database_warnings(&redb(json!({ "tlsMode": "enabled", "resp3": false })));
    for warning in warnings {
        assert_eq!(
            effect(warning.field.trim_start_matches("spec.")),
            Some(warning.message.as_str())
        );
    }
    assert!(field_effects("DatabaseTopology", spec_schema).is_empty());
}
