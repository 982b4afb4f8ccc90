//! Values in maps.

use meridian_crdt::{Digest, Kind, View, ViewError};
use std::collections::{BTreeMap, BTreeSet};

use crate::oracle::Value;

/// Values as clients would read them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryView(pub(crate) BTreeMap<Vec<u8>, Value>);

impl MemoryView {
    pub(crate) fn digest(&self) -> u128 {
        let mut digest = Digest::new();
        for (key, value) in &self.0 {
            match value {
                Value::Text(text) => digest.add_string(key, text),
                Value::Set(set) => set.iter().for_each(|e| digest.add_element(key, e)),
                Value::Map(map) => map.iter().for_each(|(f, v)| digest.add_field(key, f, v)),
            }
        }
        digest.finish()
    }

    fn text(&self, key: &[u8]) -> Result<Option<&Vec<u8>>, ViewError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Set(_) | Value::Map(_)) => Err(wrong("read a string")),
        }
    }

    fn set(&mut self, key: &[u8]) -> Result<&mut BTreeSet<Vec<u8>>, ViewError> {
        match self
            .0
            .entry(key.to_vec())
            .or_insert_with(|| Value::Set(BTreeSet::new()))
        {
            Value::Set(set) => Ok(set),
            Value::Text(_) | Value::Map(_) => Err(wrong("change a set")),
        }
    }

    fn map(&mut self, key: &[u8]) -> Result<&mut BTreeMap<Vec<u8>, Vec<u8>>, ViewError> {
        match self
            .0
            .entry(key.to_vec())
            .or_insert_with(|| Value::Map(BTreeMap::new()))
        {
            Value::Map(map) => Ok(map),
            Value::Text(_) | Value::Set(_) => Err(wrong("change a hash")),
        }
    }
}

fn wrong(action: &'static str) -> ViewError {
    ViewError {
        action,
        reason: "the key is of another kind".to_owned(),
    }
}

impl View for MemoryView {
    fn kind(&mut self, key: &[u8]) -> Result<Option<Kind>, ViewError> {
        Ok(self.0.get(key).map(|value| match value {
            Value::Text(_) => Kind::String,
            Value::Set(_) => Kind::Set,
            Value::Map(_) => Kind::Hash,
        }))
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), ViewError> {
        self.0.remove(key);
        Ok(())
    }

    fn string(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        Ok(self.text(key)?.cloned())
    }

    fn set_string(&mut self, key: &[u8], value: &[u8]) -> Result<(), ViewError> {
        self.text(key)?;
        self.0.insert(key.to_vec(), Value::Text(value.to_vec()));
        Ok(())
    }

    fn set_insert(&mut self, key: &[u8], element: &[u8]) -> Result<(), ViewError> {
        self.set(key)?.insert(element.to_vec());
        Ok(())
    }

    fn set_remove(&mut self, key: &[u8], element: &[u8]) -> Result<(), ViewError> {
        let set = self.set(key)?;
        set.remove(element);
        if set.is_empty() {
            self.0.remove(key);
        }
        Ok(())
    }

    fn hash_get(&mut self, key: &[u8], field: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Map(map)) => Ok(map.get(field).cloned()),
            Some(Value::Text(_) | Value::Set(_)) => Err(wrong("read a hash")),
        }
    }

    fn hash_set(&mut self, key: &[u8], field: &[u8], value: &[u8]) -> Result<(), ViewError> {
        self.map(key)?.insert(field.to_vec(), value.to_vec());
        Ok(())
    }

    fn hash_remove(&mut self, key: &[u8], field: &[u8]) -> Result<(), ViewError> {
        let map = self.map(key)?;
        map.remove(field);
        if map.is_empty() {
            self.0.remove(key);
        }
        Ok(())
    }
}

/// A view that fails once, at the given number of changes from now.
#[derive(Debug, Default)]
pub(crate) struct FailingView {
    pub(crate) values: MemoryView,
    pub(crate) fails_in: Option<u8>,
}

impl FailingView {
    fn next(&mut self) -> Result<&mut MemoryView, ViewError> {
        self.fails_in = match self.fails_in {
            Some(0) => {
                self.fails_in = None;
                return Err(ViewError {
                    action: "work",
                    reason: "it was told to fail".to_owned(),
                });
            }
            left => left.map(|left| left - 1),
        };
        Ok(&mut self.values)
    }
}

impl View for FailingView {
    fn kind(&mut self, key: &[u8]) -> Result<Option<Kind>, ViewError> {
        self.next()?.kind(key)
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), ViewError> {
        self.next()?.delete(key)
    }

    fn string(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        self.next()?.string(key)
    }

    fn set_string(&mut self, key: &[u8], value: &[u8]) -> Result<(), ViewError> {
        self.next()?.set_string(key, value)
    }

    fn set_insert(&mut self, key: &[u8], element: &[u8]) -> Result<(), ViewError> {
        self.next()?.set_insert(key, element)
    }

    fn set_remove(&mut self, key: &[u8], element: &[u8]) -> Result<(), ViewError> {
        self.next()?.set_remove(key, element)
    }

    fn hash_get(&mut self, key: &[u8], field: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        self.next()?.hash_get(key, field)
    }

    fn hash_set(&mut self, key: &[u8], field: &[u8], value: &[u8]) -> Result<(), ViewError> {
        self.next()?.hash_set(key, field, value)
    }

    fn hash_remove(&mut self, key: &[u8], field: &[u8]) -> Result<(), ViewError> {
        self.next()?.hash_remove(key, field)
    }
}
