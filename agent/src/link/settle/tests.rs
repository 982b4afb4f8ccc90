use std::collections::BTreeSet;

use meridian_api::ids::PlanNumber;

use super::*;
use crate::link::kinds::Kind;

const NS: &str = "ns";

fn id(n: u8) -> ObjectId {
    format!("00000000-0000-4000-8000-0000000000{n:02x}")
        .parse()
        .unwrap()
}

fn mark(term: u64, revision: u64) -> Mark {
    Mark {
        term: Term(term),
        revision: Revision(revision),
    }
}

fn order(mark: Mark, memory: &str) -> Order {
    Order {
        object_id: id(1),
        kind: Kind::Database,
        name: "db".to_owned(),
        mark,
        plan_number: PlanNumber(4),
        after: BTreeSet::new(),
        trace: None,
        drift: Drift::Report,
        wish: Wish::Upsert {
            hash: "aa".to_owned(),
            body: json!({"kind": "x", "metadata": {"uid": "not ours to say", "labels": {"team": "a"}},
                "spec": {"memorySize": memory, "participatingClusters": [{"name": "eu"}]}, "status": {"lie": 1}}),
        },
    }
}

fn deletion(kind: Kind, mark: Mark, approval: Option<&str>) -> Order {
    let wish = Wish::Delete {
        reason: "why".to_owned(),
        approval: approval.map(str::to_owned),
    };
    Order {
        kind,
        wish,
        ..order(mark, "")
    }
}

/// What the API server shows after `order` was written.
fn shown(order: &Order) -> DynamicObject {
    let Step::Write { mut body, .. } = settle(order, None, NS, None) else {
        panic!("not written")
    };
    body["metadata"]["uid"] = json!("u1");
    body["spec"]["default"] = json!(true);
    serde_json::from_value(body).unwrap()
}

fn edited(order: &Order, pointer: &str, value: Value) -> DynamicObject {
    let mut object = serde_json::to_value(shown(order)).unwrap();
    *object.pointer_mut(pointer).unwrap() = value;
    serde_json::from_value(object).unwrap()
}

#[test]
fn a_missing_object_is_created_with_its_numbers_and_without_what_only_the_api_server_says() {
    let step = settle(&order(mark(2, 7), "1GB"), None, NS, None);
    let Step::Write {
        body,
        uid: None,
        force: false,
    } = step
    else {
        panic!("{step:?}")
    };
    assert_eq!(
        body["metadata"],
        json!({"name": "db", "namespace": "ns", "labels": {"team": "a"}, "annotations": {
            OBJECT_ID: id(1).to_string(), REVISION: "7", TERM: "2", HASH: "aa", PLAN_NUMBER: "4"}})
    );
    assert_eq!(body["kind"], json!("RedisEnterpriseActiveActiveDatabase"));
    assert_eq!(body.get("status"), None);
}

#[test]
fn the_same_order_again_changes_nothing() {
    let order = order(mark(1, 7), "1GB");
    assert_eq!(
        settle(&order, Some(&shown(&order)), NS, None),
        Step::Nothing {
            note: String::new()
        }
    );
}

#[test]
fn an_older_revision_or_term_is_refused() {
    let live = shown(&order(mark(2, 7), "1GB"));
    for older in [mark(2, 6), mark(1, 99)] {
        let step = settle(&order(older, "2GB"), Some(&live), NS, None);
        assert!(
            matches!(
                step,
                Step::Refuse {
                    code: codes::STALE_REVISION,
                    ..
                }
            ),
            "{older}: {step:?}"
        );
    }
    assert!(matches!(
        settle(&order(mark(3, 1), "2GB"), Some(&live), NS, None),
        Step::Write { .. }
    ));
}

