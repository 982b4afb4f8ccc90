//! Merges what a person wrote for the pods into the pod spec that is built: maps by key, lists of named parts by their
//! name, all other lists as a whole; `null` takes a field away. These are the rules of Kubernetes' strategic merge,
//! without its directives. A volume that is named again is replaced, because it has exactly one source.
//!
//! Source of the merge keys: `patchMergeKey` in the Go types of the pod API.

use serde_json::{Map, Value};

/// The key by which the items of a list are the same thing; `None`: the list is replaced as a whole.
fn merge_key(list: &str) -> Option<&'static str> {
    match list {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "imagePullSecrets"
        | "resourceClaims"
        | "schedulingGates"
        | "volumes" => Some("name"),
        "volumeMounts" => Some("mountPath"),
        "volumeDevices" => Some("devicePath"),
        "ports" => Some("containerPort"),
        "hostAliases" => Some("ip"),
        "topologySpreadConstraints" => Some("topologyKey"),
        _ => None,
    }
}

/// Merges `patch` into `base`.
pub(super) fn merge(base: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, wanted) in patch {
        if wanted.is_null() {
            base.remove(name);
            continue;
        }
        match (base.get_mut(name), wanted) {
            (Some(Value::Object(found)), Value::Object(wanted)) => merge(found, wanted),
            (Some(Value::Array(found)), Value::Array(wanted)) if merge_key(name).is_some() => {
                merge_list(name, found, wanted);
            }
            _ => drop(base.insert(name.clone(), wanted.clone())),
        }
    }
}

fn merge_list(list: &str, found: &mut Vec<Value>, wanted: &[Value]) {
    let key = merge_key(list).unwrap_or_default();
    for item in wanted {
        let same = found
            .iter_mut()
            .find(|other| !item[key].is_null() && other[key] == item[key]);
        match (same, item) {
            (Some(Value::Object(same)), Value::Object(item)) if list != "volumes" => {
                merge(same, item);
            }
            (Some(same), item) => *same = item.clone(),
            (None, item) => found.push(item.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(base: &Value, patch: &Value) -> Value {
        let mut base = base.as_object().unwrap().clone();
        merge(&mut base, patch.as_object().unwrap());
        Value::Object(base)
    }

    #[test]
    fn the_table_of_merges() {
        let cases = [
            (
                "a new field",
                json!({"a": 1}),
                json!({"b": 2}),
                json!({"a": 1, "b": 2}),
            ),
            (
                "another value",
                json!({"a": 1}),
                json!({"a": 2}),
                json!({"a": 2}),
            ),
            (
                "null takes away",
                json!({"a": 1, "b": 2}),
                json!({"a": null}),
                json!({"b": 2}),
            ),
            (
                "maps by key",
                json!({"m": {"a": 1, "b": 2}}),
                json!({"m": {"b": 3}}),
                json!({"m": {"a": 1, "b": 3}}),
            ),
            (
                "a plain list as a whole",
                json!({"tolerations": [{"key": "a"}]}),
                json!({"tolerations": [{"key": "b"}]}),
                json!({"tolerations": [{"key": "b"}]}),
            ),
            (
                "a named part is changed in its place",
                json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]}),
                json!({"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "3"}]}]}),
                json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "3"}, {"name": "Y", "value": "2"}]}, {"name": "b"}]}),
            ),
            (
                "an unknown part is added at the end",
                json!({"containers": [{"name": "a"}]}),
                json!({"containers": [{"name": "z"}]}),
                json!({"containers": [{"name": "a"}, {"name": "z"}]}),
            ),
            (
                "mounts by path",
                json!({"volumeMounts": [{"name": "v", "mountPath": "/a"}]}),
                json!({"volumeMounts": [{"name": "w", "mountPath": "/a"}]}),
                json!({"volumeMounts": [{"name": "w", "mountPath": "/a"}]}),
            ),
            (
                "a volume has one source",
                json!({"volumes": [{"name": "tmp", "emptyDir": {}}]}),
                json!({"volumes": [{"name": "tmp", "hostPath": {"path": "/x"}}]}),
                json!({"volumes": [{"name": "tmp", "hostPath": {"path": "/x"}}]}),
            ),
        ];
        for (name, base, patch, expected) in cases {
            assert_eq!(merged(&base, &patch), expected, "{name}");
        }
    }

    #[test]
    fn merging_twice_changes_nothing_more() {
        let base = json!({"containers": [{"name": "a", "env": [{"name": "X"}]}], "affinity": {"podAntiAffinity": {}}});
        let patch = json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}], "affinity": {"nodeAffinity": {}}});
        let once = merged(&base, &patch);
        assert_eq!(merged(&once, &patch), once);
        assert!(
            once["affinity"]["podAntiAffinity"].is_object(),
            "what the patch does not name stays"
        );
    }
}
