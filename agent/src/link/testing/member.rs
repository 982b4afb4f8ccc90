//! An API server in memory, as far as the applier needs one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::link::{
    applier::{JournalStore, SaveError},
    journal::Journal,
    kinds::{DELETE_APPROVED, Kind, OBJECT_ID},
    member::{Member, MemberError},
};

/// Objects in memory. Data-bearing kinds have a finalizer: they go only when [`MemoryMember::release`] is called.
#[derive(Clone, Default)]
pub(in crate::link) struct MemoryMember(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<(Kind, String), Value>,
    writes: Vec<String>,
    next_uid: u32,
    unavailable: bool,
}

impl MemoryMember {
    /// Puts an object that somebody else wrote.
    pub(in crate::link) fn put(&self, kind: Kind, name: &str, object: Value) {
        let mut state = self.0.lock().unwrap();
        let mut object = object;
        state.next_uid += 1;
        object["metadata"]["uid"] = json!(format!("uid-{}", state.next_uid));
        object["metadata"]["name"] = json!(name);
        state.objects.insert((kind, name.to_owned()), object);
    }

    /// Takes what the hub wrote beside an object away from it.
    pub(in crate::link) fn strip(&self, kind: Kind, name: &str) {
        let mut state = self.0.lock().unwrap();
        let object = state.objects.get_mut(&(kind, name.to_owned())).unwrap();
        object["metadata"]["annotations"] = json!({});
    }

    pub(in crate::link) fn object(&self, kind: Kind, name: &str) -> Option<Value> {
        self.0
            .lock()
            .unwrap()
            .objects
            .get(&(kind, name.to_owned()))
            .cloned()
    }

    /// Everything there is, for comparisons.
    pub(in crate::link) fn all(&self) -> BTreeMap<(Kind, String), Value> {
        self.0.lock().unwrap().objects.clone()
    }

    /// What was written, in order: `write <kind> <name>`, `approve …`, `delete …`.
    pub(in crate::link) fn writes(&self) -> Vec<String> {
        self.0.lock().unwrap().writes.clone()
    }

    /// The controllers finished their clean-up of an object that is being deleted.
    pub(in crate::link) fn release(&self, kind: Kind, name: &str) {
        let mut state = self.0.lock().unwrap();
        let object = state
            .objects
            .get(&(kind, name.to_owned()))
            .expect("there is such an object");
        assert!(
            object["metadata"]["deletionTimestamp"].is_string(),
            "it is not being deleted"
        );
        state.objects.remove(&(kind, name.to_owned()));
    }

    /// Somebody took the object away.
    pub(in crate::link) fn lose(&self, kind: Kind, name: &str) -> Value {
        self.0
            .lock()
            .unwrap()
            .objects
            .remove(&(kind, name.to_owned()))
            .expect("there is such an object")
    }

    pub(in crate::link) fn set_unavailable(&self, unavailable: bool) {
        self.0.lock().unwrap().unavailable = unavailable;
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&mut State) -> Result<T, MemberError>,
    ) -> Result<T, MemberError> {
        let mut state = self.0.lock().unwrap();
        if state.unavailable {
            return Err(MemberError::Unavailable(
                "the test switched it off".to_owned(),
            ));
        }
        read(&mut state)
    }
}

fn object(value: &Value) -> DynamicObject {
    serde_json::from_value(value.clone()).unwrap()
}

impl Member for MemoryMember {
    async fn get(&self, kind: Kind, name: &str) -> Result<Option<DynamicObject>, MemberError> {
        self.read(|state| Ok(state.objects.get(&(kind, name.to_owned())).map(object)))
    }

    async fn write(
        &self,
        kind: Kind,
        name: &str,
        body: &Value,
        _force: bool,
    ) -> Result<DynamicObject, MemberError> {
        self.read(|state| {
            state.writes.push(format!("write {kind} {name}"));
            state.next_uid += 1;
            let uid = format!("uid-{}", state.next_uid);
            let slot = state
                .objects
                .entry((kind, name.to_owned()))
                .or_insert_with(|| json!({"metadata": {"uid": uid}}));
            if body["metadata"]["uid"].is_string()
                && body["metadata"]["uid"] != slot["metadata"]["uid"]
            {
                return Err(MemberError::Raced("uid mismatch".to_owned()));
            }
            merge(slot, body);
            Ok(object(slot))
        })
    }

    async fn approve_deletion(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
        revision: &str,
    ) -> Result<(), MemberError> {
        self.read(|state| {
            state.writes.push(format!("approve {kind} {name}"));
            let slot = state
                .objects
                .get_mut(&(kind, name.to_owned()))
                .expect("there is such an object");
            assert_eq!(slot["metadata"]["uid"], json!(uid));
            slot["metadata"]["annotations"][DELETE_APPROVED] = json!(revision);
            Ok(())
        })
    }

    async fn delete(&self, kind: Kind, name: &str, uid: &str) -> Result<(), MemberError> {
        self.read(|state| {
            state.writes.push(format!("delete {kind} {name}"));
            let key = (kind, name.to_owned());
            let slot = state
                .objects
                .get_mut(&key)
                .expect("there is such an object");
            assert_eq!(slot["metadata"]["uid"], json!(uid));
            if kind.data_bearing() {
                slot["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            } else {
                state.objects.remove(&key);
            }
            Ok(())
        })
    }

    async fn list(&self) -> Result<Vec<(Kind, DynamicObject)>, MemberError> {
        self.read(|state| {
            let ours = state
                .objects
                .iter()
                .filter(|(_, o)| o["metadata"]["annotations"][OBJECT_ID].is_string());
            Ok(ours.map(|((kind, _), o)| (*kind, object(o))).collect())
        })
    }
}

/// Fields of objects are merged, everything else is replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// A journal in memory.
#[derive(Clone, Default)]
pub(in crate::link) struct MemoryJournal {
    saved: Arc<Mutex<Option<Journal>>>,
    broken: Arc<Mutex<bool>>,
    broken_once: Arc<Mutex<bool>>,
    overtaken: Arc<Mutex<bool>>,
}

impl MemoryJournal {
    /// A journal that was stored by somebody else.
    pub(in crate::link) fn of(stored: Journal) -> Self {
        let journal = Self::default();
        *journal.saved.lock().unwrap() = Some(stored);
        journal
    }

    pub(in crate::link) fn saved(&self) -> Journal {
        self.saved.lock().unwrap().clone().unwrap_or_default()
    }

    /// Another process stores its own from now on.
    pub(in crate::link) fn overtake(&self) {
        *self.overtaken.lock().unwrap() = true;
    }

    /// The next journal is not stored.
    pub(in crate::link) fn break_once(&self) {
        *self.broken_once.lock().unwrap() = true;
    }

    pub(in crate::link) fn set_broken(&self, broken: bool) {
        *self.broken.lock().unwrap() = broken;
    }
}

impl JournalStore for MemoryJournal {
    async fn save(&self, journal: &Journal) -> Result<(), SaveError> {
        if *self.overtaken.lock().unwrap() {
            return Err(SaveError::Overtaken("the test wrote it".to_owned()));
        }
        let once = std::mem::take(&mut *self.broken_once.lock().unwrap());
        if once || *self.broken.lock().unwrap() {
            return Err(SaveError::Failed("the test switched it off".to_owned()));
        }
        // Through the stored form, so that every test covers it.
        *self.saved.lock().unwrap() = Some(Journal::read(&journal.write().unwrap()).unwrap());
        Ok(())
    }
}
