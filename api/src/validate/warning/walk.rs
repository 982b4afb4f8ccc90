//! Goes through a spec, or through the schema of one, with the table of its kind.

use serde::Serialize;
use serde_json::Value;

use super::{ACTIVE_ACTIVE, CLUSTER, DATABASE, REMOTE_CLUSTER, Warning};

/// What one kind does with its fields. Paths are relative to the spec; a path covers everything below it.
pub(super) struct Table {
    /// Fields with an effect.
    pub(super) effective: &'static [&'static str],
    /// Values that ask for what happens anyway.
    pub(super) neutral: &'static [(&'static str, Plain)],
    /// What to say instead of the general sentence.
    pub(super) messages: &'static [(&'static str, &'static str)],
}

/// A value of one field.
pub(super) enum Plain {
    Flag(bool),
    Word(&'static str),
    Number(i64),
}

impl Plain {
    fn is(&self, value: &Value) -> bool {
        match self {
            Self::Flag(flag) => value == flag,
            Self::Word(word) => value == word,
            Self::Number(number) => value == number,
        }
    }
}

/// What is said of a field whose table has no reason of its own.
const NO_EFFECT: &str = "accepted and kept, but it has no effect yet";

/// A spec that cannot be written as JSON cannot have been read from it either; there is nothing to warn about then.
pub(super) fn walk(table: &Table, at: &str, spec: &impl Serialize) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if let Ok(spec) = serde_json::to_value(spec) {
        visit(table, at, "", &spec, &mut warnings);
    }
    warnings
}

fn visit(table: &Table, at: &str, path: &str, value: &Value, warnings: &mut Vec<Warning>) {
    let below = |other: &str| {
        other
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with(['.', '[']))
    };
    let neutral = |(field, plain): &(&str, Plain)| *field == path && plain.is(value);
    if table.effective.contains(&path) || table.neutral.iter().any(neutral) {
        return;
    }
    let known_inside = path.is_empty()
        || table.effective.iter().any(|other| below(other))
        || table.neutral.iter().any(|(other, _)| below(other));
    match value {
        Value::Object(fields) if known_inside => {
            for (name, field) in fields {
                let inner = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                visit(table, &format!("{at}.{name}"), &inner, field, warnings);
            }
        }
        Value::Array(items) if known_inside => {
            for (n, item) in items.iter().enumerate() {
                visit(
                    table,
                    &format!("{at}[{n}]"),
                    &format!("{path}[]"),
                    item,
                    warnings,
                );
            }
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => warnings.push(Warning {
            field: at.to_owned(),
            message: message(table, path).to_owned(),
        }),
    }
}

/// What is said of the field, or of the nearest one around it.
fn message(table: &Table, path: &str) -> &'static str {
    let covers = |field: &str| {
        path.strip_prefix(field)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let around = table.messages.iter().filter(|(field, _)| covers(field));
    around
        .max_by_key(|(field, _)| field.len())
        .map_or(NO_EFFECT, |(_, message)| message)
}

/// What happens to one field of a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldEffect {
    /// Path below the spec; stands for everything below it.
    pub path: String,
    /// `None` if it has its effect; otherwise what is said to whoever sets it.
    pub inert: Option<&'static str>,
}

/// What happens to every field of a kind of `app.redislabs.com`, by the schema of its spec; empty for any other kind.
///
/// `globalConfigurations` of an Active-Active database is one line: its fields are those of a database.
pub fn field_effects(kind: &str, spec_schema: &Value) -> Vec<FieldEffect> {
    let table = match kind {
        "RedisEnterpriseCluster" => &CLUSTER,
        "RedisEnterpriseDatabase" => &DATABASE,
        "RedisEnterpriseActiveActiveDatabase" => &ACTIVE_ACTIVE,
        "RedisEnterpriseRemoteCluster" => &REMOTE_CLUSTER,
        _ => return Vec::new(),
    };
    let mut effects = Vec::new();
    list_effects(table, "", spec_schema, &mut effects);
    effects
}

fn list_effects(table: &Table, path: &str, schema: &Value, effects: &mut Vec<FieldEffect>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let inside = |other: &str| {
            other
                .strip_prefix(path.as_str())
                .is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        let effective = table.effective.contains(&path.as_str());
        let told_inside = table.effective.iter().any(|other| inside(other))
            || table.messages.iter().any(|(other, _)| inside(other));
        if !effective && told_inside {
            match field.get("items") {
                Some(items) => list_effects(table, &format!("{path}[]"), items, effects),
                None => list_effects(table, &path, field, effects),
            }
            continue;
        }
        let inert = (!effective).then(|| message(table, &path));
        effects.push(FieldEffect { path, inert });
    }
}

#[cfg(test)]
pub(in crate::validate) fn table_paths() -> Vec<(&'static str, &'static str)> {
    [
        ("RedisEnterpriseCluster", CLUSTER),
        ("RedisEnterpriseDatabase", DATABASE),
        ("RedisEnterpriseActiveActiveDatabase", ACTIVE_ACTIVE),
        ("RedisEnterpriseRemoteCluster", REMOTE_CLUSTER),
    ]
    .into_iter()
    .flat_map(|(kind, table)| {
        let neutral = table.neutral.iter().map(|(path, _)| *path);
        let messages = table.messages.iter().map(|(path, _)| *path);
        let effective = table.effective.iter().copied();
        effective
            .chain(neutral)
            .chain(messages)
            .map(move |path| (kind, path))
    })
    .collect()
}
