//! Objects without what may be secret: of each kind the listed fields, and nothing else. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    kinds::{ANNOTATIONS, METADATA, NEVER, VARIABLES},
    scrub,
};

/// Fields that are kept.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    /// Everything below is kept too.
    whole: bool,
    below: BTreeMap<String, Fields>,
}

impl Fields {
    /// From paths with dots. Lists are passed through: a path names the fields of their elements.
    pub(crate) fn new(paths: &[String]) -> Self {
        let mut root = Self::default();
        for path in paths {
            let mut at = &mut root;
            for part in path.split('.') {
                at = at.below.entry(part.to_owned()).or_default();
            }
            at.whole = true;
        }
        root
    }
}

/// The object with the fields that are kept, and the names of those that are not.
pub(crate) fn object(object: &Value, fields: &Fields) -> Value {
    let mut left_out = Vec::new();
    let mut kept = Map::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        match name.as_str() {
            "apiVersion" | "kind" => drop(kept.insert(name.clone(), value.clone())),
            "metadata" => drop(kept.insert(name.clone(), metadata(value))),
            _ => keep(name, value, fields, name, &mut kept, &mut left_out),
        }
    }
    if !left_out.is_empty() {
        kept.insert("leftOut".to_owned(), json!(left_out));
    }
    Value::Object(kept)
}

/// Metadata of an object: names, times and ours of the annotations.
fn metadata(metadata: &Value) -> Value {
    let mut kept = Map::new();
    for name in METADATA {
        if let Some(value) = metadata.get(*name) {
            kept.insert((*name).to_owned(), strings(value));
        }
    }
    let annotations: Map<String, Value> = ANNOTATIONS
        .iter()
        .filter_map(|name| {
            Some((
                (*name).to_owned(),
                strings(metadata.get("annotations")?.get(*name)?),
            ))
        })
        .collect();
    if !annotations.is_empty() {
        kept.insert("annotations".to_owned(), Value::Object(annotations));
    }
    Value::Object(kept)
}

/// Name, labels' names and names of keys of an object whose values were not asked for. Who wrote which key stands in the metadata.
pub(crate) fn names(object: &Value) -> Value {
    let mut kept = json!({ "metadata": metadata(&object["metadata"]) });
    let writers = object["metadata"]["managedFields"].as_array();
    let mut keys: Vec<&str> = Vec::new();
    for writer in writers.into_iter().flatten() {
        for part in ["f:data", "f:stringData"] {
            let fields = writer["fieldsV1"][part].as_object().into_iter().flatten();
            keys.extend(fields.filter_map(|(key, _)| key.strip_prefix("f:")));
        }
    }
    keys.sort_unstable();
    keys.dedup();
    kept["keys"] = json!(keys);
    kept
}

fn keep(
    name: &str,
    value: &Value,
    fields: &Fields,
    path: &str,
    kept: &mut Map<String, Value>,
    left_out: &mut Vec<String>,
) {
    let Some(wanted) = fields.below.get(name) else {
        left_out.push(path.to_owned());
        return;
    };
    if wanted.whole {
        kept.insert(name.to_owned(), strings(value));
    } else if let Some(value) = inside(value, wanted, path, left_out) {
        kept.insert(name.to_owned(), value);
    }
}

/// What of a list or object is kept; a plain value where fields were expected is not.
fn inside(value: &Value, fields: &Fields, path: &str, left_out: &mut Vec<String>) -> Option<Value> {
    match value {
        Value::Array(elements) => {
            let elements = elements.iter();
            let kept = elements.filter_map(|element| inside(element, fields, path, left_out));
            Some(Value::Array(kept.collect()))
        }
        Value::Object(object) => {
            let mut kept = Map::new();
            for (name, value) in object {
                if name == "env" && fields.below.contains_key("variables") {
                    kept.insert("env".to_owned(), variables(value));
                    continue;
                }
                keep(
                    name,
                    value,
                    fields,
                    &format!("{path}.{name}"),
                    &mut kept,
                    left_out,
                );
            }
            Some(Value::Object(kept))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            left_out.push(path.to_owned());
            None
        }
    }
}

/// Names of variables, where they come from, and the values of those that hold nothing secret.
fn variables(env: &Value) -> Value {
    let one = |variable: &Value| {
        let mut kept = json!({ "name": variable["name"] });
        let name = variable["name"].as_str().unwrap_or_default();
        match variable.get("value") {
            Some(value) if VARIABLES.contains(&name) => kept["value"] = strings(value),
            Some(_) => kept["value"] = json!(scrub::GONE),
            None => {}
        }
        for (from, parts) in [
            ("fieldRef", ["fieldPath", "apiVersion"]),
            ("secretKeyRef", ["name", "key"]),
            ("configMapKeyRef", ["name", "key"]),
        ] {
            for part in parts {
                if let Some(value) = variable["valueFrom"][from].get(part) {
                    kept["valueFrom"][from][part] = strings(value);
                }
            }
        }
        kept
    };
    env.as_array().into_iter().flatten().map(one).collect()
}

/// A value that is kept as a whole, without fields that never are, and with its texts scrubbed.
fn strings(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(scrub::text(text)),
        Value::Array(elements) => elements.iter().map(strings).collect(),
        Value::Object(object) => {
            let kept = object
                .iter()
                .filter(|(name, _)| !NEVER.contains(&name.as_str()));
            let kept = kept.map(|(name, value)| (name.clone(), strings(value)));
            Value::Object(kept.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests;
