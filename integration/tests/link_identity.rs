//! The life of an identity over real connections: months pass on the hub's clock, certificates end, are revoked and recovered.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where its ground gives way"
)]

#[path = "link_enrollment/hub.rs"]
mod hub;

use std::time::{Duration, Instant};

use hub::{Hub, Refused, facts, join};
use jiff::SignedDuration;
use meridian_agent::link::{
    dial::{DialError, Dialer},
    enroll::{self, EnrollError, HubRegistrar},
    identity::Identity,
};
use meridian_api::link::{
    codes,
    proto::{
        self, PeerCertificateRequest, agent_frame::Frame as Say, hub_frame::Frame as Heard,
        link_client::LinkClient,
    },
};
use meridian_hub::{
    app::{denials::Deny, writes::Manner},
    domain::denial::Serial,
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::transport::Channel;

const EU: &str = "0e0e0e0e-0000-4000-8000-000000000001";

fn dialer(identity: &Identity) -> Dialer {
    let membership = identity.membership.as_ref().unwrap();
    Dialer {
        addresses: membership.addresses.clone(),
        roots_pem: membership.trust.roots_pem.clone(),
        ..Dialer::default()
    }
}

async fn member(hub: &Hub) -> Identity {
    let mut identity = Identity::generate().unwrap();
    join(&mut identity, &hub.material("eu-1").await, EU)
        .await
        .unwrap();
    identity
}

async fn connect(identity: &Identity) -> Channel {
    let connected = dialer(identity).connect(Some(identity), || 0.5).await;
    connected.unwrap().channel
}

/// An open session, as an agent has it.
struct Session {
    frames: tonic::Streaming<proto::HubFrame>,
    _say: mpsc::Sender<proto::AgentFrame>,
}

async fn session(channel: Channel) -> Result<Session, tonic::Status> {
    let (say, frames) = mpsc::channel(8);
    let hello = proto::Hello {
        proto_min: 1,
        proto_max: 1,
        kube_system_uid: EU.to_owned(),
        instance_id: "0e0e0e0e-0000-4000-8000-0000000000aa".to_owned(),
        ..proto::Hello::default()
    };
    let hello = proto::AgentFrame {
        frame: Some(Say::Hello(hello)),
    };
    say.send(hello).await.unwrap();
    let opened = LinkClient::new(channel)
        .session(ReceiverStream::new(frames))
        .await?;
    let mut session = Session {
        frames: opened.into_inner(),
        _say: say,
    };
    let first = session.hear().await;
    assert!(matches!(first, Heard::Welcome(_)), "{first:?}");
    Ok(session)
}

impl Session {
    async fn hear(&mut self) -> Heard {
        let frame = self.frames.next().await.expect("the stream goes on");
        frame.unwrap().frame.expect("a frame has content")
    }

    /// Waits for the goodbye, and for the end of the stream after it.
    async fn bye(mut self) -> proto::Bye {
        loop {
            if let Heard::Bye(bye) = self.hear().await {
                assert!(
                    self.frames.next().await.is_none(),
                    "something follows a Bye"
                );
                return bye;
            }
        }
    }
}

async fn recover(identity: &Identity) -> Identity {
    let mut recovered = identity.with_new_session_key().unwrap();
    let hub = dialer(identity).connect(None, || 0.5).await.unwrap();
    enroll::recover(
        &mut HubRegistrar::new(hub.channel),
        &mut recovered,
        &facts(EU),
    )
    .await
    .unwrap();
    recovered
}

/// Certificates that a peer shows are looked at by the hub's clock; what it says of one that ended comes with the first call.
async fn refusal(identity: &Identity) -> DialError {
    let connection = match dialer(identity).connect(Some(identity), || 0.5).await {
        Ok(connection) => connection,
        Err(refused) => return refused,
    };
    let opened = session(connection.channel.clone()).await;
    let status = opened.err().expect("an ended certificate opens no session");
    connection.explain(&status)
}

#[tokio::test]
async fn an_expired_certificate_and_a_valid_device_key_recover_however_long_the_member_was_away() {
    let hub = Hub::start().await;
    let mut identity = member(&hub).await;
    for days in [8, 90, 700] {
        drop(session(connect(&identity).await).await.unwrap());
        hub.clock.advance(SignedDuration::from_hours(24 * days));
        let refused = refusal(&identity).await;
        assert!(
            matches!(refused, DialError::Expired { .. }),
            "after {days} days: {refused}"
        );
        let recovered = recover(&identity).await;
        drop(session(connect(&recovered).await).await.unwrap());
        // What was stored of the member before each step is all that it needs.
        identity = Identity::read(&recovered.data()).unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_outlives_its_certificate_gets_nothing_more() {
    let hub = Hub::start().await;
    let identity = member(&hub).await;
    let channel = connect(&identity).await;
    let request = || PeerCertificateRequest {
        rec_namespace: "ns".to_owned(),
        rec_name: "rec".to_owned(),
        csr_der: identity.request().unwrap().into(),
        ..PeerCertificateRequest::default()
    };
    let mut link = LinkClient::new(channel);
    link.issue_peer(request()).await.unwrap();
    hub.clock.advance(SignedDuration::from_hours(24 * 7));
    let status = link.issue_peer(request()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    assert!(
        status.message().contains("the hub's clock says"),
        "{status}"
    );
    let renewal = enroll::renewal(&identity.with_new_session_key().unwrap(), EU).unwrap();
    let status = link.renew(renewal).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
}

#[tokio::test]
async fn a_removed_cluster_loses_its_stream_and_its_connection_within_a_second() {
    let hub = Hub::start().await;
    let identity = member(&hub).await;
    let channel = connect(&identity).await;
    let open = session(channel.clone()).await.unwrap();
    let begun = Instant::now();
    hub.app
        .remove_cluster("eu-1", &Manner::default())
        .await
        .unwrap();
    let bye = open.bye().await;
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(bye.code, codes::REVOKED);
    let renewal = enroll::renewal(&identity.with_new_session_key().unwrap(), EU).unwrap();
    let status = LinkClient::new(channel).renew(renewal).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
}

#[tokio::test]
async fn a_revoked_certificate_loses_its_stream_within_a_second_and_its_device_gets_another() {
    let hub = Hub::start().await;
    let identity = member(&hub).await;
    let open = session(connect(&identity).await).await.unwrap();
    let what = Deny::Certificate(serial(&identity));
    let begun = Instant::now();
    hub.app
        .deny("eu-1", &what, ("admin", "stolen"), &Manner::default())
        .await
        .unwrap();
    let bye = open.bye().await;
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(bye.code, codes::CERTIFICATE);
    assert!(bye.message.contains("stolen"), "{}", bye.message);
    let recovered = recover(&identity).await;
    drop(session(connect(&recovered).await).await.unwrap());
}

fn serial(identity: &Identity) -> Serial {
    let chain = &identity.membership.as_ref().unwrap().chain_pem;
    let der = meridian_agent::link::join::roots(chain).unwrap().remove(0);
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    Serial::of(parsed.raw_serial())
}

#[tokio::test]
async fn a_renewed_certificate_takes_over_the_stream_and_the_member_is_never_unreachable() {
    let hub = Hub::start().await;
    let identity = member(&hub).await;
    let channel = connect(&identity).await;
    let old = session(channel.clone()).await.unwrap();
    let mut renewed = identity.with_new_session_key().unwrap();
    let request = enroll::renewal(&renewed, EU).unwrap();
    let result = LinkClient::new(channel).renew(request).await.unwrap();
    renewed.accept(result.get_ref(), "f").unwrap();
    assert_ne!(serial(&renewed), serial(&identity));
    // The second connection stands before the first session ends.
    let next = connect(&renewed).await;
    let new = session(next).await.unwrap();
    assert_eq!(old.bye().await.code, codes::SUPERSEDED);
    assert!(hub.app.member_views().await.unwrap().value[0].is_connected());
    drop(new);
}

#[tokio::test]
async fn the_words_that_an_agent_shows_are_those_that_a_person_finds_on_the_hub_and_approves() {
    let hub = Hub::start().await;
    let material = hub.material_with("eu-1", true).await;
    let mut identity = Identity::generate().unwrap();
    let mut shown = String::new();
    for _ in 0..2 {
        let refused = join(&mut identity, &material, EU).await.unwrap_err();
        let Refused::Enroll(EnrollError::AwaitsApproval { name, words }) = refused else {
            unreachable!("{refused}")
        };
        assert_eq!(name, "eu-1");
        shown = words;
    }
    assert!(identity.membership.is_none());
    let waiting = hub.app.approvals().await.unwrap();
    let asked = waiting[0].record.asked.as_ref().unwrap();
    assert_eq!(asked.words(), shown);
    let by = ("alice", &Manner::default());
    hub.app.approve("eu-1", &shown, by).await.unwrap();
    join(&mut identity, &material, EU).await.unwrap();
    drop(session(connect(&identity).await).await.unwrap());
}
