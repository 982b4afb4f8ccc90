use super::{faults::UNAPPROVED, *};
use crate::link::{enroll::EnrollError, join::HubAddress, testing::Authority};

fn address(text: &str) -> HubAddress {
    text.parse().unwrap()
}

fn material(token: &str) -> JoinMaterial {
    JoinMaterial {
        addresses: vec![address("join:1"), address("hub.example:8444")],
        ca_pem: "pinned".to_owned(),
        token: token.to_owned(),
        name: "eu-1".to_owned(),
    }
}

fn member(authority: &Authority) -> Identity {
    let mut identity = Identity::generate().unwrap();
    let result = authority.result(&identity.request().unwrap());
    identity
        .accept(&result, &material("t").fingerprint())
        .unwrap();
    identity
}

fn status(why: Why, backoff: &mut Backoff) -> Result<(), LinkError> {
    let away = |status: &tonic::Status| DialError::Unreachable {
        address: "hub:1".to_owned(),
        reason: status.to_string(),
    };
    after(why, away, backoff)
}

#[test]
fn a_stranger_trusts_the_pinned_root_alone_and_a_member_the_roots_it_was_given() {
    let stranger = dialer(
        &Identity::generate().unwrap(),
        &material("t"),
        &ProxySettings::default(),
    );
    assert_eq!(
        (stranger.roots_pem.as_str(), stranger.addresses.len()),
        ("pinned", 2)
    );
    let authority = Authority::new();
    let known = dialer(
        &member(&authority),
        &material("t"),
        &ProxySettings::default(),
    );
    assert_ne!(known.roots_pem, "pinned");
    assert_eq!(
        known.addresses,
        [address("hub.example:8444"), address("join:1")]
    );
}

#[test]
fn the_addresses_of_a_drain_are_tried_besides_the_known_ones() {
    let mut dialer = dialer(
        &member(&Authority::new()),
        &material("t"),
        &ProxySettings::default(),
    );
    let told = ["hub.example:8444", "no address", "other.example:8444"];
    dialer.also(&places(&told.map(str::to_owned)));
    let known = ["hub.example:8444", "join:1", "other.example:8444"];
    assert_eq!(dialer.addresses, known.map(address));
    assert_eq!(places(&vec!["hub.example:8444".to_owned(); 99]).len(), 16);
}

#[test]
fn material_of_another_hub_adds_no_address_to_a_membership() {
    let known = dialer(
        &member(&Authority::new()),
        &material("another"),
        &ProxySettings::default(),
    );
    assert_eq!(known.addresses, [address("hub.example:8444")]);
}

#[test]
fn a_drain_is_followed_by_its_slot_and_is_no_error() {
    let mut backoff = Backoff::default();
    let drain = proto::Drain {
        slot_ms: 7_000,
        ..Default::default()
    };
    assert!(status(Why::Drained(drain), &mut backoff).is_ok());
    assert_eq!(backoff.next_delay(0.3), Duration::from_secs(7));
}

#[test]
fn a_busy_hub_is_given_the_time_it_asks_for() {
    let mut backoff = Backoff::default();
    let mut busy = tonic::Status::resource_exhausted("handshakes");
    busy.metadata_mut()
        .insert("grpc-retry-pushback-ms", "9000".parse().unwrap());
    assert!(status(Why::Broken(busy), &mut backoff).is_err());
    assert!(backoff.next_delay(0.0) >= Duration::from_secs(9));
}

#[test]
fn a_certificate_that_is_refused_after_the_handshake_is_explained() {
    let broken = || Why::Broken(tonic::Status::cancelled("connection closed"));
    let expired = |_: &tonic::Status| DialError::Expired {
        address: "hub:1".to_owned(),
    };
    let error = after(broken(), expired, &mut Backoff::default()).unwrap_err();
    assert!(error.needs_another_certificate(), "{error}");
    let error = status(broken(), &mut Backoff::default()).unwrap_err();
    assert!(matches!(error, LinkError::Session(_)), "{error}");
}

#[test]
fn what_a_person_must_know_has_an_event_and_what_heals_has_none() {
    let bye = |code: &str| {
        LinkError::Session(Why::Bye {
            code: code.to_owned(),
            message: String::new(),
        })
    };
    assert_eq!(bye(codes::IDENTITY_MISMATCH).news(), Some("SessionRefused"));
    assert_eq!(bye(codes::SHUTDOWN).news(), None);
    assert_eq!(LinkError::Session(Why::Closed).news(), None);
    let wrong = DialError::WrongAuthority {
        address: "h:1".to_owned(),
        pin: "p".to_owned(),
    };
    assert_eq!(LinkError::from(wrong).news(), Some("HubNotTrusted"));
    assert_eq!(
        LinkError::from(JoinError::Authority).news(),
        Some("JoinMaterialInvalid")
    );
}

#[test]
fn a_removed_member_is_told_that_its_databases_run_on_and_how_to_join_again() {
    let removed = Why::Bye {
        code: codes::REVOKED.to_owned(),
        message: "the registration of \"eu-1\" was removed".to_owned(),
    };
    let error = status(removed, &mut Backoff::default()).unwrap_err();
    assert_eq!(error.news(), Some("MembershipRemoved"));
    assert!(error.needs_a_person());
    let text = error.to_string();
    for part in ["\"eu-1\" was removed", "run on", "meridian token create"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_certificate_that_the_hub_accepts_no_more_is_replaced_with_the_device_key_and_by_no_person() {
    let over = Why::Bye {
        code: codes::CERTIFICATE.to_owned(),
        message: "it ended".to_owned(),
    };
    let address = || "h:1".to_owned();
    let replaced = [
        status(over, &mut Backoff::default()).unwrap_err(),
        DialError::Expired { address: address() }.into(),
        // The root that signed it is gone.
        DialError::Unwelcome {
            address: address(),
            reason: "UnknownCA".to_owned(),
        }
        .into(),
    ];
    for error in replaced {
        assert!(
            error.needs_another_certificate() && !error.needs_a_person(),
            "{error}"
        );
    }
    let proxy = LinkError::from(DialError::Proxy("407".to_owned()));
    assert_eq!(proxy.news(), Some("ProxyRefused"));
    let away = DialError::Unreachable {
        address: address(),
        reason: "refused".to_owned(),
    };
    assert!(!LinkError::from(away).needs_another_certificate());
}

#[test]
fn a_join_that_waits_for_approval_shows_the_words_and_is_tried_again_soon() {
    let waits: LinkError = EnrollError::AwaitsApproval {
        name: "eu-1".to_owned(),
        words: "lusab babad".to_owned(),
    }
    .into();
    assert_eq!(waits.news(), Some("AwaitsApproval"));
    assert_eq!(waits.pause(Duration::from_secs(60)), UNAPPROVED);
    let told = waits.to_string();
    assert!(
        told.contains("meridian cluster approve eu-1 --words \"lusab babad\""),
        "{told}"
    );
    // A membership that is there goes on meanwhile.
    assert!(waits.rules_out_the_material());
}

#[test]
fn a_quarantined_cluster_waits_for_a_person_and_says_so() {
    let quarantined = Why::Bye {
        code: codes::QUARANTINED.to_owned(),
        message: "two devices may hold one identity".to_owned(),
    };
    let error = status(quarantined, &mut Backoff::default()).unwrap_err();
    assert_eq!(error.news(), Some("Quarantined"));
    assert!(error.needs_a_person() && !error.needs_another_certificate());
}
