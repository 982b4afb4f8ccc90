use serde_json::{Value, json};

use super::*;
use crate::link::kinds::{OBJECT_ID, REVISION, TERM};

fn id(n: u8) -> String {
    format!("00000000-0000-4000-8000-0000000000{n:02x}")
}

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

fn managed(n: u8, revision: u64) -> (Kind, DynamicObject) {
    let annotations = json!({OBJECT_ID: id(n), REVISION: revision.to_string(), TERM: "1", HASH: "0a0b", PLAN_NUMBER: "3"});
    (
        Kind::Instance,
        object(
            json!({"metadata": {"name": format!("db-{n}"), "namespace": "ns", "annotations": annotations},
        "spec": {"instanceId": 2, "configVersion": 4, "members": [{"instanceId": 1}, {"instanceId": 5}], "ghosts": [9]}}),
        ),
    )
}

fn names() -> Names {
    Names {
        cluster_uid: "u".to_owned(),
        cluster_name: "eu-1".to_owned(),
        trust_domain: "meridian.local".to_owned(),
    }
}

fn service(ingress: Value) -> Service {
    serde_json::from_value(
        json!({"metadata": {"name": "rec-sync"}, "status": {"loadBalancer": {"ingress": ingress}}}),
    )
    .unwrap()
}

#[test]
fn an_entry_says_what_must_not_be_given_again() {
    let pages = pages(&[managed(1, 7)], &[1]);
    let [page] = pages.as_slice() else {
        panic!("{pages:?}")
    };
    let [entry] = page.entries.as_slice() else {
        panic!("{page:?}")
    };
    assert_eq!(
        (
            entry.highest_instance_id,
            entry.config_version,
            entry.plan_number
        ),
        (9, 4, 3)
    );
    assert_eq!(
        (entry.revision, entry.hash.as_ref(), entry.data_bearing),
        (7, &[10, 11][..], true)
    );
}

#[test]
fn every_asked_bucket_is_answered_and_the_last_page_says_so() {
    let objects: Vec<_> = (0..=255).map(|n| managed(n, 1)).collect();
    for (asked, expected) in [(vec![], 256), (vec![3, 300, 9], 2)] {
        let pages = pages(&objects, &asked);
        assert_eq!(pages.len(), expected);
        assert!(
            pages
                .iter()
                .all(|page| page.last_of_bucket && page.entries.len() == 1)
        );
        assert_eq!(pages.iter().filter(|page| page.last).count(), 1);
        assert!(pages.last().unwrap().last);
    }
}

#[test]
fn a_full_bucket_is_split_into_pages() {
    let objects: Vec<_> = (0..=u8::try_from(PAGE).unwrap())
        .map(|n| {
            let (kind, mut object) = managed(n, 1);
            let id = format!("00000000-0000-4000-8000-0000000{n:03x}07");
            object
                .metadata
                .annotations
                .as_mut()
                .unwrap()
                .insert(OBJECT_ID.to_owned(), id);
            (kind, object)
        })
        .collect();
    let pages = pages(&objects, &[7]);
    let sizes: Vec<_> = pages
        .iter()
        .map(|page| (page.entries.len(), page.last_of_bucket))
        .collect();
    assert_eq!(sizes, [(PAGE, false), (1, true)]);
}

#[test]
fn the_digest_changes_with_revision_and_hash_and_not_with_order() {
    let (a, b) = (managed(1, 7), managed(2, 7));
    assert_eq!(
        digest(&[a.clone(), b.clone()]),
        digest(&[b.clone(), a.clone()])
    );
    assert_ne!(digest(&[a, b.clone()]), digest(&[managed(1, 8), b]));
}

#[test]
fn a_rec_with_an_ingress_is_reached_by_the_names_of_its_databases() {
    let rec_object = object(
        json!({"metadata": {"name": "rec", "namespace": "ns", "uid": "r"},
        "spec": {"ingressOrRouteSpec": {"dbFqdnSuffix": ".eu.example", "apiFqdnUrl": "api.eu.example"}}, "status": {"state": "Running"}}),
    );
    let entry = rec(
        &rec_object,
        Some(&service(json!([{"ip": "10.0.0.1"}]))),
        &names(),
        Some(&peer()),
        &[],
    );
    assert_eq!(entry.replication_address, "<db>.eu.example:443");
    assert_eq!(
        (
            entry.suffix.as_str(),
            entry.api_fqdn_url.as_str(),
            entry.state.as_str()
        ),
        (".eu.example", "api.eu.example", "Running")
    );
    assert_eq!(
        entry.peer_spiffe_id,
        "spiffe://meridian.local/cluster/u/rec/ns/rec"
    );
    assert_eq!(entry.peer_not_after_ms, 5);
}

fn peer() -> PeerState {
    PeerState {
        ends_ms: 5,
        files: "f".to_owned(),
        trust_version: 3,
        signer: "sha256:new".to_owned(),
    }
}

#[test]
fn a_rec_holds_the_roots_that_all_its_nodes_have_read_and_otherwise_none_that_is_known() {
    let rec_object = object(json!({"metadata": {"name": "rec", "namespace": "ns"}}));
    let peer = peer();
    let held = |peer: Option<&PeerState>, nodes: &[Option<&str>]| {
        let entry = rec(&rec_object, None, &names(), peer, nodes);
        (entry.peer_trust_version, entry.peer_signer)
    };
    let known = (3, "sha256:new".to_owned());
    let unknown = (0, String::new());
    assert_eq!(held(Some(&peer), &[]), known, "no node needs it yet");
    assert_eq!(held(Some(&peer), &[Some("f"), Some("f")]), known);
    assert_eq!(held(Some(&peer), &[Some("f"), Some("e")]), unknown);
    assert_eq!(held(Some(&peer), &[Some("f"), None]), unknown);
    assert_eq!(held(None, &[]), unknown);
}

#[test]
fn a_rec_without_ingress_is_reached_by_its_load_balancer_once_that_has_an_address() {
    let rec_object = object(
        json!({"metadata": {"name": "rec", "namespace": "ns"}, "spec": {"nodes": "not a number"}}),
    );
    let address =
        |sync: Option<&Service>| rec(&rec_object, sync, &names(), None, &[]).replication_address;
    assert_eq!(address(None), "");
    assert_eq!(address(Some(&service(json!([])))), "");
    assert_eq!(
        address(Some(&service(json!([{"ip": "10.77.1.5"}])))),
        "10.77.1.5:443"
    );
    assert_eq!(
        address(Some(&service(json!([{"ip": "fd00::5"}])))),
        "[fd00::5]:443"
    );
    assert_eq!(
        address(Some(&service(json!([{"hostname": "lb.example"}])))),
        "lb.example:443"
    );
    assert_eq!(
        names().suffix(&rec_object),
        ".rec.ns.eu-1.meridian.internal"
    );
}