#[test]
fn a_foreign_object_of_the_same_name_is_held_with_its_owner_and_never_written() {
    let order = order(mark(1, 7), "1GB");
    let mut helm = shown(&order);
    helm.metadata.annotations = None;
    helm.metadata
        .labels
        .get_or_insert_default()
        .insert("app.kubernetes.io/managed-by".to_owned(), "Helm".to_owned());
    let step = settle(&order, Some(&helm), NS, None);
    let Step::Hold {
        code: codes::FOREIGN_OBJECT,
        message,
    } = step
    else {
        panic!("{step:?}")
    };
    assert!(message.contains("`Helm`"), "{message}");
    let mut other = shown(&order);
    other
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(OBJECT_ID.to_owned(), id(2).to_string());
    let step = settle(&order, Some(&other), NS, None);
    let Step::Hold {
        code: codes::FOREIGN_OBJECT,
        message,
    } = step
    else {
        panic!("{step:?}")
    };
    assert!(message.contains(&id(2).to_string()), "{message}");
}

#[test]
fn an_object_that_the_hub_took_over_is_written_and_one_of_another_uid_is_not() {
    let order = order(mark(1, 7), "1GB");
    let mut local = shown(&order);
    local.metadata.annotations = None;
    let step = settle(&order, Some(&local), NS, Some("u1"));
    assert!(
        matches!(step, Step::Write { force: true, ref uid, .. } if uid.as_deref() == Some("u1")),
        "{step:?}"
    );
    assert!(matches!(
        settle(&order, Some(&local), NS, Some("u2")),
        Step::Hold { .. }
    ));
}

#[test]
fn an_edit_on_the_member_follows_the_drift_policy() {
    let mut order = order(mark(1, 7), "1GB");
    let live = edited(&order, "/spec/memorySize", json!("5GB"));
    let step = settle(&order, Some(&live), NS, None);
    assert!(
        matches!(step, Step::Nothing { ref note } if note.contains(".spec.memorySize")),
        "{step:?}"
    );
    order.drift = Drift::Enforce;
    assert!(matches!(
        settle(&order, Some(&live), NS, None),
        Step::Write { force: true, .. }
    ));
    order.drift = Drift::Hold;
    assert!(matches!(
        settle(&order, Some(&live), NS, None),
        Step::Hold {
            code: codes::FIELD_CONFLICT,
            ..
        }
    ));
}

#[test]
fn a_newer_order_takes_no_field_from_others_unless_it_enforces() {
    let live = shown(&order(mark(1, 7), "1GB"));
    let mut newer = order(mark(1, 8), "2GB");
    assert!(matches!(
        settle(&newer, Some(&live), NS, None),
        Step::Write { force: false, .. }
    ));
    newer.drift = Drift::Enforce;
    assert!(matches!(
        settle(&newer, Some(&live), NS, None),
        Step::Write { force: true, .. }
    ));
}

#[test]
fn an_object_that_is_being_deleted_is_waited_for() {
    let order = order(mark(1, 7), "1GB");
    let mut going = serde_json::to_value(shown(&order)).unwrap();
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let going: DynamicObject = serde_json::from_value(going).unwrap();
    assert!(matches!(
        settle(&order, Some(&going), NS, None),
        Step::Wait { .. }
    ));
}

#[test]
fn a_tombstone_that_names_another_object_deletes_nothing() {
    let mut live = shown(&order(mark(1, 7), "1GB"));
    live.metadata
        .annotations
        .get_or_insert_default()
        .insert(OBJECT_ID.to_owned(), id(2).to_string());
    for kind in Kind::ALL {
        let step = settle(
            &deletion(kind, mark(1, 8), Some("admin")),
            Some(&live),
            NS,
            None,
        );
        assert!(
            matches!(
                step,
                Step::Refuse {
                    code: codes::BAD_TOMBSTONE,
                    ..
                }
            ),
            "{kind}: {step:?}"
        );
    }
}

#[test]
fn a_tombstone_deletes_nothing_without_the_hubs_annotation_on_the_object() {
    let mut live = shown(&order(mark(1, 7), "1GB"));
    live.metadata.annotations = None;
    for kind in Kind::ALL {
        let step = settle(
            &deletion(kind, mark(1, 8), Some("admin")),
            Some(&live),
            NS,
            Some("u1"),
        );
        assert!(
            matches!(
                step,
                Step::Refuse {
                    code: codes::BAD_TOMBSTONE,
                    ..
                }
            ),
            "{kind}: {step:?}"
        );
    }
}

