//! Nobody is left that has everything; candidates that do not answer; topologies that were made again.

use super::*;

/// Primary and replica both began anew from their files.
fn both_back() -> Case {
    case()
        .set("/spec/persistence", json!("aofEverySecond"))
        .primary("wantsFailover", json!("restarted"))
        .primary("writable", json!(false))
        .primary("offset", Value::Null)
        .primary("served", json!(4))
        .replica("offset", Value::Null)
        .replica("following", json!("down"))
}

fn held(stream: &str, offset: i64) -> Value {
    json!({"stream": stream, "offset": offset})
}

fn with_files(primary: i64, replica: i64) -> Case {
    both_back()
        .primary("held", held("s", primary))
        .replica("held", held("s", replica))
}

#[test]
fn a_primary_goes_on_from_its_files_only_if_no_copy_has_more() {
    let far = 100 + JOIN_LAG_BYTES;
    let others = || with_files(100, 100).replica("held", held("another", 100));
    check(vec![
        ("as much", with_files(100, 100), "reinstate"),
        ("more", with_files(far, 100), "reinstate"),
        ("a tail is missing", with_files(100, far - 1), "reinstate"),
        ("the copy has more", with_files(100, far), "nothing"),
        (
            "the copy has more, for long",
            with_files(100, far).after(HOPELESS_MS),
            "person rec-1 None",
        ),
        ("of another stream", others(), "nothing"),
        (
            "its files say nothing",
            with_files(1, 1).primary("held", Value::Null),
            "nothing",
        ),
        (
            "the copy's files say nothing",
            with_files(1, 1).replica("held", Value::Null),
            "nothing",
        ),
        (
            "it did not lead in this epoch",
            with_files(100, 100).primary("served", json!(3)),
            "nothing",
        ),
        (
            "it never led",
            with_files(100, 100).primary("served", Value::Null),
            "nothing",
        ),
        (
            "a copy is away",
            with_files(100, 100).pod("rec-1", None),
            "nothing",
        ),
        (
            "a copy has not come back",
            with_files(100, 100).silent("rec-1"),
            "nothing",
        ),
        (
            "a copy is still whole",
            with_files(100, 100).replica("offset", json!(1)),
            "fence rec-1",
        ),
    ]);
}

#[test]
fn a_cache_whose_processes_all_ended_begins_anew_and_says_that_all_is_lost() {
    let empty = || both_back().set("/spec/persistence", json!("disabled"));
    let promoted = || {
        empty()
            .shard("inSync", json!([]))
            .primary("served", json!(3))
    };
    check(vec![
        ("both ended", empty(), "reinstate, all lost"),
        ("also if it never led", promoted(), "reinstate, all lost"),
        (
            "a copy is still whole",
            promoted().replica("offset", json!(7)),
            "nothing",
        ),
        (
            "and then a person is asked",
            promoted().replica("offset", json!(7)).after(HOPELESS_MS),
            "person rec-1 None",
        ),
        ("a copy is away", empty().silent("rec-1"), "nothing"),
        (
            "an Active-Active database always keeps a file",
            empty().set(
                "/spec/activeActive",
                json!({"guid": "g", "instanceId": 1, "configVersion": 1, "members": []}),
            ),
            "nothing",
        ),
    ]);
}

#[test]
fn one_that_misses_more_than_a_failover_may_lose_is_a_persons_choice() {
    let dead = |behind: i64| {
        case()
            .pod("rec-0", None)
            .primary("offset", json!(100 + behind))
            .replica("following", json!("down"))
    };
    let slow = |lag: i64| {
        let seen = json!([{"node": "rec-1", "online": true, "lagBytes": lag}]);
        case().pod("rec-0", stopped()).primary("replicas", seen)
    };
    check(vec![
        ("a little", dead(JOIN_LAG_BYTES - 1), "fence rec-1"),
        ("too much", dead(JOIN_LAG_BYTES), "nothing"),
        (
            "and a person is asked",
            dead(JOIN_LAG_BYTES).after(HOPELESS_MS),
            "person rec-1 Some(1048576)",
        ),
        ("followed closely", slow(JOIN_LAG_BYTES - 1), "fence rec-1"),
        ("followed from afar", slow(JOIN_LAG_BYTES), "nothing"),
    ]);
}

#[test]
fn a_candidate_that_does_not_confirm_is_replaced_or_the_fence_is_given_up() {
    let waited = |case: Case| case.fence(false).after(CONFIRM_MS);
    let third = json!({"node": "rec-2", "topologyUid": "T", "epoch": 4, "generation": 3, "asOf": "t", "shards": [
        {"id": 0, "role": "replica", "ready": true, "writable": false, "port": 10000, "offset": 90, "following": "up"}]});
    let mut two = case()
        .shard("replicas", json!(["rec-1", "rec-2"]))
        .shard("inSync", json!(["rec-1", "rec-2"]));
    two.topology["status"]["members"]
        .as_array_mut()
        .unwrap()
        .push(third);
    check(vec![
        (
            "not yet",
            case().fence(false).after(CONFIRM_MS - 1),
            "nothing",
        ),
        ("another can", waited(two), "fence rec-2"),
        ("the primary is well", waited(case()), "abandon"),
        (
            "the primary is not",
            waited(case().pod("rec-0", None)),
            "person rec-1 Some(0)",
        ),
        (
            "it has confirmed",
            waited(case().replica("fenced", json!(5))),
            "promote",
        ),
    ]);
}

#[test]
fn a_primary_that_takes_no_writes_for_long_is_replaced() {
    let mute = || case().primary("writable", json!(false));
    check(vec![
        ("not yet", mute().after(NOT_WRITABLE_MS - 1), "nothing"),
        ("for long", mute().after(NOT_WRITABLE_MS), "fence rec-1"),
        (
            "nobody can take over: the one that cannot leaves",
            mute()
                .replica("following", json!("down"))
                .primary("replicas", json!([]))
                .replica("offset", Value::Null)
                .after(NOT_WRITABLE_MS),
            "shrink rec-1",
        ),
    ]);
}

#[test]
fn a_topology_that_was_made_again_goes_on_when_every_permission_of_before_has_ended() {
    let wait = LEASE_MS + LEASE_MARGIN_MS;
    let again = || {
        case()
            .set(
                "/spec/fence",
                json!({"epoch": 5, "candidate": "rec-0", "planned": false}),
            )
            .primary("writable", json!(false))
    };
    let confirmed = |case: Case| case.primary("fenced", json!(5));
    check(vec![
        ("not confirmed", again().after(wait), "nothing"),
        ("too early", confirmed(again()).after(wait - 1), "nothing"),
        ("waited", confirmed(again()).after(wait), "promote"),
        (
            "it was the last to lead",
            confirmed(again()).primary("served", json!(3)),
            "promote",
        ),
        (
            "it led, and not last",
            confirmed(again()).primary("served", json!(2)),
            "nothing",
        ),
        (
            "another runs and has not heard of it",
            confirmed(again())
                .set("/status/members/1/topologyUid", json!("OLD"))
                .after(wait),
            "nothing",
        ),
        (
            "that other is away",
            confirmed(again())
                .set("/status/members/1/topologyUid", json!("OLD"))
                .silent("rec-1")
                .after(wait),
            "promote",
        ),
        (
            "the primary is gone, the remembered set is not",
            again().pod("rec-0", None).after(SILENT_MS),
            "fence rec-1",
        ),
        (
            "the primary came back with less",
            again()
                .primary("wantsFailover", json!("restarted"))
                .after(SILENT_MS),
            "fence rec-1",
        ),
    ]);
}
