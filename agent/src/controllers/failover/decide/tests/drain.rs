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
