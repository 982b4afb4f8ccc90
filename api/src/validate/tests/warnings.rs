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
    assert_eq!(fields(&warnings), ["spec.ldap", "spec.license"]);

    let warnings = database_warnings(&redb(json!({
        "memorySize": "1GB", "tlsMode": "enabled", "type": "redis", "shardCount": 3,
        "modulesList": [{ "name": "search" }],
    })));
    assert_eq!(
        fields(&warnings),
        ["spec.modulesList", "spec.tlsMode", "spec.shardCount"]
    );
    assert!(
        warnings[1].message.contains("WITHOUT TLS"),
        "{}",
        warnings[1]
    );
    assert!(
        warnings[2].message.contains("1 shard of 3"),
        "{}",
        warnings[2]
    );

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
fn an_active_active_database_without_persistence_is_told_that_it_has_one() {
    let mut database = reaadb(json!({ "persistence": "disabled", "ossCluster": true }));
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
    let warnings = database_warnings(&redb(json!({ "tlsMode": "enabled", "resp3": true })));
    for warning in warnings {
        assert_eq!(
            effect(warning.field.trim_start_matches("spec.")),
            Some(warning.message.as_str())
        );
    }
    assert!(field_effects("DatabaseTopology", spec_schema).is_empty());
}
