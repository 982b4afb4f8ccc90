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

#[test]
fn new_roots_or_names_need_a_new_certificate_at_once() {
    let authority = Authority::new();
    let wanted = wanted(&authority);
    let secret = issued(&authority, &wanted);
    let rotated = Wanted {
        roots_pem: "others".to_owned(),
        ..wanted.clone()
    };
    assert_eq!(
        need(Some(&secret), &rotated, EARLY),
        Need::Issue("the roots changed")
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
