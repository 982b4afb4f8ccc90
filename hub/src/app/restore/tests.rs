//! A backup of one store, put into another.

use meridian_api::audit::{self, ActorKind, Record};
use meridian_api::ids::ObjectId;

use super::*;
use crate::app::audit::Trail;
use crate::app::reign::{BeginError, Reign};
use crate::app::testing::{LAB_1, LAB_2, TestHub, database};
use crate::app::writes::Manner;
use crate::app::{App, AppError};
use crate::ca::Origin;
use crate::store::Revision;
use crate::store::memory::MemoryStore;
use crate::store::records::{OutcomeKind, StoredOutcome};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// A hub that has two members, a database and a token nobody has used.
async fn hub() -> TestHub {
    let hub = TestHub::new().await;
    hub.member("lab-1", LAB_1).await;
    hub.member("lab-2", LAB_2).await;
    let wanted = database("cart", &["lab-1", "lab-2"]);
    hub.app
        .create_database(&wanted, &Manner::default())
        .await
        .unwrap();
    hub
}

async fn file(app: &App) -> Vec<u8> {
    let pieces = app.backup().await.unwrap().pieces();
    pieces.flat_map(|piece| piece.unwrap().to_vec()).collect()
}

async fn whole(hub: &TestHub) -> Whole {
    Whole::read(&file(&hub.app).await).unwrap()
}

async fn contents(store: &dyn Store) -> BTreeMap<String, Vec<u8>> {
    let entries = everything(store).await.unwrap().value.into_iter();
    entries.map(|it| (it.key, it.value.to_vec())).collect()
}

#[tokio::test]
async fn a_restored_store_holds_every_record_but_those_of_another_time() {
    let hub = hub().await;
    let outcome = StoredOutcome {
        revision: Revision(5000),
        result: OutcomeKind::Applied,
        code: String::new(),
        message: String::new(),
        as_of: NOW,
    };
    let object = ObjectId::new(uuid::Uuid::from_u128(7)).unwrap();
    let member = LAB_1.parse().unwrap();
    let key = keys::outcome(member, object);
    let txn = Txn::new().put_record(&key, &outcome).unwrap();
    hub.app.commit(txn).await.unwrap();
    let whole = whole(&hub).await;
    let store = MemoryStore::new();
    let would = whole.put_into(&store, true, NOW).await.unwrap();
    assert_eq!(contents(&store).await, BTreeMap::new(), "a dry run");
    let done = whole.put_into(&store, false, NOW).await.unwrap();
    assert_eq!(done, would);

    let mut expected = contents(&hub.store).await;
    let left = [
        keys::starts().text().to_owned(),
        keys::outcomes().text().to_owned(),
    ];
    expected.retain(|key, _| !left.iter().any(|it| key.starts_with(it)));
    let mut found = contents(&store).await;
    let doubt = found.remove(keys::doubt(HUB).text());
    assert!(doubt.is_some());
    let told =
        |key: &str| key.starts_with(keys::audit_news().text()) && !expected.contains_key(key);
    assert_eq!(found.keys().filter(|key| told(key)).count(), 1);
    found.retain(|key, _| !told(key));
    // Each may recover with the join state that it has by now.
    for (key, value) in &mut expected {
        if key.starts_with(keys::clusters().text()) {
            let mut cluster: Cluster = records::decode(key, value).unwrap();
            cluster.any_join_state = true;
            let key = keys::cluster(cluster.uid);
            *value = records::encode(&key, &cluster).unwrap().to_vec();
        }
    }
    assert_eq!(found, expected);
    assert_eq!((done.records, done.left_out), (expected.len(), 2));
    assert_eq!(whole.summary.header.term.0 + 1, done.next_term);
}

#[tokio::test]
async fn a_hub_on_a_restored_store_opens_a_new_term_and_only_observes_until_it_is_adopted() {
    let hub = hub().await;
    let store = MemoryStore::new();
    let restored = whole(&hub).await.put_into(&store, false, NOW).await;
    let restored = restored.unwrap();
    let again = hub.restarted_with(store).await;
    let (old, new) = (hub.app.reign(), again.app.reign());
    assert_eq!(new.store_id, old.store_id);
    assert_eq!(new.term.0, restored.next_term);
    assert!(new.term > old.term && new.incarnation != old.incarnation);
    let refused = again.app.must_decide().await.unwrap_err();
    assert!(matches!(&refused, AppError::Observing(_)), "{refused}");
    assert!(refused.to_string().contains("restored from a backup"));
    // Not even what the backup knew well is in the line of the restored store.
    let line = again.app.line().await.unwrap();
    assert_eq!(line.starts.keys().collect::<Vec<_>>(), [&new.term]);

    again.app.adopt("alice", &Trail::default()).await.unwrap();
    again.app.must_decide().await.unwrap();
    assert!(again.app.reign().term > new.term);
}

#[tokio::test]
async fn a_restore_is_in_the_chain_of_the_audit_log_after_what_the_backup_knew() {
    let hub = hub().await;
    hub.app.link_all().await.unwrap();
    let (before, _) = hub.app.audit_records(u64::MAX, 1).await.unwrap();
    let store = MemoryStore::new();
    whole(&hub)
        .await
        .put_into(&store, false, NOW)
        .await
        .unwrap();
    let again = hub.restarted_with(store).await;
    let (_, records) = again.app.audit_records(u64::MAX, 1).await.unwrap();
    let Record { number, event, .. } = &records[0];
    assert_eq!(*number, before.head.number + 1);
    let told = (event.actor.kind, &*event.verb, &*event.kind);
    assert_eq!(told, (ActorKind::Hub, "restore", "hub"));
    assert!(event.revision.is_some());
    let exported = String::from_utf8(again.app.audit_export().await.unwrap()).unwrap();
    audit::verify(exported.lines(), &[before.head]).unwrap();
}

