//! Annotations and labels that somebody else has set on an object of ours: they stay, whatever we would say there.

use kube::api::ObjectMeta;
use serde_json::{Map, Value};

use super::own::FIELD_MANAGER;

/// Keys under this prefix are the agent's own words; nobody else's value of them counts.
const OWN: &str = "meridian.dev/";

/// Leaves out of `wanted` (the metadata that is about to be applied) what `existing` has from another hand with another value.
pub(super) fn leave(wanted: &mut Value, existing: Option<&ObjectMeta>) {
    let Some(existing) = existing else {
        return;
    };
    for (part, found) in [
        ("annotations", &existing.annotations),
        ("labels", &existing.labels),
    ] {
        let (Some(wanted), Some(found)) = (object(wanted, part), found) else {
            continue;
        };
        wanted.retain(|key, value| {
            let differs = found.get(key).is_some_and(|found| value != found);
            !differs || key.starts_with(OWN) || is_ours(existing, part, key)
        });
    }
}

fn object<'a>(metadata: &'a mut Value, part: &str) -> Option<&'a mut Map<String, Value>> {
    metadata.get_mut(part)?.as_object_mut()
}

/// Whether the agent has written this entry of the metadata.
fn is_ours(existing: &ObjectMeta, part: &str, key: &str) -> bool {
    let (part, field) = (format!("f:{part}"), format!("f:{key}"));
    existing.managed_fields.iter().flatten().any(|entry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && fields.is_some_and(|fields| fields["f:metadata"][&part].get(&field).is_some())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_another_set_stays_theirs_and_what_is_ours_may_change() {
        for part in ["annotations", "labels"] {
            let fields = format!("f:{part}");
            let existing: ObjectMeta = serde_json::from_value(json!({
                part: {"ours": "1", "theirs": "1", "both": "1", "meridian.dev/topology": "1"},
                "managedFields": [
                    {"manager": FIELD_MANAGER, "fieldsV1": {"f:metadata": {&fields: {"f:ours": {}, "f:both": {}}}}},
                    {"manager": "kubectl", "fieldsV1": {"f:metadata": {&fields: {"f:theirs": {}, "f:both": {}}}}},
                ],
            }))
            .unwrap();
            let cases = [
                ("ours", "2", true),
                ("both", "2", true),
                ("theirs", "2", false),
                ("theirs", "1", true),
                ("new", "1", true),
                ("meridian.dev/topology", "2", true),
            ];
            for (key, value, said) in cases {
                let mut wanted = json!({ part: { key: value } });
                leave(&mut wanted, Some(&existing));
                assert_eq!(
                    wanted[part].get(key).is_some(),
                    said,
                    "{part} {key}={value}"
                );
            }
        }
    }

    #[test]
    fn an_object_that_does_not_exist_yet_says_everything() {
        let mut wanted = json!({ "annotations": { "a": "1" } });
        leave(&mut wanted, None);
        assert_eq!(wanted, json!({ "annotations": { "a": "1" } }));
    }
}
