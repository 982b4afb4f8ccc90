//! On real etcd processes, which `tools/prerequisites.sh` builds.

mod group;
mod seat;
pub(crate) mod server;

use std::time::Duration;

use tokio::time::timeout;

use self::group::Group;
use self::server::{Access, Etcd};
use super::*;
use crate::store::conformance::{self, Subject};

/// Longer than an election of etcd takes.
const PATIENCE: Duration = Duration::from_secs(60);

conformance::suite!(|| async {
    let etcd = Etcd::start(Access::Open).await;
    let store = EtcdStore::open(&etcd.settings()).await.unwrap();
    Subject::new(store, etcd)
});

fn put(key: &str, value: &str) -> Txn {
    Txn::new().put(key, value.to_owned())
}

#[tokio::test]
async fn two_hubs_under_different_roots_do_not_see_each_other() {
    let etcd = Etcd::start(Access::Open).await;
    let ours = EtcdStore::open(&etcd.settings()).await.unwrap();
    let settings = EtcdSettings {
        root: "/others".to_owned(),
        ..etcd.settings()
    };
    let theirs = EtcdStore::open(&settings).await.unwrap();
    ours.commit(put("/a", "1"), Fence(7)).await.unwrap();
    theirs.commit(put("/b", "1"), Fence(1)).await.unwrap();
    let seen = ours.list(vec![String::new()]).await.unwrap().value;
    assert_eq!(seen[0].len(), 1);
    assert_eq!(theirs.term().await.unwrap(), Fence(1));
}

#[tokio::test]
async fn a_hub_that_slept_through_a_new_term_writes_nothing_when_it_wakes_up() {
    let etcd = Etcd::start(Access::Open).await;
    let old = EtcdStore::open(&etcd.settings()).await.unwrap();
    old.commit(put("/a", "old"), Fence(1)).await.unwrap();
    let new = EtcdStore::open(&etcd.settings()).await.unwrap();
    new.commit(put("/a", "new"), Fence(2)).await.unwrap();

    let refused = old.commit(put("/b", "late"), Fence(1)).await;
    assert!(
        matches!(refused, Err(StoreError::Fenced { given: 1, held: 2 })),
        "{refused:?}"
    );
    assert_eq!(new.get("/b".to_owned()).await.unwrap().value, None);
}

