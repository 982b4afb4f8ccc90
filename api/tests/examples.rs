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

/// Every document of every file of a folder beside or in this crate, with the file's name.
fn documents(folder: &str) -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut documents = Vec::new();
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    for path in paths {
        if path.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let read: Vec<Value> =
            serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        documents.extend(read.into_iter().map(|document| (name.clone(), document)));
    }
    documents
}

/// The object is read without loss and is valid; what is said about it.
fn check<T: Serialize + DeserializeOwned>(
    name: &str,
    document: &Value,
    errors: fn(&T) -> Vec<FieldError>,
    warnings: fn(&T) -> Vec<Warning>,
) -> Vec<String> {
    let object: T =
        serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
    let read = serde_json::to_value(&object).unwrap();
    // Its version may be an older one than that of the type.
    for part in ["metadata", "spec"] {
        assert_eq!(read[part], document[part], "{name}: a field is unknown");
    }
    assert_eq!(errors(&object), [], "{name}");
    warnings(&object).iter().map(ToString::to_string).collect()
}

/// As [`check`], by the rules of its kind.
fn told(name: &str, document: &Value) -> Vec<String> {
    match document["kind"].as_str().unwrap() {
        "RedisEnterpriseCluster" => check::<RedisEnterpriseCluster>(
            name,
            document,
            validate::cluster,
            validate::cluster_warnings,
        ),
        "RedisEnterpriseDatabase" => check::<RedisEnterpriseDatabase>(
            name,
            document,
            validate::database,
            validate::database_warnings,
        ),
        "RedisEnterpriseRemoteCluster" => check::<RedisEnterpriseRemoteCluster>(
            name,
            document,
            validate::remote_cluster,
            validate::remote_cluster_warnings,
        ),
        "RedisEnterpriseActiveActiveDatabase" => check::<RedisEnterpriseActiveActiveDatabase>(
            name,
            document,
            validate::active_active_database,
            validate::active_active_database_warnings,
        ),
        "Secret" | "ConfigMap" => Vec::new(),
        other => panic!("{name}: no rule for {other}"),
    }
}

#[test]
fn every_example_is_valid_and_each_of_its_fields_has_an_effect() {
    let mut kinds = BTreeSet::new();
    for (name, document) in documents("../examples") {
        assert_eq!(told(&name, &document), [""; 0], "{name}");
        kinds.insert(document["kind"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        kinds.len(),
        6,
        "each kind, a Secret and a ConfigMap have an example: {kinds:?}"
    );
}

/// Objects as users bring them along: nothing is refused or lost, and what has no effect is said, word by word.
#[test]
fn objects_as_the_documentation_writes_them_are_taken_unchanged() {
    let mut found = String::new();
    let mut kinds = BTreeSet::new();
    for (file, document) in documents("tests/known") {
        let name = document["metadata"]["name"].as_str().unwrap();
        for warning in told(&format!("{file}: {name}"), &document) {
            found += &format!("{name}: {warning}\n");
        }
        kinds.insert(document["kind"].as_str().unwrap().to_owned());
    }
    assert_eq!(kinds.len(), 4, "each kind is there: {kinds:?}");
    assert!(found.contains("reaadb-tram: spec.globalConfigurations.shardCount: "));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/known/warnings.txt");
    if std::env::var_os("MERIDIAN_WRITE").is_some() {
        fs::write(path, &found).unwrap();
    }
    let committed = fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == found,
        "{path} is not current: run MERIDIAN_WRITE=1 cargo test -p meridian-api --test examples. Found: {found}"
    );
}
