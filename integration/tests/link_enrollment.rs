//! A cluster joins the real hub over the real transport: what is refused, with which reason, and what may be repeated.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where its ground gives way"
)]

#[path = "link_enrollment/hub.rs"]
mod hub;

use hub::{Hub, Refused, facts, join};
use jiff::SignedDuration;
use meridian_agent::link::{
    dial::{Connection, DialError, Dialer},
    enroll::{self, HubRegistrar},
    identity::Identity,
    join::JoinMaterial,
};
use meridian_api::link::proto::{PeerCertificateRequest, link_client::LinkClient};

const EU: &str = "0e0e0e0e-0000-4000-8000-000000000001";
const US: &str = "0e0e0e0e-0000-4000-8000-000000000002";

fn fresh() -> Identity {
    Identity::generate().unwrap()
}

/// Joining must be refused; returns the reason as a person reads it.
async fn refusal(identity: &mut Identity, material: &JoinMaterial, uid: &str) -> String {
    let refused = join(identity, material, uid)
        .await
        .expect_err("joining must be refused");
    assert_eq!(identity.membership, None);
    assert!(
        matches!(&refused, Refused::Enroll(error) if error.is_refusal()),
        "{refused:?}"
    );
    let reason = refused.to_string();
    assert!(
        !reason.contains(&material.token),
        "the token is shown: {reason}"
    );
    reason
}

#[tokio::test]
async fn a_cluster_joins_with_its_token_and_gets_a_certificate_for_its_own_key() {
    let hub = Hub::start().await;
    let (mut identity, material) = (fresh(), hub.material("eu-1").await);
    join(&mut identity, &material, EU).await.unwrap();
    let membership = identity.membership.clone().unwrap();
    assert_eq!(membership.cluster_name, "eu-1");
    assert_eq!(membership.addresses.len(), 1);
    assert_eq!(Identity::read(&identity.data()).unwrap(), identity);
}

#[tokio::test]
async fn a_hub_that_the_pinned_root_did_not_sign_is_refused_before_the_token_is_sent() {
    let (hub, impostor) = (Hub::start().await, Hub::start().await);
    let material = JoinMaterial {
        addresses: vec![impostor.address.parse().unwrap()],
        ..hub.material("eu-1").await
    };
    let refused = join(&mut fresh(), &material, EU)
        .await
        .expect_err("the root is another");
    let Refused::Dial(DialError::WrongAuthority { address, .. }) = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(*address, impostor.address);
    assert!(refused.to_string().contains("did not sign"), "{refused}");
    assert!(
        refused.to_string().contains("apply fresh join material"),
        "{refused}"
    );
}

#[tokio::test]
async fn the_same_request_twice_is_accepted_twice() {
    let hub = Hub::start().await;
    let (identity, material) = (fresh(), hub.material("eu-1").await);
    for _ in 0..2 {
        // Each time from what was stored before the first call, as after a lost reply and a restart.
        let mut again = Identity::read(&identity.data()).unwrap();
        join(&mut again, &material, EU).await.unwrap();
        assert_eq!(again.membership.unwrap().cluster_name, "eu-1");
    }
}

#[tokio::test]
async fn the_same_token_with_another_key_is_refused() {
    let hub = Hub::start().await;
    let material = hub.material("eu-1").await;
    join(&mut fresh(), &material, EU).await.unwrap();
    let reason = refusal(&mut fresh(), &material, EU).await;
    assert!(reason.contains("another device"), "{reason}");
}

#[tokio::test]
async fn a_used_token_is_refused_to_another_cluster() {
    let hub = Hub::start().await;
    let material = hub.material("eu-1").await;
    join(&mut fresh(), &material, EU).await.unwrap();
    let reason = refusal(&mut fresh(), &material, US).await;
    assert!(reason.contains("used"), "{reason}");
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let hub = Hub::start().await;
    let material = hub.material("eu-1").await;
    hub.clock.advance(SignedDuration::from_mins(11));
    let reason = refusal(&mut fresh(), &material, EU).await;
    assert!(reason.contains("expired"), "{reason}");
}

