//! Fields that a kind does not have, mostly misspelled ones. The API server drops them; here they are errors.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::FieldError;

/// The object as `T`, and an error for each field of it that `T` does not have.
///
/// Only the spec is looked at: `metadata` has fields that this project does not use.
///
/// # Errors
/// If the object is no `T` at all: a required field is missing, or has another type.
pub fn read_strictly<T: Serialize + DeserializeOwned>(
    object: &Value,
) -> Result<(T, Vec<FieldError>), serde_json::Error> {
    let typed: T = serde_json::from_value(object.clone())?;
    let kept = serde_json::to_value(&typed)?;
    let mut errors = Vec::new();
    compare("spec", &object["spec"], &kept["spec"], &mut errors);
    Ok((typed, errors))
}

fn compare(at: &str, given: &Value, kept: &Value, errors: &mut Vec<FieldError>) {
    match (given, kept) {
        (Value::Object(given), _) => {
            for (name, value) in given {
                let at = format!("{at}.{name}");
                match kept.get(name) {
                    Some(kept) => compare(&at, value, kept, errors),
                    // An empty value is the same as none.
                    None if is_empty(value) => {}
                    None => errors.push(FieldError {
                        field: at,
                        found: "a field that this kind does not have".to_owned(),
                        expected: "a field of the kind".to_owned(),
                        remedy: "correct its spelling or remove it".to_owned(),
                    }),
                }
            }
        }
        (Value::Array(given), Value::Array(kept)) => {
            for (n, (given, kept)) in given.iter().zip(kept).enumerate() {
                compare(&format!("{at}[{n}]"), given, kept, errors);
            }
        }
        (
            Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_),
            _,
        ) => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crds::RedisEnterpriseActiveActiveDatabase;

    fn read(spec: Value) -> Vec<String> {
        let object = json!({
            "apiVersion": "app.redislabs.com/v1alpha1", "kind": "RedisEnterpriseActiveActiveDatabase",
            "metadata": { "name": "a", "someField": 1 }, "spec": spec,
        });
        let (_, errors) = read_strictly::<RedisEnterpriseActiveActiveDatabase>(&object).unwrap();
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn a_misspelled_field_is_named_wherever_it_stands() {
        assert_eq!(
            read(json!({
                "participatingClusters": [{ "name": "a" }, { "name": "b", "nameSpace": "x" }],
                "globalConfigurations": { "memorySzie": "1GB", "backup": { "s4": {} } },
                "globalConfiguration": { "memorySize": "1GB" },
            })),
            [
                "spec.globalConfiguration",
                "spec.globalConfigurations.memorySzie",
                "spec.participatingClusters[1].nameSpace",
            ],
            "an empty value is the same as none"
        );
    }

    #[test]
    fn what_the_kind_keeps_as_it_is_may_have_any_field() {
        let spec = json!({
            "participatingClusters": [],
            "globalConfigurations": {
                "alertSettings": { "bdb_size": { "enabled": true, "threshold": "80" } }, "replicaSources": [],
            },
        });
        assert_eq!(read(spec), Vec::<String>::new());
    }
}
