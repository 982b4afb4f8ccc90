//! The seat of the leader, as etcd keeps it.

use std::time::Duration;

use tokio::time::Instant;

use super::server::{Access, Etcd};
use super::{EtcdStore, put};
use crate::domain::election::Lease;
use crate::store::etcd::seat::{Seat, Tenure};
use crate::store::{Fence, Store as _, StoreError, Txn};

const LIFE: Duration = Duration::from_secs(3);

fn seat(replica: &str, term: u64) -> Seat {
    Seat {
        replica: replica.to_owned(),
        web_address: format!("{replica}:8443"),
        term,
    }
}

/// A tenure that outlasts the test: only etcd refuses then.
fn endless() -> Tenure {
    let tenure = Tenure::default();
    tenure.set(Duration::MAX);
    tenure
}

async fn lease(store: &EtcdStore) -> Lease {
    store.grant(LIFE).await.unwrap().0
}

#[tokio::test]
async fn the_seat_and_its_term_are_taken_together_and_by_one() {
    let etcd = Etcd::start(Access::Open).await;
    let store = EtcdStore::open(&etcd.settings()).await.unwrap();
    let (ours, theirs) = (lease(&store).await, lease(&store).await);
    let txn = Txn::new().put("/start", "a");
    let leader = store
        .claim(ours, &seat("a", 1), txn, endless())
        .await
        .unwrap();
    assert_eq!(store.term().await.unwrap(), Fence(1));
    assert_eq!(store.seat().await.unwrap(), Some((ours, seat("a", 1))));
    leader.commit(put("/a", "1"), Fence(1)).await.unwrap();

    let other = EtcdStore::open(&etcd.settings()).await.unwrap();
    let txn = Txn::new().put("/start", "b");
    let refused = other.claim(theirs, &seat("b", 2), txn, endless()).await;
    assert!(
        matches!(refused, Err(StoreError::NotLeading)),
        "{refused:?}"
    );
    assert_eq!(other.term().await.unwrap(), Fence(1));
    let start = other.get("/start".to_owned()).await.unwrap().value.unwrap();
    assert_eq!(start.value, "a");
}

#[tokio::test]
async fn a_claim_whose_term_was_read_before_another_reign_is_refused() {
    let etcd = Etcd::start(Access::Open).await;
    let slow = EtcdStore::open(&etcd.settings()).await.unwrap();
    let late = lease(&slow).await;
    // Another replica reigns and leaves meanwhile: the seat is empty again, and its term is used.
    let quick = EtcdStore::open(&etcd.settings()).await.unwrap();
    let ours = lease(&quick).await;
    let claimed = quick
        .claim(ours, &seat("a", 1), Txn::new(), endless())
        .await;
    claimed
        .unwrap()
        .commit(put("/a", "1"), Fence(1))
        .await
        .unwrap();
    quick.revoke(ours).await.unwrap();
    assert_eq!(quick.seat().await.unwrap(), None);

    let txn = Txn::new().put("/start", "late");
    let refused = slow.claim(late, &seat("b", 1), txn, endless()).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(quick.get("/start".to_owned()).await.unwrap().value, None);
    assert_eq!(quick.seat().await.unwrap(), None);
}

#[tokio::test]
async fn a_leader_without_its_seat_writes_nothing_and_raises_no_term() {
    let etcd = Etcd::start(Access::Open).await;
    let store = EtcdStore::open(&etcd.settings()).await.unwrap();
    let ours = lease(&store).await;
    let claimed = store
        .claim(ours, &seat("a", 1), Txn::new(), endless())
        .await;
    let former = claimed.unwrap();
    // Nobody else has begun to reign: the term alone would let it.
    store.revoke(ours).await.unwrap();
    for fence in [Fence(1), Fence(2)] {
        let refused = former.commit(put("/a", "late"), fence).await;
        assert!(
            matches!(refused, Err(StoreError::NotLeading)),
            "{refused:?}"
        );
    }
    assert_eq!(store.term().await.unwrap(), Fence(1));
    assert_eq!(store.get("/a".to_owned()).await.unwrap().value, None);
}

