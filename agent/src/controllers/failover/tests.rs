use meridian_api::crds::topology::FollowingState;
use serde_json::json;

use super::{decide::Step, *};

fn topology(
    primary: &str,
    replicas: &[&str],
    writable: bool,
    asked: Option<&str>,
) -> DatabaseTopology {
    let annotations = asked.map(|pod| json!({ LEAVE: pod })).unwrap_or(json!({}));
    serde_json::from_value(json!({
        "metadata": {"name": "db", "uid": "T", "resourceVersion": "9", "annotations": annotations},
        "spec": {"database": {"kind": "K", "namespace": "ns", "name": "db", "uid": "u"}, "cluster": "rec", "epoch": 2,
                 "port": 10000, "memoryBytes": 1, "evictionPolicy": "x", "persistence": "disabled",
                 "replication": !replicas.is_empty(),
                 "shards": [{"id": 0, "slots": "0-16383", "primary": primary, "replicas": replicas}]},
        "status": {"members": [{"node": primary, "topologyUid": "T", "epoch": 2, "generation": 1, "asOf": "t", "shards": [
            {"id": 0, "role": "primary", "ready": true, "writable": writable, "port": 10000}]}]},
    }))
    .unwrap()
}

#[test]
fn a_pod_is_left_when_another_takes_writes_or_nobody_else_could() {
    let word = |topology: &DatabaseTopology| match wish(topology, "rec-0") {
        Wish::Elsewhere => "elsewhere",
        Wish::Stays => "stays",
        Wish::Waits(_) => "waits",
        Wish::Ask(_) => "asks",
    };
    let cases = [
        ("alone", topology("rec-0", &[], true, None), "stays"),
        (
            "not asked yet",
            topology("rec-0", &["rec-1"], true, None),
            "asks",
        ),
        (
            "asked for another pod",
            topology("rec-0", &["rec-1"], true, Some("rec-1")),
            "asks",
        ),
        (
            "asked",
            topology("rec-0", &["rec-1"], true, Some("rec-0")),
            "waits",
        ),
        (
            "moved, not writable",
            topology("rec-1", &["rec-0"], false, None),
            "waits",
        ),
        (
            "moved",
            topology("rec-1", &["rec-0"], true, None),
            "elsewhere",
        ),
        (
            "has no part",
            topology("rec-1", &["rec-2"], false, None),
            "elsewhere",
        ),
    ];
    for (name, topology, expected) in cases {
        assert_eq!(word(&topology), expected, "{name}");
    }
}

#[test]
fn asking_is_written_against_the_version_that_was_read() {
    let Wish::Ask(asked) = wish(&topology("rec-0", &["rec-1"], true, None), "rec-0") else {
        panic!("expected a question");
    };
    assert_eq!(asked.annotations()[LEAVE], "rec-0");
    assert_eq!(asked.metadata.resource_version.as_deref(), Some("9"));
}

/// A topology whose primary `rec-0` stopped after `had` bytes, the candidate `rec-1` of its fence has `has`.
fn fenced(candidate: &str, had: Option<i64>, has: Option<i64>) -> DatabaseTopology {
    let mut topology = topology("rec-0", &["rec-1"], true, None);
    let report = |node: &str, offset: Option<i64>| {
        json!({"node": node, "topologyUid": "T", "epoch": 2, "generation": 1, "asOf": "t", "shards": [
            {"id": 0, "role": "primary", "ready": true, "writable": true, "port": 10000, "offset": offset,
             "fenced": 3, "served": 2}]})
    };
    topology.spec.fence =
        serde_json::from_value(json!({"epoch": 3, "candidate": candidate, "planned": false}))
            .unwrap();
    topology.status =
        serde_json::from_value(json!({"members": [report("rec-0", had), report("rec-1", has)]}))
            .unwrap();
    topology
}

/// The same, but its primary has not been heard of since.
fn silent(had: Option<i64>, has: Option<i64>) -> DatabaseTopology {
    let mut topology = fenced("rec-1", had, has);
    let status = topology.status.as_mut().unwrap();
    status.members[0].shards[0].fenced = None;
    topology
}

fn raise_to(version: &str) -> Step {
    Step::Raise {
        pod: "rec-1".to_owned(),
        version: version.to_owned(),
    }
}

