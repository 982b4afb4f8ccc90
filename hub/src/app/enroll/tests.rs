mod trail;

use jiff::SignedDuration;

use super::challenges::CHALLENGES;
use super::*;
use crate::app::testing::{AGENT, Device, LAB_1, LAB_2, TestHub};
use crate::app::writes::Manner;
use crate::domain::lineage::Memory;

/// The reason of a refusal.
fn reason<T: std::fmt::Debug>(result: Result<T, AppError>) -> String {
    match result {
        Err(AppError::Refused(reason)) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_cluster_joins_with_its_token_and_gets_its_name_and_identity() {
    let hub = TestHub::new().await;
    let (device, token) = (Device::new(LAB_1), hub.token("lab-1").await);
    let enrolled = device.join(&hub.app, &token, "lab-1").await.unwrap();
    assert_eq!(
        (enrolled.cluster.name.as_str(), enrolled.cluster.uid),
        ("lab-1", device.cluster)
    );
    let identity = hub.app.ca().identify(&enrolled.issued.chain[0]).unwrap();
    assert_eq!((identity.cluster, identity.rec), (device.cluster, None));
}

#[tokio::test]
async fn the_same_request_twice_is_accepted_with_a_fresh_certificate() {
    let hub = TestHub::new().await;
    let (device, token) = (Device::new(LAB_1), hub.token("lab-1").await);
    let first = device.join(&hub.app, &token, "lab-1").await.unwrap();
    // Even after the token's end: the reply may have been lost just before it.
    hub.clock.advance(SignedDuration::from_hours(2));
    let second = device.join(&hub.app, &token, "lab-1").await.unwrap();
    assert_ne!(first.issued.chain, second.issued.chain);
    assert_eq!(first.cluster.joined_at, second.cluster.joined_at);
}

#[tokio::test]
async fn a_used_token_is_refused_to_another_device() {
    let hub = TestHub::new().await;
    let token = hub.token("lab-1").await;
    Device::new(LAB_1)
        .join(&hub.app, &token, "lab-1")
        .await
        .unwrap();
    for cluster in [LAB_1, LAB_2] {
        let reason = reason(Device::new(cluster).join(&hub.app, &token, "lab-1").await);
        assert!(reason.contains("was used"), "{reason}");
    }
}

#[tokio::test]
async fn a_used_token_is_refused_to_the_same_key_in_another_cluster() {
    let hub = TestHub::new().await;
    let token = hub.token("lab-1").await;
    let mut device = Device::new(LAB_1);
    device.join(&hub.app, &token, "lab-1").await.unwrap();
    device.cluster = LAB_2.parse().unwrap();
    let reason = reason(device.join(&hub.app, &token, "lab-1").await);
    assert!(reason.contains("was used"), "{reason}");
}

#[tokio::test]
async fn two_devices_that_race_for_one_token_do_not_both_join() {
    let hub = TestHub::new().await;
    let token = hub.token("lab-1").await;
    let (one, two) = (Device::new(LAB_1), Device::new(LAB_2));
    let (one, two) = tokio::join!(
        one.join(&hub.app, &token, "lab-1"),
        two.join(&hub.app, &token, "lab-1")
    );
    assert_eq!(
        [one.is_ok(), two.is_ok()]
            .into_iter()
            .filter(|joined| *joined)
            .count(),
        1,
        "{one:?} {two:?}"
    );
}

#[tokio::test]
async fn an_expired_token_is_refused_with_both_clocks() {
    let hub = TestHub::new().await;
    let token = hub.token("lab-1").await;
    hub.clock.advance(SignedDuration::from_hours(1));
    let reason = reason(Device::new(LAB_1).join(&hub.app, &token, "lab-1").await);
    assert!(
        reason.contains("expired at 2026-11-22T13:00:00Z") && reason.contains("clock says"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_wrong_name_is_refused() {
    let hub = TestHub::new().await;
    let token = hub.token("lab-1").await;
    let reason = reason(Device::new(LAB_1).join(&hub.app, &token, "lab-9").await);
    assert!(
        reason.contains("\"lab-1\"") && reason.contains("\"lab-9\""),
        "{reason}"
    );
}

#[tokio::test]
async fn an_unknown_token_and_a_wrong_secret_are_refused_in_the_same_words() {
    let hub = TestHub::new().await;
    let token = hub.token("lab-1").await;
    let (known, _) = token.rsplit_once('.').unwrap();
    let wrong_secret = reason(
        Device::new(LAB_1)
            .join(&hub.app, &format!("{known}.AAAA"), "lab-1")
            .await,
    );
    let unknown = reason(
        Device::new(LAB_1)
            .join(&hub.app, "mrdj.0000000000000000.AAAA", "lab-1")
            .await,
    );
    assert_eq!(wrong_secret, unknown);
    let no_token = reason(
        Device::new(LAB_1)
            .join(&hub.app, "let me in", "lab-1")
            .await,
    );
    assert!(no_token.contains("expected mrdj"), "{no_token}");
}

#[tokio::test]
async fn a_deleted_token_joins_nobody() {
    let hub = TestHub::new().await;
    let token = hub.token("lab-1").await;
    let id = hub.app.join_tokens().await.unwrap().value[0]
        .record
        .id
        .clone();
    hub.app
        .delete_join_token(&id, &Manner::default())
        .await
        .unwrap();
    assert!(reason(Device::new(LAB_1).join(&hub.app, &token, "lab-1").await).contains("unknown"));
}

#[tokio::test]
async fn a_signature_over_anything_else_is_refused() {
    let hub = TestHub::new().await;
    let (device, token) = (Device::new(LAB_1), hub.token("lab-1").await);
    let csr = device.csr();
    let other_csr = Device::new(LAB_1).csr();
    let other_device = Device::new(LAB_1);
    let opened = || hub.app.begin_enrolment(device.public(), device.cluster);
    let finish = async |opened: &Opened, signature: Vec<u8>| {
        let (challenge_id, cluster_name, agent_version) = (opened.id.as_str(), "lab-1", "1");
        hub.app
            .finish_enrolment(Finish {
                challenge_id,
                token: &token,
                cluster_name,
                signature: &signature,
                csr: &csr,
                agent_version,
                address: "10.0.0.7",
            })
            .await
    };
    let with = |device: &Device, purpose, opened: &Opened, csr: &[u8]| {
        device.sign(purpose, opened, "lab-1", token.as_bytes(), csr)
    };
    let (a, b, c) = (opened(), opened(), opened());
    let refusals = [
        finish(&a, with(&device, Signed::Finish, &a, &other_csr)).await,
        finish(&b, with(&device, Signed::Recover, &b, &csr)).await,
        finish(&c, with(&other_device, Signed::Finish, &c, &csr)).await,
    ];
    for refusal in refusals {
        assert!(reason(refusal).contains("signature"));
    }
    let good = opened();
    finish(&good, with(&device, Signed::Finish, &good, &csr))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_challenge_is_good_once_and_not_for_long() {
    let hub = TestHub::new().await;
    let (device, token) = (Device::new(LAB_1), hub.token("lab-1").await);
    let csr = device.csr();
    let opened = hub.app.begin_enrolment(device.public(), device.cluster);
    let signature = device.sign(Signed::Finish, &opened, "lab-1", token.as_bytes(), &csr);
    let finish = Finish {
        challenge_id: &opened.id,
        token: &token,
        cluster_name: "lab-1",
        signature: &signature,
        csr: &csr,
        agent_version: "1",
        address: "10.0.0.7",
    };
    hub.app.finish_enrolment(finish).await.unwrap();
    assert!(reason(hub.app.finish_enrolment(finish).await).contains("challenge"));
    let late = hub.app.begin_enrolment(device.public(), device.cluster);
    hub.clock.advance(CHALLENGE_LIFE);
    let finish = Finish {
        challenge_id: &late.id,
        ..finish
    };
    assert!(reason(hub.app.finish_enrolment(finish).await).contains("too old"));
}

#[tokio::test]
async fn open_challenges_are_bounded_and_a_flood_of_them_locks_nobody_out() {
    let hub = TestHub::new().await;
    let (device, token) = (Device::new(LAB_1), hub.token("lab-1").await);
    let first = hub.app.begin_enrolment(device.public(), device.cluster);
    for _ in 0..CHALLENGES {
        drop(hub.app.begin_enrolment(device.public(), device.cluster));
    }
    device.join(&hub.app, &token, "lab-1").await.unwrap();
    // The oldest is gone, the youngest that are allowed for stand.
    let csr = device.csr();
    let signature = device.sign(Signed::Recover, &first, "", b"", &csr);
    let recover = Recover {
        challenge_id: &first.id,
        signature: &signature,
        csr: &csr,
        join_state: b"",
        cluster: LAB_1,
        address: "10.0.0.7",
    };
    assert!(reason(hub.app.recover(recover).await).contains("challenge"));
}

#[tokio::test]
async fn a_second_cluster_with_the_same_kube_system_uid_is_refused() {
    let hub = TestHub::new().await;
    hub.member("lab-1", LAB_1).await;
    let token = hub.token("copy").await;
    let reason = reason(Device::new(LAB_1).join(&hub.app, &token, "copy").await);
    assert!(
        reason.contains("already a member called \"lab-1\"") && reason.contains("copy of"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_token_for_a_name_that_a_member_has_is_not_made() {
    let hub = TestHub::new().await;
    hub.member("lab-1", LAB_1).await;
    let refused = hub
        .app
        .create_join_token(
            "lab-1",
            SignedDuration::from_hours(1),
            false,
            &Manner::default(),
        )
        .await;
    assert!(matches!(refused, Err(AppError::Conflict(_))), "{refused:?}");
}

#[tokio::test]
async fn two_tokens_for_one_name_join_one_cluster() {
    let hub = TestHub::new().await;
    let (one, two) = (hub.token("lab-1").await, hub.token("lab-1").await);
    Device::new(LAB_1)
        .join(&hub.app, &one, "lab-1")
        .await
        .unwrap();
    let reason = reason(Device::new(LAB_2).join(&hub.app, &two, "lab-1").await);
    assert!(reason.contains("another member is called"), "{reason}");
}

#[tokio::test]
async fn a_removed_cluster_is_refused_until_a_new_token_joins_it_again() {
    let hub = TestHub::new().await;
    let device = hub.member("lab-1", LAB_1).await;
    hub.app
        .remove_cluster("lab-1", &Manner::default())
        .await
        .unwrap();
    let refused = reason(device.renew(&hub.app).await);
    assert!(refused.contains("was removed"), "{refused}");
    assert!(reason(device.recover(&hub.app, "").await).contains("join with a token"));
    let token = hub.token("lab-1").await;
    device.join(&hub.app, &token, "lab-1").await.unwrap();
    device.renew(&hub.app).await.unwrap();
}

#[tokio::test]
async fn a_device_recovers_with_its_key_and_join_state_even_if_a_reply_was_lost() {
    let hub = TestHub::new().await;
    let (device, token) = (Device::new(LAB_1), hub.token("lab-1").await);
    let first = device
        .join(&hub.app, &token, "lab-1")
        .await
        .unwrap()
        .cluster
        .join_state;
    hub.clock.advance(SignedDuration::from_hours(24 * 60));
    device.recover(&hub.app, &first).await.unwrap();
    // The reply was lost twice; the device still has its first state.
    device.recover(&hub.app, &first).await.unwrap();
    let last = device
        .recover(&hub.app, &first)
        .await
        .unwrap()
        .cluster
        .join_state;
    device.recover(&hub.app, &last).await.unwrap();
    let replayed = device.recover(&hub.app, &first).await;
    let Err(AppError::Quarantined(replayed)) = replayed else {
        panic!("{replayed:?}")
    };
    assert!(
        replayed.contains("join state that was used before"),
        "{replayed}"
    );
    // Neither of the two gets anything now, not even with the newest state.
    let newest = device.recover(&hub.app, &last).await;
    assert!(
        matches!(newest, Err(AppError::Quarantined(_))),
        "{newest:?}"
    );
    // A person has looked: whichever device is left recovers with the state that it has.
    hub.app
        .release("lab-1", "admin", &Manner::default())
        .await
        .unwrap();
    device.recover(&hub.app, &first).await.unwrap();
}

#[tokio::test]
async fn a_recovery_that_names_another_cluster_than_its_challenge_is_refused() {
    let hub = TestHub::new().await;
    let device = hub.member("lab-1", LAB_1).await;
    let opened = hub.app.begin_enrolment(device.public(), device.cluster);
    let csr = device.csr();
    let signature = device.sign(Signed::Recover, &opened, "", b"", &csr);
    let refused = hub.app.recover(Recover {
        challenge_id: &opened.id,
        signature: &signature,
        csr: &csr,
        join_state: b"",
        cluster: LAB_2,
        address: "10.0.0.7",
    });
    let told = reason(refused.await);
    assert!(told.contains(LAB_1) && told.contains(LAB_2), "{told}");
}

#[tokio::test]
async fn the_device_of_one_cluster_recovers_and_renews_no_other() {
    let hub = TestHub::new().await;
    let mut device = hub.member("lab-1", LAB_1).await;
    drop(hub.member("lab-2", LAB_2).await);
    device.cluster = LAB_2.parse().unwrap();
    assert!(reason(device.recover(&hub.app, "").await).contains("no member has this device key"));
    assert!(reason(device.renew(&hub.app).await).contains("device key that joined"));
}

#[tokio::test]
async fn a_stolen_certificate_is_not_renewed_without_the_device_key() {
    let hub = TestHub::new().await;
    let device = hub.member("lab-1", LAB_1).await;
    device.renew(&hub.app).await.unwrap();
    let refused = reason(Device::new(LAB_1).renew(&hub.app).await);
    assert!(refused.contains("device key that joined"), "{refused}");
    // The proof is bound to the request and to the cluster.
    let other = Device::new(LAB_1).csr();
    let renewal = Renewal {
        device_key: device.public(),
        signature: &[0; 64],
        csr: &other,
        address: "10.0.0.7",
    };
    assert!(reason(hub.app.renew(device.cluster, renewal).await).contains("signature"));
}

#[tokio::test]
async fn a_hub_that_lost_its_store_learns_the_device_again_so_that_it_can_recover_later() {
    let hub = TestHub::new().await;
    let device = hub.member("lab-1", LAB_1).await;
    let lost = hub
        .restarted_with(crate::store::memory::MemoryStore::new())
        .await;
    lost.app
        .admit(device.cluster, AGENT, Memory::default())
        .await
        .unwrap();
    let refused = reason(device.recover(&lost.app, "").await);
    assert!(
        refused.contains("no member has this device key"),
        "{refused}"
    );
    let renewed = device.renew(&lost.app).await.unwrap();
    assert!(!renewed.cluster.join_state.is_empty());
    hub.clock.advance(SignedDuration::from_hours(24 * 60));
    device
        .recover(&lost.app, &renewed.cluster.join_state)
        .await
        .unwrap();
    assert!(reason(Device::new(LAB_1).renew(&lost.app).await).contains("device key that joined"));
}

#[tokio::test]
async fn another_device_key_recovers_nothing() {
    let hub = TestHub::new().await;
    let (device, token) = (Device::new(LAB_1), hub.token("lab-1").await);
    let state = device
        .join(&hub.app, &token, "lab-1")
        .await
        .unwrap()
        .cluster
        .join_state;
    assert!(
        reason(Device::new(LAB_1).recover(&hub.app, &state).await)
            .contains("no member has this device key")
    );
}

#[tokio::test]
async fn neither_token_nor_hash_shows_in_what_is_kept_for_people() {
    let hub = TestHub::new().await;
    let token = hub.token("lab-1").await;
    let secret = token.rsplit('.').next().unwrap();
    let everything = crate::store::Store::list(&hub.store, vec![String::new()])
        .await
        .unwrap()
        .value;
    for entry in everything.iter().flatten() {
        assert!(
            !String::from_utf8_lossy(&entry.value).contains(secret),
            "{}",
            entry.key
        );
    }
}
