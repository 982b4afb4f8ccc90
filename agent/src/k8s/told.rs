//! What was written last as the status of each object. A look may have begun with an object from before the watch showed its last
//! status; what is shown there and wanted again does not stand then.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError},
};

use kube::ResourceExt as _;
use serde_json::Value;

use super::apply::Object;

/// Objects that are remembered. Forgetting them costs the certainty that this module is for, and no request.
const REMEMBERED: usize = 16_384;

/// Kind, namespace, name and uid.
type Key = (String, Option<String>, String, Option<String>);

/// The hash of the last status of each object; `None`: it is not known whether it was written.
#[derive(Clone, Debug, Default)]
pub(super) struct Told(Arc<Mutex<BTreeMap<Key, Option<u64>>>>);

impl Told {
    /// Whether nothing else was written last, as far as is known.
    pub(super) fn agrees<K: Object>(&self, about: &K, wanted: &Value) -> bool {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = told.get(&key(about));
        last.is_none_or(|last| *last == Some(hash(wanted)))
    }

    /// A status was written, or may have been.
    pub(super) fn remember<K: Object>(&self, about: &K, written: Option<&Value>) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= REMEMBERED {
            told.clear();
        }
        told.insert(key(about), written.map(hash));
    }
}

fn key<K: Object>(about: &K) -> Key {
    let kind = K::kind(&()).into_owned();
    (kind, about.namespace(), about.name_any(), about.uid())
}

fn hash(status: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    status.to_string().hash(&mut hasher);
    hasher.finish()
}
