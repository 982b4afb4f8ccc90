use super::*;
use crate::link::testing::Authority;

fn joined() -> (Authority, Identity) {
    let authority = Authority::new();
    let mut identity = Identity::generate().unwrap();
    let result = authority.result(&identity.request().unwrap());
    identity.accept(&result, "f").unwrap();
    (authority, identity)
}

#[test]
fn keys_without_membership_survive_the_secret() {
    let identity = Identity::generate().unwrap();
    assert_eq!(Identity::read(&identity.data()).unwrap(), identity);
}

#[test]
fn a_membership_survives_the_secret_whole() {
    let (_, identity) = joined();
    let read = Identity::read(&identity.data()).unwrap();
    assert_eq!(read, identity);
    let membership = read.membership.unwrap();
    assert_eq!(membership.cluster_name, "eu-1");
    assert_eq!(membership.join_state, b"state-1");
    assert_eq!(membership.addresses, ["hub.example:8444".parse().unwrap()]);
}

#[test]
fn the_device_key_signs_what_its_public_half_verifies() {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    let identity = Identity::generate().unwrap();
    let public = identity.device_public_key().unwrap();
    assert_eq!(public.len(), 32);
    let signature = identity.sign(b"nonce").unwrap();
    let key = UnparsedPublicKey::new(&ED25519, public);
    assert!(key.verify(b"nonce", &signature).is_ok());
    assert!(key.verify(b"another", &signature).is_err());
}

#[test]
fn a_new_session_key_keeps_the_device() {
    let identity = Identity::generate().unwrap();
    let renewed = identity.with_new_session_key().unwrap();
    assert_eq!(
        renewed.device_public_key().unwrap(),
        identity.device_public_key().unwrap()
    );
    assert_ne!(renewed.session_key_pem(), identity.session_key_pem());
}

#[test]
fn a_certificate_for_another_key_is_not_accepted() {
    let (authority, mut identity) = joined();
    let before = identity.clone();
    let other = Identity::generate().unwrap();
    let error = identity
        .accept(&authority.result(&other.request().unwrap()), "f")
        .unwrap_err();
    assert!(error.to_string().contains("another key"), "{error}");
    assert_eq!(identity, before);
}

#[test]
fn an_answer_without_roots_is_not_accepted() {
    let authority = Authority::new();
    let mut identity = Identity::generate().unwrap();
    let mut result = authority.result(&identity.request().unwrap());
    result.trust = Some(proto::TrustBundle::default());
    assert!(identity.accept(&result, "f").is_err());
    assert_eq!(identity.membership, None);
}

#[test]
fn a_broken_part_of_the_secret_is_named() {
    let (_, identity) = joined();
    for key in ["device.key", "tls.key", "tls.crt", "trust-version"] {
        let mut data = identity.data();
        data.insert(key.to_owned(), bytes("broken"));
        let error = Identity::read(&data).unwrap_err();
        assert!(error.to_string().contains(&format!("`{key}`")), "{error}");
    }
}

#[test]
fn no_private_key_is_shown() {
    let (_, identity) = joined();
    assert!(!format!("{identity:?}").contains("PRIVATE"));
}

#[test]
fn a_certificate_ends_with_its_last_moment() {
    let life = Life {
        not_before_ms: 1_000_000,
        not_after_ms: 3_000_000,
    };
    assert!(!life.ended(2_999_999));
    assert!(life.ended(3_000_000));
}

#[test]
fn a_long_certificate_is_wrapped_as_pem_that_others_read() {
    let (authority, _) = joined();
    let der = &authority.bundle(1).roots[0];
    let pem = certificate_pem(der);
    assert!(pem.lines().all(|line| line.len() <= 64));
    assert_eq!(roots(&pem).unwrap(), [der.to_vec()]);
}

#[test]
fn a_renewal_takes_higher_roots_and_never_lower_or_other_ones_of_the_same_version() {
    let (authority, mut identity) = joined();
    let next = Authority::new();
    let mut renewed = |bundle: proto::TrustBundle, joined_with: &str| {
        let mut result = authority.result(&identity.request().unwrap());
        result.trust = Some(bundle);
        identity.accept(&result, joined_with).unwrap();
        identity.membership.as_ref().unwrap().trust.clone()
    };
    let both = authority.bundle_with(&next, 3);
    assert_eq!(renewed(both.clone(), "f"), Trust::of(&both).unwrap());
    for replayed in [authority.bundle(2), next.bundle(3)] {
        assert_eq!(renewed(replayed, "f"), Trust::of(&both).unwrap());
    }
    // What a person brings may be of a hub that begins anew.
    let anew = authority.bundle(1);
    assert_eq!(renewed(anew.clone(), "g"), Trust::of(&anew).unwrap());
}
