//! The store in memory: for tests, and the plainest statement of the contract.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _};
use tokio::sync::Notify;

use super::{
    Batch, Change, Entry, FOR_EVER, Fence, Read, Revision, Store, StoreError, Txn, Watch, following,
};

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<String, Entry>,
    log: VecDeque<Batch>,
    head: Revision,
    compacted: Revision,
    term: u64,
    handed_out: usize,
}

/// A store that lives as long as the process. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A second store with the content that this one has now: what a volume snapshot put back looks like.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let state = self.lock();
        let copy = State {
            entries: state.entries.clone(),
            log: state.log.clone(),
            head: state.head,
            compacted: state.compacted,
            term: state.term,
            handed_out: 0,
        };
        Self {
            changed: Arc::default(),
            state: Arc::new(Mutex::new(copy)),
        }
    }

    /// Entries that reads have handed out so far: what they cost a store that is far away.
    #[must_use]
    pub fn handed_out(&self) -> usize {
        self.lock().handed_out
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every critical section below leaves the state whole at each point where it could unwind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit_now(&self, txn: Txn, fence: Fence) -> Result<Revision, StoreError> {
        let parts = txn.into_parts()?;
        let mut state = self.lock();
        if fence.0 < state.term {
            return Err(StoreError::Fenced {
                given: fence.0,
                held: state.term,
            });
        }
        for check in &parts.checks {
            check.verify(state.entries.get(&check.key).map(|entry| entry.modified))?;
        }
        state.term = fence.0;
        let revision = following(state.head);
        let mut changes = Vec::new();
        for (key, value) in parts.writes {
            if state.write(&key, value.as_ref(), revision) {
                changes.push(Change { key, value });
            }
        }
        if changes.is_empty() {
            return Ok(state.head);
        }
        state.head = revision;
        state.log.push_back(Batch { revision, changes });
        self.changed.notify_waiters();
        Ok(revision)
    }
}

impl State {
    /// Writes one key and says whether that changed anything.
    fn write(&mut self, key: &str, value: Option<&Bytes>, revision: Revision) -> bool {
        let Some(value) = value else {
            return self.entries.remove(key).is_some();
        };
        let created = self
            .entries
            .get(key)
            .map_or(revision, |entry| entry.created);
        let entry = Entry {
            key: key.to_owned(),
            value: value.clone(),
            created,
            modified: revision,
        };
        self.entries.insert(key.to_owned(), entry);
        true
    }

    fn below(&self, prefix: &str) -> Vec<Entry> {
        self.entries
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(_, entry)| entry.clone())
            .collect()
    }

    /// The first logged transaction above `after` with a change below the prefix, or how far the log was searched.
    fn next_batch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<Result<Batch, Revision>, StoreError> {
        if after < self.compacted {
            return Err(StoreError::Compacted {
                asked: after,
                oldest: self.compacted,
            });
        }
        let start = self.log.partition_point(|batch| batch.revision <= after);
        for batch in self.log.range(start..) {
            let changes: Vec<_> = batch
                .changes
                .iter()
                .filter(|change| change.key.starts_with(prefix))
                .cloned()
                .collect();
            if !changes.is_empty() {
                return Ok(Ok(Batch {
                    revision: batch.revision,
                    changes,
                }));
            }
        }
        Ok(Err(self.head))
    }
}

struct Cursor {
    store: MemoryStore,
    prefix: String,
    after: Revision,
    upto: Revision,
    over: bool,
}

impl Cursor {
    async fn advance(mut self) -> Option<(Result<Batch, StoreError>, Self)> {
        while !self.over {
            let changed = Arc::clone(&self.store.changed);
            // From here on no change is missed.
            let changed = changed.notified();
            let found = self.store.lock().next_batch(&self.prefix, self.after);
            match found {
                Err(error) => {
                    self.over = true;
                    return Some((Err(error), self));
                }
                Ok(Ok(batch)) if batch.revision > self.upto => return None,
                Ok(Ok(batch)) => {
                    self.after = batch.revision;
                    return Some((Ok(batch), self));
                }
                Ok(Err(searched)) => self.after = searched,
            }
            if self.after >= self.upto {
                return None;
            }
            changed.await;
        }
        None
    }
}

impl Store for MemoryStore {
    fn get(&self, key: String) -> BoxFuture<'_, Result<Read<Option<Entry>>, StoreError>> {
        let mut state = self.lock();
        let value = state.entries.get(&key).cloned();
        state.handed_out += usize::from(value.is_some());
        let revision = state.head;
        std::future::ready(Ok(Read { value, revision })).boxed()
    }

    fn get_all(
        &self,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Read<Vec<Option<Entry>>>, StoreError>> {
        let mut state = self.lock();
        let found = keys.iter().map(|key| state.entries.get(key).cloned());
        let value: Vec<_> = found.collect();
        state.handed_out += value.iter().flatten().count();
        let revision = state.head;
        std::future::ready(Ok(Read { value, revision })).boxed()
    }

    fn list(
        &self,
        prefixes: Vec<String>,
    ) -> BoxFuture<'_, Result<Read<Vec<Vec<Entry>>>, StoreError>> {
        let mut state = self.lock();
        let value: Vec<_> = prefixes.iter().map(|prefix| state.below(prefix)).collect();
        state.handed_out += value.iter().map(Vec::len).sum::<usize>();
        let revision = state.head;
        std::future::ready(Ok(Read { value, revision })).boxed()
    }

    fn watch(&self, prefix: String, after: Revision) -> BoxFuture<'_, Result<Watch, StoreError>> {
        self.history(prefix, after, FOR_EVER)
    }

    fn history(
        &self,
        prefix: String,
        after: Revision,
        upto: Revision,
    ) -> BoxFuture<'_, Result<Watch, StoreError>> {
        let (head, compacted) = {
            let state = self.lock();
            (state.head, state.compacted)
        };
        let watch = if after > head {
            Err(StoreError::Ahead { asked: after, head })
        } else if after < compacted {
            Err(StoreError::Compacted {
                asked: after,
                oldest: compacted,
            })
        } else {
            let cursor = Cursor {
                store: self.clone(),
                prefix,
                after,
                upto,
                over: false,
            };
            Ok(stream::unfold(cursor, Cursor::advance).boxed())
        };
        std::future::ready(watch).boxed()
    }

    fn commit(&self, txn: Txn, fence: Fence) -> BoxFuture<'_, Result<Revision, StoreError>> {
        std::future::ready(self.commit_now(txn, fence)).boxed()
    }

    fn compact(&self, upto: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut state = self.lock();
        let upto = upto.min(state.head);
        if upto > state.compacted {
            state.compacted = upto;
            state.log.retain(|batch| batch.revision > upto);
        }
        drop(state);
        self.changed.notify_waiters();
        std::future::ready(Ok(())).boxed()
    }

    fn term(&self) -> BoxFuture<'_, Result<Fence, StoreError>> {
        std::future::ready(Ok(Fence(self.lock().term))).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    conformance::suite!(|| async { conformance::Subject::new(MemoryStore::new(), ()) });
}
