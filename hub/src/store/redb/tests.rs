use futures::StreamExt as _;

use super::*;
use crate::store::conformance::{self, Subject};

conformance::suite!(|| async {
    let dir = tempfile::tempdir().unwrap();
    let store = RedbStore::open(&dir.path().join("hub.redb")).unwrap();
    Subject::new(store, dir)
});

#[tokio::test]
async fn a_reopened_store_has_its_entries_revisions_history_and_term() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.redb");
    let store = RedbStore::open(&path).unwrap();
    store
        .commit(Txn::new().put("a", "1"), Fence(3))
        .await
        .unwrap();
    store
        .commit(Txn::new().put("a", "2").put("b", "1"), Fence(3))
        .await
        .unwrap();
    drop(store);

    let store = RedbStore::open(&path).unwrap();
    let a = store.get("a".to_owned()).await.unwrap();
    assert_eq!(a.revision, Revision(2));
    let a = a.value.unwrap();
    assert_eq!(
        (a.created, a.modified, a.value.as_ref()),
        (Revision(1), Revision(2), b"2".as_slice())
    );
    let batches: Vec<_> = store
        .watch(String::new(), Revision(0))
        .await
        .unwrap()
        .take(2)
        .map(Result::unwrap)
        .collect()
        .await;
    assert_eq!(
        batches
            .iter()
            .map(|batch| batch.revision.0)
            .collect::<Vec<_>>(),
        [1, 2]
    );
    let refused = store.commit(Txn::new().put("a", "3"), Fence(2)).await;
    assert!(
        matches!(refused, Err(StoreError::Fenced { given: 2, held: 3 })),
        "{refused:?}"
    );
    assert_eq!(
        store
            .commit(Txn::new().put("a", "3"), Fence(3))
            .await
            .unwrap(),
        Revision(3)
    );
}

#[tokio::test]
async fn a_second_process_cannot_open_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.redb");
    let _first = RedbStore::open(&path).unwrap();
    let second = RedbStore::open(&path);
    assert!(
        matches!(second, Err(StoreError::Unavailable { .. })),
        "{second:?}"
    );
}

#[tokio::test]
async fn the_file_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.redb");
    let _store = RedbStore::open(&path).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[tokio::test]
async fn a_file_of_a_newer_format_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.redb");
    drop(RedbStore::open(&path).unwrap());
    let db = Database::create(&path).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(META)
        .unwrap()
        .insert(FORMAT, FORMAT_NOW + 1)
        .unwrap();
    txn.commit().unwrap();
    drop(db);
    let refused = RedbStore::open(&path);
    assert!(
        matches!(
            refused,
            Err(StoreError::Format {
                found: 2,
                supported: 1,
                ..
            })
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn the_log_is_trimmed_and_a_reader_left_behind_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = RedbStore::open_keeping(&dir.path().join("hub.redb"), 10).unwrap();
    for n in 0..40 {
        store
            .commit(Txn::new().put("a", n.to_string()), Fence(1))
            .await
            .unwrap();
    }
    let behind = store.watch(String::new(), Revision(5)).await;
    assert!(matches!(behind, Err(StoreError::Compacted { .. })));
    let near = store
        .watch(String::new(), Revision(39))
        .await
        .unwrap()
        .next()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(near.revision, Revision(40));
}

#[tokio::test]
async fn a_watch_reads_long_histories_in_pieces_without_gap() {
    let dir = tempfile::tempdir().unwrap();
    let store = RedbStore::open(&dir.path().join("hub.redb")).unwrap();
    let total = WATCH_ROWS as u64 / 50 + 5;
    for n in 0..total {
        let txn = (0..50).fold(Txn::new(), |txn, key| {
            txn.put(format!("k{key}"), n.to_string())
        });
        store.commit(txn, Fence(1)).await.unwrap();
    }
    let watch = store.watch(String::new(), Revision(0)).await.unwrap();
    let sizes: Vec<_> = watch
        .take(usize::try_from(total).unwrap())
        .map(|batch| batch.map(|b| (b.revision.0, b.changes.len())).unwrap())
        .collect()
        .await;
    assert_eq!(
        sizes,
        (1..=total)
            .map(|revision| (revision, 50))
            .collect::<Vec<_>>()
    );
}
