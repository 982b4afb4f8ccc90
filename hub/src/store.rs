//! The hub's durable state behind one small interface.
//!
//! A store is a sorted map from text keys to bytes with **one** revision counter: every transaction that changes
//! something takes the next revision, and every read says at which revision it was taken. The interface promises
//! only what both an embedded file and etcd can keep: reads of one revision, compare-and-swap transactions of at
//! most [`MAX_OPERATIONS`] operations, a watch that resumes from a revision, and refusal of writers of an older term.
//!
//! Used by `app`, `lineage` and `tasks`. Only [`keys`] spells keys and only [`records`] knows what the bytes mean.

pub mod etcd;
pub mod keys;
pub mod memory;
pub mod records;
pub mod redb;
mod txn;

#[cfg(test)]
mod conformance;

use std::fmt;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
pub use meridian_api::ids::Revision;

pub use txn::{Check, Expect, Txn};

/// Most checks, puts and deletes that one transaction may hold. etcd allows 128 of each kind by default.
pub const MAX_OPERATIONS: usize = 100;
/// Most bytes of keys and values that one transaction may write. etcd allows 1.5 MiB for a whole request.
pub const MAX_BYTES: usize = 1024 * 1024;

/// The term under which a writer writes. A store refuses a writer whose term is lower than one that it has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(pub u64);

/// One key, its value, and the revisions that made and last changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key as `keys` spelled it.
    pub key: String,
    /// The bytes as `records` encoded them.
    pub value: Bytes,
    /// Revision of the transaction that created the key (a deleted and recreated key starts again).
    pub created: Revision,
    /// Revision of the transaction that last wrote the key.
    pub modified: Revision,
}

/// What a read found, and the revision at which the whole of it was true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<T> {
    /// What was found.
    pub value: T,
    /// The store's revision at that moment.
    pub revision: Revision,
}

/// One changed key in a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The changed key.
    pub key: String,
    /// The new value; `None` if the key was deleted.
    pub value: Option<Bytes>,
}

/// The changes of one transaction that a watch asked for, in key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Revision of the transaction.
    pub revision: Revision,
    /// Its changes under the watched prefix, never empty.
    pub changes: Vec<Change>,
}

/// Batches in the order of their revisions, without gaps. After an error the stream ends.
pub type Watch = BoxStream<'static, Result<Batch, StoreError>>;

/// Why a store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A check of the transaction did not hold; nothing was written. Read again and decide again.
    #[error(
        "key {key}: expected {expected}, found {found}; somebody else wrote it, read again",
        found = Shown(*found)
    )]
    Conflict {
        /// The key whose check failed.
        key: String,
        /// What the transaction expected.
        expected: Expect,
        /// The key's revision, `None` if absent.
        found: Option<Revision>,
    },
    /// The writer's term is over: another hub process has taken a higher one.
    #[error(
        "the writer's term {given} is below the store's term {held}: another hub has taken over, stop writing"
    )]
    Fenced {
        /// Term of the refused writer.
        given: u64,
        /// Highest term that the store has seen.
        held: u64,
    },
    /// The writer does not lead: another replica has the seat, or nobody.
    #[error(
        "this hub does not lead the replicas of its store, so that it may write nothing; the one that leads may"
    )]
    NotLeading,
    /// The asked history is gone. List again and watch from the listing's revision.
    #[error(
        "revision {asked} is compacted, the oldest that can be resumed from is {oldest}; list again"
    )]
    Compacted {
        /// Revision from which the watch should have resumed.
        asked: Revision,
        /// The lowest revision from which it could.
        oldest: Revision,
    },
    /// The asked revision was never written here: the store is older than the reader's knowledge.
    #[error(
        "revision {asked} is ahead of the store's revision {head}: this store is older than what was read before"
    )]
    Ahead {
        /// Revision that was asked for.
        asked: Revision,
        /// The store's latest revision.
        head: Revision,
    },
    /// The transaction has too many operations.
    #[error("a transaction of {found} operations is above the limit of {MAX_OPERATIONS}")]
    TooManyOperations {
        /// Number of checks, puts and deletes.
        found: usize,
    },
    /// The transaction writes too many bytes.
    #[error("a transaction of {found} bytes is above the limit of {MAX_BYTES}")]
    TooManyBytes {
        /// Bytes of keys and values.
        found: usize,
    },
    /// The transaction writes a key twice, so its outcome would depend on an order.
    #[error("key {key} is written twice in one transaction")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// The file was written by a newer program.
    #[error(
        "{path} has store format {found}, this program reads up to {supported}; use the newer hub"
    )]
    Format {
        /// The file.
        path: String,
        /// Format number found in it.
        found: u64,
        /// Highest format number that this program knows.
        supported: u64,
    },
    /// A stored record cannot be read.
    #[error("record under {key}: {reason}")]
    Record {
        /// Where it is stored.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The medium failed; whether a commit took place is unknown until the store is read again.
    #[error("the store could not {operation}")]
    Unavailable {
        /// What was tried.
        operation: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    pub(crate) fn unavailable(
        operation: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Unavailable {
            operation,
            source: source.into(),
        }
    }
}

/// Where a watch ends that has no end.
const FOR_EVER: Revision = Revision(u64::MAX);

/// The revision that the next changing transaction takes.
fn following(head: Revision) -> Revision {
    Revision(head.0 + 1)
}

struct Shown(Option<Revision>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(revision) => write!(f, "revision {revision}"),
            None => f.write_str("nothing"),
        }
    }
}

/// The contract of the hub's state. `conformance` states it as tests that every implementation passes.
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Reads one key.
    fn get(&self, key: String) -> BoxFuture<'_, Result<Read<Option<Entry>>, StoreError>>;

    /// Reads each of the keys, all at **one** revision; one answer for each, in their order.
    fn get_all(
        &self,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Read<Vec<Option<Entry>>>, StoreError>>;

    /// Reads every key below each of the prefixes, all at **one** revision; one list per prefix, in key order.
    fn list(
        &self,
        prefixes: Vec<String>,
    ) -> BoxFuture<'_, Result<Read<Vec<Vec<Entry>>>, StoreError>>;

    /// Changes below the prefix with a revision **above** `after`, then further ones as they are committed.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] if that history is gone, [`StoreError::Ahead`] if it was never written here. The
    /// stream itself yields `Compacted` and ends when the reader falls behind the compaction.
    fn watch(&self, prefix: String, after: Revision) -> BoxFuture<'_, Result<Watch, StoreError>>;

    /// As [`Store::watch`], but only up to a revision at which this store was read: then the stream ends.
    ///
    /// # Errors
    /// As [`Store::watch`].
    fn history(
        &self,
        prefix: String,
        after: Revision,
        upto: Revision,
    ) -> BoxFuture<'_, Result<Watch, StoreError>>;

    /// Carries out all of the transaction or nothing, under the term of the fence, and returns the revision at which
    /// it is durable. A transaction that changes nothing takes no revision. A fence above the store's term raises it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`], [`StoreError::Fenced`], the limits, or [`StoreError::Unavailable`].
    fn commit(&self, txn: Txn, fence: Fence) -> BoxFuture<'_, Result<Revision, StoreError>>;

    /// Forgets the history up to and including `upto`; current values stay.
    fn compact(&self, upto: Revision) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The highest term that has written, 0 for none.
    fn term(&self) -> BoxFuture<'_, Result<Fence, StoreError>>;

    /// Size of the file that holds it, bytes; `None` for a store that is in none, or where it cannot be read.
    fn file_bytes(&self) -> Option<u64> {
        None
    }
}
