//! The four public kinds have every field that users may write, of the right type, and objects that use all of them survive the
//! API server and our types.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers, too"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use meridian_api::crds::{
    RedisEnterpriseActiveActiveDatabase, RedisEnterpriseCluster, RedisEnterpriseDatabase,
    RedisEnterpriseRemoteCluster, all_crds,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

#[path = "fields/pod_parts.rs"]
mod pod_parts;

use pod_parts::POD_PARTS;

#[derive(Clone, Debug)]
struct Field {
    kind: String,
    path: String,
    required: bool,
    type_: String,
    rules: BTreeMap<String, String>,
}

/// The fields of `fields.txt`, in its order: a parent comes before its children.
fn fields() -> Vec<Field> {
    let fields: Vec<_> = include_str!("fields.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (kind, rest) = line.split_once(' ').unwrap();
            let (path, rest) = rest.split_once(": ").unwrap();
            let mut parts = rest.split(", ");
            Field {
                kind: kind.to_owned(),
                path: path.trim_end_matches('!').to_owned(),
                required: path.ends_with('!'),
                type_: parts.next().unwrap().to_owned(),
                rules: parts
                    .map(|rule| rule.split_once(' ').unwrap_or((rule, "")))
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
            }
        })
        .collect();
    assert!(
        fields.len() > 600,
        "fields.txt lost lines: {}",
        fields.len()
    );
    fields
}

/// The schema of the stored version of a kind.
fn schema(kind: &str) -> &'static Value {
    static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
        let stored = all_crds().unwrap().into_iter().map(|crd| {
            let version = crd
                .spec
                .versions
                .into_iter()
                .find(|version| version.storage)
                .unwrap();
            let schema = version.schema.unwrap().open_api_v3_schema.unwrap();
            (crd.spec.names.kind, serde_json::to_value(schema).unwrap())
        });
        stored.collect()
    });
    &SCHEMAS[kind]
}

/// Schema of the object that holds the last step of `path`, and that step.
fn parent<'a>(schema: &'a Value, path: &'a str) -> (&'a Value, &'a str) {
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut at = schema;
    for step in parents.split('.').filter(|step| !step.is_empty()) {
        at = &at["properties"][step.trim_end_matches("[]")];
        if step.ends_with("[]") {
            at = &at["items"];
        }
    }
    (at, last)
}

/// What the schema says, in the words of `fields.txt`.
fn type_of(schema: &Value) -> String {
    if schema["x-kubernetes-int-or-string"] == true {
        return "quantity".into();
    }
    match schema["type"].as_str() {
        Some("array") => format!("list {}", type_of(&schema["items"])),
        Some("object") if schema.get("additionalProperties").is_some() => {
            format!("map {}", type_of(&schema["additionalProperties"]))
        }
        Some("object") if schema.get("properties").is_none() => "any".into(),
        Some(other) => other.into(),
        None => "nothing".into(),
    }
}

