//! The contract of [`Store`] as tests. Every implementation runs all of them through [`suite`]; whoever changes the
//! contract changes it here.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::timeout;

use super::{
    Batch, Expect, Fence, MAX_BYTES, MAX_OPERATIONS, Revision, Store, StoreError, Txn, Watch,
};

/// Longer than any commit takes, so that a test which waits in vain ends with a message.
const PATIENCE: Duration = Duration::from_secs(20);
const TERM: Fence = Fence(1);

/// A store under test and what must outlive it (its directory, its server).
pub(crate) struct Subject<S> {
    pub(crate) store: S,
    _keep: Box<dyn Send>,
}

impl<S: Store> Subject<S> {
    pub(crate) fn new(store: S, keep: impl Send + 'static) -> Self {
        Self {
            store,
            _keep: Box::new(keep),
        }
    }
}

macro_rules! suite {
    ($make:expr) => {
        $crate::store::conformance::suite!(@ $make;
            reads_say_at_which_revision_they_were_taken
            an_empty_store_has_no_entry_and_no_term
            a_stale_revision_is_a_conflict_and_writes_nothing
            creation_of_an_existing_key_is_a_conflict
            a_transaction_is_atomic_for_readers_and_watchers
            a_transaction_without_effect_takes_no_revision
            a_recreated_key_has_a_new_creation_revision
            lists_are_sorted_bounded_by_the_prefix_and_of_one_revision
            a_listing_of_many_entries_is_whole
            keys_are_read_together_in_their_order_and_of_one_revision
            a_watch_replays_history_in_order_and_goes_on_live
            a_watch_resumes_after_the_given_revision
            a_watch_sees_only_its_prefix
            a_watch_from_the_future_is_refused
            a_watch_from_compacted_history_is_refused
            a_reader_overtaken_by_compaction_sees_no_gap
            a_history_ends_at_its_revision_whatever_follows
            compaction_keeps_current_values
            too_many_operations_are_refused
            too_many_bytes_are_refused
            a_key_written_twice_is_refused
            a_lower_term_is_refused_and_writes_nothing
            a_higher_term_shuts_out_the_old_one
            a_refused_transaction_does_not_raise_the_term
            concurrent_compare_and_swaps_lose_no_update
        );
    };
    (@ $make:expr; $($name:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let subject = ($make)().await;
            $crate::store::conformance::$name(&subject.store).await;
        })*
    };
}
pub(crate) use suite;

fn put(key: &str, value: &str) -> Txn {
    Txn::new().put(key, value.to_owned())
}

async fn value(store: &impl Store, key: &str) -> Option<String> {
    let entry = store.get(key.to_owned()).await.unwrap().value?;
    Some(String::from_utf8(entry.value.to_vec()).unwrap())
}

async fn next(watch: &mut Watch) -> Batch {
    timeout(PATIENCE, watch.next())
        .await
        .expect("a batch in time")
        .expect("no end")
        .expect("no error")
}

fn keys(batch: &Batch) -> Vec<&str> {
    batch
        .changes
        .iter()
        .map(|change| change.key.as_str())
        .collect()
}

/// Revisions rise from wherever the store begins, and may leave out numbers: an etcd counts for everybody.
async fn head(store: &impl Store) -> Revision {
    store.list(Vec::new()).await.unwrap().revision
}

/// Writes `a` once for each number up to `times`, and tells the revisions.
async fn written(store: &impl Store, times: u32) -> Vec<Revision> {
    let mut revisions = Vec::new();
    for n in 1..=times {
        let revision = store.commit(put("a", &n.to_string()), TERM).await.unwrap();
        assert!(revisions.last().is_none_or(|last| *last < revision));
        revisions.push(revision);
    }
    revisions
}

pub(crate) async fn an_empty_store_has_no_entry_and_no_term(store: &impl Store) {
    let read = store.get("a".to_owned()).await.unwrap();
    assert_eq!((read.value, read.revision), (None, head(store).await));
    assert_eq!(store.term().await.unwrap(), Fence(0));
}

pub(crate) async fn reads_say_at_which_revision_they_were_taken(store: &impl Store) {
    let first = store.commit(put("a", "1"), TERM).await.unwrap();
    let second = store.commit(put("b", "1"), TERM).await.unwrap();
    assert!(first < second);
    let a = store.get("a".to_owned()).await.unwrap();
    assert_eq!(a.revision, second);
    let a = a.value.unwrap();
    assert_eq!((a.created, a.modified), (first, first));
    assert_eq!(
        store.list(vec![String::new()]).await.unwrap().revision,
        second
    );
}