#[test]
fn a_tombstone_that_is_not_above_the_members_revision_deletes_nothing() {
    let live = shown(&order(mark(2, 7), "1GB"));
    for low in [mark(2, 7), mark(2, 6), mark(1, 99)] {
        for kind in Kind::ALL {
            let step = settle(&deletion(kind, low, Some("admin")), Some(&live), NS, None);
            assert!(
                matches!(
                    step,
                    Step::Refuse {
                        code: codes::BAD_TOMBSTONE,
                        ..
                    }
                ),
                "{kind} {low}: {step:?}"
            );
        }
    }
}

#[test]
fn data_is_deleted_only_after_a_confirmation_and_marked_for_the_controllers() {
    let live = shown(&order(mark(1, 7), "1GB"));
    for kind in [Kind::Database, Kind::Instance] {
        assert_eq!(
            settle(&deletion(kind, mark(1, 8), None), Some(&live), NS, None),
            Step::Prepared
        );
        let step = settle(
            &deletion(kind, mark(1, 8), Some("admin")),
            Some(&live),
            NS,
            None,
        );
        assert_eq!(
            step,
            Step::Delete {
                uid: "u1".to_owned(),
                approved: Some("1/8".to_owned())
            }
        );
    }
}

#[test]
fn an_object_without_data_is_deleted_at_once() {
    let live = shown(&order(mark(1, 7), "1GB"));
    for kind in [Kind::Secret, Kind::RemoteCluster] {
        let step = settle(&deletion(kind, mark(1, 8), None), Some(&live), NS, None);
        assert_eq!(
            step,
            Step::Delete {
                uid: "u1".to_owned(),
                approved: None
            }
        );
    }
}

#[test]
fn a_deletion_is_carried_out_only_when_the_object_is_gone() {
    let approved = deletion(Kind::Database, mark(1, 8), Some("admin"));
    let mut going = serde_json::to_value(shown(&order(mark(1, 7), "1GB"))).unwrap();
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let unmarked: DynamicObject = serde_json::from_value(going.clone()).unwrap();
    assert!(
        matches!(
            settle(&approved, Some(&unmarked), NS, None),
            Step::Delete { .. }
        ),
        "someone deletes it already: mark it"
    );
    going["metadata"]["annotations"][DELETE_APPROVED] = json!("1/8");
    let marked: DynamicObject = serde_json::from_value(going).unwrap();
    assert!(matches!(
        settle(&approved, Some(&marked), NS, None),
        Step::Wait { .. }
    ));
    assert_eq!(settle(&approved, None, NS, None), Step::Gone);
}

#[test]
fn a_field_that_only_the_member_has_is_no_difference_and_a_longer_list_is_one() {
    let order = order(mark(1, 7), "1GB");
    let more = edited(
        &order,
        "/spec/participatingClusters",
        json!([{"name": "eu"}, {"name": "us"}]),
    );
    let step = settle(&order, Some(&more), NS, None);
    assert!(
        matches!(step, Step::Nothing { ref note } if note.contains("participatingClusters")),
        "{step:?}"
    );
}

#[test]
fn what_is_written_of_an_order_is_golden() {
    let secret = Order {
        kind: Kind::Secret,
        name: "password".to_owned(),
        wish: Wish::Upsert {
            hash: "bb".to_owned(),
            body: json!({"stringData": {"password": "x"}}),
        },
        ..order(mark(1, 8), "")
    };
    let all = [order(mark(1, 7), "1GB"), secret].map(|order| {
        let Step::Write { body, .. } = settle(&order, None, NS, None) else {
            panic!("not written")
        };
        body
    });
    crate::k8s::testing::golden("link/golden/written", &json!(all));
}
