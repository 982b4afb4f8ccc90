//! The parts of a pod in the cluster resource: the schema of Kubernetes in v1, free form in v1alpha1.

use std::sync::LazyLock;

use serde_json::{Value, json};

use meridian_api::crds::{RedisEnterpriseCluster, all_crds};

use super::{parent, prune};

/// Fields with the schema of Kubernetes, and a value for each that the API server must keep as it is.
pub(crate) static POD_PARTS: LazyLock<[(&str, Value); 10]> = LazyLock::new(|| {
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
