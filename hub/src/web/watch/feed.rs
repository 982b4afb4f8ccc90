//! One reader of the store per kind, however many watch it. It lists the kind again when a record changed that its objects
//! are shown from, as often as a small share of one core allows, and stands for as long as somebody watches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt as _;
use meridian_api::ids::Revision;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::snapshot::Snapshot;
use crate::app::App;
use crate::domain::access::grant::Scope;
use crate::store::{Batch, StoreError, keys};
use crate::web::answer::Failure;
use crate::web::kinds::Kind;

/// Pause after a failure, so that a broken store is not asked in a tight loop.
const AFTER_FAILURE: Duration = Duration::from_millis(500);
/// After a listing at least this many times as long as it took is rested, so that it takes a tenth of one core at most.
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
        let (mut behind, mut due) = (false, self.list().await?);
        let from = self.told.borrow().upto;
        let mut changes = self.app.store().watch(String::new(), from).await?;
        loop {
            tokio::select! {
                batch = changes.next() => {
                    let ended = || StoreError::unavailable("go on telling changes", "the watch ended");
                    behind |= self.learn(&batch.ok_or_else(ended)??, behind);
                }
                () = self.wake.notified() => behind = true,
                () = sleep_until(due), if behind => {
                    due = self.list().await?;
                    behind = false;
                }
            }
        }
    }

    /// Lists again, and tells when to do so next at the earliest.
    async fn list(&self) -> Result<Instant, Failure> {
        let begun = Instant::now();
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
        let now = Instant::now();
        Ok(now + ((now - begun) * REST).min(LONGEST_REST))
    }

    /// Whether the objects have to be listed because of this change. One that does not concern them is passed, unless one
    /// before it is not listed yet.
    fn learn(&self, batch: &Batch, behind: bool) -> bool {
        let changes = |prefixes: &[String]| {
            let mut changed = batch.changes.iter();
            changed.any(|change| prefixes.iter().any(|prefix| change.key.starts_with(prefix)))
        };
        let is_of_rights = changes(&[keys::users().text().to_owned()]);
        let mut concerned = false;
        self.told.send_if_modified(|state| {
            state.rights += u64::from(is_of_rights);
            concerned = batch.revision > state.upto && changes(&self.kind.prefixes());
            if !concerned && !behind {
                state.upto = state.upto.max(batch.revision);
            }
            is_of_rights
        });
        concerned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::testing::TestHub;
    use crate::store::Change;

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
        assert!(!reader.learn(&batch(1, "/presence/x"), false));
        assert_eq!(state.borrow().upto.0, listed.0 + 1);
        assert!(reader.learn(&batch(2, "/token/x"), false));
        assert!(!reader.learn(&batch(3, "/presence/x"), true));
        assert_eq!(
            state.borrow().upto.0,
            listed.0 + 1,
            "the token is not listed yet"
        );
        assert!(
            !reader.learn(&batch(1, "/token/x"), false),
            "it is listed already"
        );
        assert_eq!(state.borrow().rights, 0);
        reader.learn(&batch(4, "/user/x"), true);
        assert_eq!(state.borrow().rights, 1);
    }
}