#[tokio::test]
async fn a_leader_whose_tenure_is_over_asks_etcd_nothing() {
    let etcd = Etcd::start(Access::Open).await;
    let store = EtcdStore::open(&etcd.settings()).await.unwrap();
    let (ours, tenure) = (lease(&store).await, endless());
    let claimed = store
        .claim(ours, &seat("a", 1), Txn::new(), tenure.clone())
        .await;
    let leader = claimed.unwrap();
    tenure.set(Duration::ZERO);
    let refused = leader.commit(put("/a", "late"), Fence(1)).await;
    assert!(
        matches!(refused, Err(StoreError::NotLeading)),
        "{refused:?}"
    );
    assert_eq!(store.get("/a".to_owned()).await.unwrap().value, None);
}

#[tokio::test]
async fn a_lease_lives_as_long_as_it_is_renewed_and_takes_the_seat_along() {
    let etcd = Etcd::start(Access::Open).await;
    let store = EtcdStore::open(&etcd.settings()).await.unwrap();
    let ours = lease(&store).await;
    let claimed = store
        .claim(ours, &seat("a", 1), Txn::new(), endless())
        .await;
    claimed.unwrap();
    assert_eq!(store.renew(ours).await.unwrap(), Some(LIFE));
    let renewed = Instant::now();
    while store.seat().await.unwrap().is_some() {
        assert!(renewed.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(renewed.elapsed() >= LIFE, "{:?}", renewed.elapsed());
    assert_eq!(store.renew(ours).await.unwrap(), None);
}

#[tokio::test]
async fn a_leader_sees_that_its_term_was_overtaken_and_by_itself_it_is_not() {
    let etcd = Etcd::start(Access::Open).await;
    let store = EtcdStore::open(&etcd.settings()).await.unwrap();
    let (ours, tenure) = (lease(&store).await, endless());
    let claimed = store
        .claim(ours, &seat("a", 1), Txn::new(), tenure.clone())
        .await;
    let leader = claimed.unwrap();
    assert_eq!(store.look().await.unwrap().term, tenure.term());
    // A person lets the hub go on: the next term is the leader's own.
    leader.commit(put("/a", "1"), Fence(2)).await.unwrap();
    assert_eq!((store.look().await.unwrap().term, tenure.term()), (2, 2));

    let older = EtcdStore::open(&etcd.settings()).await.unwrap();
    older.commit(put("/a", "2"), Fence(7)).await.unwrap();
    let refused = leader.commit(put("/a", "3"), Fence(2)).await;
    assert!(
        matches!(refused, Err(StoreError::Fenced { given: 2, held: 7 })),
        "{refused:?}"
    );
    let looked = store.look().await.unwrap();
    assert_eq!(looked.seat, Some((ours, seat("a", 1))));
    assert_eq!((looked.term, tenure.term()), (7, 2));
}

#[tokio::test]
async fn the_seat_can_be_taken_after_an_older_copy_of_etcd_was_put_back() {
    let mut etcd = Etcd::start(Access::Open).await;
    let store = EtcdStore::open(&etcd.settings()).await.unwrap();
    let reign = async |term: u64| {
        let ours = lease(&store).await;
        let claimed = store
            .claim(ours, &seat("a", term), Txn::new(), endless())
            .await;
        claimed.unwrap();
        store.revoke(ours).await.unwrap();
    };
    reign(1).await;
    let older = tempfile::tempdir().unwrap();
    let copy = older.path().join("copy");
    etcd.stopped(|data| copied(data, &copy)).await;
    reign(2).await;
    reign(3).await;
    etcd.stopped(|data| {
        std::fs::remove_dir_all(data).unwrap();
        copied(&copy, data);
    })
    .await;
    assert_eq!(store.term().await.unwrap(), Fence(1));
    reign(2).await;
}

fn copied(from: &std::path::Path, to: &std::path::Path) {
    let done = std::process::Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status();
    assert!(done.unwrap().success());
}
