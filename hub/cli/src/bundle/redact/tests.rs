use super::*;
use crate::bundle::kinds;

const CANARY: &str = "canary";

/// An object with a field of a name that nobody has listed, at every depth to which a listed path leads.
fn strange(fields: &Fields) -> Value {
    let mut object = Map::new();
    object.insert("strange".to_owned(), json!(CANARY));
    object.insert("nested".to_owned(), json!({ "deep": [{ "x": CANARY }] }));
    for (name, below) in &fields.below {
        let value = if below.whole {
            json!({ "kept": "yes", "password": CANARY, "annotations": { "a": CANARY } })
        } else {
            json!([strange(below), CANARY])
        };
        object.insert(name.clone(), value);
    }
    Value::Object(object)
}

#[test]
fn a_field_that_is_not_listed_is_left_out_at_every_depth_of_every_kind() {
    for kind in kinds::all() {
        let fields = Fields::new(&kind.fields);
        let kept = object(&strange(&fields), &fields).to_string();
        let values = kept.replace("leftOut", "");
        assert!(!values.contains(CANARY), "{}: {kept}", kind.plural);
        assert_eq!(
            kept.contains("\"kept\""),
            !kind.fields.is_empty(),
            "{}",
            kind.plural
        );
    }
}

#[test]
fn what_was_left_out_is_named_without_its_value() {
    let fields = Fields::new(&["spec.nodes".to_owned()]);
    let found = object(
        &json!({ "spec": { "nodes": 3, "license": "abc" }, "data": { "a": "b" } }),
        &fields,
    );
    assert_eq!(
        found,
        json!({ "spec": { "nodes": 3 }, "leftOut": ["data", "spec.license"] })
    );
}

#[test]
fn keys_of_a_secret_are_known_from_who_wrote_them() {
    let secret = json!({
        "metadata": { "name": "s", "managedFields": [
            { "fieldsV1": { "f:data": { ".": {}, "f:password": {}, "f:username": {} } } },
            { "fieldsV1": { "f:data": { "f:password": {} }, "f:type": {} } },
        ] },
        "data": { "password": "cGFzcw==" },
    });
    assert_eq!(
        names(&secret),
        json!({ "metadata": { "name": "s" }, "keys": ["password", "username"] })
    );
}

#[test]
fn nothing_that_is_never_kept_is_listed() {
    for kind in kinds::all() {
        for path in &kind.fields {
            let listed = path.split('.').any(|part| NEVER.contains(&part));
            assert!(!listed, "{} {path}", kind.plural);
        }
    }
}
