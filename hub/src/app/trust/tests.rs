use std::os::unix::fs::PermissionsExt as _;

use jiff::SignedDuration;

use super::*;
use crate::app::testing::{Device, LAB_1, LAB_2, TestHub, uid};
use crate::clock::Clock as _;
use crate::domain::lineage::Doubt;
use crate::domain::trust::{MARGIN, RecTrust};
use crate::store::Fence;
use crate::store::memory::MemoryStore;

fn nobody() -> BTreeSet<String> {
    BTreeSet::new()
}

/// What a member says that holds everything and uses certificates of the root that signs.
fn whole(hub: &TestHub) -> MemberTrust {
    let ca = hub.app.ca();
    MemberTrust {
        version: ca.version(),
        digest: ca.digest(),
        signer: ca.fingerprint(),
        recs: vec![RecTrust {
            rec: "db/rec".to_owned(),
            version: ca.version(),
            signer: ca.fingerprint(),
        }],
        since: hub.app.now(),
    }
}

async fn acknowledged(hub: &TestHub, clusters: &[&str]) {
    for cluster in clusters {
        hub.app.hear_trust(uid(cluster), whole(hub)).await.unwrap();
    }
    // As the server certificate is, when the roots change.
    hub.app.ca().serves(&hub.app.ca().fingerprint());
    hub.clock.advance(MARGIN);
}

async fn step(hub: &TestHub, wish: Wish) -> Result<Bundle, AppError> {
    hub.app.rotate(wish, &nobody(), &Manner::default()).await
}

async fn members() -> (TestHub, [Device; 2]) {
    let hub = TestHub::new().await;
    let devices = [
        hub.member("lab-1", LAB_1).await,
        hub.member("lab-2", LAB_2).await,
    ];
    (hub, devices)
}

const BOTH: [&str; 2] = [LAB_1, LAB_2];

#[tokio::test]
async fn a_rotation_goes_on_step_by_step_as_everybody_acknowledges() {
    let (hub, [device, _]) = members().await;
    let ca = hub.app.ca();
    let old = ca.fingerprint();
    for (wish, roots, is_old) in [
        (Wish::Rotate, 2, true),
        (Wish::Advance, 2, false),
        (Wish::Advance, 1, false),
    ] {
        let early = step(&hub, wish).await.unwrap_err();
        assert!(early.to_string().contains("lab-1"), "{early}");
        acknowledged(&hub, &BOTH).await;
        let next = step(&hub, wish).await.unwrap();
        assert_eq!(next, ca.bundle());
        assert_eq!((next.roots.len(), next.signer() == old), (roots, is_old));
        let renewed = device.renew(&hub.app).await.unwrap();
        let signer = ca.speaker(&renewed.issued.chain[0]).unwrap().root;
        assert_eq!(signer, next.signer());
    }
    let kept = records::get(&hub.store, &keys::trust()).await.unwrap();
    assert_eq!(kept.unwrap().record, ca.bundle());
    let anchor = records::get(&hub.store, &keys::anchor()).await.unwrap();
    assert_eq!(anchor.unwrap().record.fingerprint, ca.fingerprint());
}

#[tokio::test]
async fn a_certificate_of_a_root_that_went_speaks_for_nobody() {
    let (hub, [device, _]) = members().await;
    let old = device.renew(&hub.app).await.unwrap();
    for wish in [Wish::Rotate, Wish::Advance, Wish::Advance] {
        assert!(hub.app.ca().speaker(&old.issued.chain[0]).is_ok());
        acknowledged(&hub, &BOTH).await;
        step(&hub, wish).await.unwrap();
    }
    let refused = hub.app.ca().speaker(&old.issued.chain[0]).unwrap_err();
    assert!(refused.to_string().contains("no root"), "{refused}");
}

