//! Who holds a replica, who is in the in-sync set, and what a step writes.

use meridian_api::crds::topology::{APART_MS, LEAVE_LAG_BYTES};

use super::*;
use crate::controllers::failover::write;

#[test]
fn the_set_grows_only_by_one_that_the_primary_counts() {
    let out = || {
        case()
            .shard("inSync", json!([]))
            .primary("counts", json!([]))
    };
    let joining = || out().shard("joining", json!(["rec-1"]));
    let far = || json!([{"node": "rec-1", "online": true, "lagBytes": JOIN_LAG_BYTES}]);
    check(vec![
        ("close enough", out(), "join rec-1"),
        ("too far", out().primary("replicas", far()), "nothing"),
        (
            "takes over a copy",
            out().replica("following", json!("copying")),
            "nothing",
        ),
        (
            "the primary takes no writes",
            out().primary("writable", json!(false)),
            "nothing",
        ),
        ("not counted", joining(), "nothing"),
        (
            "counted",
            joining().primary("counts", json!(["rec-1"])),
            "admit rec-1",
        ),
        (
            "counted and fallen behind since",
            joining()
                .primary("counts", json!(["rec-1"]))
                .primary("replicas", far()),
            "nothing",
        ),
        (
            "counted under an older order",
            joining()
                .primary("counts", json!(["rec-1"]))
                .set("/status/members/0/generation", json!(2)),
            "nothing",
        ),
        (
            "counted in an older epoch",
            joining()
                .primary("counts", json!(["rec-1"]))
                .set("/status/members/0/epoch", json!(3)),
            "nothing",
        ),
    ]);
}

#[test]
fn the_set_shrinks_by_one_that_is_gone_while_the_primary_is_there() {
    let out = || case().shard("inSync", json!([]));
    let joining = || out().shard("joining", json!(["rec-1"]));
    let down = |case: Case| case.replica("following", json!("down"));
    let lagging = |lag: i64| {
        let seen = json!([{"node": "rec-1", "online": true, "lagBytes": lag}]);
        case().primary("replicas", seen)
    };
    check(vec![
        (
            "gone for a moment",
            down(case()).after(APART_MS - 1),
            "nothing",
        ),
        ("gone", down(case()).after(APART_MS), "shrink rec-1"),
        (
            "it does not start with its files",
            case()
                .replica("ready", json!(false))
                .replica("following", json!(null))
                .after(APART_MS),
            "shrink rec-1",
        ),
        (
            "behind for a moment",
            lagging(LEAVE_LAG_BYTES).after(APART_MS - 1),
            "nothing",
        ),
        (
            "behind",
            lagging(LEAVE_LAG_BYTES).after(APART_MS),
            "shrink rec-1",
        ),
        (
            "a little behind",
            lagging(LEAVE_LAG_BYTES - 1).after(APART_MS),
            "nothing",
        ),
        (
            "its primary does not know it any more",
            case().primary("replicas", json!([])).after(APART_MS),
            "shrink rec-1",
        ),
        (
            "gone on joining",
            down(joining()).after(APART_MS),
            "leave rec-1",
        ),
        (
            "gone together with the primary's word",
            down(case())
                .silent("rec-0")
                .after(APART_MS)
                .pod("rec-1", None),
            "nothing",
        ),
        (
            "replication was turned off",
            case().set("/spec/replication", json!(false)),
            "shrink rec-1",
        ),
        (
            "and the replica goes",
            out().set("/spec/replication", json!(false)),
            "remove rec-1",
        ),
    ]);
}

#[test]
fn a_replica_is_placed_where_there_is_room_and_replaced_when_its_pod_is_gone_for_good() {
    let roomy = |case: Case| Case {
        spare: Some("rec-2"),
        ..case
    };
    let none = || {
        roomy(
            case()
                .shard("replicas", json!([]))
                .shard("inSync", json!([])),
        )
    };
    let lost = || roomy(case().pod("rec-1", None).shard("inSync", json!([])));
    check(vec![
        ("none yet", none(), "add rec-2"),
        ("enough", roomy(case()), "nothing"),
        (
            "away for a while",
            lost().after(growth::REPLACE_MS - 1),
            "nothing",
        ),
        (
            "away for good",
            lost().after(growth::REPLACE_MS),
            "add rec-2",
        ),
        (
            "away for as long as the cluster says",
            Case {
                replace_ms: 1_800_000,
                ..lost().after(1_799_999)
            },
            "nothing",
        ),
        (
            "away for longer",
            Case {
                replace_ms: 1_800_000,
                ..lost().after(1_800_000)
            },
            "add rec-2",
        ),
        (
            "its pod is not made any more",
            roomy(case().pod("rec-1", unexpected())),
            "add rec-2",
        ),
        (
            "the lost one is forgotten",
            lost()
                .shard("replicas", json!(["rec-1", "rec-2"]))
                .after(growth::REPLACE_MS),
            "remove rec-1",
        ),
    ]);
}

#[test]
fn what_is_written_never_lowers_the_epoch_and_names_nobody_twice() {
    let wait = LEASE_MS + LEASE_MARGIN_MS;
    let shown = |case: Case| {
        let (before, step) = case.decided();
        let next = write::next(&before, &step).unwrap();
        assert_eq!(
            next.metadata.resource_version.as_deref(),
            Some("9"),
            "compare-and-swap"
        );
        let shard = &next.spec.shards[0];
        let fence = next.spec.fence.as_ref().map(|fence| fence.epoch);
        format!(
            "epoch {} fence {fence:?} primary {} replicas {:?} in {:?} joining {:?}",
            next.spec.epoch,
            shard.primary.clone().unwrap(),
            shard.replicas,
            shard.in_sync,
            shard.joining
        )
    };
    let promoted = case().fence(false).replica("fenced", json!(5)).after(wait);
    assert_eq!(
        shown(promoted),
        r#"epoch 5 fence None primary rec-1 replicas ["rec-0"] in [] joining []"#
    );
    assert_eq!(
        shown(case().pod("rec-0", None)),
        r#"epoch 4 fence Some(5) primary rec-0 replicas ["rec-1"] in ["rec-1"] joining []"#
    );
    assert_eq!(
        shown(case().fence(true).after(PLANNED_MS)),
        r#"epoch 5 fence None primary rec-0 replicas ["rec-1"] in [] joining []"#
    );
    let alone = case()
        .shard("inSync", json!([]))
        .primary("counts", json!([]));
    assert_eq!(
        shown(alone),
        r#"epoch 4 fence None primary rec-0 replicas ["rec-1"] in [] joining ["rec-1"]"#
    );
    let admitted = case()
        .shard("inSync", json!([]))
        .shard("joining", json!(["rec-1"]));
    assert_eq!(
        shown(admitted),
        r#"epoch 4 fence None primary rec-0 replicas ["rec-1"] in ["rec-1"] joining []"#
    );
}
