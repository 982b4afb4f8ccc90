//! What the bytes of the store mean: a version byte, then JSON. And typed reads and writes on top of [`Store`].

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use meridian_api::audit::Place;
use meridian_api::ids::{ClusterUid, PlanNumber, Revision};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::keys::{Key, Prefix};
use super::{Entry, Read, Store, StoreError, Txn};

/// Version of the records' shapes. A record of a higher one is refused, never guessed at.
const VERSION: u8 = 1;

/// The hub's own allocators.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Highest plan number given so far.
    pub plan_number: PlanNumber,
    /// No instance id up to this one is given to any database: members may remember it from a store that was lost.
    pub instance_id_floor: u64,
    /// No config version up to this one is given.
    pub config_version_floor: u64,
}

/// Where the chain of the audit log begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEnds {
    /// The newest record.
    pub head: Place,
    /// The last record that is kept no more.
    pub after: Place,
}

/// A store that is being filled from a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Filling {
    /// SHA-256 of the backup.
    pub sha256: String,
    /// Since when.
    pub since: Timestamp,
}

/// Which cluster has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameHolder {
    /// The cluster.
    pub cluster: ClusterUid,
}

/// Says by its revision that something of a kind has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {}

/// Highest session epoch of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEpoch {
    /// The epoch.
    pub epoch: u64,
}

/// What became of an object on a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredOutcome {
    /// Revision that was tried.
    pub revision: Revision,
    /// What happened.
    pub result: OutcomeKind,
    /// Machine-readable reason, empty if it went well.
    pub code: String,
    /// For people.
    pub message: String,
    /// When the hub heard of it.
    pub as_of: Timestamp,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutcomeKind {
    /// Written to the member's API server.
    Applied,
    /// Already so.
    Noop,
    /// Refused; the last good state stays.
    Nack,
    /// Waits for something and is tried again.
    Deferred,
    /// Waits for a person or for a confirmation.
    Held,
}

impl OutcomeKind {
    /// Whether the member holds what it was told.
    #[must_use]
    pub fn is_done(self) -> bool {
        matches!(self, Self::Applied | Self::Noop)
    }
}

/// What a member observes of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredObservation {
    /// Revision that it speaks of.
    pub for_revision: Revision,
    /// The object's status.
    pub status: Value,
    /// For Active-Active databases: the member's row of the link matrix.
    #[serde(default)]
    pub links: Vec<LinkReport>,
    /// When the hub heard of it.
    pub as_of: Timestamp,
}

/// One replication link as its receiving side sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkReport {
    /// Instance id of the source.
    pub instance_id: u64,
    /// Remote cluster that is the source.
    pub from: String,
    /// State in the words of the wire.
    pub state: String,
    /// Last error, empty if none.
    pub last_error: String,
    /// Lag in milliseconds, if known.
    pub lag_ms: Option<u64>,
    /// Since when the state holds, by the member's clock.
    pub since: Timestamp,
}

/// When the steps of a database turned last, by the type of their conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Transitions(pub BTreeMap<String, Transition>);

/// When a step was reached or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    /// Whether it is reached.
    pub is_true: bool,
    /// Since when.
    pub since: Timestamp,
}

/// A record with the revisions that made and last changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held<R> {
    /// The record.
    pub record: R,
    /// Revision that created it.
    pub created: Revision,
    /// Revision that last wrote it.
    pub modified: Revision,
    /// Where it lies.
    pub key: String,
}

/// Writes a record as bytes.
///
/// # Errors
/// [`StoreError::Record`] if it has no JSON form.
pub fn encode<R: Serialize>(key: &Key<R>, record: &R) -> Result<Bytes, StoreError> {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, record).map_err(|e| StoreError::Record {
        key: key.text().to_owned(),
        reason: e.to_string(),
    })?;
    Ok(bytes.into())
}

/// Reads a record from bytes.
///
/// # Errors
/// [`StoreError::Record`] for a higher version or another shape.
pub fn decode<R: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<R, StoreError> {
    let refused = |reason: String| StoreError::Record {
        key: key.to_owned(),
        reason,
    };
    match bytes.split_first() {
        Some((&VERSION, json)) => serde_json::from_slice(json).map_err(|e| refused(e.to_string())),
        Some((version, _)) => Err(refused(format!(
            "version {version}, this program reads version {VERSION}; use the newer hub"
        ))),
        None => Err(refused("empty".to_owned())),
    }
}

