//! The readable values that the metadata describes. The module implements this over native Valkey keys, tests over maps.

/// The type of a key's visible value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A string: register and counter in one.
    String,
    /// A set of elements.
    Set,
    /// A map of fields, each a register and counter in one.
    Hash,
}

/// The store behind a view refused an operation. The caller treats the shard as damaged: the effect is not counted as
/// applied, and applying it again is safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value store refused to {action}: {reason}")]
pub struct ViewError {
    /// What was tried, as a verb phrase that names the key's kind.
    pub action: &'static str,
    /// What the store said.
    pub reason: String,
}

/// Values as clients read them. Keys, elements, fields and values are any bytes.
///
/// An operation on a key of another kind than it asks for is an error; a key that is absent counts as an empty value.
/// A set or hash without elements does not exist: removing the last element or field removes the key. Nothing here may
/// record a write of its own (effects are the only thing that is propagated).
pub trait View {
    /// Kind of the key, `None` if it does not exist.
    ///
    /// # Errors
    /// The store failed, or the key holds a type that has no merge rule.
    fn kind(&mut self, key: &[u8]) -> Result<Option<Kind>, ViewError>;
    /// Removes the key, whatever its kind; an absent key is no error.
    ///
    /// # Errors
    /// The store failed.
    fn delete(&mut self, key: &[u8]) -> Result<(), ViewError>;
    /// The value of a string key.
    ///
    /// # Errors
    /// The store failed, or the key is of another kind.
    fn string(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError>;
    /// Creates or replaces a string key.
    ///
    /// # Errors
    /// The store failed, or the key is of another kind.
    fn set_string(&mut self, key: &[u8], value: &[u8]) -> Result<(), ViewError>;
    /// Adds an element to a set; one that is present is no error.
    ///
    /// # Errors
    /// The store failed, or the key is of another kind.
    fn set_insert(&mut self, key: &[u8], element: &[u8]) -> Result<(), ViewError>;
    /// Removes an element from a set; one that is absent is no error.
    ///
    /// # Errors
    /// The store failed, or the key is of another kind.
    fn set_remove(&mut self, key: &[u8], element: &[u8]) -> Result<(), ViewError>;
    /// The value of one field of a hash.
    ///
    /// # Errors
    /// The store failed, or the key is of another kind.
    fn hash_get(&mut self, key: &[u8], field: &[u8]) -> Result<Option<Vec<u8>>, ViewError>;
    /// Creates or replaces one field of a hash.
    ///
    /// # Errors
    /// The store failed, or the key is of another kind.
    fn hash_set(&mut self, key: &[u8], field: &[u8], value: &[u8]) -> Result<(), ViewError>;
    /// Removes one field of a hash; one that is absent is no error.
    ///
    /// # Errors
    /// The store failed, or the key is of another kind.
    fn hash_remove(&mut self, key: &[u8], field: &[u8]) -> Result<(), ViewError>;
}