#[test]
fn every_step_of_a_failover_is_told_under_its_reason_and_losses_are_warnings() {
    let plain = fenced("rec-1", Some(7), Some(7));
    let (pod, why) = ("rec-1".to_owned(), "because".to_owned());
    let fence = |planned| Step::Fence {
        candidate: pod.clone(),
        planned,
        why: why.clone(),
    };
    let reinstate = |all_lost| Step::Reinstate {
        why: why.clone(),
        all_lost,
    };
    let choices = vec![decide::Loss {
        pod: pod.clone(),
        bytes: Some(9),
        held: None,
    }];
    let cases = [
        (&plain, fence(false), "FailoverStarted", true),
        (&plain, fence(true), "MoveStarted", false),
        (
            &plain,
            Step::AbandonFence { why: why.clone() },
            "MoveGivenUp",
            true,
        ),
        (&plain, reinstate(true), "AllDataLost", true),
        (&plain, reinstate(false), "PrimaryGoesOn", true),
        (&plain, Step::NeedsPerson { choices }, "NeedsPerson", true),
        (&plain, Step::Admit { pod: pod.clone() }, "InSync", false),
        (&plain, Step::Shrink { pod: pod.clone() }, "NotInSync", true),
        (
            &plain,
            Step::AddReplica { pod: pod.clone() },
            "ReplicaPlaced",
            false,
        ),
        (
            &plain,
            Step::RemoveReplica { pod: pod.clone() },
            "ReplicaRemoved",
            false,
        ),
        (&plain, raise_to("9.1"), "VersionRaised", false),
        (&plain, Step::Promote, "Promoted", false),
        (
            &fenced("rec-1", Some(9), Some(7)),
            Step::Promote,
            "PromotedWithLoss",
            true,
        ),
        (
            &fenced("rec-1", None, None),
            Step::Promote,
            "Promoted",
            true,
        ),
        (&silent(Some(7), Some(7)), Step::Promote, "Promoted", true),
        (
            &fenced("rec-0", None, None),
            Step::Promote,
            "TopologyMadeAgain",
            true,
        ),
    ];
    for (topology, step, reason, warning) in cases {
        let reached = own_shard(topology, "rec-0").and_then(|own| own.offset);
        let told = show::news(topology, &step, reached).unwrap();
        assert_eq!((told.reason, told.warning), (reason, warning), "{step:?}");
        assert!(!told.note.is_empty());
    }
}

/// Nothing but the old primary's own word says that nothing is missing; one of another life says nothing.
#[test]
fn what_was_acknowledged_after_the_last_report_is_told_as_lost_unless_the_primary_stopped() {
    let told = |topology: &DatabaseTopology| {
        let reached = own_shard(topology, "rec-0").and_then(|own| own.offset);
        show::news(topology, &Step::Promote, reached).unwrap().note
    };
    let since = "what it acknowledged after that report is lost";
    assert!(!told(&fenced("rec-1", Some(7), Some(7))).contains(since));
    for (had, has) in [(7, 7), (9, 7)] {
        let note = told(&silent(Some(had), Some(has)));
        assert!(note.contains(since), "{note}");
    }
    let mut another = fenced("rec-1", Some(7), Some(7));
    another.status.as_mut().unwrap().members[0].shards[0].served = Some(1);
    assert!(told(&another).contains(since));
}

/// A replica that follows has more than it said last: its figure is no measure of what is lost.
#[test]
fn what_a_replica_that_followed_had_not_reported_yet_is_not_called_lost() {
    let told = |following: Option<FollowingState>| {
        let mut topology = fenced("rec-1", Some(9), Some(7));
        topology.status.as_mut().unwrap().members[1].shards[0].following = following;
        let news = show::news(&topology, &Step::Promote, Some(9)).unwrap();
        assert!(news.warning);
        news.reason
    };
    assert_eq!(told(Some(FollowingState::Up)), "Promoted");
    for lost in [Some(FollowingState::Down), None] {
        assert_eq!(told(lost), "PromotedWithLoss");
    }
}

#[test]
fn steps_that_only_prepare_others_are_not_told() {
    let plain = fenced("rec-1", Some(7), Some(7));
    let pod = "rec-1".to_owned();
    for silent in [
        Step::Nothing,
        Step::Join { pod: pod.clone() },
        Step::Leave { pod },
    ] {
        assert!(show::news(&plain, &silent, None).is_none(), "{silent:?}");
    }
}
