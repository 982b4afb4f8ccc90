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

/// Fields with the schema of Kubernetes, and a value for each that the API server must keep as it is.
static POD_PARTS: LazyLock<[(&str, Value); 10]> = LazyLock::new(|| {
    let env = json!([{"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": 1}}}]);
    let container = json!({
        "name": "side", "image": "side:1", "resources": {"limits": {"cpu": 1, "memory": "64Mi"}},
        "livenessProbe": {"httpGet": {"port": 8080}, "failureThreshold": 3},
        "ports": [{"containerPort": 80, "name": "web"}],
    });
    let pod = json!({
        "priorityClassName": "high", "initContainers": [container], "overhead": {"cpu": 2},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
    });
    [
        ("spec.extraEnvVars", env.clone()),
        (
            "spec.hostAliases",
            json!([{"ip": "10.0.0.1", "hostnames": ["host"]}]),
        ),
        ("spec.podAntiAffinity", json!({})),
        (
            "spec.podTolerations",
            json!([{"key": "disk", "operator": "Exists", "tolerationSeconds": 5}]),
        ),
        (
            "spec.redisEnterpriseAdditionalPodSpecAttributes",
            pod.clone(),
        ),
        (
            "spec.redisEnterpriseVolumeMounts",
            json!([{"name": "scratch", "mountPath": "/scratch"}]),
        ),
        ("spec.servicesRiggerSpec.extraEnvVars", env),
        (
            "spec.servicesRiggerSpec.servicesRiggerAdditionalPodSpecAttributes",
            pod,
        ),
        ("spec.sideContainersSpec", json!([container])),
        (
            "spec.volumes",
            json!([
                {"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}},
                {"name": "claim", "ephemeral": {"volumeClaimTemplate": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": 1_000_000}}},
                }}},
            ]),
        ),
    ]
});

/// The schema of one version of the cluster resource.
fn cluster_schema(version: &str) -> Value {
    let crds = all_crds().unwrap();
    let found = crds[0]
        .spec
        .versions
        .iter()
        .find(|served| served.name == version);
    serde_json::to_value(
        found
            .unwrap()
            .schema
            .as_ref()
            .unwrap()
            .open_api_v3_schema
            .as_ref()
            .unwrap(),
    )
    .unwrap()
}

fn field<'a>(schema: &'a Value, path: &'a str) -> &'a Value {
    let (parent, name) = parent(schema, path);
    &parent["properties"][name]
}

fn has_description(schema: &Value) -> bool {
    let inside = |name: &str| {
        schema[name]
            .as_object()
            .is_some_and(|all| all.values().any(has_description))
    };
    schema["description"].is_string()
        || inside("properties")
        || ["items", "additionalProperties"]
            .iter()
            .any(|word| schema.get(word).is_some_and(has_description))
}

#[test]
fn pod_parts_have_the_schema_of_kubernetes_and_none_of_its_descriptions() {
    let schema = cluster_schema("v1");
    for (path, sample) in POD_PARTS.iter() {
        let found = field(&schema, path);
        assert_eq!(prune(found, sample), *sample, "{path} would be cut");
        let inner = found.get("items").unwrap_or(found);
        assert!(
            inner["properties"].as_object().unwrap().len() >= 2
                && inner.get("x-kubernetes-preserve-unknown-fields").is_none(),
            "{path} is free form"
        );
        assert!(
            !inner["properties"]
                .as_object()
                .unwrap()
                .values()
                .any(has_description),
            "{path} carries descriptions"
        );
    }
    let names = |path: &str| field(&schema, path)["items"]["required"].clone();
    assert_eq!(names("spec.sideContainersSpec"), json!(["name"]));
    assert_eq!(names("spec.volumes"), json!(["name"]));
    let pod = field(&schema, "spec.redisEnterpriseAdditionalPodSpecAttributes");
    assert_eq!(
        pod.get("required"),
        None,
        "a part of a pod has no containers"
    );
}

#[test]
fn the_older_version_is_free_form_in_three_places_and_knows_one_word_more() {
    let (new, old) = (cluster_schema("v1"), cluster_schema("v1alpha1"));
    let free = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let without = |schema: &Value| {
        let mut schema = schema.clone();
        schema.as_object_mut().unwrap().remove("description");
        schema
    };
    let at = "spec.redisEnterpriseAdditionalPodSpecAttributes";
    assert_eq!(without(field(&old, at)), free);
    let at = "spec.servicesRiggerSpec.servicesRiggerAdditionalPodSpecAttributes";
    assert_eq!(without(field(&old, at)), free);
    assert_eq!(field(&old, "spec.sideContainersSpec")["items"], free);
    let method = "spec.activeActive.method";
    assert_eq!(
        field(&old, method)["enum"],
        json!(["openShiftRoute", "ingress", "istio"])
    );
    assert_eq!(
        field(&new, method)["enum"],
        json!(["openShiftRoute", "ingress"])
    );
    for path in ["spec.volumes", "spec.podTolerations", "spec.nodes"] {
        assert_eq!(field(&old, path), field(&new, path), "{path}");
    }
}

#[test]
fn an_object_that_only_the_older_version_lets_in_is_readable_and_kept() {
    let object = json!({
        "apiVersion": "app.redislabs.com/v1", "kind": "RedisEnterpriseCluster", "metadata": {"name": "old"},
        "spec": {
            "activeActive": {"apiIngressUrl": "a.example", "dbIngressSuffix": ".db.example", "method": "istio"},
            "redisEnterpriseAdditionalPodSpecAttributes": {"tolerations": "none", "later": {"a": 1}},
            "sideContainersSpec": [{"image": 5}],
        },
    });
    let typed: RedisEnterpriseCluster = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), object);
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
        let object = full_object(kind);
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