#[tokio::test]
async fn a_member_that_recovered_after_the_backup_is_not_taken_for_a_copy_of_itself() {
    let hub = TestHub::new().await;
    let device = hub.member("lab-1", LAB_1).await;
    let clusters = records::list(&hub.store, &keys::clusters()).await.unwrap();
    let first = &clusters.value[0].record.join_state;
    let whole = whole(&hub).await;
    let mut newest = first.clone();
    for _ in 0..3 {
        let recovered = device.recover(&hub.app, &newest).await.unwrap();
        newest = recovered.cluster.join_state;
    }
    let store = MemoryStore::new();
    whole.put_into(&store, false, NOW).await.unwrap();
    let again = hub.restarted_with(store).await;
    device.recover(&again.app, &newest).await.unwrap();
    // Once: a copy that comes with another old state is seen.
    let copied = device.recover(&again.app, first).await.unwrap_err();
    assert!(matches!(copied, AppError::Quarantined(_)), "{copied}");
}

#[tokio::test]
async fn a_store_that_is_not_empty_is_left_as_it_is() {
    let hub = hub().await;
    let whole = whole(&hub).await;
    let before = contents(&hub.store).await;
    let refused = whole.put_into(&hub.store, false, NOW).await.unwrap_err();
    let told = refused.to_string();
    let store = hub.app.reign().store_id.to_string();
    for part in ["not empty", &store, "expected none", "--etcd-root"] {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(contents(&hub.store).await, before);

    let foreign = MemoryStore::new();
    foreign
        .commit(Txn::new().put("/x", "y"), Fence(1))
        .await
        .unwrap();
    let refused = whole.put_into(&foreign, true, NOW).await.unwrap_err();
    assert!(refused.to_string().contains("not of a hub"), "{refused}");
}

#[tokio::test]
async fn no_hub_begins_on_a_store_that_was_filled_in_part_and_the_same_file_goes_on() {
    let hub = hub().await;
    let whole = whole(&hub).await;
    let store = MemoryStore::new();
    let mark = whole.mark(&store, Fence(1), NOW).await.unwrap();
    let kept = whole.kept().unwrap();
    let first = filled(&kept, &mark).remove(0);
    store.commit(first, Fence(1)).await.unwrap();

    let refused = Reign::prepare(&store, hub.app.ca(), Origin::Loaded, NOW).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, BeginError::HalfRestored { .. }));
    assert!(
        refused.to_string().contains(&whole.summary.sha256),
        "{refused}"
    );
    hub.store
        .commit(Txn::new().put("/x", "y"), Fence(9))
        .await
        .unwrap();
    let other = Whole::read(&file(&hub.app).await).unwrap();
    let refused = other.put_into(&store, false, NOW).await.unwrap_err();
    assert!(refused.to_string().contains("broken off"), "{refused}");

    let done = whole.put_into(&store, false, NOW).await.unwrap();
    assert!(done.goes_on);
    hub.restarted_with(store).await;
}

#[tokio::test]
async fn a_record_that_somebody_else_wrote_meanwhile_keeps_the_restore_from_its_end() {
    let hub = hub().await;
    let whole = whole(&hub).await;
    let store = MemoryStore::new();
    whole.mark(&store, Fence(1), NOW).await.unwrap();
    store
        .commit(Txn::new().put("/x", "y"), Fence(1))
        .await
        .unwrap();
    let refused = whole.put_into(&store, false, NOW).await.unwrap_err();
    assert!(
        matches!(refused, RestoreError::NotAsWritten { .. }),
        "{refused}"
    );
    let birth = records::get(&store, &keys::birth()).await.unwrap();
    assert_eq!(birth, None, "no hub's store");
}

#[tokio::test]
async fn a_backup_is_restored_under_its_own_authority_only() {
    let (hub, other) = (hub().await, TestHub::new().await);
    let whole = whole(&hub).await;
    whole.must_be_of(hub.app.ca()).unwrap();
    let refused = whole.must_be_of(other.app.ca()).unwrap_err().to_string();
    for part in [hub.app.ca().fingerprint(), other.app.ca().fingerprint()] {
        assert!(refused.contains(&part), "{refused}");
    }
}

#[tokio::test]
async fn a_backup_holds_no_token_in_clear() {
    let hub = hub().await;
    let join = hub.token("late").await;
    let (api, kept) = crate::app::tokens::draw("alice", hub.app.now());
    hub.app.keep_api_token(&kept).await.unwrap();
    let file = file(&hub.app).await;
    for clear in [join.as_str(), api.as_str()] {
        let secret = clear.rsplit('.').next().unwrap().as_bytes();
        assert!(!file.windows(secret.len()).any(|it| it == secret));
        // The public part is, so that the search can find something.
        let id = clear.split('.').nth(1).unwrap().as_bytes();
        assert!(file.windows(id.len()).any(|it| it == id));
    }
}

#[tokio::test]
async fn a_large_store_is_restored_in_transactions_within_the_limits() {
    let hub = hub().await;
    for n in 0..250 {
        let txn = Txn::new().put(format!("/observed/{n:03}/x"), vec![7; 40_000]);
        hub.app.commit(txn).await.unwrap();
    }
    let whole = whole(&hub).await;
    let store = MemoryStore::new();
    let done = whole.put_into(&store, false, NOW).await.unwrap();
    assert!(done.records > 250, "{done:?}");
    assert!(whole.summary.bytes > 10_000_000);
}
