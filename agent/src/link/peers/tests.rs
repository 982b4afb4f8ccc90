use k8s_openapi::ByteString;
use serde_json::json;

use super::*;
use crate::link::testing::Authority;

/// 2026-01-02, and two thirds of the way from 2026 to 2027.
const EARLY: i64 = 1_767_312_000_000;
const LATE: i64 = 1_788_393_600_000;

fn wanted(authority: &Authority) -> Wanted {
    let rec =
        serde_json::from_value(json!({"metadata": {"name": "rec", "namespace": "ns"}})).unwrap();
    let names = Names {
        cluster_uid: "u".to_owned(),
        cluster_name: "eu-1".to_owned(),
        trust_domain: "meridian.local".to_owned(),
    };
    Wanted::of(&rec, &names, &Trust::of(&authority.bundle(1)).unwrap())
}

fn issued(authority: &Authority, wanted: &Wanted) -> Secret {
    let key = new_session_key().unwrap();
    let reply = proto::PeerCertificateReply {
        certificate_chain: vec![authority.sign(&certificate_request(&key, &[]).unwrap(), 1)],
        spiffe_id: wanted.spiffe_id.clone(),
        ..Default::default()
    };
    secret(wanted, &key, &reply).unwrap().0
}

#[test]
fn a_rec_asks_for_its_identity_and_the_names_of_its_databases() {
    let wanted = wanted(&Authority::new());
    assert_eq!(
        wanted.spiffe_id,
        "spiffe://meridian.local/cluster/u/rec/ns/rec"
    );
    assert_eq!(wanted.dns_names, ["*.rec.ns.eu-1.meridian.internal"]);
}

#[test]
fn a_fresh_certificate_needs_nothing_until_its_time_to_be_renewed() {
    let authority = Authority::new();
    let wanted = wanted(&authority);
    let secret = issued(&authority, &wanted);
    let Need::Nothing { until_ms, ends_ms } = need(Some(&secret), &wanted, EARLY) else {
        panic!()
    };
    assert!(EARLY < until_ms && until_ms < ends_ms);
    assert_eq!(need(Some(&secret), &wanted, until_ms), Need::Issue(DUE));
    assert_eq!(need(Some(&secret), &wanted, LATE), Need::Issue(DUE));
}

#[test]
fn a_certificate_is_issued_where_there_is_none_or_a_part_is_missing() {
    let authority = Authority::new();
    let wanted = wanted(&authority);
    assert!(matches!(need(None, &wanted, EARLY), Need::Issue(_)));
    for key in ["tls.key", "tls.crt", "ca.crt"] {
        let mut secret = issued(&authority, &wanted);
        secret.data.as_mut().unwrap().remove(key);
        assert_eq!(
            need(Some(&secret), &wanted, EARLY),
            Need::Issue("a part is missing"),
            "{key}"
        );
    }
    let mut other_key = issued(&authority, &wanted);
    let key = ByteString(new_session_key().unwrap().into_bytes());
    other_key
        .data
        .as_mut()
        .unwrap()
        .insert("tls.key".to_owned(), key);
    assert_eq!(
        need(Some(&other_key), &wanted, EARLY),
        Need::Issue("its certificate is not for its key")
    );
}

fn trusting(wanted: &Wanted, bundle: &proto::TrustBundle) -> Wanted {
    Wanted {
        trust: Trust::of(bundle).unwrap(),
        ..wanted.clone()
    }
}