pub(crate) async fn a_stale_revision_is_a_conflict_and_writes_nothing(store: &impl Store) {
    let first = store.commit(put("a", "1"), TERM).await.unwrap();
    let second = store
        .commit(put("a", "2").at("a", first), TERM)
        .await
        .unwrap();
    let stale = store
        .commit(put("a", "3").put("b", "3").at("a", first), TERM)
        .await;
    let Err(StoreError::Conflict {
        key,
        expected,
        found,
    }) = stale
    else {
        panic!("{stale:?}")
    };
    assert_eq!(
        (key.as_str(), expected, found),
        ("a", Expect::At(first), Some(second))
    );
    assert_eq!(value(store, "a").await.as_deref(), Some("2"));
    assert_eq!(value(store, "b").await, None);
    let missing = store.commit(put("c", "1").at("c", first), TERM).await;
    assert!(
        matches!(missing, Err(StoreError::Conflict { found: None, .. })),
        "{missing:?}"
    );
}

pub(crate) async fn creation_of_an_existing_key_is_a_conflict(store: &impl Store) {
    let first = store.commit(put("a", "1").absent("a"), TERM).await.unwrap();
    let again = store.commit(put("a", "2").absent("a"), TERM).await;
    let Err(StoreError::Conflict {
        expected, found, ..
    }) = again
    else {
        panic!("{again:?}")
    };
    assert_eq!((expected, found), (Expect::Absent, Some(first)));
}

