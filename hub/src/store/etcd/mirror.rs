//! A copy of the whole store in memory, fed by a watch: what a replica that follows reads from. It writes nothing, and it
//! knows how old it is: etcd is asked regularly how far it has got, and the copy is as new as the last question whose
//! answer it has reached.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::watch as channel;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::EtcdStore;
use super::seat::Seat;
use super::watch::{self, Told};
use crate::store::{Batch, Entry, Fence, Read, Revision, Store, StoreError, Txn, Watch};

/// Between two questions how far etcd has got.
const EVERY: Duration = Duration::from_secs(1);
/// A watch that does not reach an answer within this is opened again.
const SILENT: Duration = Duration::from_secs(5);
/// Pause after a failure, so that a broken etcd is not asked in a tight loop.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<String, Entry>,
    revision: Revision,
    /// The newest moment at which nothing was missing.
    complete_at: Option<Instant>,
}

/// The copy.
#[derive(Debug)]
pub struct Mirror {
    store: Arc<EtcdStore>,
    state: RwLock<State>,
}

impl Mirror {
    /// A copy that knows nothing until [`Mirror::run`] feeds it.
    #[must_use]
    pub fn new(store: Arc<EtcdStore>) -> Self {
        Self {
            store,
            state: RwLock::default(),
        }
    }

    /// How old the copy is at most; `None` before it was whole for the first time.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.complete_at().map(|at| at.elapsed())
    }

    /// How far it has got.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.read().revision
    }

    /// Who leads: of etcd, not of the copy.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn seat(&self) -> Result<Option<Seat>, StoreError> {
        Ok(self.store.seat().await?.map(|(_, seat)| seat))
    }

    /// Feeds the copy for ever.
    pub async fn run(&self) {
        loop {
            if let Err(error) = self.feed().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the copy of the state is read again"
                );
            }
            sleep(AFTER_FAILURE).await;
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // Every writer leaves the state whole at each point where it could unwind.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads everything, then follows until something fails.
    async fn feed(&self) -> Result<(), StoreError> {
        let begun = Instant::now();
        let Read { value, revision } = self.store.list(vec![String::new()]).await?;
        let entries = value.into_iter().flatten();
        *self.write() = State {
            entries: entries.map(|entry| (entry.key.clone(), entry)).collect(),
            revision,
            complete_at: Some(begun),
        };
        let (ask, asks) = channel::channel(());
        let client = &self.store.client;
        let data = self.store.data();
        let mut told = watch::follow(client, data, "", revision, revision, Some(asks)).await?;
        let mut due = interval(EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut question: Option<(Instant, Revision)> = None;
        loop {
            tokio::select! {
                one = told.next() => match one {
                    Some(one) => self.learn(one?),
                    None => return Ok(()),
                },
                _ = due.tick() => {
                    if question.is_some_and(|(at, _)| at.elapsed() > SILENT) {
                        let what = format!("a watch of etcd told nothing for {} s", SILENT.as_secs());
                        return Err(StoreError::unavailable("watch etcd", what));
                    }
                    if question.is_none() {
                        let at = Instant::now();
                        question = self.asked(at, begun).await?;
                    }
                    ask.send_replace(());
                }
            }
            if let Some((at, head)) = question
                && self.revision() >= head
            {
                self.write().complete_at = Some(at);
                question = None;
            }
        }
    }

    /// How far etcd has got. One question without an answer says nothing about the copy: it only grows older.
    pub(super) async fn asked(
        &self,
        at: Instant,
        begun: Instant,
    ) -> Result<Option<(Instant, Revision)>, StoreError> {
        match self.store.head().await {
            Ok(head) => Ok(Some((at, head))),
            Err(error) if self.complete_at().unwrap_or(begun).elapsed() > SILENT => Err(error),
            Err(error) => {
                tracing::debug!(%error, "etcd did not say how far it has got");
                Ok(None)
            }
        }
    }

    fn complete_at(&self) -> Option<Instant> {
        self.read().complete_at
    }

    fn learn(&self, told: Told) {
        let mut state = self.write();
        match told {
            Told::Complete(revision) => state.revision = state.revision.max(revision),
            Told::Batch(Batch { revision, changes }) => {
                state.revision = state.revision.max(revision);
                for change in changes {
                    let Some(value) = change.value else {
                        state.entries.remove(&change.key);
                        continue;
                    };
                    let before = state.entries.get(&change.key);
                    let created = before.map_or(revision, |entry| entry.created);
                    let entry = Entry {
                        key: change.key.clone(),
                        value,
                        created,
                        modified: revision,
                    };
                    state.entries.insert(change.key, entry);
                }
            }
        }
    }

    fn below(state: &State, prefix: &str) -> Vec<Entry> {
        let from = state.entries.range(prefix.to_owned()..);
        from.take_while(|(key, _)| key.starts_with(prefix))
            .map(|(_, entry)| entry.clone())
            .collect()
    }
}

impl Store for Mirror {
    fn get(&self, key: String) -> BoxFuture<'_, Result<Read<Option<Entry>>, StoreError>> {
        let state = self.read();
        let value = state.entries.get(&key).cloned();
        let revision = state.revision;
        std::future::ready(Ok(Read { value, revision })).boxed()
    }

    fn get_all(
        &self,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Read<Vec<Option<Entry>>>, StoreError>> {
        let state = self.read();
        let value = keys
            .iter()
            .map(|key| state.entries.get(key).cloned())
            .collect();
        let revision = state.revision;
        std::future::ready(Ok(Read { value, revision })).boxed()
    }

    fn list(
        &self,
        prefixes: Vec<String>,
    ) -> BoxFuture<'_, Result<Read<Vec<Vec<Entry>>>, StoreError>> {
        let state = self.read();
        let value = prefixes.iter().map(|it| Self::below(&state, it)).collect();
        let revision = state.revision;
        std::future::ready(Ok(Read { value, revision })).boxed()
    }

    fn watch(&self, prefix: String, after: Revision) -> BoxFuture<'_, Result<Watch, StoreError>> {
        self.store.watch(prefix, after)
    }

    fn history(
        &self,
        prefix: String,
        after: Revision,
        upto: Revision,
    ) -> BoxFuture<'_, Result<Watch, StoreError>> {
        self.store.history(prefix, after, upto)
    }

    fn commit(&self, _: Txn, _: Fence) -> BoxFuture<'_, Result<Revision, StoreError>> {
        std::future::ready(Err(StoreError::NotLeading)).boxed()
    }

    fn compact(&self, _: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        std::future::ready(Err(StoreError::NotLeading)).boxed()
    }

    fn term(&self) -> BoxFuture<'_, Result<Fence, StoreError>> {
        self.store.term()
    }
}