#[tokio::test]
async fn who_never_acknowledges_holds_up_every_step_until_it_is_named() {
    let (hub, devices) = members().await;
    acknowledged(&hub, &[LAB_1]).await;
    for wish in [Wish::Rotate, Wish::Advance, Wish::Advance] {
        acknowledged(&hub, &[LAB_1]).await;
        let refused = step(&hub, wish).await.unwrap_err().to_string();
        for part in ["lab-2", "--even-without", "token create"] {
            assert!(refused.contains(part), "{refused}");
        }
        let other = ["lab-3".to_owned()].into();
        let unknown = hub.app.rotate(wish, &other, &Manner::default()).await;
        assert!(unknown.unwrap_err().to_string().contains("lab-3"));
        let left = ["lab-2".to_owned()].into();
        hub.app
            .rotate(wish, &left, &Manner::default())
            .await
            .unwrap();
    }
    // By the means that the refusal names: with a token that only its own device can use.
    let token = |name: &'static str| {
        let app = &hub.app;
        async move {
            let (life, manner) = (SignedDuration::from_hours(1), Manner::default());
            app.create_join_token(name, life, false, &manner).await
        }
    };
    let material = token("lab-2").await.unwrap();
    assert_eq!(material.ca_pem, hub.app.ca().roots_pem());
    let stranger = Device::new(LAB_2);
    let refused = stranger.join(&hub.app, &material.token, "lab-2").await;
    assert!(matches!(refused, Err(AppError::Refused(_))), "{refused:?}");
    let [_, left] = &devices;
    left.join(&hub.app, &material.token, "lab-2").await.unwrap();
    acknowledged(&hub, &[LAB_1]).await;
    let here = token("lab-1").await;
    assert!(matches!(here, Err(AppError::Conflict(_))), "{here:?}");
}

#[tokio::test]
async fn a_version_that_was_never_made_counts_for_nothing_and_is_written_down() {
    let (hub, _devices) = members().await;
    acknowledged(&hub, &BOTH).await;
    let beyond = MemberTrust {
        version: 9,
        ..whole(&hub)
    };
    hub.app.hear_trust(uid(LAB_2), beyond).await.unwrap();
    hub.clock.advance(MARGIN);
    let refused = step(&hub, Wish::Rotate).await.unwrap_err();
    assert!(refused.to_string().contains("never made"), "{refused}");
    let (_, told) = hub.app.audit_records(u64::MAX, 8).await.unwrap();
    let reason = told.iter().map(|record| record.event.reason.as_str());
    assert!(
        reason
            .collect::<Vec<_>>()
            .contains(&"unknown-trust-version")
    );
}

#[tokio::test]
async fn a_dry_run_makes_no_root_and_changes_nothing() {
    let (hub, _devices) = members().await;
    acknowledged(&hub, &BOTH).await;
    let files = || std::fs::read_dir(hub.dir.path()).unwrap().count();
    let before = (files(), hub.app.ca().bundle());
    let manner = Manner {
        dry_run: true,
        ..Manner::default()
    };
    let would = hub.app.rotate(Wish::Rotate, &nobody(), &manner).await;
    assert_eq!(would.unwrap().roots.len(), 2);
    assert_eq!(before, (files(), hub.app.ca().bundle()));
}

