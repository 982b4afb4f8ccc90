//! What one order means for the object that is there now. Pure: this is where nothing is deleted without its
//! tombstone, nothing foreign is changed, and nothing goes back to an older state.

use kube::api::DynamicObject;
use meridian_api::{
    ids::{ObjectId, Revision, Term},
    link::codes,
};
use serde_json::{Map, Value, json};

use crate::k8s::own;

use super::{
    kinds::{DELETE_APPROVED, FIELD_MANAGER, HASH, OBJECT_ID, PLAN_NUMBER, REVISION, TERM},
    order::{Drift, Mark, Order, Wish},
};

/// The next thing to do for an order.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Write it by server-side apply; `force` takes fields over from others.
    Write {
        /// The object to write.
        body: Value,
        /// `metadata.uid` that the object must still have; `None` to create it.
        uid: Option<String>,
        /// Whether fields of other managers are taken over.
        force: bool,
    },
    /// It is so already.
    Nothing {
        /// What differs, if anything: an edit that stays.
        note: String,
    },
    /// Mark the approved deletion for the controllers, then delete.
    Delete {
        /// `metadata.uid` that the object must still have.
        uid: String,
        /// Value for the annotation; `None` for kinds without data.
        approved: Option<String>,
    },
    /// It is gone: the deletion is carried out.
    Gone,
    /// The deletion of data waits for the hub's Confirm.
    Prepared,
    /// Wait: something else has to happen first, by itself.
    Wait {
        /// For people.
        message: String,
    },
    /// Refuse: only a newer order helps.
    Refuse {
        /// One of [`codes`].
        code: &'static str,
        /// For people.
        message: String,
    },
    /// Hold: a person must decide.
    Hold {
        /// One of [`codes`].
        code: &'static str,
        /// For people.
        message: String,
    },
}

/// Decides the next step of `order` for `live`, the object of its name that exists now.
///
/// `adopted` is the uid of an object without our annotation that the hub took over.
#[must_use]
pub fn settle(
    order: &Order,
    live: Option<&DynamicObject>,
    namespace: &str,
    adopted: Option<&str>,
) -> Step {
    match (&order.wish, live) {
        (Wish::Upsert { hash, body }, None) => Step::Write {
            body: build(order, hash, body, namespace, None),
            uid: None,
            force: false,
        },
        (Wish::Upsert { hash, body }, Some(live)) => {
            upsert(order, hash, body, live, namespace, adopted)
        }
        (Wish::Delete { .. }, None) => Step::Gone,
        (Wish::Delete { approval, .. }, Some(live)) => {
            delete(order, approval.as_deref(), live, namespace)
        }
    }
}

fn upsert(
    order: &Order,
    hash: &str,
    body: &Value,
    live: &DynamicObject,
    namespace: &str,
    adopted: Option<&str>,
) -> Step {
    let what = order.what(namespace);
    let uid = live.metadata.uid.clone();
    let taken_over = match annotation(live, OBJECT_ID) {
        Some(found) if found == order.object_id.to_string() => false,
        Some(found) => {
            let message = format!(
                "{what}: the name is taken by object {found} of the hub, expected {}: delete or rename one of the two",
                order.object_id
            );
            return Step::Hold {
                code: codes::FOREIGN_OBJECT,
                message,
            };
        }
        None if adopted.is_some() && adopted == uid.as_deref() => true,
        None => {
            return Step::Hold {
                code: codes::FOREIGN_OBJECT,
                message: foreign(&what, live),
            };
        }
    };
    if live.metadata.deletion_timestamp.is_some() {
        return Step::Wait {
            message: format!("{what} is being deleted; it is made again when it is gone"),
        };
    }
    let held = mark_of(live);
    if held.is_some_and(|held| held > order.mark) {
        let held = held.unwrap_or_default();
        let message = format!(
            "{what}: the member shows {held}, refused {}, which is older",
            order.mark
        );
        return Step::Refuse {
            code: codes::STALE_REVISION,
            message,
        };
    }
    let desired = build(order, hash, body, namespace, uid.as_deref());
    let write = |force| Step::Write {
        body: desired.clone(),
        uid: uid.clone(),
        force,
    };
    let missing = first_difference(
        &desired,
        &serde_json::to_value(live).unwrap_or(Value::Null),
        "",
    );
    if held != Some(order.mark) || taken_over || annotation(live, HASH) != Some(hash) {
        return write(order.drift == Drift::Enforce || taken_over);
    }
    match (missing, order.drift) {
        (None, _) => Step::Nothing {
            note: String::new(),
        },
        (Some(_), Drift::Enforce) => write(true),
        (Some(field), Drift::Report) => Step::Nothing {
            note: format!("{what}: {field} was edited on the member and stays"),
        },
        (Some(field), Drift::Hold) => Step::Hold {
            code: codes::FIELD_CONFLICT,
            message: format!(
                "{what}: {field} was edited on the member: take the edit over on the hub, or undo it"
            ),
        },
    }
}

