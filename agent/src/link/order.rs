//! One desired object as the hub orders it: read from the wire, checked, and in a form that can be kept. Pure.

use std::collections::BTreeSet;

use kube::api::DynamicObject;
use meridian_api::{
    ids::{IdError, Incarnation, ObjectId, PlanNumber, Revision, StoreId, Term},
    link::{self, LARGEST_BODY, codes, proto},
    trace::TraceId,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    join::hex,
    kinds::{HASH, Kind, PLAN_NUMBER},
    settle::{annotation, mark_of},
};

/// A point in the history of the hub's store, in the form that is stored here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Position {
    /// The store.
    pub store_id: StoreId,
    /// The term.
    pub term: Term,
    /// Random number of the hub's start within the term.
    pub incarnation: Incarnation,
    /// The store's revision.
    pub revision: Revision,
}

impl From<link::Position> for Position {
    fn from(position: link::Position) -> Self {
        let link::Position {
            store,
            term,
            incarnation,
            revision,
        } = position;
        Self {
            store_id: store,
            term,
            incarnation,
            revision,
        }
    }
}

impl From<&Position> for proto::StorePosition {
    fn from(position: &Position) -> Self {
        Self {
            store_id: position.store_id.to_string(),
            term: position.term.0,
            incarnation: position.incarnation.0,
            revision: position.revision.0,
        }
    }
}

/// When the hub decided a state: orders all states of one object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// The term.
    pub term: Term,
    /// The revision.
    pub revision: Revision,
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "revision {} of term {}", self.revision, self.term)
    }
}

/// What to do with edits made on the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Drift {
    /// Put back what the hub says.
    Enforce,
    /// Leave the edit and tell the hub.
    Report,
    /// Leave the edit and apply nothing until someone decides.
    Hold,
}

/// One desired object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// The hub's identity of the object.
    pub object_id: ObjectId,
    /// Its kind.
    pub kind: Kind,
    /// Its name; the namespace is always the agent's.
    pub name: String,
    /// When it was decided.
    pub mark: Mark,
    /// The plan that decided it; 0 if none did.
    pub plan_number: PlanNumber,
    /// Objects that must be applied before.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub after: BTreeSet<ObjectId>,
    /// Trace of the request behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
    /// What to do with local edits.
    pub drift: Drift,
    /// What to do.
    pub wish: Wish,
}

/// What an order wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Wish {
    /// Make it so.
    #[serde(rename_all = "camelCase")]
    Upsert {
        /// Digest of the body, hexadecimal.
        hash: String,
        /// The object.
        body: Value,
    },
    /// Delete it. The order's mark is that of the tombstone.
    #[serde(rename_all = "camelCase")]
    Delete {
        /// For people.
        reason: String,
        /// Who approved; present once the hub has confirmed.
        approval: Option<String>,
    },
}

/// Why an item of an Apply is refused. The last good state stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One of [`codes`].
    pub code: &'static str,
    /// For people.
    pub message: String,
}

fn refuse(code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal {
        code,
        message: message.into(),
    }
}

impl Order {
    /// Reads one item of an Apply of `term` for the agent of `namespace`.
    ///
    /// # Errors
    /// A [`Refusal`] that names the object, the field, what was found and what was expected.
    pub fn read(item: &proto::Item, term: Term, namespace: &str) -> Result<Self, Refusal> {
        let what = format!("{} {}/{}", item.kind, item.namespace, item.name);
        let malformed = |field: &str, error: &dyn std::fmt::Display| {
            refuse(codes::MALFORMED, format!("{what}, field {field}: {error}"))
        };
        let object_id = item
            .object_id
            .parse()
            .map_err(|error: IdError| malformed("object_id", &error))?;
        let Some(kind) = Kind::of(&item.api_version, &item.kind) else {
            let known: Vec<_> = Kind::ALL.into_iter().map(Kind::kind).collect();
            let found = format!("{} of {}", item.kind, item.api_version);
            let expected = known.join(", ");
            let message = format!(
                "{what}: found kind {found}, expected one of {expected}; a newer agent may know it"
            );
            return Err(refuse(codes::UNSUPPORTED, message));
        };
        if item.namespace != namespace {
            let message = format!(
                "{what}: found namespace `{}`, expected `{namespace}`, the agent's own",
                item.namespace
            );
            return Err(refuse(codes::NO_NAMESPACE, message));
        }
        if !is_object_name(&item.name) {
            return Err(malformed(
                "name",
                &"expected a DNS name of at most 253 lower-case characters",
            ));
        }
        let after = item
            .after
            .iter()
            .map(|id| id.parse())
            .collect::<Result<_, IdError>>();
        let (wish, revision) = read_wish(item, kind, &what)?;
        Ok(Self {
            object_id,
            kind,
            name: item.name.clone(),
            mark: Mark { term, revision },
            plan_number: PlanNumber(item.plan_number),
            after: after.map_err(|error| malformed("after", &error))?,
            // For logs only: what is none is no reason to refuse an order.
            trace: TraceId::of_bytes(&item.trace_id),
            drift: match item.drift() {
                proto::DriftPolicy::Enforce => Drift::Enforce,
                proto::DriftPolicy::Report | proto::DriftPolicy::Unspecified => Drift::Report,
                proto::DriftPolicy::Hold => Drift::Hold,
            },
            wish,
        })
    }

