//! Definitions of another operator know no `status.conditions`: the API server drops them from everything that is written.
//! What they would have said is told by Events then, and what decides never reads them.
//!
//! It is seen in the answer to a write, which needs no right to read definitions, and looked at again after [`AGAIN`],
//! because definitions may be exchanged.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::ResourceExt as _;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    apply::Object,
    events::Events,
    own::{NAME_TAKEN, NAME_TOO_LONG},
};

/// How long a kind counts as one whose conditions are dropped, without another look.
const AGAIN: Duration = Duration::from_secs(600);
/// Objects that are remembered; forgetting them costs one write each.
const REMEMBERED: usize = 16_384;
/// Conditions that are good news while they are false.
const BETTER_FALSE: [&str; 7] = [
    "DeletionUnconfirmed",
    "FailoverInProgress",
    "FieldsNotImplemented",
    "ForeignObject",
    NAME_TAKEN,
    NAME_TOO_LONG,
    "Suspended",
];

/// Field manager, kind, namespace and name.
type Key = (String, String, Option<String>, String);

/// What is known of dropped conditions. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Pruned {
    events: Option<Events>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// When the conditions of a kind were dropped last.
    kinds: BTreeMap<String, Instant>,
    /// Hash of what was told of each object.
    told: BTreeMap<Key, u64>,
}

impl Pruned {
    /// Tells by `events`.
    pub(super) fn new(events: Events) -> Self {
        Self {
            events: Some(events),
            ..Self::default()
        }
    }

    /// Whether exactly these conditions were dropped and told a moment ago.
    pub(super) fn was_told<K: Object>(&self, manager: &str, about: &K, wanted: &Value) -> bool {
        let seen = self.seen();
        let kind = seen.kinds.get(&*K::kind(&()));
        kind.is_some_and(|at| at.elapsed() < AGAIN)
            && seen.told.get(&key(manager, about)) == Some(&hash(wanted))
    }

    /// Compares what was written with what was `kept` of it, and tells what is missing.
    pub(super) async fn heed<K: Object>(
        &self,
        manager: &str,
        about: &K,
        wanted: &Value,
        kept: &Value,
    ) {
        if list(wanted).is_empty() {
            return;
        }
        let kind = K::kind(&()).into_owned();
        if !list(kept).is_empty() {
            self.seen().kinds.remove(&kind);
            return;
        }
        self.remember(manager, about, wanted, &kind);
        let Some(events) = &self.events else {
            return;
        };
        let about = about.object_ref(&());
        let troubles = troubles(list(wanted));
        if troubles.is_empty() {
            events.over(&about, "ConditionsNotKept");
            return;
        }
        let text = format!(
            "{}. (The installed definition of {kind} keeps no status.conditions, where this would stand)",
            troubles.join("; ")
        );
        events.warning(&about, "ConditionsNotKept", &text).await;
    }

    fn remember<K: Object>(&self, manager: &str, about: &K, wanted: &Value, kind: &str) {
        let mut seen = self.seen();
        if seen.kinds.insert(kind.to_owned(), Instant::now()).is_none() {
            tracing::warn!(
                kind,
                "the installed definition keeps no status.conditions: what they would say is told by Events"
            );
        }
        if seen.told.len() >= REMEMBERED {
            seen.told.clear();
        }
        seen.told.insert(key(manager, about), hash(wanted));
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A status without its conditions.
pub(super) fn without_conditions(status: &Value) -> Value {
    let mut status = status.clone();
    if let Some(fields) = status.as_object_mut() {
        fields.remove("conditions");
    }
    status
}

fn list(status: &Value) -> &[Value] {
    status["conditions"].as_array().map_or(&[], Vec::as_slice)
}

/// What a person should know of these conditions: one text each, the most important ones first.
fn troubles(conditions: &[Value]) -> Vec<String> {
    let word = |condition: &Value, field: &str| condition[field].as_str().unwrap_or("").to_owned();
    let mut bad: Vec<&Value> = conditions
        .iter()
        .filter(|condition| {
            let good = if BETTER_FALSE.contains(&word(condition, "type").as_str()) {
                "False"
            } else {
                "True"
            };
            condition["status"] != good
        })
        .collect();
    bad.sort_by_key(|condition| match condition["type"].as_str() {
        Some("Ready") => 0,
        Some("FieldsNotImplemented") => 2,
        _ => 1,
    });
    bad.iter()
        .map(|condition| {
            let [type_, status, reason, message] =
                ["type", "status", "reason", "message"].map(|field| word(condition, field));
            format!("{type_} is {status} ({reason}): {message}")
        })
        .collect()
}

fn key<K: Object>(manager: &str, about: &K) -> Key {
    let kind = K::kind(&()).into_owned();
    (
        manager.to_owned(),
        kind,
        about.namespace(),
        about.name_any(),
    )
}

/// Of the conditions without their times, which nothing keeps either.
fn hash(status: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    for condition in list(status) {
        for field in ["type", "status", "reason", "message", "observedGeneration"] {
            condition[field].to_string().hash(&mut hasher);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
