//! Definitions of another operator know no `status.conditions`, those of an older release of ours not all fields: the API server
//! refuses an apply with any field that is not declared, and drops it from other writes. Such fields are left out, what conditions
//! would have said is told by Events, and what decides never reads them.
//!
//! It is seen in the answer to a write, which needs no right to read definitions, and looked at again after [`AGAIN`],
//! because definitions may be exchanged.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::ResourceExt as _;
use meridian_api::installation::lacking;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    apply::Object,
    events::Events,
    own::{NAME_TAKEN, NAME_TOO_LONG},
};

/// How long a kind counts as one that does not keep a field, without another look.
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

/// Where conditions stand in an object.
const CONDITIONS: &str = "status.conditions";

/// Field manager, kind, namespace and name.
type Key = (String, String, Option<String>, String);

/// What is known of fields that are not kept. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Pruned {
    events: Option<Events>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// What a kind does not keep, and when that was seen last.
    kinds: BTreeMap<String, (Instant, BTreeSet<String>)>,
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

    /// Whether exactly these conditions were not kept, and told, a moment ago.
    pub(super) fn was_told<K: Object>(&self, manager: &str, about: &K, wanted: &Value) -> bool {
        self.left_out::<K>().contains(CONDITIONS)
            && self.seen().told.get(&key(manager, about)) == Some(&hash(wanted))
    }

    /// What the definition of a kind does not keep, as far as that was seen lately.
    pub(super) fn left_out<K: Object>(&self) -> BTreeSet<String> {
        let seen = self.seen();
        let kind = seen.kinds.get(&*K::kind(&()));
        let lately = kind.filter(|(at, _)| at.elapsed() < AGAIN);
        lately.map(|(_, fields)| fields.clone()).unwrap_or_default()
    }

    /// Learns from the refusal of a status what the definition does not keep. Tells whether that is news: without it, another
    /// try would be refused as well.
    pub(super) fn learn<K: Object>(&self, refusal: &kube::Error) -> bool {
        let kube::Error::Api(status) = refusal else {
            return false;
        };
        let mut fields = lacking::undeclared(&status.message);
        fields.retain(|field| field.starts_with("status."));
        if fields.is_subset(&self.left_out::<K>()) {
            return false;
        }
        self.add(&K::kind(&()), fields);
        true
    }

    /// Tells what the conditions of `wanted`, a status that was written, would say where the definition does not keep them;
    /// `kept` is what the object shows now.
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
        if !list(kept).is_empty() && !self.left_out::<K>().contains(CONDITIONS) {
            return;
        }
        self.add(&kind, BTreeSet::from([CONDITIONS.to_owned()]));
        self.remember(manager, about, wanted);
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

    /// Fields that are seen again keep the time at which they were seen first, so that they are tried again some time.
    fn add(&self, kind: &str, fields: BTreeSet<String>) {
        let mut seen = self.seen();
        let known = seen.kinds.get_mut(kind);
        if let Some((_, known)) = known.filter(|(at, _)| at.elapsed() < AGAIN) {
            known.extend(fields);
            return;
        }
        let list = fields.iter().cloned().collect::<Vec<_>>().join(", ");
        let before = seen.kinds.insert(kind.to_owned(), (Instant::now(), fields));
        if before.is_none() {
            tracing::warn!(
                kind,
                fields = list,
                "the installed definition does not keep these fields: they are left out, and what conditions would say is told \
                 by Events"
            );
        }
    }

    fn remember<K: Object>(&self, manager: &str, about: &K, wanted: &Value) {
        let mut seen = self.seen();
        if seen.told.len() >= REMEMBERED {
            seen.told.clear();
        }
        seen.told.insert(key(manager, about), hash(wanted));
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A status without `fields`, which are paths from the object.
pub(super) fn without(status: &Value, fields: &BTreeSet<String>) -> Value {
    let mut object = json!({ "status": status });
    for field in fields {
        lacking::remove(&mut object, field);
    }
    object["status"].take()
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
