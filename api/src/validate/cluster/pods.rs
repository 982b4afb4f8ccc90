//! Parts of pods. The schema of the newer version checks most of this, but objects are not converted: what the older
//! version let in is found here.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, EnvVar, HostAlias, PodSpec, Toleration, Volume, VolumeMount,
};
use serde::de::DeserializeOwned;

use super::NODE_CONTAINER;
use crate::{
    crds::{FreeForm, RedisEnterpriseClusterSpec},
    identity::is_dns_name,
    validate::{Check, quoted},
};

pub(super) fn check_parts(check: &mut Check, spec: &RedisEnterpriseClusterSpec) {
    let env = named::<EnvVar>(check, "spec.extraEnvVars", &spec.extra_env_vars, |env| {
        &env.name
    });
    unique(check, "spec.extraEnvVars", "name", &env);
    let volumes = named::<Volume>(check, "spec.volumes", &spec.volumes, |volume| &volume.name);
    unique(check, "spec.volumes", "name", &volumes);
    let at = "spec.redisEnterpriseVolumeMounts";
    named::<VolumeMount>(check, at, &spec.redis_enterprise_volume_mounts, |mount| {
        &mount.name
    });
    named::<HostAlias>(check, "spec.hostAliases", &spec.host_aliases, |alias| {
        &alias.ip
    });
    readable::<Toleration>(check, "spec.podTolerations", &spec.pod_tolerations);
    check_side_containers(check, &spec.side_containers_spec);
    check_pod_spec(
        check,
        "spec.redisEnterpriseAdditionalPodSpecAttributes",
        spec.redis_enterprise_additional_pod_spec_attributes
            .as_ref(),
    );
    if let Some(rigger) = &spec.services_rigger_spec {
        let at = "spec.servicesRiggerSpec.servicesRiggerAdditionalPodSpecAttributes";
        let part = &rigger.services_rigger_additional_pod_spec_attributes;
        check_pod_spec(check, at, part.as_ref());
        let at = "spec.servicesRiggerSpec.extraEnvVars";
        named::<EnvVar>(check, at, &rigger.extra_env_vars, |env| &env.name);
    }
}

fn check_side_containers(check: &mut Check, parts: &[FreeForm]) {
    let at = "spec.sideContainersSpec";
    let names = named::<Container>(check, at, parts, |container| &container.name);
    unique(check, at, "name", &names);
    for (n, name) in names.iter().enumerate() {
        if name == NODE_CONTAINER {
            check.refuse(
                format!("{at}[{n}].name"),
                quoted(name),
                "a name that no other container of the pod has",
                "choose another name: this is the container of the node itself",
            );
        } else if !name.is_empty() && (!is_dns_name(name, 63) || name.contains('.')) {
            check.refuse(
                format!("{at}[{n}].name"),
                quoted(name),
                "lower-case letters, digits and dashes, at most 63 characters",
                "give the container such a name",
            );
        }
    }
}

/// A part of a pod spec that is merged into another. Directives such as `$patch` are not understood, so they are refused
/// wherever they stand.
fn check_pod_spec(check: &mut Check, at: &str, part: Option<&FreeForm>) {
    let Some(part) = part else {
        return;
    };
    if let Some(directive) = directive(&serde_json::Value::Object(part.0.clone())) {
        check.refuse(
            at,
            format!("the directive {}", quoted(&directive)),
            "fields of a pod spec",
            "write the fields themselves; null takes one away",
        );
    }
    let without_null = FreeForm(
        part.0
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    );
    readable::<PodSpec>(check, at, &[without_null]);
}

fn directive(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            if name.starts_with('$') {
                Some(name.clone())
            } else {
                directive(value)
            }
        }),
        serde_json::Value::Array(items) => items.iter().find_map(directive),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => None,
    }
}

