use proptest::prelude::*;

use super::*;

const ID: &str = "6f0c2a52-3b5e-4a3e-9d57-0d9a3c1f1e11";

fn item() -> proto::Item {
    let body = r#"{"apiVersion":"app.redislabs.com/v1alpha1","kind":"RedisEnterpriseRemoteCluster",
        "metadata":{"name":"eu","namespace":"ns"},"spec":{}}"#;
    proto::Item {
        object_id: ID.to_owned(),
        api_version: "app.redislabs.com/v1alpha1".to_owned(),
        kind: "RedisEnterpriseRemoteCluster".to_owned(),
        namespace: "ns".to_owned(),
        name: "eu".to_owned(),
        op: proto::ItemOp::Upsert.into(),
        revision: 7,
        hash: vec![0xab, 0x01].into(),
        body: body.as_bytes().into(),
        ..proto::Item::default()
    }
}

fn refused(item: &proto::Item) -> Refusal {
    Order::read(item, Term(1), "ns").unwrap_err()
}

#[test]
fn a_good_item_is_read_whole() {
    let order = Order::read(&item(), Term(3), "ns").unwrap();
    assert_eq!(
        order.mark,
        Mark {
            term: Term(3),
            revision: Revision(7)
        }
    );
    assert_eq!(
        (order.kind, order.name.as_str(), order.drift),
        (Kind::RemoteCluster, "eu", Drift::Report)
    );
    assert!(matches!(order.wish, Wish::Upsert { ref hash, .. } if hash == "ab01"));
}

#[test]
fn a_kind_outside_the_closed_list_is_unsupported() {
    let mut pod = item();
    (pod.api_version, pod.kind) = ("v1".to_owned(), "Pod".to_owned());
    assert_eq!(refused(&pod).code, codes::UNSUPPORTED);
}

#[test]
fn another_namespace_than_the_agents_is_refused() {
    let mut elsewhere = item();
    elsewhere.namespace = "kube-system".to_owned();
    assert_eq!(refused(&elsewhere).code, codes::NO_NAMESPACE);
}

#[test]
fn a_body_that_names_another_object_than_its_item_is_refused() {
    for (from, to) in [
        ("\"eu\"", "\"us\""),
        ("\"ns\"", "\"kube-system\""),
        ("RedisEnterpriseRemoteCluster", "Pod"),
    ] {
        let mut lying = item();
        lying.body = String::from_utf8(lying.body.to_vec())
            .unwrap()
            .replace(from, to)
            .into();
        let refusal = refused(&lying);
        assert_eq!(refusal.code, codes::MALFORMED);
        assert!(refusal.message.contains("expected"), "{}", refusal.message);
    }
}

#[test]
fn a_deletion_needs_a_tombstone_and_its_approval_there_counts_for_nothing() {
    let mut deletion = item();
    deletion.op = proto::ItemOp::Delete.into();
    assert_eq!(refused(&deletion).code, codes::BAD_TOMBSTONE);
    deletion.tombstone = Some(proto::Tombstone::default());
    assert_eq!(refused(&deletion).code, codes::BAD_TOMBSTONE);
    deletion.tombstone = Some(proto::Tombstone {
        revision: 9,
        approval: "admin".to_owned(),
        reason: "why".to_owned(),
    });
    let order = Order::read(&deletion, Term(1), "ns").unwrap();
    assert_eq!(order.mark.revision, Revision(9));
    assert_eq!(
        order.wish,
        Wish::Delete {
            reason: "why".to_owned(),
            approval: None
        }
    );
}

#[test]
fn an_unknown_operation_is_unsupported_and_deletes_nothing() {
    let mut later = item();
    later.op = 77;
    assert_eq!(refused(&later).code, codes::UNSUPPORTED);
}

#[test]
fn names_that_are_no_object_names_are_refused() {
    for name in ["", "Upper", "-a", "a/b", "..", "a ", &"a".repeat(254)] {
        let mut bad = item();
        bad.name = name.to_owned();
        assert_eq!(refused(&bad).code, codes::MALFORMED, "{name}");
    }
}

#[test]
fn a_body_that_is_too_large_is_refused_by_its_size() {
    let mut large = item();
    large.body = vec![b' '; LARGEST_BODY + 1].into();
    assert!(
        refused(&large)
            .message
            .contains(&format!("≤ {LARGEST_BODY}"))
    );
}

proptest! {
    #[test]
    fn reading_arbitrary_items_never_panics(
        id in ".{0,40}", kind in ".{0,20}", name in ".{0,20}", op in any::<i32>(),
        body in proptest::collection::vec(any::<u8>(), 0..64), drift in any::<i32>(),
    ) {
        let mut any = item();
        (any.object_id, any.name, any.op, any.body, any.drift) = (id, name, op, body.into(), drift);
        let _ = Order::read(&any, Term(1), "ns");
        any.kind = kind;
        let _ = Order::read(&any, Term(1), "ns");
    }

    #[test]
    fn an_order_survives_storage(revision in 1u64.., term in any::<u64>()) {
        let mut some = item();
        some.revision = revision;
        let order = Order::read(&some, Term(term), "ns").unwrap();
        let text = serde_json::to_string(&order).unwrap();
        prop_assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), order);
    }
}