#[tokio::test]
async fn a_token_for_another_name_is_refused() {
    let hub = Hub::start().await;
    let material = JoinMaterial {
        name: "us-1".to_owned(),
        ..hub.material("eu-1").await
    };
    let reason = refusal(&mut fresh(), &material, EU).await;
    assert!(reason.contains("us-1"), "{reason}");
}

#[tokio::test]
async fn a_token_that_was_never_given_is_refused() {
    let hub = Hub::start().await;
    let mut material = hub.material("eu-1").await;
    let last = material.token.pop().unwrap();
    material.token.push(if last == 'a' { 'b' } else { 'a' });
    refusal(&mut fresh(), &material, EU).await;
}

fn dialer(identity: &Identity) -> Dialer {
    let membership = identity.membership.as_ref().unwrap();
    Dialer {
        addresses: membership.addresses.clone(),
        roots_pem: membership.trust.roots_pem.clone(),
        ..Dialer::default()
    }
}

#[tokio::test]
async fn a_member_renews_its_certificate_for_a_new_key() {
    let hub = Hub::start().await;
    let mut identity = fresh();
    join(&mut identity, &hub.material("eu-1").await, EU)
        .await
        .unwrap();
    let Connection { channel, .. } = dialer(&identity)
        .connect(Some(&identity), || 0.5)
        .await
        .unwrap();
    let mut renewed = identity.with_new_session_key().unwrap();
    let request = enroll::renewal(&renewed, EU).unwrap();
    let result = LinkClient::new(channel)
        .renew(request)
        .await
        .unwrap()
        .into_inner();
    renewed.accept(&result, "f").unwrap();
    let Connection { channel, .. } = dialer(&renewed)
        .connect(Some(&renewed), || 0.5)
        .await
        .unwrap();
    let request = PeerCertificateRequest {
        rec_namespace: "ns".to_owned(),
        rec_name: "rec".to_owned(),
        csr_der: renewed.request().unwrap().into(),
        dns_names: vec!["*.rec.ns.eu-1.meridian.internal".to_owned()],
    };
    let reply = LinkClient::new(channel)
        .issue_peer(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        reply.spiffe_id,
        format!("spiffe://meridian.local/cluster/{EU}/rec/ns/rec")
    );
}

#[tokio::test]
async fn a_member_recovers_with_its_device_key_and_a_stranger_does_not() {
    let hub = Hub::start().await;
    let mut identity = fresh();
    join(&mut identity, &hub.material("eu-1").await, EU)
        .await
        .unwrap();
    let connect = async || {
        let Connection { channel, .. } = dialer(&identity).connect(None, || 0.5).await.unwrap();
        HubRegistrar::new(channel)
    };
    let mut stranger = fresh();
    stranger.membership.clone_from(&identity.membership);
    let error = enroll::recover(&mut connect().await, &mut stranger, &facts(EU))
        .await
        .unwrap_err();
    assert!(error.is_refusal(), "{error}");
    let mut recovered = identity.with_new_session_key().unwrap();
    enroll::recover(&mut connect().await, &mut recovered, &facts(EU))
        .await
        .unwrap();
    assert_ne!(
        recovered.membership.unwrap().chain_pem,
        identity.membership.as_ref().unwrap().chain_pem
    );
}

#[tokio::test]
async fn without_a_certificate_the_link_opens_nothing() {
    let hub = Hub::start().await;
    let mut identity = fresh();
    join(&mut identity, &hub.material("eu-1").await, EU)
        .await
        .unwrap();
    let Connection { channel, .. } = dialer(&identity).connect(None, || 0.5).await.unwrap();
    let request = enroll::renewal(&identity, EU).unwrap();
    let status = LinkClient::new(channel).renew(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
}
