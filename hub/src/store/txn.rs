//! Transactions: what is checked, what is written, and the limits that every store enforces the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;

use super::{MAX_BYTES, MAX_OPERATIONS, Revision, StoreError};

/// What a transaction demands of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key was last written at exactly this revision.
    At(Revision),
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("nothing"),
            Self::At(revision) => write!(f, "revision {revision}"),
        }
    }
}

/// One demand of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The key.
    pub key: String,
    /// What must hold for it.
    pub expect: Expect,
}

impl Check {
    /// Whether a key whose last revision is `found` satisfies this check.
    pub(super) fn verify(&self, found: Option<Revision>) -> Result<(), StoreError> {
        let holds = match self.expect {
            Expect::Absent => found.is_none(),
            Expect::At(revision) => found == Some(revision),
        };
        if holds {
            return Ok(());
        }
        Err(StoreError::Conflict {
            key: self.key.clone(),
            expected: self.expect,
            found,
        })
    }
}

/// A transaction under construction. Checks are evaluated on the state before it.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    checks: Vec<Check>,
    writes: Vec<(String, Option<Bytes>)>,
}

impl Txn {
    /// A transaction that does nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Demands that the key does not exist.
    #[must_use]
    pub fn absent(mut self, key: impl Into<String>) -> Self {
        self.checks.push(Check {
            key: key.into(),
            expect: Expect::Absent,
        });
        self
    }

    /// Demands that the key was last written at this revision.
    #[must_use]
    pub fn at(mut self, key: impl Into<String>, revision: Revision) -> Self {
        self.checks.push(Check {
            key: key.into(),
            expect: Expect::At(revision),
        });
        self
    }

    /// Writes a key.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.writes.push((key.into(), Some(value.into())));
        self
    }

    /// Deletes a key; one that is absent already is no change.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.writes.push((key.into(), None));
        self
    }

    /// Number of operations, to split work before a limit is met.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.checks.len() + self.writes.len()
    }

    /// Bytes of keys and values that are written, to split work before a limit is met.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let writes = self.writes.iter();
        writes
            .map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len))
            .sum()
    }

    /// Both in one: all of it is carried out, or nothing.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.checks.extend(other.checks);
        self.writes.extend(other.writes);
        self
    }

    /// Whether the transaction writes nothing.
    #[must_use]
    pub fn writes_nothing(&self) -> bool {
        self.writes.is_empty()
    }

    /// Applies the limits and hands the parts to an implementation; the writes come sorted by key.
    pub(super) fn into_parts(self) -> Result<Parts, StoreError> {
        let operations = self.operations();
        if operations > MAX_OPERATIONS {
            return Err(StoreError::TooManyOperations { found: operations });
        }
        let bytes = self.bytes();
        if bytes > MAX_BYTES {
            return Err(StoreError::TooManyBytes { found: bytes });
        }
        let mut seen = BTreeSet::new();
        if let Some((key, _)) = self
            .writes
            .iter()
            .find(|(key, _)| !seen.insert(key.as_str()))
        {
            return Err(StoreError::DuplicateKey { key: key.clone() });
        }
        Ok(Parts {
            checks: self.checks,
            writes: self.writes.into_iter().collect(),
        })
    }
}

/// A transaction within the limits.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) checks: Vec<Check>,
    pub(super) writes: BTreeMap<String, Option<Bytes>>,
}
