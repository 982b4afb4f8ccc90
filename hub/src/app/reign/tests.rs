//! Which authority may begin on which store.

use meridian_api::identity::TrustDomain;

use super::*;
use crate::store::memory::MemoryStore;

fn authority(dir: &tempfile::TempDir) -> (Authority, Origin) {
    let now = "2026-11-22T12:00:00Z".parse().unwrap();
    Authority::open(dir.path(), TrustDomain::default(), now).unwrap()
}

#[tokio::test]
async fn a_store_of_another_authority_is_refused_with_both_fingerprints() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (theirs, origin) = authority(&theirs);
    let store = MemoryStore::new();
    let now = Timestamp::UNIX_EPOCH;
    Reign::begin(&store, &theirs, origin, now).await.unwrap();
    let again = Reign::begin(&store, &theirs, Origin::Loaded, now).await;
    assert_eq!(again.unwrap().term, Term(2));

    let (ours, origin) = authority(&ours);
    let refused = Reign::begin(&store, &ours, origin, now).await.unwrap_err();
    let told = refused.to_string();
    for part in [ours.fingerprint(), theirs.fingerprint()] {
        assert!(told.contains(&part), "{told}");
    }
    assert_eq!(store.term().await.unwrap(), Fence(2), "no reign began");
}

#[tokio::test]
async fn a_store_of_another_trust_domain_is_refused_with_both() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, origin) = authority(&dir);
    let store = MemoryStore::new();
    let now = Timestamp::UNIX_EPOCH;
    Reign::begin(&store, &ca, origin, now).await.unwrap();
    let (other, origin) = Authority::given(dir.path(), "other.local".parse().unwrap()).unwrap();
    let refused = Reign::begin(&store, &other, origin, now).await.unwrap_err();
    let told = refused.to_string();
    for part in ["\"other.local\"", "--trust-domain meridian.local"] {
        assert!(told.contains(part), "{told}");
    }

    // A store that is older than the field learns it from the next reign.
    let held = trusted(&store, &ca).await.unwrap().anchor.unwrap();
    let older = serde_json::json!({ "fingerprint": ca.fingerprint() });
    // As records write it: after the version of its form.
    let older = format!("\u{1}{older}");
    let txn = Txn::new().unchanged(&held).put(&held.key, older);
    store.commit(txn, Fence(1)).await.unwrap();
    let (loaded, origin) = authority(&dir);
    Reign::begin(&store, &loaded, origin, now).await.unwrap();
    let held = trusted(&store, &ca).await.unwrap().anchor.unwrap();
    assert_eq!(held.record.trust_domain.as_deref(), Some("meridian.local"));
}

#[tokio::test]
async fn a_new_authority_is_not_bound_to_a_store_that_was_begun_before_and_names_none() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ca, origin) = authority(&first);
    let store = MemoryStore::new();
    let now = Timestamp::UNIX_EPOCH;
    Reign::begin(&store, &ca, origin, now).await.unwrap();
    let txn = Txn::new().delete(keys::anchor().text());
    store.commit(txn, Fence(1)).await.unwrap();
    let (new, origin) = authority(&second);
    let refused = Reign::begin(&store, &new, origin, now).await.unwrap_err();
    assert!(matches!(refused, BeginError::NewAuthority), "{refused}");
    // Its own authority, as an earlier version of the hub left it, is bound to it.
    Reign::begin(&store, &ca, Origin::Loaded, now)
        .await
        .unwrap();
    assert!(trusted(&store, &ca).await.unwrap().anchor.is_some());
}

#[tokio::test]
async fn a_given_authority_may_be_older_than_its_store() {
    let dir = tempfile::tempdir().unwrap();
    drop(authority(&dir));
    let store = MemoryStore::new();
    let (given, origin) = Authority::given(dir.path(), TrustDomain::default()).unwrap();
    let now = Timestamp::UNIX_EPOCH;
    Reign::begin(&store, &given, origin, now).await.unwrap();
    let doubts = records::list(&store, &keys::doubts()).await.unwrap();
    assert!(doubts.value.is_empty());
}