fn rules_of(schema: &Value) -> BTreeMap<String, String> {
    let mut rules = BTreeMap::new();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    if let Some(words) = schema["enum"].as_array() {
        rules.insert(
            "enum".into(),
            words.iter().map(text).collect::<Vec<_>>().join("|"),
        );
    }
    if let Some(pattern) = schema.get("pattern") {
        rules.insert("pattern".into(), text(pattern));
    }
    if let Some(default) = schema.get("default") {
        rules.insert("default".into(), text(default));
    }
    if let (Some(low), Some(high)) = (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        rules.insert("range".into(), format!("{low}..{high}"));
    }
    if schema["format"] == "int32" {
        rules.insert("int32".into(), String::new());
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == true && schema.get("properties").is_some()
    {
        rules.insert("open".into(), String::new());
    }
    rules
}

#[test]
fn every_listed_field_is_in_the_schema_with_its_type_and_rules() {
    let mut wrong = Vec::new();
    for field in fields() {
        let schema = schema(&field.kind);
        let (parent, name) = parent(schema, &field.path);
        let found = &parent["properties"][name];
        let required = parent["required"]
            .as_array()
            .is_some_and(|required| required.contains(&json!(name)));
        let found_type = type_of(found);
        if (&found_type, required, rules_of(found))
            != (&field.type_, field.required, field.rules.clone())
        {
            wrong.push(format!(
                "{field:?}: found {found_type}, required {required}, {:?}",
                rules_of(found)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_schema_has_no_field_that_is_not_listed_but_conditions_and_pod_parts() {
    let all = fields();
    for kind in all.iter().map(|field| &field.kind).collect::<BTreeSet<_>>() {
        let listed: BTreeSet<_> = all
            .iter()
            .filter(|field| field.kind == *kind)
            .map(|field| field.path.as_str())
            .collect();
        let mut found = Vec::new();
        paths(schema(kind), "", &mut found);
        for path in found {
            let ours = path.starts_with("status.conditions");
            let pod_part = path.contains("esources.")
                || POD_PARTS.iter().any(|(part, _)| {
                    path.strip_prefix(part)
                        .is_some_and(|rest| rest.starts_with(['.', '[']))
                });
            assert!(
                listed.contains(path.as_str())
                    || ours
                    || pod_part
                    || path == "spec"
                    || path == "status",
                "{kind} {path} is not in fields.txt"
            );
        }
    }
}

fn paths(schema: &Value, at: &str, found: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = if at.is_empty() {
            name.clone()
        } else {
            format!("{at}.{name}")
        };
        found.push(path.clone());
        match property.get("items") {
            Some(items) => paths(items, &format!("{path}[]"), found),
            None => paths(property, &path, found),
        }
    }
}

/// A value for a field; `n` makes different fields differ.
fn value(field: &Field, n: usize) -> Value {
    if let Some((_, sample)) = POD_PARTS.iter().find(|(path, _)| *path == field.path)
        && field.kind == "RedisEnterpriseCluster"
        && *sample != json!({})
    {
        return sample.clone();
    }
    if let Some(words) = field.rules.get("enum") {
        return json!(words.split('|').nth(n % words.split('|').count()).unwrap());
    }
    let any = json!({ "kept": { "deep": [n] } });
    match field.type_.as_str() {
        "string" if field.rules.contains_key("pattern") && field.path.contains("swift") => {
            json!("https://swift.example/v1")
        }
        "string" if field.rules.contains_key("pattern") && field.path.contains("sftp") => {
            json!("sftp://host.example/path")
        }
        "string" if field.rules.contains_key("pattern") => json!("ftp://host.example/path"),
        "string" => json!(format!("text-{n}")),
        "integer" => json!(n % 100),
        "boolean" => json!(n.is_multiple_of(2)),
        "quantity" if n.is_multiple_of(2) => json!(21_474_836_480_u64),
        "quantity" => json!("20Gi"),
        "map string" => json!({ "key": format!("text-{n}") }),
        "map integer" => json!({ "active": n }),
        "list string" => json!([format!("text-{n}")]),
        "list any" => json!([any]),
        "list object" => json!([{}]),
        "any" => any,
        "object" => json!({}),
        other => panic!("{other}"),
    }
}

/// An object of a kind in which every listed field is set.
fn full_object(kind: &str) -> Value {
    let mut object = json!({
        "apiVersion": format!("app.redislabs.com/{}", if kind == "RedisEnterpriseCluster" { "v1" } else { "v1alpha1" }),
        "kind": kind,
        "metadata": { "name": "full", "namespace": "ns" },
        "spec": {},
        "status": { "conditions": [{
            "type": "Ready", "status": "True", "reason": "Serving", "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 3,
        }] },
    });
    for (n, field) in fields()
        .into_iter()
        .filter(|field| field.kind == kind)
        .enumerate()
    {
        let pointer = format!("/{}", field.path.replace("[]", "/0").replace('.', "/"));
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = object.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        parent.insert(name.to_owned(), value(&field, n));
        if field.rules.contains_key("open") {
            parent[name]["threshold"] = json!(n);
        }
    }
    object
}

/// What the API server keeps of an object: fields that the schema declares or leaves open.
fn prune(schema: &Value, value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
            let mut kept = Map::new();
            for (name, field) in fields {
                let declared = schema["properties"]
                    .get(name)
                    .or_else(|| schema.get("additionalProperties"));
                match declared {
                    Some(declared) => drop(kept.insert(name.clone(), prune(declared, field))),
                    None if open => drop(kept.insert(name.clone(), field.clone())),
                    None => {}
                }
            }
            Value::Object(kept)
        }
        Value::Array(items) => items
            .iter()
            .map(|item| prune(&schema["items"], item))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// The full objects as files, for everybody who wants to give them to a real API server.
#[test]
fn the_full_objects_are_current() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/full");
    for kind in [
        "RedisEnterpriseActiveActiveDatabase",
        "RedisEnterpriseCluster",
        "RedisEnterpriseDatabase",
        "RedisEnterpriseRemoteCluster",
    ] {
        let mut object = full_object(kind);
        // The one field that the API server refuses beside another.
        if let Some(spec) = object["spec"].as_object_mut()
            && spec.contains_key("ingressOrRouteSpec")
        {
            spec.remove("activeActive");
        }
        let applied = json!({
            "apiVersion": object["apiVersion"],
            "kind": kind,
            "metadata": { "name": "full" },
            "spec": object["spec"],
        });
        let text = format!("{}\n", serde_json::to_string_pretty(&applied).unwrap());
        let path = format!("{folder}/{kind}.json");
        if std::env::var_os("MERIDIAN_WRITE").is_some() {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == text,
            "{path} is not current: run MERIDIAN_WRITE=1 cargo test -p meridian-api --test fields"
        );
    }
}

fn survives<T: Serialize + DeserializeOwned>(kind: &str) {
    let object = full_object(kind);
    let schema = schema(kind);
    for part in ["spec", "status"] {
        let pruned = prune(&schema["properties"][part], &object[part]);
        assert_eq!(
            pruned, object[part],
            "{kind} {part}: the API server would drop fields"
        );
    }
    let typed: T =
        serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{kind}: {error}"));
    assert_eq!(
        serde_json::to_value(typed).unwrap(),
        object,
        "{kind}: our types would drop fields"
    );

    let empty = json!({ "apiVersion": object["apiVersion"], "kind": kind, "metadata": {}, "spec": required_only(&schema["properties"]["spec"]) });
    let typed: T =
        serde_json::from_value(empty.clone()).unwrap_or_else(|error| panic!("{kind}: {error}"));
    assert_eq!(
        serde_json::to_value(typed).unwrap(),
        empty,
        "{kind}: our types would add fields"
    );
}

/// The smallest value that a schema accepts.
fn required_only(schema: &Value) -> Value {
    match schema["type"].as_str() {
        Some("object") => {
            let required = schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|name| name.as_str().unwrap());
            required
                .map(|name| (name.to_owned(), required_only(&schema["properties"][name])))
                .collect::<Map<_, _>>()
                .into()
        }
        Some("array") => json!([]),
        Some("string") => json!("text"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cluster_with_every_field_survives_the_api_server_and_our_types() {
    survives::<RedisEnterpriseCluster>("RedisEnterpriseCluster");
}

#[test]
fn a_database_with_every_field_survives_the_api_server_and_our_types() {
    survives::<RedisEnterpriseDatabase>("RedisEnterpriseDatabase");
}

#[test]
fn a_remote_cluster_with_every_field_survives_the_api_server_and_our_types() {
    survives::<RedisEnterpriseRemoteCluster>("RedisEnterpriseRemoteCluster");
}

#[test]
fn an_active_active_database_with_every_field_survives_the_api_server_and_our_types() {
    survives::<RedisEnterpriseActiveActiveDatabase>("RedisEnterpriseActiveActiveDatabase");
}

#[test]
fn words_that_this_build_does_not_know_are_read_and_kept() {
    let mut object = full_object("RedisEnterpriseCluster");
    object["spec"]["activeActive"]["method"] = json!("istio");
    object["spec"]["uiServiceType"] = json!("Later");
    object["status"]["state"] = json!("Hibernating");
    let typed: RedisEnterpriseCluster = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), object);
}
