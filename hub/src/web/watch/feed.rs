//! One reader of the store per kind, however many watch it. When a record changed that objects are shown from it reads these again,
//! or lists the kind if they are many or not known, as often as a small share of one core allows. It stands for as long as somebody
//! watches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt as _;
use meridian_api::ids::{ObjectId, Revision};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::snapshot::Snapshot;
use crate::app::App;
use crate::domain::access::grant::Scope;
use crate::store::{Batch, Read, StoreError, keys};
use crate::web::answer::Failure;
use crate::web::databases;
use crate::web::kinds::{Kind, Listed, Touched};

/// Objects that are read by themselves. More of them are listed.
const FEW: usize = 64;
/// How often what changed while objects were read is read after them, before they are listed.
const TURNS: usize = 8;
/// Pause after a failure, so that a broken store is not asked in a tight loop.
const AFTER_FAILURE: Duration = Duration::from_millis(500);
/// After it has read at least this many times as long as it took is rested, so that it takes a tenth of one core at most.
const REST: u32 = 9;
/// Longest rest.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// What a kind is.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// Its objects; `None` before they were read for the first time.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// Everything up to here is in the snapshot.
    pub(super) upto: Revision,
    /// Changes whenever somebody's right to read may have changed.
    pub(super) rights: u64,
}

/// The reader of one kind; it ends when nobody holds this.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) state: watch::Receiver<State>,
    wake: Arc<Notify>,
    _end: DropGuard,
}

/// The readers that stand.
#[derive(Debug, Default)]
pub(super) struct Feeds(Mutex<BTreeMap<Kind, Weak<Feed>>>);

impl Feeds {
    /// The reader of a kind, which begins to read if nobody watched that kind before.
    pub(super) fn of(
        &self,
        kind: Kind,
        app: &Arc<App>,
        stop: &CancellationToken,
        tracker: &TaskTracker,
    ) -> Arc<Feed> {
        let mut feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(feed) = feeds.get(&kind).and_then(Weak::upgrade) {
            return feed;
        }
        let (told, state) = watch::channel(State {
            snapshot: None,
            upto: Revision::default(),
            rights: 0,
        });
        let (wake, end) = (Arc::new(Notify::new()), stop.child_token());
        let reader = Reader {
            kind,
            app: Arc::clone(app),
            told,
            wake: Arc::clone(&wake),
        };
        let ended = end.clone();
        tracker.spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = reader.run() => {}
            }
        });
        let feed = Arc::new(Feed {
            state,
            wake,
            _end: end.drop_guard(),
        });
        feeds.insert(kind, Arc::downgrade(&feed));
        feed
    }
}

impl Feed {
    /// Waits until the objects are known, as they were at this revision or later.
    pub(super) async fn reached(&self, revision: Revision) -> Option<(Arc<Snapshot>, Revision)> {
        let mut state = self.state.clone();
        if state.borrow().upto < revision {
            self.wake.notify_one();
        }
        let reached = state.wait_for(|state| state.snapshot.is_some() && state.upto >= revision);
        let reached = reached.await.ok()?;
        Some((Arc::clone(reached.snapshot.as_ref()?), reached.upto))
    }
}

struct Reader {
    kind: Kind,
    app: Arc<App>,
    told: watch::Sender<State>,
    wake: Arc<Notify>,
}

impl Reader {
    async fn run(self) {
        loop {
            if let Err(failure) = self.read_on().await {
                tracing::warn!(kind = self.kind.name(), %failure, "what is watched is read again");
            }
            sleep(AFTER_FAILURE).await;
        }
    }

