//! A backup put into an empty store, offline. The hub that starts on it opens a new term and only observes until a person
//! adopts it.
//!
//! What is not put back: the starts, because their revisions mean nothing in the new store. So no position that a member
//! remembers is in the restored line, each raises its own doubt, and the allocators rise above what it reports before it
//! is told anything. What a person accepted for single members is of another time and is not put back either, nor are the
//! outcomes that members reported: each speaks of a revision, and the new store gives the same numbers to other states. Nor is what
//! members said of the roots that they hold: they say it again.
//!
//! What a member must present to recover may have changed since the backup: each may recover once with any join state, or
//! those that recovered meanwhile would be taken for copies of themselves.
//!
//! A store is filled in several transactions. Until the last one a mark says so, under which no hub begins; the restore of
//! the same file goes on where it was broken off.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use meridian_api::backup::{Decoder, Record, Summary};

use super::audit::{self, Deed, Trail};
use super::reign::HUB;
use crate::ca::{Authority, CaError};
use crate::domain::cluster::Cluster;
use crate::domain::lineage::Doubt;
use crate::store::records::{self, Filling, Held, TxnExt as _};
use crate::store::{Entry, Fence, MAX_BYTES, Read, Store, StoreError, Txn, keys};

/// Operations of one transaction that write records; room is left for the checks.
const OPERATIONS: usize = 90;

/// A backup that was read to its end and is whole.
#[derive(Clone, Debug)]
pub struct Whole {
    /// What it is.
    pub summary: Summary,
    records: Vec<Record>,
}

/// What a restore did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Records that were put into the store.
    pub records: usize,
    /// Records of the backup that were left out.
    pub left_out: usize,
    /// Whether a restore that was broken off goes on.
    pub goes_on: bool,
    /// The lowest term that the next start opens.
    pub next_term: u64,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The bytes are no backup, or damaged.
    #[error(transparent)]
    Backup(#[from] meridian_api::backup::BackupError),
    /// The members of the backup's store trust another authority.
    #[error(
        "the backup is of a hub with the certificate authority {theirs}, but the one here is {ours}: members that joined trust \
         the former only; put its files root.key and root.crt here, or name the directory that has them (--ca-dir)"
    )]
    OtherAuthority {
        /// Fingerprint of the one here.
        ours: String,
        /// Fingerprint in the backup.
        theirs: String,
    },
    /// Something is in the store.
    #[error(
        "the store is not empty: found {found} records ({what}), expected none. Nothing was written. Restore into another \
         data directory or below another prefix of etcd (--etcd-root), or move what is there aside"
    )]
    NotEmpty {
        /// How many records.
        found: usize,
        /// Whose they are.
        what: String,
    },
    /// The records cannot be those of a hub.
    #[error(
        "the backup holds no record {key}: found none, expected one; it was not taken of a hub that ran"
    )]
    Lacks {
        /// Key of the record.
        key: String,
    },
    /// What was read back is not what was written.
    #[error(
        "the store holds {found} of {expected} records as the backup has them: somebody else writes into it. The restore was \
         not finished and no hub begins on this store"
    )]
    NotAsWritten {
        /// How many are equal.
        found: usize,
        /// How many were written.
        expected: usize,
    },
    /// The files of the authority cannot be read.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The store failed or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Whole {
    /// Reads a backup to its end.
    ///
    /// # Errors
    /// [`RestoreError::Backup`].
    pub fn read(bytes: &[u8]) -> Result<Self, RestoreError> {
        let mut records = Vec::new();
        let mut decoder = Decoder::default();
        decoder.read(bytes, |record| records.push(record))?;
        let summary = decoder.end()?;
        Ok(Self { summary, records })
    }

    /// Refuses an authority that is not the one which the members of the backup trust. One that was rotated since is the same: it
    /// remembers which roots it had, and lets none of them come again.
    ///
    /// # Errors
    /// [`RestoreError::OtherAuthority`], [`RestoreError::Ca`].
    pub fn must_be_of(&self, ca: &Authority) -> Result<(), RestoreError> {
        let (ours, theirs) = (ca.fingerprint(), self.summary.header.authority.clone());
        if ca.knows(&theirs)? {
            return Ok(());
        }
        Err(RestoreError::OtherAuthority { ours, theirs })
    }

    /// What goes into a store, but for the birth: that makes the store a hub's, and is written last.
    fn kept(&self) -> Result<BTreeMap<&str, Cow<'_, [u8]>>, StoreError> {
        let left = [
            keys::birth().text().to_owned(),
            keys::doubt(HUB).text().to_owned(),
            keys::filling().text().to_owned(),
        ];
        let records = self.records.iter().filter(|record| {
            let of_another_time = [
                keys::starts().text().to_owned(),
                keys::all_adopted().text().to_owned(),
                keys::outcomes().text().to_owned(),
                keys::all_trust().text().to_owned(),
            ];
            let starts = of_another_time.iter().any(|it| record.key.starts_with(it));
            !starts && !left.contains(&record.key)
        });
        let clusters = keys::clusters();
        let mut kept = BTreeMap::new();
        for record in records {
            let mut value = Cow::Borrowed(&*record.value);
            if record.key.starts_with(clusters.text()) {
                let mut cluster: Cluster = records::decode(&record.key, &record.value)?;
                cluster.any_join_state = true;
                let key = keys::cluster(cluster.uid);
                value = Cow::Owned(records::encode(&key, &cluster)?.to_vec());
            }
            kept.insert(&*record.key, value);
        }
        Ok(kept)
    }

    fn birth(&self) -> Result<&[u8], RestoreError> {
        let key = keys::birth().text().to_owned();
        let found = self.records.iter().find(|record| record.key == key);
        found
            .map(|record| &*record.value)
            .ok_or(RestoreError::Lacks { key })
    }

    /// Puts the backup into a store that is empty, or says what that would do.
    ///
    /// # Errors
    /// [`RestoreError`]. Nothing was written but after [`RestoreError::Store`] and [`RestoreError::NotAsWritten`], and
    /// then the same call goes on.
    pub async fn put_into(
        &self,
        store: &dyn Store,
        dry_run: bool,
        now: Timestamp,
    ) -> Result<Restored, RestoreError> {
        let birth = self.birth()?.to_vec();
        let begun = self.begun(store).await?;
        let term = Fence(self.summary.header.term.0.max(store.term().await?.0));
        let kept = self.kept()?;
        let restored = Restored {
            records: kept.len() + 1,
            left_out: self.records.len() - kept.len() - 1,
            goes_on: begun.is_some(),
            next_term: term.0 + 1,
        };
        if dry_run {
            return Ok(restored);
        }
        let mark = match begun {
            Some(mark) => mark,
            None => self.mark(store, term, now).await?,
        };
        for txn in filled(&kept, &mark) {
            store.commit(txn, term).await?;
        }
        must_be_as_written(store, &kept).await?;
        let key = keys::birth();
        let txn = Txn::new().unchanged(&mark).delete(&mark.key);
        let txn = txn.absent(key.text()).put(key.text(), birth);
        let txn = txn.put_record(&keys::doubt(HUB), &self.doubt(now))?;
        let deed = Deed::of_hub("restore");
        let txn = audit::written(txn, now, &Trail::default(), &deed)?;
        store.commit(txn, term).await?;
        Ok(restored)
    }

    /// The mark of a restore of this file that was broken off; nothing in a store that is empty.
    async fn begun(&self, store: &dyn Store) -> Result<Option<Held<Filling>>, RestoreError> {
        let mark = records::get(store, &keys::filling()).await?;
        if mark
            .as_ref()
            .is_some_and(|it| it.record.sha256 == self.summary.sha256)
        {
            return Ok(mark);
        }
        let entries = everything(store).await?.value;
        if entries.is_empty() {
            return Ok(None);
        }
        let birth = records::get(store, &keys::birth()).await?;
        let what = match (birth, mark) {
            (Some(birth), _) => format!("store {}", birth.record.store_id),
            (None, Some(mark)) => format!(
                "a restore of another file, SHA-256 {}, was broken off at {}",
                mark.record.sha256, mark.record.since
            ),
            (None, None) => "not of a hub".to_owned(),
        };
        Err(RestoreError::NotEmpty {
            found: entries.len(),
            what,
        })
    }

    async fn mark(
        &self,
        store: &dyn Store,
        term: Fence,
        now: Timestamp,
    ) -> Result<Held<Filling>, RestoreError> {
        let filling = Filling {
            sha256: self.summary.sha256.clone(),
            since: now,
        };
        let txn = Txn::new().absent(keys::birth().text());
        let txn = txn.create(&keys::filling(), &filling)?;
        let modified = store.commit(txn, term).await?;
        Ok(Held {
            record: filling,
            created: modified,
            modified,
            key: keys::filling().text().to_owned(),
        })
    }

    fn doubt(&self, now: Timestamp) -> Doubt {
        let header = &self.summary.header;
        let reason = format!(
            "the store was restored from a backup of term {}, revision {}, taken at {}: what was decided after that is not in it, \
             tokens that were deleted after that are valid again, and clusters and certificates that were denied after that are let in \
             again",
            header.term, header.revision, header.taken_at
        );
        Doubt {
            reason,
            since: now,
            claimed: None,
            seen: None,
        }
    }
}