fn held<R: DeserializeOwned>(entry: Entry) -> Result<Held<R>, StoreError> {
    let record = decode(&entry.key, &entry.value)?;
    Ok(Held {
        record,
        created: entry.created,
        modified: entry.modified,
        key: entry.key,
    })
}

/// Reads one record.
///
/// # Errors
/// [`StoreError`].
pub async fn get<R: DeserializeOwned>(
    store: &dyn Store,
    key: &Key<R>,
) -> Result<Option<Held<R>>, StoreError> {
    store
        .get(key.text().to_owned())
        .await?
        .value
        .map(held)
        .transpose()
}

/// Reads all records of one kind, in the order of their keys.
///
/// # Errors
/// [`StoreError`].
pub async fn list<R: DeserializeOwned>(
    store: &dyn Store,
    prefix: &Prefix<R>,
) -> Result<Read<Vec<Held<R>>>, StoreError> {
    let Read { value, revision } = store.list(vec![prefix.text().to_owned()]).await?;
    Ok(Read {
        value: all(value.into_iter().flatten())?,
        revision,
    })
}

/// Reads the entries of one kind out of a listing that covered several.
///
/// # Errors
/// [`StoreError::Record`].
pub fn all<R: DeserializeOwned>(
    entries: impl IntoIterator<Item = Entry>,
) -> Result<Vec<Held<R>>, StoreError> {
    entries.into_iter().map(held).collect()
}

/// Typed writes into a transaction.
pub trait TxnExt: Sized {
    /// Writes a record, whatever is there.
    ///
    /// # Errors
    /// [`StoreError::Record`].
    fn put_record<R: Serialize>(self, key: &Key<R>, record: &R) -> Result<Self, StoreError>;

    /// Creates a record that must not be there yet.
    ///
    /// # Errors
    /// [`StoreError::Record`].
    fn create<R: Serialize>(self, key: &Key<R>, record: &R) -> Result<Self, StoreError>;

    /// Replaces a record that must be as it was read.
    ///
    /// # Errors
    /// [`StoreError::Record`].
    fn replace<R: Serialize, H>(
        self,
        key: &Key<R>,
        read: &Held<H>,
        record: &R,
    ) -> Result<Self, StoreError>;

    /// Replaces what was read, or creates what was read as missing.
    ///
    /// # Errors
    /// [`StoreError::Record`].
    fn upsert<R: Serialize>(
        self,
        key: &Key<R>,
        read: Option<&Held<R>>,
        record: &R,
    ) -> Result<Self, StoreError>;

    /// Demands that a record is as it was read.
    #[must_use]
    fn unchanged<R>(self, read: &Held<R>) -> Self;

    /// Demands that a record is as it was read, or still missing.
    #[must_use]
    fn still<R>(self, key: &Key<R>, read: Option<&Held<R>>) -> Self;
}

impl TxnExt for Txn {
    fn put_record<R: Serialize>(self, key: &Key<R>, record: &R) -> Result<Self, StoreError> {
        Ok(self.put(key.text(), encode(key, record)?))
    }

    fn create<R: Serialize>(self, key: &Key<R>, record: &R) -> Result<Self, StoreError> {
        self.absent(key.text()).put_record(key, record)
    }

    fn replace<R: Serialize, H>(
        self,
        key: &Key<R>,
        read: &Held<H>,
        record: &R,
    ) -> Result<Self, StoreError> {
        self.at(key.text(), read.modified).put_record(key, record)
    }

    fn upsert<R: Serialize>(
        self,
        key: &Key<R>,
        read: Option<&Held<R>>,
        record: &R,
    ) -> Result<Self, StoreError> {
        match read {
            Some(read) => self.replace(key, read, record),
            None => self.create(key, record),
        }
    }

    fn unchanged<R>(self, read: &Held<R>) -> Self {
        self.at(read.key.clone(), read.modified)
    }

    fn still<R>(self, key: &Key<R>, read: Option<&Held<R>>) -> Self {
        match read {
            Some(read) => self.unchanged(read),
            None => self.absent(key.text()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::keys;

    #[test]
    fn a_record_of_a_later_version_is_refused_by_key() {
        let key = keys::counters();
        let mut bytes = encode(&key, &Counters::default()).unwrap().to_vec();
        assert_eq!(
            decode::<Counters>(key.text(), &bytes).unwrap(),
            Counters::default()
        );
        bytes[0] = 2;
        let error = decode::<Counters>(key.text(), &bytes)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/meta/counters") && error.contains("version 2"),
            "{error}"
        );
        assert!(decode::<Counters>(key.text(), b"").is_err());
    }
}