    /// The order that a live object of the hub shows, as far as it shows one; local edits are taken as they are.
    #[must_use]
    pub fn of_live(kind: Kind, live: &DynamicObject, object_id: ObjectId) -> Option<Self> {
        let mut body = live.data.clone();
        body.as_object_mut()?.remove("status");
        body["metadata"] = serde_json::json!({ "labels": live.metadata.labels });
        Some(Self {
            object_id,
            kind,
            name: live.metadata.name.clone()?,
            mark: mark_of(live)?,
            plan_number: annotation(live, PLAN_NUMBER)
                .and_then(|text| text.parse().ok())
                .unwrap_or_default(),
            after: BTreeSet::new(),
            trace: None,
            drift: Drift::Report,
            wish: Wish::Upsert {
                hash: annotation(live, HASH)?.to_owned(),
                body,
            },
        })
    }

    /// Its trace as logs show it; empty for none.
    #[must_use]
    pub fn trace_text(&self) -> String {
        self.trace
            .map_or_else(String::new, |trace| trace.to_string())
    }

    /// Kind, namespace and name for messages.
    #[must_use]
    pub fn what(&self, namespace: &str) -> String {
        format!("{} {namespace}/{}", self.kind, self.name)
    }
}

fn read_wish(item: &proto::Item, kind: Kind, what: &str) -> Result<(Wish, Revision), Refusal> {
    match proto::ItemOp::try_from(item.op) {
        Ok(proto::ItemOp::Upsert) => {
            let body = read_body(item, kind, what)?;
            Ok((
                Wish::Upsert {
                    hash: hex(&item.hash),
                    body,
                },
                Revision(item.revision),
            ))
        }
        Ok(proto::ItemOp::Delete) => {
            let Some(tombstone) = &item.tombstone else {
                let message =
                    format!("{what}: a deletion without tombstone, expected one with a revision");
                return Err(refuse(codes::BAD_TOMBSTONE, message));
            };
            if tombstone.revision == 0 {
                return Err(refuse(
                    codes::BAD_TOMBSTONE,
                    format!("{what}: a tombstone of revision 0, expected ≥ 1"),
                ));
            }
            // The approval inside a tombstone is for people: only a Confirm lets a data-bearing object go.
            Ok((
                Wish::Delete {
                    reason: tombstone.reason.clone(),
                    approval: None,
                },
                Revision(tombstone.revision),
            ))
        }
        Ok(proto::ItemOp::Unspecified) | Err(_) => {
            let message = format!(
                "{what}: found operation {}, expected UPSERT or DELETE; a newer agent may know it",
                item.op
            );
            Err(refuse(codes::UNSUPPORTED, message))
        }
    }
}

fn read_body(item: &proto::Item, kind: Kind, what: &str) -> Result<Value, Refusal> {
    let malformed = |message: String| refuse(codes::MALFORMED, format!("{what}, {message}"));
    if item.body.len() > LARGEST_BODY {
        return Err(malformed(format!(
            "field body: found {} bytes, expected ≤ {LARGEST_BODY}",
            item.body.len()
        )));
    }
    let body: Value = serde_json::from_slice(&item.body)
        .map_err(|error| malformed(format!("field body: {error}, expected the object as JSON")))?;
    let found = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    let expected = [
        ("/apiVersion", kind.api_version()),
        ("/kind", kind.kind()),
        ("/metadata/name", item.name.as_str()),
        ("/metadata/namespace", item.namespace.as_str()),
    ];
    for (pointer, expected) in expected {
        match found(pointer) {
            Some(found) if found == expected => {}
            // What the item says already need not be repeated inside the body.
            None if pointer != "/kind" => {}
            other => {
                return Err(malformed(format!(
                    "field body{}: found `{}`, expected `{expected}`",
                    pointer.replace('/', "."),
                    other.unwrap_or("nothing"),
                )));
            }
        }
    }
    Ok(body)
}

fn is_object_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253 && name.chars().all(allowed) && name.starts_with(edge) && name.ends_with(edge)
}

#[cfg(test)]
mod tests;
