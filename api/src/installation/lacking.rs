//! What an installed definition does not keep of what this release writes and reads. Pure.
//!
//! Two ways lead to it: the schemas that an API server publishes to everybody (OpenAPI v3), compared with our own, and its answer
//! to an apply of a field that the definition does not declare.

use std::collections::BTreeSet;

use serde_json::Value;

/// How the API server ends what it says of a field that a definition does not declare.
const UNDECLARED: &str = ": field not declared in schema";
/// A level of a schema at which everything is kept.
const OPEN: &str = "x-kubernetes-preserve-unknown-fields";

/// The schema of a kind in what the API server publishes of a group version (OpenAPI v3).
#[must_use]
pub fn published<'a>(document: &'a Value, group: &str, kind: &str) -> Option<&'a Value> {
    let schemas = document["components"]["schemas"].as_object()?;
    schemas.values().find(|schema| {
        let kinds = schema["x-kubernetes-group-version-kind"].as_array();
        kinds
            .into_iter()
            .flatten()
            .any(|one| one["group"] == group && one["kind"] == kind)
    })
}

/// Paths of the fields of the spec and the status that the schema `ours` declares and `installed` drops, the outermost ones only.
/// `[]` steps into a list, `{}` into the values of a map.
#[must_use]
pub fn lacking(ours: &Value, installed: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for part in ["spec", "status"] {
        let [ours, installed] = [ours, installed].map(|schema| &schema["properties"][part]);
        if !ours.is_null() {
            compare(ours, installed, part, &mut found);
        }
    }
    found
}

fn compare(ours: &Value, installed: &Value, at: &str, found: &mut Vec<String>) {
    let is_open = |schema: &Value| schema[OPEN] == true;
    if installed.is_null() || (is_open(ours) && !is_open(installed)) {
        found.push(at.to_owned());
        return;
    }
    for (name, field) in ours["properties"].as_object().into_iter().flatten() {
        let there = &installed["properties"][name];
        let path = format!("{at}.{name}");
        let any = &installed["additionalProperties"];
        if there.is_null() && any.is_object() {
            compare(field, any, &path, found);
        } else if !(there.is_null() && is_open(installed)) {
            compare(field, there, &path, found);
        }
    }
    for (keyword, step) in [("items", "[]"), ("additionalProperties", "{}")] {
        let (inner, there) = (&ours[keyword], &installed[keyword]);
        if inner.is_object() && !(there.is_null() && is_open(installed)) {
            compare(inner, there, &format!("{at}{step}"), found);
        }
    }
}

/// The fields that the API server says a definition does not declare, in its answer to an apply: `status.conditions`,
/// `status.members[].file`. Empty for every other answer.
#[must_use]
pub fn undeclared(message: &str) -> BTreeSet<String> {
    let path = |line: &str| {
        let line = line.trim().strip_suffix(UNDECLARED)?;
        let path = line
            .rsplit_once("): .")
            .map_or_else(|| line.strip_prefix('.'), |(_, path)| Some(path))?;
        Some(without_keys(path))
    };
    message.lines().filter_map(path).collect()
}

