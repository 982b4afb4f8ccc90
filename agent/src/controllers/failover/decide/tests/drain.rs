use super::*;

/// The primary's pod is being deleted, and its PID 1 hands over.
fn drained() -> Case {
    case().pod("rec-0", going())
}

#[test]
fn a_pod_that_is_deleted_hands_over_as_long_as_it_answers() {
    let mut late = drained();
    late.watch.gave_up(0);
    check(vec![
        ("it answers", drained(), "planned rec-1"),
        (
            "one answer is late",
            drained().silent("rec-0"),
            "planned rec-1",
        ),
        (
            "silent for less than one that is lost",
            drained().silent("rec-0").after(SILENT_MS - 1),
            "planned rec-1",
        ),
        (
            "silent",
            drained().silent("rec-0").after(SILENT_MS),
            "fence rec-1",
        ),
        (
            "its shard is slow",
            drained()
                .primary("ready", json!(false))
                .after(NOT_READY_MS - 1),
            "planned rec-1",
        ),
        (
            "its shard does not answer",
            drained().primary("ready", json!(false)).after(NOT_READY_MS),
            "fence rec-1",
        ),
        (
            "its container ended",
            case().pod(
                "rec-0",
                Some(PodFacts {
                    going: true,
                    stopped: true,
                    ..WELL
                }),
            ),
            "fence rec-1",
        ),
        (
            "an earlier move was given up, and there is no later time for another",
            late.after(1),
            "planned rec-1",
        ),
    ]);
}

#[test]
fn a_drain_whose_successor_dies_goes_on_with_another() {
    let moving = || {
        let stopped_writing = drained().fence(true).primary("fenced", json!(5));
        stopped_writing.replica("fenced", json!(5))
    };
    let third = json!({"node": "rec-2", "topologyUid": "T", "epoch": 4, "generation": 3, "asOf": "t", "shards": [
        {"id": 0, "role": "replica", "ready": true, "writable": false, "port": 10000, "offset": 90, "following": "up"}]});
    let mut two = moving()
        .shard("replicas", json!(["rec-1", "rec-2"]))
        .shard("inSync", json!(["rec-1", "rec-2"]))
        .pod("rec-1", stopped());
    let members = two.topology["status"]["members"].as_array_mut().unwrap();
    members.push(third);
    let alone = || {
        drained()
            .shard("inSync", json!([]))
            .primary("counts", json!([]))
    };
    check(vec![
        (
            "its answer is late",
            moving().silent("rec-1").after(SILENT_MS - 1),
            "nothing",
        ),
        (
            "it does not answer any more: the primary takes writes as long as it can",
            moving().silent("rec-1").after(SILENT_MS),
            "abandon",
        ),
        (
            "its container ended",
            moving().pod("rec-1", stopped()).after(PLANNED_MS),
            "abandon",
        ),
        ("another can", two.after(PLANNED_MS), "planned rec-2"),
        (
            "the primary has ended as well",
            moving().silent("rec-1").silent("rec-0").after(SILENT_MS),
            "nothing",
        ),
        (
            "the primary has less than it acknowledged",
            moving()
                .pod("rec-1", stopped())
                .primary("offset", Value::Null)
                .after(PLANNED_MS),
            "nothing",
        ),
        ("it is back: it joins again", alone(), "join rec-1"),
        (
            "and is counted",
            alone()
                .shard("joining", json!(["rec-1"]))
                .primary("counts", json!(["rec-1"])),
            "admit rec-1",
        ),
        (
            "but not by a primary that says nothing any more",
            alone().silent("rec-0").after(SILENT_MS),
            "nothing",
        ),
    ]);
}

#[test]
fn what_a_pod_that_is_deleted_acknowledged_arrives_before_another_leads() {
    let moving = || drained().fence(true).replica("fenced", json!(5));
    let stopped_at = |offset: i64| {
        moving()
            .primary("fenced", json!(5))
            .primary("offset", json!(offset))
    };
    let wait = LEASE_MS + LEASE_MARGIN_MS;
    check(vec![
        ("it has not stopped", moving(), "nothing"),
        ("all arrived", stopped_at(100), "promote"),
        ("a tail is missing", stopped_at(101), "nothing"),
        (
            "one answer is late, and a tail is missing",
            stopped_at(101).silent("rec-0"),
            "nothing",
        ),
        (
            "still missing after a while, and there is no going back",
            stopped_at(101).after(PLANNED_MS),
            "nothing",
        ),
        (
            "its processes have ended",
            stopped_at(101).silent("rec-0").after(SILENT_MS),
            "promote",
        ),
        (
            "it says nothing of the fence",
            moving().after(wait),
            "promote",
        ),
        (
            "and the wait is not over",
            moving().after(wait - 1),
            "nothing",
        ),
        (
            "the candidate does not confirm",
            drained().fence(true).after(PLANNED_MS),
            "nothing",
        ),
    ]);
}
