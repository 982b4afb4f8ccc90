//! The examples that the project ships are read by our types without loss, are valid, and promise nothing that has no effect.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers, too"
)]

use std::{collections::BTreeSet, fs, path::Path};

use meridian_api::{
    crds::{
        RedisEnterpriseActiveActiveDatabase, RedisEnterpriseCluster, RedisEnterpriseDatabase,
        RedisEnterpriseRemoteCluster,
    },
    validate::{self, FieldError, Warning},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Every document of every file, with the file's name.
fn documents() -> Vec<(String, Value)> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples"));
    let mut documents = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let read: Vec<Value> =
            serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        documents.extend(read.into_iter().map(|document| (name.clone(), document)));
    }
    documents
}

fn check<T: Serialize + DeserializeOwned>(
    name: &str,
    document: &Value,
    errors: fn(&T) -> Vec<FieldError>,
    warnings: fn(&T) -> Vec<Warning>,
) {
    let object: T =
        serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(
        serde_json::to_value(&object).unwrap(),
        *document,
        "{name}: a field is unknown"
    );
    assert_eq!(errors(&object), [], "{name}");
    assert_eq!(warnings(&object), [], "{name}");
}

#[test]
fn every_example_is_valid_and_each_of_its_fields_has_an_effect() {
    let mut kinds = BTreeSet::new();
    for (name, document) in documents() {
        let kind = document["kind"].as_str().unwrap().to_owned();
        match kind.as_str() {
            "RedisEnterpriseCluster" => {
                check::<RedisEnterpriseCluster>(
                    &name,
                    &document,
                    validate::cluster,
                    validate::cluster_warnings,
                );
            }
            "RedisEnterpriseDatabase" => {
                check::<RedisEnterpriseDatabase>(
                    &name,
                    &document,
                    validate::database,
                    validate::database_warnings,
                );
            }
            "RedisEnterpriseRemoteCluster" => check::<RedisEnterpriseRemoteCluster>(
                &name,
                &document,
                validate::remote_cluster,
                validate::remote_cluster_warnings,
            ),
            "RedisEnterpriseActiveActiveDatabase" => check::<RedisEnterpriseActiveActiveDatabase>(
                &name,
                &document,
                validate::active_active_database,
                validate::active_active_database_warnings,
            ),
            "Secret" | "ConfigMap" => {}
            other => panic!("{name}: no rule for {other}"),
        }
        kinds.insert(kind);
    }
    assert_eq!(
        kinds.len(),
        6,
        "each kind, a Secret and a ConfigMap have an example: {kinds:?}"
    );
}
