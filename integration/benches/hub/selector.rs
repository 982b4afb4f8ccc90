//! Which objects a list or a watch asks for.

use std::collections::BTreeMap;

use serde_json::Value;

/// Conditions that all have to hold.
#[derive(Debug, Default)]
pub(crate) struct Selector(Vec<Condition>);

#[derive(Debug)]
enum Condition {
    Name(String),
    Label(String, String),
    NoLabel(String),
}

impl Selector {
    /// What the query of a request asks for: a name, labels with a value, labels that must be missing.
    pub(crate) fn of(query: &BTreeMap<String, String>) -> Self {
        let parts = |key: &str| {
            let text = query.get(key).map(String::as_str).unwrap_or_default();
            text.split(',').filter(|part| !part.is_empty())
        };
        let names = parts("fieldSelector").filter_map(|part| part.strip_prefix("metadata.name="));
        let names = names.map(|name| Condition::Name(name.to_owned()));
        let labels = parts("labelSelector").filter_map(|part| {
            if let Some(label) = part.strip_prefix('!') {
                return Some(Condition::NoLabel(label.to_owned()));
            }
            let (label, value) = part.split_once('=')?;
            let value = value.trim_start_matches('=');
            Some(Condition::Label(label.to_owned(), value.to_owned()))
        });
        Self(names.chain(labels).collect())
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        self.0.iter().all(|condition| match condition {
            Condition::Name(name) => metadata["name"] == name.as_str(),
            Condition::Label(label, value) => metadata["labels"][label] == value.as_str(),
            Condition::NoLabel(label) => metadata["labels"][label].is_null(),
        })
    }
}