/// Transactions that write the records, each only while the mark stands.
fn filled(kept: &BTreeMap<&str, Cow<'_, [u8]>>, mark: &Held<Filling>) -> Vec<Txn> {
    let mut txns = Vec::new();
    let (mut txn, mut bytes, mut records) = (Txn::new().unchanged(mark), 0, 0);
    for (key, value) in kept {
        let more = key.len() + value.len();
        if records == OPERATIONS || (records > 0 && bytes + more > MAX_BYTES) {
            txns.push(std::mem::replace(&mut txn, Txn::new().unchanged(mark)));
            (bytes, records) = (0, 0);
        }
        txn = txn.put(*key, value.to_vec());
        (bytes, records) = (bytes + more, records + 1);
    }
    txns.push(txn);
    txns
}

async fn must_be_as_written(
    store: &dyn Store,
    kept: &BTreeMap<&str, Cow<'_, [u8]>>,
) -> Result<(), RestoreError> {
    let entries = everything(store).await?.value;
    let equal = |entry: &&Entry| kept.get(&*entry.key).is_some_and(|it| **it == *entry.value);
    let found = entries.iter().filter(equal).count();
    // The mark is there as well.
    if found == kept.len() && entries.len() == kept.len() + 1 {
        return Ok(());
    }
    let expected = kept.len();
    Err(RestoreError::NotAsWritten { found, expected })
}

async fn everything(store: &dyn Store) -> Result<Read<Vec<Entry>>, StoreError> {
    let Read { value, revision } = store.list(vec!["/".to_owned()]).await?;
    Ok(Read {
        value: value.into_iter().flatten().collect(),
        revision,
    })
}

#[cfg(test)]
mod tests;
