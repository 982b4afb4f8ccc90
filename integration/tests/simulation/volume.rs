//! What a hub's store lies on: the real store in memory behind a disk that takes its time and a seat that can be lost; and
//! the ledger of every deletion that was ever decided on it, which is what deletions on members are judged by.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use meridian_api::ids::{ClusterUid, Incarnation, ObjectId, Revision};
use meridian_hub::{
    domain::{database::Database, desired::Desired, lineage::Start},
    store::{
        Batch, Entry, Fence, Read, Store, StoreError, Txn, Watch, keys, memory::MemoryStore,
        records,
    },
};
use tokio::time::sleep;

use super::dice::Dice;

/// What was decided on a volume.
#[derive(Clone, Debug, Default)]
struct Ledger {
    tombstones: BTreeMap<(ClusterUid, ObjectId), BTreeSet<Revision>>,
    /// Objects of the databases whose deletion a person confirmed.
    confirmed: BTreeSet<ObjectId>,
    /// Starts of hubs that were first written here.
    starts: BTreeSet<Incarnation>,
}

/// A place for a store that outlives the hubs that open it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Volume {
    memory: MemoryStore,
    ledger: Arc<Mutex<Ledger>>,
}

impl Volume {
    /// A copy of what it holds now.
    pub(crate) fn copied(&self) -> Self {
        let mut ledger = self.ledger.lock().unwrap().clone();
        ledger.starts.clear();
        Self {
            memory: self.memory.snapshot(),
            ledger: Arc::new(Mutex::new(ledger)),
        }
    }

    /// The volume as one process has it.
    pub(crate) fn mounted(&self, dice: Dice) -> Mount {
        Mount {
            volume: self.clone(),
            dice,
            lost: Arc::default(),
        }
    }

    /// Whether both are one place.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.ledger, &other.ledger)
    }

    /// What the store holds at this instant.
    pub(crate) fn memory(&self) -> &MemoryStore {
        &self.memory
    }

    /// Whether a hub of this start wrote here first.
    pub(crate) fn began(&self, start: Incarnation) -> bool {
        self.ledger.lock().unwrap().starts.contains(&start)
    }

    /// Whether a tombstone of the object above the revision was ever written for the member.
    pub(crate) fn has_tombstone(
        &self,
        cluster: ClusterUid,
        object: ObjectId,
        above: Revision,
    ) -> bool {
        let ledger = self.ledger.lock().unwrap();
        let known = ledger.tombstones.get(&(cluster, object));
        known.is_some_and(|revisions| revisions.iter().any(|revision| *revision > above))
    }

    /// Whether a person confirmed that the object's database goes.
    pub(crate) fn is_confirmed(&self, object: ObjectId) -> bool {
        self.ledger.lock().unwrap().confirmed.contains(&object)
    }

    fn write_down(&self, batch: Batch) {
        let mut ledger = self.ledger.lock().unwrap();
        for change in batch.changes {
            let Some(value) = change.value else { continue };
            let key = &change.key;
            if key.starts_with(keys::all_desired().text()) {
                let told: Desired = records::decode(key, &value).unwrap();
                if let (Some(place), true) = (keys::cluster_and_object(key), told.is_tombstone()) {
                    let revisions = ledger.tombstones.entry(place).or_default();
                    revisions.insert(batch.revision);
                }
            } else if key.starts_with(keys::databases().text()) {
                let database: Database = records::decode(key, &value).unwrap();
                if database.deletion.is_some() {
                    ledger.confirmed.insert(database.object_id);
                    ledger.confirmed.insert(database.instance_object_id);
                }
            } else if key.starts_with(keys::starts().text()) {
                let start: Start = records::decode(key, &value).unwrap();
                ledger.starts.insert(start.incarnation);
            }
        }
    }
}

/// A volume as one process has it, until another takes it over.
#[derive(Clone, Debug)]
pub(crate) struct Mount {
    volume: Volume,
    dice: Dice,
    lost: Arc<AtomicBool>,
}

impl Mount {
    /// Another process has the store from now on: this one reads and writes nothing any more.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
    }

    async fn turn(&self) -> Result<&MemoryStore, StoreError> {
        let millis = match self.dice.in_range(0..100) {
            0 => self.dice.millis(20..400),
            1..=40 => self.dice.millis(1..6),
            _ => self.dice.millis(0..2),
        };
        if !millis.is_zero() {
            sleep(millis).await;
        }
        if self.lost.load(Ordering::SeqCst) {
            return Err(StoreError::NotLeading);
        }
        Ok(&self.volume.memory)
    }
}

impl Store for Mount {
    fn get(&self, key: String) -> BoxFuture<'_, Result<Read<Option<Entry>>, StoreError>> {
        async move { self.turn().await?.get(key).await }.boxed()
    }

    fn get_all(
        &self,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Read<Vec<Option<Entry>>>, StoreError>> {
        async move { self.turn().await?.get_all(keys).await }.boxed()
    }

    fn list(
        &self,
        prefixes: Vec<String>,
    ) -> BoxFuture<'_, Result<Read<Vec<Vec<Entry>>>, StoreError>> {
        async move { self.turn().await?.list(prefixes).await }.boxed()
    }

    fn watch(&self, prefix: String, after: Revision) -> BoxFuture<'_, Result<Watch, StoreError>> {
        async move {
            let (changes, dice) = (
                self.turn().await?.watch(prefix, after).await?,
                self.dice.fork(),
            );
            let late = changes.then(move |batch| {
                let late = dice.millis(0..20);
                async move {
                    sleep(late).await;
                    batch
                }
            });
            Ok(late.boxed())
        }
        .boxed()
    }

    fn history(
        &self,
        prefix: String,
        after: Revision,
        upto: Revision,
    ) -> BoxFuture<'_, Result<Watch, StoreError>> {
        async move { self.turn().await?.history(prefix, after, upto).await }.boxed()
    }

    fn commit(&self, txn: Txn, fence: Fence) -> BoxFuture<'_, Result<Revision, StoreError>> {
        async move {
            let memory = self.turn().await?;
            let before = memory.list(Vec::new()).await?.revision;
            let revision = memory.commit(txn, fence).await?;
            if revision > before {
                let mut written = memory.history("/".to_owned(), before, revision).await?;
                while let Some(batch) = written.next().await {
                    self.volume.write_down(batch?);
                }
            }
            // Durable, but who asked may end before he hears of it.
            self.turn().await?;
            Ok(revision)
        }
        .boxed()
    }

    fn compact(&self, upto: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        async move { self.turn().await?.compact(upto).await }.boxed()
    }

    fn term(&self) -> BoxFuture<'_, Result<Fence, StoreError>> {
        async move { self.turn().await?.term().await }.boxed()
    }
}