pub(crate) async fn a_transaction_is_atomic_for_readers_and_watchers(store: &impl Store) {
    let before = store.commit(put("c", "1"), TERM).await.unwrap();
    let mut watch = store.watch(String::new(), before).await.unwrap();
    let revision = store
        .commit(put("b", "2").put("a", "2").delete("c"), TERM)
        .await
        .unwrap();
    let batch = next(&mut watch).await;
    assert_eq!(
        (batch.revision, keys(&batch)),
        (revision, vec!["a", "b", "c"])
    );
    assert_eq!(batch.changes[0].value.as_deref(), Some(b"2".as_slice()));
    assert_eq!(batch.changes[2].value, None);
    let list = store.list(vec![String::new()]).await.unwrap();
    assert_eq!(
        list.value[0]
            .iter()
            .map(|e| e.key.as_str())
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert!(list.value[0].iter().all(|entry| entry.modified == revision));
}

pub(crate) async fn a_transaction_without_effect_takes_no_revision(store: &impl Store) {
    let before = store.commit(put("a", "1"), TERM).await.unwrap();
    let nothing = store.commit(Txn::new().delete("missing"), TERM).await;
    assert_eq!(nothing.unwrap(), before);
    assert_eq!(store.commit(Txn::new(), TERM).await.unwrap(), before);
    assert_eq!(head(store).await, before);
    let mut watch = store.watch(String::new(), before).await.unwrap();
    let after = store
        .commit(put("a", "2").delete("missing"), TERM)
        .await
        .unwrap();
    let batch = next(&mut watch).await;
    assert_eq!((batch.revision, keys(&batch)), (after, vec!["a"]));
}

pub(crate) async fn a_recreated_key_has_a_new_creation_revision(store: &impl Store) {
    store.commit(put("a", "1"), TERM).await.unwrap();
    store.commit(Txn::new().delete("a"), TERM).await.unwrap();
    let again = store.commit(put("a", "2"), TERM).await.unwrap();
    let entry = store.get("a".to_owned()).await.unwrap().value.unwrap();
    assert_eq!((entry.created, entry.modified), (again, again));
}

pub(crate) async fn lists_are_sorted_bounded_by_the_prefix_and_of_one_revision(store: &impl Store) {
    for key in ["/b/2", "/b/1", "/bb/1", "/a/1", "/c/1"] {
        store.commit(put(key, "x"), TERM).await.unwrap();
    }
    let list = store
        .list(vec!["/b/".to_owned(), "/c/".to_owned(), "/d/".to_owned()])
        .await
        .unwrap();
    let names: Vec<Vec<_>> = list
        .value
        .iter()
        .map(|entries| entries.iter().map(|e| e.key.as_str()).collect())
        .collect();
    assert_eq!(names, [vec!["/b/1", "/b/2"], vec!["/c/1"], vec![]]);
    assert_eq!(list.revision, head(store).await);
}

pub(crate) async fn keys_are_read_together_in_their_order_and_of_one_revision(store: &impl Store) {
    for key in ["/b/2", "/b/1", "/b/10"] {
        store.commit(put(key, key), TERM).await.unwrap();
    }
    let asked = ["/b/1", "/b/", "/b/2", "/b/1"].map(str::to_owned);
    let read = store.get_all(asked.to_vec()).await.unwrap();
    let found = read.value.iter().map(|entry| {
        let entry = entry.as_ref()?;
        assert_eq!(entry.value, entry.key);
        Some(entry.key.as_str())
    });
    let found: Vec<_> = found.collect();
    assert_eq!(found, [Some("/b/1"), None, Some("/b/2"), Some("/b/1")]);
    assert_eq!(read.revision, head(store).await);
    let none = store.get_all(Vec::new()).await.unwrap();
    assert_eq!((none.value, none.revision), (Vec::new(), read.revision));
}

pub(crate) async fn a_listing_of_many_entries_is_whole(store: &impl Store) {
    for n in 0..7 {
        let some = (0..90).fold(Txn::new(), |txn, i| {
            txn.put(format!("/many/{:03}", 90 * n + i), "x")
        });
        store.commit(some, TERM).await.unwrap();
    }
    let list = store.list(vec!["/many/".to_owned()]).await.unwrap().value;
    let expected: Vec<_> = (0..630).map(|n| format!("/many/{n:03}")).collect();
    let found: Vec<_> = list[0].iter().map(|entry| entry.key.clone()).collect();
    assert_eq!(found, expected);
}

pub(crate) async fn a_watch_replays_history_in_order_and_goes_on_live(store: &impl Store) {
    let history = written(store, 3).await;
    let mut watch = store.watch(String::new(), Revision(0)).await.unwrap();
    for (n, revision) in (1..).zip(history) {
        let batch = next(&mut watch).await;
        assert_eq!(batch.revision, revision);
        let value = batch.changes[0].value.as_deref().unwrap();
        assert_eq!(value, n.to_string().as_bytes());
    }
    let live = store.commit(put("a", "4"), TERM).await.unwrap();
    assert_eq!(next(&mut watch).await.revision, live);
}

pub(crate) async fn a_watch_resumes_after_the_given_revision(store: &impl Store) {
    let history = written(store, 4).await;
    let mut watch = store.watch(String::new(), history[1]).await.unwrap();
    assert_eq!(next(&mut watch).await.revision, history[2]);
    assert_eq!(next(&mut watch).await.revision, history[3]);
}

pub(crate) async fn a_watch_sees_only_its_prefix(store: &impl Store) {
    let mut watch = store.watch("/b/".to_owned(), Revision(0)).await.unwrap();
    store.commit(put("/a/1", "x"), TERM).await.unwrap();
    let both = store
        .commit(put("/a/2", "x").put("/b/2", "x"), TERM)
        .await
        .unwrap();
    let batch = next(&mut watch).await;
    assert_eq!((batch.revision, keys(&batch)), (both, vec!["/b/2"]));
}

pub(crate) async fn a_watch_from_the_future_is_refused(store: &impl Store) {
    let head = store.commit(put("a", "1"), TERM).await.unwrap();
    let future = Revision(head.0 + 8);
    let refused = store.watch(String::new(), future).await.err();
    let expected = StoreError::Ahead {
        asked: future,
        head,
    };
    let told = refused.expect("a refusal").to_string();
    assert_eq!(told, expected.to_string());
}

pub(crate) async fn a_watch_from_compacted_history_is_refused(store: &impl Store) {
    let history = written(store, 4).await;
    store.compact(history[2]).await.unwrap();
    let refused = store.watch(String::new(), history[0]).await.err();
    let expected = StoreError::Compacted {
        asked: history[0],
        oldest: history[2],
    };
    let told = refused.expect("a refusal").to_string();
    assert_eq!(told, expected.to_string());
    let mut watch = store.watch(String::new(), history[2]).await.unwrap();
    assert_eq!(next(&mut watch).await.revision, history[3]);
}

/// What the reader has been given already is no gap: a store may give everything before the compaction takes effect.
pub(crate) async fn a_reader_overtaken_by_compaction_sees_no_gap(store: &impl Store) {
    let history = written(store, 4).await;
    let mut watch = store.watch(String::new(), Revision(0)).await.unwrap();
    store.compact(history[2]).await.unwrap();
    for expected in history {
        match timeout(PATIENCE, watch.next()).await.unwrap() {
            Some(Ok(batch)) => assert_eq!(batch.revision, expected),
            Some(Err(StoreError::Compacted { .. })) => {
                let end = timeout(PATIENCE, watch.next()).await.unwrap();
                assert!(end.is_none(), "the stream has ended");
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn a_history_ends_at_its_revision_whatever_follows(store: &impl Store) {
    let history = written(store, 3).await;
    let upto = head(store).await;
    let read = async |prefix: &str, after, upto| -> Result<Vec<Revision>, StoreError> {
        let past = store.history(prefix.to_owned(), after, upto).await?;
        let batches = past.map(|batch| batch.map(|batch| batch.revision));
        let read: Vec<_> = timeout(PATIENCE, batches.collect()).await.expect("an end");
        read.into_iter().collect()
    };
    assert_eq!(read("", history[0], upto).await.unwrap(), history[1..]);
    assert_eq!(read("/nothing/", history[0], upto).await.unwrap(), []);
    assert_eq!(read("", upto, upto).await.unwrap(), []);
    written(store, 2).await;
    assert_eq!(read("", history[0], upto).await.unwrap(), history[1..]);
    assert_eq!(
        read("", Revision(0), history[1]).await.unwrap(),
        history[..2]
    );
    store.compact(history[1]).await.unwrap();
    let refused = read("", history[0], upto).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::Compacted { .. }),
        "{refused:?}"
    );
}

pub(crate) async fn compaction_keeps_current_values(store: &impl Store) {
    store.commit(put("a", "1"), TERM).await.unwrap();
    let b = store.commit(put("b", "1"), TERM).await.unwrap();
    store.compact(Revision(b.0 + 90)).await.unwrap();
    assert_eq!(value(store, "a").await.as_deref(), Some("1"));
    let again = store.commit(put("b", "2").at("b", b), TERM).await.unwrap();
    let mut watch = store.watch(String::new(), b).await.unwrap();
    assert_eq!(next(&mut watch).await.revision, again);
    store.compact(Revision(1)).await.unwrap();
}

pub(crate) async fn too_many_operations_are_refused(store: &impl Store) {
    let full = |n: usize| {
        (0..n).fold(Txn::new().absent("x"), |txn, i| {
            txn.put(format!("k{i}"), "v")
        })
    };
    store.commit(full(MAX_OPERATIONS - 1), TERM).await.unwrap();
    let refused = store.commit(full(MAX_OPERATIONS), TERM).await;
    assert!(
        matches!(refused, Err(StoreError::TooManyOperations { found: 101 })),
        "{refused:?}"
    );
}

pub(crate) async fn too_many_bytes_are_refused(store: &impl Store) {
    store
        .commit(Txn::new().put("a", vec![7_u8; MAX_BYTES - 1]), TERM)
        .await
        .unwrap();
    let refused = store
        .commit(Txn::new().put("a", vec![7_u8; MAX_BYTES]), TERM)
        .await;
    assert!(
        matches!(refused, Err(StoreError::TooManyBytes { .. })),
        "{refused:?}"
    );
    assert_eq!(
        store
            .get("a".to_owned())
            .await
            .unwrap()
            .value
            .unwrap()
            .value
            .len(),
        MAX_BYTES - 1
    );
}

pub(crate) async fn a_key_written_twice_is_refused(store: &impl Store) {
    let refused = store.commit(put("a", "1").delete("a"), TERM).await;
    assert!(
        matches!(refused, Err(StoreError::DuplicateKey { .. })),
        "{refused:?}"
    );
}

pub(crate) async fn a_lower_term_is_refused_and_writes_nothing(store: &impl Store) {
    store.commit(put("a", "1"), Fence(5)).await.unwrap();
    let refused = store.commit(put("a", "2"), Fence(4)).await;
    assert!(
        matches!(refused, Err(StoreError::Fenced { given: 4, held: 5 })),
        "{refused:?}"
    );
    assert_eq!(value(store, "a").await.as_deref(), Some("1"));
}

pub(crate) async fn a_higher_term_shuts_out_the_old_one(store: &impl Store) {
    store.commit(put("a", "1"), Fence(1)).await.unwrap();
    store.commit(Txn::new(), Fence(2)).await.unwrap();
    assert_eq!(store.term().await.unwrap(), Fence(2));
    let refused = store.commit(put("a", "2"), Fence(1)).await;
    assert!(
        matches!(refused, Err(StoreError::Fenced { given: 1, held: 2 })),
        "{refused:?}"
    );
}

pub(crate) async fn a_refused_transaction_does_not_raise_the_term(store: &impl Store) {
    store.commit(put("a", "1"), Fence(1)).await.unwrap();
    store
        .commit(put("a", "2").absent("a"), Fence(9))
        .await
        .unwrap_err();
    assert_eq!(store.term().await.unwrap(), Fence(1));
    store.commit(put("a", "3"), Fence(1)).await.unwrap();
}

pub(crate) async fn concurrent_compare_and_swaps_lose_no_update(store: &impl Store) {
    store.commit(put("n", "0"), TERM).await.unwrap();
    let increments = futures::future::join_all((0..8).map(|_| async {
        for _ in 0..10 {
            loop {
                let entry = store.get("n".to_owned()).await.unwrap().value.unwrap();
                let n: u64 = String::from_utf8(entry.value.to_vec())
                    .unwrap()
                    .parse()
                    .unwrap();
                match store
                    .commit(put("n", &(n + 1).to_string()).at("n", entry.modified), TERM)
                    .await
                {
                    Ok(_) => break,
                    Err(StoreError::Conflict { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }));
    timeout(PATIENCE, increments).await.expect("progress");
    let read = store.get("n".to_owned()).await.unwrap();
    assert_eq!(read.value.unwrap().value.as_ref(), b"80");
}
