use super::*;

#[test]
pub(super) fn an_active_active_database_has_restrictions_of_its_own() {
    let at = "spec.globalConfigurations";
    for (settings, field) in [
        (
            json!({ "persistence": "aofAlways", "isRof": false }),
            String::new(),
        ),
        (json!({ "persistence": "disabled" }), String::new()),
        (
            json!({ "persistence": "snapshotEvery1Hour" }),
            format!("{at}.persistence"),
        ),
        (json!({ "isRof": true }), format!("{at}.isRof")),
        (json!({ "type": "memcached" }), format!("{at}.type")),
        (
            json!({ "memcachedSaslSecretName": "s" }),
            format!("{at}.memcachedSaslSecretName"),
        ),
        (
            json!({ "replicaSources": [{ "replicaSourceName": "a", "replicaSourceType": "REDB" }] }),
            format!("{at}.replicaSources"),
        ),
        (
            json!({ "activeActive": { "name": "a", "participatingClusterName": "b" } }),
            format!("{at}.activeActive"),
        ),
        (json!({ "memorySize": "1MB" }), format!("{at}.memorySize")),
    ] {
        let errors = active_active_database(&reaadb(settings.clone()));
        match field.as_str() {
            "" => assert_eq!(errors, [], "{settings}"),
            field => refuses(errors, field),
        }
    }
}

#[test]
pub(super) fn participants_are_named_once_and_at_least_one_is() {
    refuses(
        active_active_database(&reaadb_of(&[], json!({}))),
        "spec.participatingClusters",
    );
    refuses(
        active_active_database(&reaadb_of(&["a", "b", "a"], json!({}))),
        "spec.participatingClusters[2].name",
    );
    refuses(
        active_active_database(&reaadb_of(&["A"], json!({}))),
        "spec.participatingClusters[0].name",
    );
    let many: Vec<_> = (0..64).map(|n| format!("rerc{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    refuses(
        active_active_database(&reaadb_of(&many, json!({}))),
        "spec.participatingClusters",
    );
}

#[test]
pub(super) fn a_patch_that_replaces_the_list_does_not_remove_the_others() {
    let old = reaadb_of(&["a", "b", "c"], json!({}));
    let mut new = reaadb_of(&["d"], json!({}));
    assert_eq!(removed_participants(&old, &new), ["a", "b", "c"]);
    refuses(
        active_active_database_update(&old, &new),
        "spec.participatingClusters",
    );

    let confirm = |names: &str| [(CONFIRM_REMOVAL.to_owned(), names.to_owned())].into();
    new.metadata.annotations = Some(confirm("a, b"));
    refuses(
        active_active_database_update(&old, &new),
        "spec.participatingClusters",
    );
    new.metadata.annotations = Some(confirm("a,b, c"));
    assert_eq!(active_active_database_update(&old, &new), []);

    let one_less = reaadb_of(&["a", "c"], json!({}));
    assert_eq!(active_active_database_update(&old, &one_less), []);
}