#[test]
fn a_root_that_comes_is_written_beside_the_certificate_and_one_that_signs_renews_it() {
    let (old, new) = (Authority::new(), Authority::new());
    let wanted = wanted(&old);
    let secret = issued(&old, &wanted);
    let state = |secret: &Secret, wanted: &Wanted| PeerState::of(secret, &wanted.trust).unwrap();
    assert_eq!(state(&secret, &wanted).trust_version, 1);

    let introduced = trusting(&wanted, &old.bundle_with(&new, 2));
    assert_eq!(need(Some(&secret), &introduced, EARLY), Need::Roots);
    assert_eq!(state(&secret, &introduced).trust_version, 0);
    let both = with_roots(&secret, &introduced).unwrap();
    let part = |secret: &Secret, key: &str| secret.data.as_ref().unwrap()[key].clone();
    for key in ["tls.key", "tls.crt"] {
        assert_eq!(part(&both, key), part(&secret, key), "{key}");
    }
    assert_eq!(both.metadata, secret.metadata);
    assert!(matches!(
        need(Some(&both), &introduced, EARLY),
        Need::Nothing { .. }
    ));
    let held = state(&both, &introduced);
    assert_eq!(held.trust_version, 2);
    assert_ne!(held.files, state(&secret, &wanted).files);

    let signing = trusting(&wanted, &new.bundle_with(&old, 3));
    let both = with_roots(&both, &signing).unwrap();
    assert_eq!(need(Some(&both), &signing, EARLY), Need::Issue(OLD_ROOT));
    let renewed = issued(&new, &signing);
    assert!(matches!(
        need(Some(&renewed), &signing, EARLY),
        Need::Nothing { .. }
    ));
    let of = |authority: &Authority| Trust::of(&authority.bundle(1)).unwrap();
    let fingerprint = |authority: &Authority| {
        let root = &of(authority).roots()[0];
        meridian_api::trust::root_fingerprint(root).unwrap()
    };
    assert_eq!(state(&both, &signing).signer, fingerprint(&old));
    assert_eq!(state(&renewed, &signing).signer, fingerprint(&new));
}

#[test]
fn other_roots_or_names_need_a_new_certificate_at_once() {
    let authority = Authority::new();
    let wanted = wanted(&authority);
    let secret = issued(&authority, &wanted);
    let gone = trusting(&wanted, &Authority::new().bundle(2));
    assert_eq!(
        need(Some(&secret), &gone, EARLY),
        Need::Issue("no root signed it that is trusted")
    );
    let renamed = Wanted {
        dns_names: vec!["*.other".to_owned()],
        ..wanted
    };
    assert_eq!(
        need(Some(&secret), &renamed, EARLY),
        Need::Issue("the names of the REC changed")
    );
}

#[test]
fn an_answer_for_another_identity_or_key_is_not_used() {
    let authority = Authority::new();
    let wanted = wanted(&authority);
    let (key, other) = (new_session_key().unwrap(), new_session_key().unwrap());
    let reply = |key: &str, spiffe_id: &str| proto::PeerCertificateReply {
        certificate_chain: vec![authority.sign(&certificate_request(key, &[]).unwrap(), 1)],
        spiffe_id: spiffe_id.to_owned(),
        ..Default::default()
    };
    assert!(
        secret(
            &wanted,
            &key,
            &reply(&key, "spiffe://meridian.local/cluster/other/rec/ns/rec")
        )
        .is_err()
    );
    assert!(secret(&wanted, &key, &reply(&other, &wanted.spiffe_id)).is_err());
    assert!(secret(&wanted, &key, &reply(&key, &wanted.spiffe_id)).is_ok());
}

#[test]
fn the_secret_carries_our_labels_for_its_rec() {
    let authority = Authority::new();
    let secret = issued(&authority, &wanted(&authority));
    assert_eq!(secret.metadata.labels, Some(Owner::cluster("rec").labels()));
    assert_eq!(secret.metadata.name.as_deref(), Some("rec-peer-tls"));
    assert_eq!(secret.metadata.owner_references, None);
}

#[test]
fn the_secret_of_a_rec_is_golden() {
    let authority = Authority::new();
    let found = crate::k8s::testing::without_secrets(issued(&authority, &wanted(&authority)));
    crate::k8s::testing::golden("link/golden/peer-secret", &found);
}