    /// Reads everything, then what changes, until something fails.
    async fn read_on(&self) -> Result<(), Failure> {
        let mut due = self.rest_after(self.list()).await?;
        let mut behind: Option<Behind> = None;
        let from = self.told.borrow().upto;
        let mut changes = self.app.store().watch(String::new(), from).await?;
        loop {
            tokio::select! {
                batch = changes.next() => {
                    let ended = || StoreError::unavailable("go on telling changes", "the watch ended");
                    self.learn(&batch.ok_or_else(ended)??, &mut behind);
                }
                () = self.wake.notified() => drop(behind.get_or_insert_default()),
                () = sleep_until(due), if behind.is_some() => {
                    let behind = behind.take().unwrap_or_default();
                    due = self.rest_after(self.catch_up(behind)).await?;
                }
            }
        }
    }

    /// Tells when to read next at the earliest.
    async fn rest_after(
        &self,
        reading: impl Future<Output = Result<(), Failure>>,
    ) -> Result<Instant, Failure> {
        let begun = Instant::now();
        reading.await?;
        let now = Instant::now();
        Ok(now + ((now - begun) * REST).min(LONGEST_REST))
    }

    async fn catch_up(&self, behind: Behind) -> Result<(), Failure> {
        let before = self.told.borrow().clone();
        if let (Kind::Database, false, Some(snapshot)) =
            (self.kind, behind.all, before.snapshot.as_ref())
            && let Some(next) = self.some(snapshot, before.upto, behind).await?
        {
            self.told.send_modify(|state| {
                state.upto = next.revision;
                state.snapshot = Some(Arc::new(next));
            });
            return Ok(());
        }
        self.list().await
    }

    /// The databases after those that changed were read again, all of them as they were at one revision; `None` if they have to be
    /// listed.
    async fn some(
        &self,
        before: &Snapshot,
        mut upto: Revision,
        behind: Behind,
    ) -> Result<Option<Snapshot>, Failure> {
        let mut found: BTreeMap<String, Listed> = BTreeMap::new();
        let mut looked_at = BTreeSet::new();
        let mut names = behind.names(before, &found);
        for _ in 0..TURNS {
            if names.len() > FEW {
                return Ok(None);
            }
            let Read { value, revision } = databases::listed_of(&self.app, &names).await?;
            found.retain(|name, _| !names.contains(name));
            found.extend(value.into_iter().map(|one| (one.name.clone(), one)));
            let Some(missed) = self.between(upto, revision).await? else {
                return Ok(None);
            };
            let mut next = missed.names(before, &found);
            next.retain(|name| !names.contains(name));
            looked_at.append(&mut names);
            upto = revision;
            if next.is_empty() {
                let value = found.into_values().collect();
                return Ok(Some(before.with(&looked_at, Read { value, revision })));
            }
            names = next;
        }
        Ok(None)
    }

    /// What changed after one revision and up to another; `None` if that is not known, or may be anything.
    async fn between(&self, after: Revision, upto: Revision) -> Result<Option<Behind>, Failure> {
        let mut missed = Behind::default();
        let history = self.app.store().history(String::new(), after, upto).await;
        let mut history = match history {
            Err(StoreError::Compacted { .. }) => return Ok(None),
            history => history?,
        };
        while let Some(batch) = history.next().await {
            for change in batch?.changes {
                missed.add(self.kind.touched_by(&change.key));
            }
        }
        Ok((!missed.all).then_some(missed))
    }

    /// Lists again.
    async fn list(&self) -> Result<(), Failure> {
        let read = self.kind.read(&self.app, &Scope::all()).await?;
        self.told.send_if_modified(|state| {
            let before = state.snapshot.take();
            if let Some(before) = before
                .as_ref()
                .filter(|before| before.revision >= read.revision)
            {
                state.snapshot = Some(Arc::clone(before));
                return false;
            }
            state.upto = read.revision;
            state.snapshot = Some(Arc::new(match before {
                Some(before) => before.next(read),
                None => Snapshot::first(self.kind, read),
            }));
            true
        });
        Ok(())
    }