fn delete(order: &Order, approval: Option<&str>, live: &DynamicObject, namespace: &str) -> Step {
    let what = order.what(namespace);
    let refuse = |message: String| Step::Refuse {
        code: codes::BAD_TOMBSTONE,
        message,
    };
    match annotation(live, OBJECT_ID) {
        Some(found) if found == order.object_id.to_string() => {}
        Some(found) => {
            return refuse(format!(
                "{what}: the tombstone names object {}, found {found}: nothing was deleted",
                order.object_id
            ));
        }
        None => {
            return refuse(format!(
                "{what}: {}: nothing was deleted",
                foreign(&what, live)
            ));
        }
    }
    if let Some(held) = mark_of(live).filter(|held| *held >= order.mark) {
        return refuse(format!(
            "{what}: the tombstone has {}, expected one above {held}: nothing was deleted",
            order.mark
        ));
    }
    let Some(uid) = live.metadata.uid.clone() else {
        return refuse(format!(
            "{what}: the API server shows no uid: nothing was deleted"
        ));
    };
    if order.kind.data_bearing() && approval.is_none() {
        return Step::Prepared;
    }
    let Mark { term, revision } = order.mark;
    let approved = order.kind.data_bearing();
    let approved = approved.then(|| own::approval(term, revision));
    let marked = approved.is_none() || annotation(live, DELETE_APPROVED) == approved.as_deref();
    if live.metadata.deletion_timestamp.is_some() && marked {
        return Step::Wait {
            message: format!("{what} is being deleted; its controllers clean up"),
        };
    }
    Step::Delete { uid, approved }
}

/// Whether a deletion meets an object that does not say that it is the one to be deleted. If that one was never made here, or
/// was another one of the API server, there is nothing to delete, and what has its name stays; otherwise it may have lost its
/// annotation since.
#[must_use]
pub fn names_another(order: &Order, live: &DynamicObject) -> bool {
    let is_another = annotation(live, OBJECT_ID) != Some(&*order.object_id.to_string());
    matches!(order.wish, Wish::Delete { .. }) && is_another
}

/// The mark that an object of the hub shows.
#[must_use]
pub fn mark_of(live: &DynamicObject) -> Option<Mark> {
    let revision: Revision = annotation(live, REVISION)?.parse().ok()?;
    let term: Term = annotation(live, TERM)?.parse().ok()?;
    Some(Mark { term, revision })
}

/// The hub's identity of an object.
#[must_use]
pub fn object_id_of(live: &DynamicObject) -> Option<ObjectId> {
    annotation(live, OBJECT_ID)?.parse().ok()
}

/// An annotation of an object.
#[must_use]
pub fn annotation<'a>(live: &'a DynamicObject, key: &str) -> Option<&'a str> {
    live.metadata
        .annotations
        .as_ref()?
        .get(key)
        .map(String::as_str)
}

fn foreign(what: &str, live: &DynamicObject) -> String {
    let label = live
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get("app.kubernetes.io/managed-by"));
    let managers = live.metadata.managed_fields.iter().flatten();
    let managers: std::collections::BTreeSet<_> = managers
        .filter_map(|entry| entry.manager.clone())
        .filter(|name| name != FIELD_MANAGER)
        .collect();
    let owner = match (label, managers.len()) {
        (Some(label), _) => format!("managed by `{label}`"),
        (None, 0) => "of an unknown owner".to_owned(),
        (None, _) => format!(
            "written by `{}`",
            managers.into_iter().collect::<Vec<_>>().join("`, `")
        ),
    };
    format!(
        "{what} exists, {owner}, without the annotation {OBJECT_ID}: it is left as it is; rename or remove it, or let the hub adopt it"
    )
}

/// The object to write: the hub's body, without what only the API server may say, with the numbers of the order.
fn build(order: &Order, hash: &str, body: &Value, namespace: &str, uid: Option<&str>) -> Value {
    let mut object: Map<String, Value> = body.as_object().cloned().unwrap_or_default();
    let texts = |field: &str| {
        let given = body
            .pointer(&format!("/metadata/{field}"))
            .and_then(Value::as_object);
        given.cloned().unwrap_or_default()
    };
    let mut annotations = texts("annotations");
    for (key, text) in [
        (OBJECT_ID, order.object_id.to_string()),
        (REVISION, order.mark.revision.to_string()),
        (TERM, order.mark.term.to_string()),
        (HASH, hash.to_owned()),
        (PLAN_NUMBER, order.plan_number.to_string()),
    ] {
        annotations.insert(key.to_owned(), Value::String(text));
    }
    let mut labels = texts("labels");
    if order.kind.labelled() {
        labels.insert(
            "app.kubernetes.io/managed-by".to_owned(),
            json!("meridian-agent"),
        );
    }
    let mut metadata = Map::from_iter([
        ("name".to_owned(), json!(order.name)),
        ("namespace".to_owned(), json!(namespace)),
        ("annotations".to_owned(), Value::Object(annotations)),
    ]);
    if !labels.is_empty() {
        metadata.insert("labels".to_owned(), Value::Object(labels));
    }
    if let Some(uid) = uid {
        metadata.insert("uid".to_owned(), json!(uid));
    }
    object.remove("status");
    object.insert("apiVersion".to_owned(), json!(order.kind.api_version()));
    object.insert("kind".to_owned(), json!(order.kind.kind()));
    object.insert("metadata".to_owned(), Value::Object(metadata));
    Value::Object(object)
}

/// The first field of `desired` that `live` does not show. Fields that only `live` has are not compared: the API
/// server fills in defaults, and others own fields of their own.
fn first_difference(desired: &Value, live: &Value, path: &str) -> Option<String> {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => desired.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match live.get(key) {
                Some(found) => first_difference(value, found, &path),
                // `stringData` is write-only, and an empty value may be dropped by the API server.
                None if key == "stringData" || is_empty(value) => None,
                None => Some(path),
            }
        }),
        (Value::Array(desired), Value::Array(live)) if desired.len() == live.len() => {
            let pairs = desired.iter().zip(live).enumerate();
            pairs
                .into_iter()
                .find_map(|(at, (d, l))| first_difference(d, l, &format!("{path}[{at}]")))
        }
        (desired, live) if desired == live => None,
        _ => Some(path.to_owned()),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests;