#[tokio::test]
async fn a_hub_that_only_observes_exchanges_no_roots() {
    let (hub, _devices) = members().await;
    acknowledged(&hub, &BOTH).await;
    let doubt = Doubt {
        reason: "a test".to_owned(),
        since: hub.app.now(),
        claimed: None,
        seen: None,
    };
    let txn = Txn::new().put_record(&keys::doubt("hub"), &doubt).unwrap();
    hub.app.commit(txn).await.unwrap();
    let refused = step(&hub, Wish::Rotate).await;
    assert!(
        matches!(refused, Err(AppError::Observing(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn the_new_key_is_private_and_a_root_that_was_made_in_vain_is_taken_up() {
    let (hub, _devices) = members().await;
    acknowledged(&hub, &BOTH).await;
    // As a process that ended before the store knew of it.
    let made = hub
        .app
        .ca()
        .newcomer(hub.app.now(), false)
        .unwrap()
        .unwrap();
    let next = step(&hub, Wish::Rotate).await.unwrap();
    assert_eq!(next.roots[1], made);
    let keys = std::fs::read_dir(hub.dir.path()).unwrap();
    let keys = keys.map(|entry| entry.unwrap().path());
    let keys: Vec<_> = keys
        .filter(|path| path.extension().is_some_and(|it| it == "key"))
        .collect();
    assert_eq!(keys.len(), 2);
    for key in keys {
        let mode = key.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[tokio::test]
async fn a_step_that_was_kept_and_not_put_in_force_is_put_in_force_by_the_next_start() {
    let (hub, _devices) = members().await;
    let ca = hub.app.ca();
    let new = ca.newcomer(hub.app.now(), false).unwrap().unwrap();
    let bundle = ca
        .bundle()
        .after(&Step::Rotate(new), hub.app.now())
        .unwrap();
    let txn = Txn::new().create(&keys::trust(), &bundle).unwrap();
    hub.store
        .commit(txn, Fence(hub.app.reign().term.0))
        .await
        .unwrap();
    assert_eq!(ca.version(), 1);
    let again = hub.restarted_with(hub.store.clone()).await;
    assert_eq!(again.app.ca().bundle(), bundle);
}

#[tokio::test]
async fn a_store_that_went_back_in_time_takes_back_no_step() {
    let (hub, _devices) = members().await;
    let mut steps = Vec::new();
    for wish in [Wish::Rotate, Wish::Advance, Wish::Advance] {
        acknowledged(&hub, &BOTH).await;
        step(&hub, wish).await.unwrap();
        steps.push(hub.app.ca().bundle());
    }
    // Its store as it was after the first step: the anchor names the old root.
    let old = MemoryStore::new();
    let before = Anchor {
        fingerprint: hub.app.ca().bundle().retired[0].clone(),
        trust_domain: Some("meridian.local".to_owned()),
    };
    let txn = Txn::new().create(&keys::anchor(), &before).unwrap();
    let txn = txn.create(&keys::trust(), &steps[0]).unwrap();
    old.commit(txn, Fence(1)).await.unwrap();
    let again = hub.restarted_with(old.clone()).await;
    assert_eq!(again.app.ca().bundle(), hub.app.ca().bundle());
    let kept = records::get(&old, &keys::trust()).await.unwrap().unwrap();
    assert_eq!(kept.record, hub.app.ca().bundle());
    let anchor = records::get(&old, &keys::anchor()).await.unwrap().unwrap();
    assert_eq!(anchor.record.fingerprint, hub.app.ca().fingerprint());
}

#[tokio::test]
async fn an_authority_that_never_knew_the_stores_roots_is_refused_whatever_its_version() {
    let (hub, _devices) = members().await;
    let (other, _others) = members().await;
    for it in [&hub, &other] {
        acknowledged(it, &BOTH).await;
        step(it, Wish::Rotate).await.unwrap();
    }
    let refused = trusted(&other.store, hub.app.ca()).await.unwrap_err();
    assert!(
        matches!(refused, BeginError::OtherAuthority { .. }),
        "{refused}"
    );
    acknowledged(&hub, &BOTH).await;
    step(&hub, Wish::Advance).await.unwrap();
    let refused = trusted(&other.store, hub.app.ca()).await.unwrap_err();
    assert!(
        matches!(refused, BeginError::OtherAuthority { .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn a_replica_follows_the_roots_of_the_store_and_makes_none() {
    let (hub, _devices) = members().await;
    let domain = || hub.app.ca().trust_domain().clone();
    let (replica, _) = Authority::given(hub.dir.path(), domain()).unwrap();
    let now = hub.clock.now();
    let refused = replica.newcomer(now, false).unwrap_err().to_string();
    assert!(refused.contains("next-root"), "{refused}");
    acknowledged(&hub, &BOTH).await;
    let next = step(&hub, Wish::Rotate).await.unwrap();
    trusted(&hub.store, &replica).await.unwrap();
    assert_eq!(replica.bundle(), next);
    // It lacks the key of the root that signs next.
    let bare = tempfile::tempdir().unwrap();
    for file in ["root.key", "root.crt"] {
        std::fs::copy(hub.dir.path().join(file), bare.path().join(file)).unwrap();
    }
    let (bare, _) = Authority::given(bare.path(), domain()).unwrap();
    trusted(&hub.store, &bare).await.unwrap();
    acknowledged(&hub, &BOTH).await;
    step(&hub, Wish::Advance).await.unwrap();
    let refused = trusted(&hub.store, &bare).await.unwrap_err();
    assert!(
        matches!(refused, BeginError::OtherAuthority { .. }),
        "{refused}"
    );
}