#[tokio::test]
async fn a_hub_shows_its_certificate_and_checks_that_of_etcd() {
    let etcd = Etcd::start(Access::Certificates).await;
    let store = EtcdStore::open(&etcd.settings()).await.unwrap();
    store.commit(put("/a", "1"), Fence(1)).await.unwrap();

    let without = EtcdSettings {
        tls: Tls {
            identity: None,
            ..etcd.settings().tls
        },
        ..etcd.settings()
    };
    let refused = EtcdStore::open(&without).await.unwrap_err();
    assert!(
        matches!(refused, SettingsError::Unreachable { .. }),
        "{refused:?}"
    );
    let stranger = Etcd::start(Access::Certificates).await;
    let distrusting = EtcdSettings {
        tls: stranger.settings().tls,
        ..etcd.settings()
    };
    let refused = EtcdStore::open(&distrusting).await.unwrap_err();
    assert!(
        matches!(refused, SettingsError::Unreachable { .. }),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_hub_logs_in_and_again_when_its_token_has_run_out() {
    let etcd = Etcd::start(Access::Login).await;
    let store = EtcdStore::open(&etcd.settings()).await.unwrap();
    store.commit(put("/a", "1"), Fence(1)).await.unwrap();
    // A change of passwords ends every token.
    etcd.change_password("other").await;
    let settings = EtcdSettings {
        login: Some(Login {
            user: "root".to_owned(),
            password: "other".to_owned().into(),
        }),
        ..etcd.settings()
    };
    let store = EtcdStore::open(&settings).await.unwrap();
    etcd.change_password("other").await;
    store.commit(put("/a", "2"), Fence(1)).await.unwrap();

    let wrong = EtcdStore::open(&etcd.settings()).await.unwrap_err();
    assert!(
        matches!(wrong, SettingsError::Unreachable { .. }),
        "{wrong:?}"
    );
}

#[tokio::test]
async fn a_copy_is_not_thrown_away_for_one_question_that_etcd_does_not_answer() {
    let etcd = Etcd::start(Access::Open).await;
    let store = EtcdStore::open(&etcd.settings()).await.unwrap();
    let mirror = mirror::Mirror::new(Arc::new(store));
    let now = tokio::time::Instant::now();
    let answered = mirror.asked(now, now).await.unwrap();
    assert_eq!(answered.map(|(at, _)| at), Some(now));
    drop(etcd);
    let now = tokio::time::Instant::now();
    assert_eq!(mirror.asked(now, now).await.unwrap(), None);
    // It has been silent for longer than a watch may be.
    let long_ago = now.checked_sub(Duration::from_secs(60)).unwrap();
    let silent = mirror.asked(now, long_ago).await;
    assert!(
        matches!(silent, Err(StoreError::Unavailable { .. })),
        "{silent:?}"
    );
}

#[tokio::test]
async fn a_member_of_etcd_that_does_not_answer_is_named() {
    // Taken, so that nobody else listens there.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    drop(silent);
    let settings = EtcdSettings {
        endpoints: vec![endpoint.clone()],
        root: "/m".to_owned(),
        tls: Tls::default(),
        login: None,
    };
    let told = EtcdStore::open(&settings).await.unwrap_err().to_string();
    assert!(told.contains(&endpoint), "{told}");
}

#[tokio::test]
async fn settings_that_cannot_be_are_named() {
    let base = EtcdSettings {
        endpoints: Vec::new(),
        root: "/m".to_owned(),
        tls: Tls::default(),
        login: None,
    };
    let told = |settings: &EtcdSettings| Client::new(settings).unwrap_err().to_string();
    assert!(told(&base).contains("--etcd-endpoints"));
    for (endpoint, reason) in [
        ("nonsense", "no scheme"),
        ("etcd-1:2379", "no scheme"),
        ("http://etcd-1", "no port"),
        ("ftp://etcd-1:2379", "does not speak ftp"),
        ("http://et cd:2379", "invalid uri"),
    ] {
        let settings = EtcdSettings {
            endpoints: vec!["http://etcd-0:2379".to_owned(), endpoint.to_owned()],
            ..base.clone()
        };
        let told = told(&settings);
        assert!(
            told.contains(&format!("{endpoint:?}")) && told.contains(reason),
            "{told}"
        );
    }
    let root = EtcdSettings {
        root: "m/".to_owned(),
        ..base.clone()
    };
    assert!(told(&root).contains("m/"));
    let file = EtcdSettings {
        tls: Tls {
            ca: Some("/no/such/file".into()),
            identity: None,
        },
        ..base
    };
    assert!(told(&file).contains("/no/such/file"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_three_members_loses_no_write_when_one_after_the_other_is_killed() {
    let mut group = Group::start().await;
    let store = EtcdStore::open(&group.settings()).await.unwrap();
    let mut watch = store.watch(String::new(), Revision(0)).await.unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        group.kill(round).await;
        for n in 0..20 {
            let key = format!("/{round}/{n}");
            written(&store, &key).await;
            acknowledged.push(key);
        }
        group.restart(round).await;
    }
    let found = store.list(vec![String::new()]).await.unwrap().value;
    for key in &acknowledged {
        assert!(found[0].iter().any(|entry| entry.key == *key), "{key}");
    }
    // A watch is ended by the death of its member, or has told everything; it never leaves anything out.
    let mut told = Vec::new();
    while told.len() < acknowledged.len() {
        match timeout(PATIENCE, futures::StreamExt::next(&mut watch))
            .await
            .unwrap()
        {
            Some(Ok(batch)) => told.extend(batch.changes.into_iter().map(|it| it.key)),
            Some(Err(StoreError::Unavailable { .. })) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, acknowledged[..told.len()]);
}

/// Writes the key, again and again while nobody knows whether it was written.
async fn written(store: &EtcdStore, key: &str) {
    let attempt = async {
        loop {
            match store.commit(put(key, "x").absent(key), Fence(1)).await {
                Ok(_) | Err(StoreError::Conflict { .. }) => return,
                Err(StoreError::Unavailable { .. }) => tokio::task::yield_now().await,
                Err(other) => panic!("{other}"),
            }
        }
    };
    timeout(PATIENCE, attempt)
        .await
        .expect("a majority answers");
}