    /// Notes which objects have to be read because of this change. One that does not concern them is passed, unless one before it
    /// is not read yet.
    fn learn(&self, batch: &Batch, behind: &mut Option<Behind>) {
        let mut changed = batch.changes.iter();
        let is_of_rights = changed.any(|change| change.key.starts_with(keys::users().text()));
        self.told.send_if_modified(|state| {
            state.rights += u64::from(is_of_rights);
            if batch.revision > state.upto {
                for change in &batch.changes {
                    let touched = self.kind.touched_by(&change.key);
                    if touched != Touched::None {
                        behind.get_or_insert_default().add(touched);
                    }
                }
                if behind.is_none() {
                    state.upto = batch.revision;
                }
            }
            is_of_rights
        });
    }
}

/// What has to be read.
#[derive(Debug, Default)]
struct Behind {
    /// Nobody knows what, or all.
    all: bool,
    named: BTreeSet<String>,
    of_parts: BTreeSet<ObjectId>,
}

impl Behind {
    fn add(&mut self, touched: Touched) {
        match touched {
            Touched::None => {}
            Touched::All => self.all = true,
            Touched::Named(name) => drop(self.named.insert(name)),
            Touched::OfPart(part) => drop(self.of_parts.insert(part)),
        }
    }

    /// The objects by name: those that are shown from the parts were there before, or have been found since.
    fn names(&self, before: &Snapshot, found: &BTreeMap<String, Listed>) -> BTreeSet<String> {
        let mut names = before.names_of(&self.of_parts);
        let found = found.values();
        let found = found.filter(|one| one.parts.iter().any(|part| self.of_parts.contains(part)));
        names.extend(found.map(|one| one.name.clone()));
        names.extend(self.named.iter().cloned());
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::testing::{LAB_1, TestHub, database, uid};
    use crate::app::writes::Manner;
    use crate::domain::cluster::Presence;
    use crate::store::records::{StoredObservation, TxnExt as _};
    use crate::store::{Change, Txn};
    use crate::web::watch::snapshot::{Asked, Event, Past};

    #[tokio::test]
    async fn what_does_not_concern_a_kind_is_not_passed_before_what_does_is_listed() {
        let (told, state) = watch::channel(State {
            snapshot: None,
            upto: Revision::default(),
            rights: 0,
        });
        let reader = Reader {
            kind: Kind::Token,
            app: TestHub::new().await.app,
            told,
            wake: Arc::default(),
        };
        reader.list().await.unwrap();
        let listed = state.borrow().upto;
        let batch = |after: u64, key: &str| Batch {
            revision: Revision(listed.0 + after),
            changes: vec![Change {
                key: key.to_owned(),
                value: None,
            }],
        };
        let mut behind = None;
        reader.learn(&batch(1, "/presence/x"), &mut behind);
        assert_eq!(state.borrow().upto.0, listed.0 + 1);
        assert!(behind.is_none());
        reader.learn(&batch(2, "/token/x"), &mut behind);
        assert!(behind.is_some());
        reader.learn(&batch(3, "/presence/x"), &mut behind);
        assert_eq!(
            state.borrow().upto.0,
            listed.0 + 1,
            "the token is not listed yet"
        );
        behind = None;
        reader.learn(&batch(1, "/token/x"), &mut behind);
        assert!(behind.is_none(), "it is listed already");
        assert_eq!(state.borrow().rights, 0);
        reader.learn(&batch(4, "/user/x"), &mut behind);
        assert_eq!(state.borrow().rights, 1);
    }

    fn reader(kind: Kind, app: Arc<App>) -> (Reader, watch::Receiver<State>) {
        let (told, state) = watch::channel(State {
            snapshot: None,
            upto: Revision::default(),
            rights: 0,
        });
        let wake = Arc::default();
        let reader = Reader {
            kind,
            app,
            told,
            wake,
        };
        (reader, state)
    }

    async fn observed(hub: &TestHub, name: &str, status: &str) -> Revision {
        let object = hub.app.database(name).await.unwrap().record.object_id;
        let seen = StoredObservation {
            for_revision: Revision(1),
            status: serde_json::json!({ "status": status }),
            links: Vec::new(),
            as_of: hub.app.now(),
        };
        let key = keys::observed(uid(LAB_1), object);
        let txn = Txn::new().put_record(&key, &seen).unwrap();
        hub.app.commit(txn).await.unwrap()
    }

    fn told(state: &watch::Receiver<State>, seen: Revision) -> Vec<String> {
        let state = state.borrow();
        let asked = Asked {
            name: None,
            scope: Scope::all(),
        };
        let news = state.snapshot.as_ref().unwrap();
        let news = news.news(seen, &Past::default(), &asked).into_iter();
        let named = |event: Event| {
            let object: serde_json::Value = serde_json::from_slice(&event.object).unwrap();
            object["metadata"]["name"].as_str().unwrap().to_owned()
        };
        news.map(named).collect()
    }

    #[tokio::test]
    async fn databases_that_change_are_read_by_themselves_with_all_that_came_meanwhile() {
        let hub = TestHub::new().await;
        hub.member("eu", LAB_1).await;
        for n in 0..20 {
            let new = database(&format!("db-{n}"), &["eu"]);
            let made = hub.app.create_database(&new, &Manner::default()).await;
            made.unwrap();
        }
        let (reader, state) = reader(Kind::Database, Arc::clone(&hub.app));
        reader.list().await.unwrap();
        let listed = state.borrow().upto;
        let (first, cost) = (
            observed(&hub, "db-3", "active").await,
            hub.store.handed_out(),
        );
        // The watch has told of one, and the other came since.
        let key = "/observed/".to_owned();
        let mut watch = hub.app.store().watch(key, listed).await.unwrap();
        let batch = watch.next().await.unwrap().unwrap();
        let mut behind = None;
        reader.learn(&batch, &mut behind);
        let second = observed(&hub, "db-7", "active").await;
        reader.catch_up(behind.unwrap()).await.unwrap();
        assert_eq!(told(&state, listed), ["db-3", "db-7"]);
        assert_eq!(
            told(&state, first),
            ["db-3", "db-7"],
            "both at one revision"
        );
        assert_eq!(state.borrow().upto, second);
        assert!(told(&state, second).is_empty());
        let cost = hub.store.handed_out() - cost;
        assert!(cost < 20, "{cost} entries were read for two databases");

        let manner = Manner::default();
        let gone = hub.app.commit(Txn::new().delete("/database/db-3")).await;
        let (gone, mut behind) = (gone.unwrap(), Behind::default());
        behind.add(Touched::Named("db-3".to_owned()));
        let new = database("one-more", &["eu"]);
        hub.app.create_database(&new, &manner).await.unwrap();
        reader.catch_up(behind).await.unwrap();
        assert_eq!(told(&state, second), ["db-3", "one-more"]);
        assert!(state.borrow().upto > gone);
    }

    #[tokio::test]
    async fn what_may_be_anything_is_listed() {
        let hub = TestHub::new().await;
        hub.member("eu", LAB_1).await;
        let new = database("db", &["eu"]);
        let made = hub.app.create_database(&new, &Manner::default()).await;
        made.unwrap();
        let (reader, state) = reader(Kind::Database, Arc::clone(&hub.app));
        reader.list().await.unwrap();
        let listed = state.borrow().upto;
        let presence = hub.app.presence(uid(LAB_1), Presence::Connected, 1);
        presence.await.unwrap();
        let mut behind = Behind::default();
        behind.add(Kind::Database.touched_by(keys::presence(uid(LAB_1)).text()));
        reader.catch_up(behind).await.unwrap();
        assert_eq!(told(&state, listed), ["db"]);
        // Also if the change of all came while one was read.
        let listed = state.borrow().upto;
        let presence = hub.app.presence(uid(LAB_1), Presence::Unreachable, 1);
        presence.await.unwrap();
        let mut behind = Behind::default();
        behind.add(Touched::Named("another".to_owned()));
        reader.catch_up(behind).await.unwrap();
        assert_eq!(told(&state, listed), ["db"]);
    }
}