/// A path without which item of a list it is about.
fn without_keys(path: &str) -> String {
    let mut text = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('[') {
        text.push_str(before);
        text.push_str("[]");
        rest = after.split_once(']').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    text
}

/// Takes the field at `path` out of `value`, in every item of a list on the way.
pub fn remove(value: &mut Value, path: &str) {
    let (step, rest) = path.split_once('.').unwrap_or((path, ""));
    if let Some(list) = step.strip_suffix("[]") {
        let items = value.get_mut(list).and_then(Value::as_array_mut);
        for item in items.into_iter().flatten() {
            remove(item, rest);
        }
    } else if rest.is_empty() {
        if let Some(fields) = value.as_object_mut() {
            fields.remove(step);
        }
    } else if let Some(inner) = value.get_mut(step) {
        remove(inner, rest);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crds::all_crds;

    fn object(status: Value) -> Value {
        json!({"properties": {"spec": {"type": "object"}, "status": {"type": "object", "properties": status}}})
    }

    #[test]
    fn a_field_that_is_dropped_at_any_depth_is_found_and_what_is_open_keeps_everything() {
        let text = || json!({"type": "string"});
        let deep = |leaf: Value| json!({"a": {"type": "array", "items": {"properties": leaf}}});
        let map = |leaf: Value| json!({"m": {"type": "object", "additionalProperties": leaf}});
        let open = || json!({"type": "object", OPEN: true});
        let cases = [
            (
                json!({"x": text()}),
                json!({"x": text(), "y": text()}),
                vec![],
            ),
            (
                json!({"x": text(), "y": text()}),
                json!({"y": text()}),
                vec!["status.x"],
            ),
            (
                deep(json!({"x": text()})),
                deep(json!({})),
                vec!["status.a[].x"],
            ),
            (deep(json!({"x": text()})), json!({}), vec!["status.a"]),
            (deep(json!({"x": text()})), json!({"a": open()}), vec![]),
            (
                map(text()),
                json!({"m": {"type": "object"}}),
                vec!["status.m{}"],
            ),
            (
                json!({"x": open()}),
                json!({"x": {"type": "object"}}),
                vec!["status.x"],
            ),
            (
                json!({"x": {"properties": {"y": text()}}}),
                map(text()),
                vec!["status.x"],
            ),
        ];
        for (ours, installed, expected) in cases {
            assert_eq!(
                lacking(&object(ours.clone()), &object(installed)),
                expected,
                "{ours}"
            );
        }
        assert_eq!(lacking(&object(json!({})), &json!({})), ["spec", "status"]);
    }

    #[test]
    fn our_own_definitions_lack_nothing() {
        for crd in all_crds().unwrap() {
            let group = crd.spec.group.clone();
            for version in &crd.spec.versions {
                let schema = json!(version.schema.as_ref().unwrap().open_api_v3_schema);
                assert_eq!(lacking(&schema, &schema), Vec::<String>::new());
                let mut published_as = schema.clone();
                let kind =
                    json!({"group": group, "kind": crd.spec.names.kind, "version": version.name});
                published_as["x-kubernetes-group-version-kind"] = json!([kind]);
                let document =
                    json!({"components": {"schemas": {"other": {}, "it": published_as}}});
                let found = published(&document, &group, &crd.spec.names.kind).unwrap();
                assert_eq!(lacking(&schema, found), Vec::<String>::new());
                assert!(published(&document, "apps", &crd.spec.names.kind).is_none());
            }
        }
    }

    #[test]
    fn what_the_api_server_says_of_undeclared_fields_is_read() {
        let head = "failed to create typed patch object (ns/db; app.redislabs.com/v1alpha1, Kind=RedisEnterpriseDatabase): ";
        let cases = [
            (
                format!("{head}.status.conditions{UNDECLARED}"),
                vec!["status.conditions"],
            ),
            (
                format!(
                    "{head}errors:\n  .status.activeActive.zed{UNDECLARED}\n  .status.conditions{UNDECLARED}"
                ),
                vec!["status.activeActive.zed", "status.conditions"],
            ),
            (
                format!(
                    "{head}errors:\n  .status.m[pod=\"rec-0\"].x{UNDECLARED}\n  .status.m[pod=\"rec-1\"].x{UNDECLARED}"
                ),
                vec!["status.m[].x"],
            ),
            (
                format!("{head}.status.shards: expected list, got string"),
                vec![],
            ),
            ("etcdserver: request timed out".to_owned(), vec![]),
        ];
        for (message, expected) in cases {
            assert_eq!(
                undeclared(&message).iter().collect::<Vec<_>>(),
                expected,
                "{message}"
            );
        }
    }

    #[test]
    fn a_field_is_taken_out_wherever_its_path_leads() {
        let whole = || json!({"a": 1, "l": [{"x": 1, "y": 2}, {"x": 3}], "o": {"x": {"z": 1}}});
        let cases = [
            (
                "a",
                json!({"l": [{"x": 1, "y": 2}, {"x": 3}], "o": {"x": {"z": 1}}}),
            ),
            (
                "l[].x",
                json!({"a": 1, "l": [{"y": 2}, {}], "o": {"x": {"z": 1}}}),
            ),
            (
                "o.x.z",
                json!({"a": 1, "l": [{"x": 1, "y": 2}, {"x": 3}], "o": {"x": {}}}),
            ),
            ("none.x", whole()),
            ("a.x", whole()),
        ];
        for (path, expected) in cases {
            let mut value = whole();
            remove(&mut value, path);
            assert_eq!(value, expected, "{path}");
        }
    }
}