/// Reads the parts as `T`; one that cannot be read is refused with its place and left out.
fn readable<T: DeserializeOwned>(check: &mut Check, at: &str, parts: &[FreeForm]) -> Vec<T> {
    let mut all = Vec::new();
    for (n, part) in parts.iter().enumerate() {
        match part.read() {
            Ok(value) => all.push(value),
            Err(error) => {
                let field = if at.ends_with("Attributes") {
                    at.to_owned()
                } else {
                    format!("{at}[{n}]")
                };
                check.refuse(
                    field,
                    format!("a value that cannot be read ({error})"),
                    "the form that Kubernetes gives this part of a pod",
                    "correct or remove it",
                );
            }
        }
    }
    all
}

/// Reads the parts as `T`, each of which must have a name; gives the names.
fn named<T: DeserializeOwned>(
    check: &mut Check,
    at: &str,
    parts: &[FreeForm],
    name: fn(&T) -> &String,
) -> Vec<String> {
    let names: Vec<String> = readable::<T>(check, at, parts)
        .iter()
        .map(|part| name(part).clone())
        .collect();
    for (n, _) in names.iter().enumerate().filter(|(_, name)| name.is_empty()) {
        let key = if at.ends_with("hostAliases") {
            "ip"
        } else {
            "name"
        };
        check.refuse(
            format!("{at}[{n}].{key}"),
            "nothing",
            "a value",
            "the newer version of this kind requires it: write one",
        );
    }
    names
}

fn unique(check: &mut Check, at: &str, key: &str, names: &[String]) {
    let mut seen = BTreeSet::new();
    for (n, name) in names
        .iter()
        .enumerate()
        .filter(|(_, name)| !name.is_empty())
    {
        if !seen.insert(name) {
            check.refuse(
                format!("{at}[{n}].{key}"),
                quoted(name),
                "a name that occurs once",
                "rename or remove one of the two",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{crds::RedisEnterpriseCluster, validate::cluster};

    fn problems(spec: Value) -> Vec<String> {
        let rec: RedisEnterpriseCluster =
            serde_json::from_value(json!({"metadata": {"name": "rec"}, "spec": spec})).unwrap();
        cluster(&rec).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn parts_that_only_the_older_version_lets_in_are_named_with_their_place() {
        let cases = [
            (
                json!({"sideContainersSpec": [{"image": "a"}]}),
                "spec.sideContainersSpec[0].name: found nothing, expected a value",
            ),
            (
                json!({"sideContainersSpec": [{"name": "a", "image": 5}]}),
                "spec.sideContainersSpec[0]: found a value that cannot be read (invalid type",
            ),
            (
                json!({"sideContainersSpec": [{"name": "a"}, {"name": "a"}]}),
                "spec.sideContainersSpec[1].name: found \"a\", expected a name that occurs once",
            ),
            (
                json!({"sideContainersSpec": [{"name": "redis-enterprise-node"}]}),
                "this is the container of the node itself",
            ),
            (
                json!({"redisEnterpriseAdditionalPodSpecAttributes": {"tolerations": "none"}}),
                "spec.redisEnterpriseAdditionalPodSpecAttributes: found a value that cannot be read",
            ),
            (
                json!({"redisEnterpriseAdditionalPodSpecAttributes": {"containers": [{"name": "a", "$patch": "delete"}]}}),
                "found the directive \"$patch\"",
            ),
            (
                json!({"volumes": [{"emptyDir": {}}]}),
                "spec.volumes[0].name: found nothing",
            ),
        ];
        for (spec, expected) in cases {
            let found = problems(spec.clone());
            assert!(
                found.len() == 1 && found[0].contains(expected),
                "{spec}: {found:?}"
            );
        }
    }

    #[test]
    fn parts_that_kubernetes_takes_are_taken() {
        let spec = json!({
            "sideContainersSpec": [{"name": "side", "image": "a", "resources": {"limits": {"cpu": 1}}}],
            "redisEnterpriseAdditionalPodSpecAttributes": {"priorityClassName": "high", "nodeSelector": null},
            "volumes": [{"name": "v", "emptyDir": {}}], "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["h"]}],
        });
        assert_eq!(problems(spec), Vec::<String>::new());
    }
}
