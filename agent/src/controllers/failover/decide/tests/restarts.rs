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
        (
            "the other led later, and had begun to take over a copy",
            empty()
                .primary("served", Value::Null)
                .replica("served", json!(3)),
            "nothing",
        ),
        (
            "the other led before",
            empty().replica("served", json!(3)),
            "reinstate, all lost",
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
fn what_a_primary_had_before_its_process_began_anew_counts() {
    let far = 100 + JOIN_LAG_BYTES;
    let back = |offset: i64| {
        both_back()
            .replica("offset", json!(100))
            .primary("held", held("s", offset))
    };
    let told = |offset: i64| {
        let before = case().replica("following", json!("down"));
        let before = before.primary("offset", json!(offset)).after(0);
        before
            .primary("wantsFailover", json!("restarted"))
            .primary("writable", json!(false))
            .primary("offset", Value::Null)
    };
    let later = |case: Case| {
        case.set("/spec/epoch", json!(6))
            .set("/status/members/0/epoch", json!(6))
            .set("/status/members/1/epoch", json!(6))
    };
    check(vec![
        ("its files have a little more", back(far - 1), "fence rec-1"),
        ("its files have more", back(far), "nothing"),
        (
            "a person is asked",
            back(far).after(HOPELESS_MS),
            "person rec-1 Some(1048576)",
        ),
        (
            "files of an epoch before, and nobody led since",
            back(far).primary("served", json!(3)),
            "nothing",
        ),
        (
            "files of an epoch before another led",
            back(far)
                .primary("served", json!(2))
                .replica("served", json!(3)),
            "fence rec-1",
        ),
        (
            "files of one that never led",
            back(far).primary("served", json!(null)),
            "fence rec-1",
        ),
        (
            "its files had more, and its volume was replaced",
            back(far)
                .after(0)
                .primary("held", Value::Null)
                .primary("served", Value::Null),
            "nothing",
        ),
        ("it had told of a little more", told(far - 1), "fence rec-1"),
        ("it had told of more", told(far), "nothing"),
        (
            "it had told of more in an epoch before, and nobody led since",
            later(told(far)),
            "nothing",
        ),
        (
            "it had told of more before another led",
            later(told(far)).replica("served", json!(5)),
            "fence rec-1",
        ),
    ]);
}

#[test]
fn a_candidate_that_turns_out_to_be_far_behind_is_not_promoted() {
    let far = 100 + JOIN_LAG_BYTES;
    let fenced = |offset: i64| {
        let fenced = case().fence(false).replica("fenced", json!(5));
        fenced
            .replica("following", json!("down"))
            .primary("fenced", json!(5))
            .primary("offset", json!(offset))
    };
    check(vec![
        ("close", fenced(far - 1), "promote"),
        ("far", fenced(far), "nothing"),
        (
            "far: the primary is well and goes on",
            fenced(far).after(SILENT_MS),
            "abandon",
        ),
        (
            "far, and the primary does not answer",
            fenced(far).silent("rec-0").after(HOPELESS_MS),
            "person rec-1 Some(1048576)",
        ),
        (
            "a person's word",
            fenced(far).set("/metadata/annotations", json!({ ACCEPT_LOSS: "rec-1@4" })),
            "promote",
        ),
    ]);
}

#[test]
fn one_that_led_alone_goes_on_when_nobody_is_left() {
    let alone = |persistence: &str| {
        both_back()
            .set("/spec/persistence", json!(persistence))
            .shard("inSync", json!([]))
    };
    let gone = |persistence: &str| alone(persistence).pod("rec-1", None);
    check(vec![
        ("a cache", gone("disabled"), "reinstate, all lost"),
        (
            "a cache, and a copy that may still have it",
            alone("disabled").silent("rec-1"),
            "nothing",
        ),
        (
            "files: the copy may come back with its own",
            gone("snapshotEvery6Hour").after(HOPELESS_MS - 1),
            "nothing",
        ),
        (
            "files, for long",
            gone("snapshotEvery6Hour").after(HOPELESS_MS),
            "reinstate",
        ),
        (
            "files of another volume",
            gone("snapshotEvery6Hour")
                .primary("served", Value::Null)
                .after(HOPELESS_MS),
            "person ",
        ),
        (
            "one of the set is never forgotten",
            gone("disabled").shard("inSync", json!(["rec-1"])),
            "nothing",
        ),
    ]);
}

#[test]
fn one_that_began_anew_just_when_it_was_promoted_asks_for_a_person() {
    let unfit = |epoch: i64| {
        case()
            .shard("inSync", json!([]))
            .set("/status/members/0/epoch", json!(epoch))
            .primary("role", json!("replica"))
            .primary("writable", json!(false))
            .primary("wantsFailover", json!("named without a full copy"))
            .primary("offset", Value::Null)
    };
    check(vec![
        ("at first", unfit(4), "nothing"),
        ("for long", unfit(4).after(HOPELESS_MS), "person rec-1 None"),
        ("of an epoch before", unfit(3).after(HOPELESS_MS), "nothing"),
    ]);
}

#[test]
fn a_fence_that_is_not_confirmed_is_given_up_only_for_a_primary_that_has_heard_of_it() {
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
        (
            "the primary has stopped for it and is well",
            waited(case().primary("fenced", json!(5))),
            "abandon",
        ),
        (
            "the last word of the primary is from before, and may be of a process that has ended",
            waited(case()),
            "nothing",
        ),
        (
            "it says nothing else for as long again",
            waited(case()).after(HOPELESS_MS),
            "person rec-1 Some(0)",
        ),
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
