use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    super::{
        decide::{View, decide},
        watch::{PodFacts, Watch},
        write,
    },
    *,
};

/// A copy: its pod, the version that it says, and the series that it is ordered.
type Copy = (&'static str, Option<&'static str>, Option<&'static str>);

/// A database that is to run `target`, its primary first. Everybody of `in_sync` follows closely.
fn topology(target: Option<&str>, copies: &[Copy], in_sync: &[&str]) -> DatabaseTopology {
    let primary = copies[0].0;
    let replicas: Vec<&str> = copies[1..].iter().map(|copy| copy.0).collect();
    let versions: BTreeMap<&str, &str> = copies
        .iter()
        .filter_map(|(pod, _, ordered)| Some((*pod, (*ordered)?)))
        .collect();
    let followed: Vec<Value> = replicas
        .iter()
        .map(|pod| json!({"node": pod, "online": true, "lagBytes": 0}))
        .collect();
    let members: Vec<Value> = copies
        .iter()
        .map(|(pod, told, _)| {
            let leads = *pod == primary;
            let role = if leads { "primary" } else { "replica" };
            json!({"node": pod, "topologyUid": "T", "epoch": 4, "generation": 3, "asOf": "t", "shards": [
                {"id": 0, "role": role, "ready": true, "writable": leads, "port": 10000, "offset": 100, "version": told,
                 "counts": in_sync, "served": leads.then_some(4), "following": (!leads).then_some("up"),
                 "replicas": if leads { followed.clone() } else { Vec::new() }}]})
        })
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": "db", "namespace": "ns", "uid": "T", "generation": 3, "resourceVersion": "9"},
        "spec": {"database": {"kind": "RedisEnterpriseDatabase", "namespace": "ns", "name": "db", "uid": "u"},
                 "cluster": "rec", "epoch": 4, "port": 10000, "memoryBytes": 1, "evictionPolicy": "noeviction",
                 "persistence": "disabled", "replication": copies.len() > 1, "version": target,
                 "shards": [{"id": 0, "slots": "0-16383", "primary": primary, "replicas": replicas, "inSync": in_sync,
                             "versions": versions}]},
        "status": {"members": members},
    }))
    .unwrap()
}

const WELL: PodFacts = PodFacts {
    going: false,
    stopped: false,
    expected: true,
};

/// What is decided while the pods in `away` are gone.
fn step(topology: &DatabaseTopology, away: &[&str]) -> Step {
    let all = ["rec-0", "rec-1", "rec-2"];
    let pods: BTreeMap<String, PodFacts> = all
        .iter()
        .filter(|pod| !away.contains(pod))
        .map(|pod| ((*pod).to_owned(), WELL))
        .collect();
    let mut watch = Watch::default();
    for pod in all {
        watch.answered(pod, Some(true), 0);
    }
    watch.saw(topology, &pods, 0);
    decide(&View {
        topology,
        pods: &pods,
        spare: None,
        watch: &watch,
        replace_ms: 1_800_000,
        now: 0,
    })
}

fn word(topology: &DatabaseTopology, away: &[&str]) -> String {
    let step = step(topology, away);
    if let Step::Raise { pod, version } = &step {
        return format!("raise {pod} {version}");
    }
    if let Step::Fence {
        candidate, planned, ..
    } = &step
    {
        return format!("{} {candidate}", if *planned { "move" } else { "fence" });
    }
    format!("{step:?}")
}

const OLD: Option<&str> = Some("8.1.1");
const NEW: Option<&str> = Some("9.1.2");

const NINE: Option<&str> = Some("9.1");

/// What it is to run, its copies with the primary first, who is in sync, and the step.
type Case = (
    Option<&'static str>,
    &'static [Copy],
    &'static [&'static str],
    &'static str,
);

const CASES: &[Case] = &[
    // Nothing is asked for, or everything is there.
    (
        None,
        &[("rec-0", OLD, None), ("rec-1", OLD, None)],
        &["rec-1"],
        "Nothing",
    ),
    (
        Some("8.1"),
        &[("rec-0", OLD, None), ("rec-1", OLD, None)],
        &["rec-1"],
        "Nothing",
    ),
    (
        NINE,
        &[("rec-0", NEW, NINE), ("rec-1", NEW, NINE)],
        &["rec-1"],
        "Nothing",
    ),
    // The replica first; what it says counts, not what was ordered.
    (
        NINE,
        &[("rec-0", OLD, None), ("rec-1", OLD, None)],
        &["rec-1"],
        "raise rec-1 9.1",
    ),
    (
        NINE,
        &[("rec-0", OLD, Some("8.1")), ("rec-1", OLD, Some("8.1"))],
        &[],
        "raise rec-1 9.1",
    ),
    (
        NINE,
        &[("rec-0", OLD, None), ("rec-1", OLD, NINE)],
        &[],
        "Join { pod: \"rec-1\" }",
    ),
    (
        NINE,
        &[("rec-0", OLD, None), ("rec-1", NEW, NINE)],
        &[],
        "Join { pod: \"rec-1\" }",
    ),
    // Then the primary moves to it.
    (
        NINE,
        &[("rec-0", OLD, None), ("rec-1", NEW, NINE)],
        &["rec-1"],
        "move rec-1",
    ),
    // One at a time, and never to one that is still the old one.
    (
        NINE,
        &[
            ("rec-0", OLD, None),
            ("rec-1", OLD, None),
            ("rec-2", OLD, NINE),
        ],
        &["rec-1"],
        "Join { pod: \"rec-2\" }",
    ),
    (
        NINE,
        &[
            ("rec-0", OLD, None),
            ("rec-1", OLD, None),
            ("rec-2", NEW, NINE),
        ],
        &["rec-1", "rec-2"],
        "move rec-2",
    ),
    // A copy of before the move, which was not ordered with it.
    (
        NINE,
        &[("rec-0", NEW, NINE), ("rec-1", OLD, None)],
        &[],
        "raise rec-1 9.1",
    ),
    (
        None,
        &[("rec-0", NEW, None), ("rec-1", OLD, None)],
        &[],
        "raise rec-1 9.1",
    ),
    // Never back.
    (
        Some("8.1"),
        &[("rec-0", NEW, NINE), ("rec-1", NEW, NINE)],
        &["rec-1"],
        "Nothing",
    ),
    // Without copies it is started anew where it is, once.
    (NINE, &[("rec-0", OLD, None)], &[], "raise rec-0 9.1"),
    (NINE, &[("rec-0", OLD, NINE)], &[], "Nothing"),
    (NINE, &[("rec-0", NEW, None)], &[], "Nothing"),
    (None, &[("rec-0", OLD, None)], &[], "Nothing"),
];

#[test]
fn a_database_is_brought_to_a_newer_valkey_from_every_state_of_its_copies() {
    for (target, copies, in_sync, expected) in CASES {
        let found = word(&topology(*target, copies, in_sync), &[]);
        assert_eq!(&found, expected, "{target:?} {copies:?} {in_sync:?}");
    }
}

#[test]
fn a_copy_by_an_older_valkey_never_takes_over() {
    let nine = Some("9.1");
    let copies = |second| [("rec-0", NEW, nine), ("rec-1", second, None)];
    let led_by_new = |second| topology(nine, &copies(second), &["rec-1"]);
    assert_eq!(word(&led_by_new(NEW), &["rec-0"]), "fence rec-1");
    for older in [OLD, None] {
        let found = word(&led_by_new(older), &["rec-0"]);
        assert!(!found.starts_with("fence"), "{older:?}: {found}");
    }
    // The other way round it may: it reads everything of the older one.
    let led_by_old = topology(
        nine,
        &[("rec-0", OLD, None), ("rec-1", NEW, nine)],
        &["rec-1"],
    );
    assert_eq!(word(&led_by_old, &["rec-0"]), "fence rec-1");
}

#[test]
fn whoever_is_older_than_a_new_primary_is_ordered_to_its_series_in_the_same_write() {
    let nine = Some("9.1");
    let mut old = topology(
        nine,
        &[
            ("rec-0", OLD, None),
            ("rec-1", NEW, nine),
            ("rec-2", OLD, None),
        ],
        &["rec-1"],
    );
    old.spec.fence = Some(meridian_api::crds::topology::Fence {
        epoch: 5,
        candidate: "rec-1".to_owned(),
        planned: true,
    });
    let next = write::next(&old, &Step::Promote).unwrap();
    let shard = &next.spec.shards[0];
    assert_eq!(shard.primary.as_deref(), Some("rec-1"));
    for pod in ["rec-0", "rec-1", "rec-2"] {
        assert_eq!(shard.versions.get(pod).map(String::as_str), nine, "{pod}");
    }
    // Between copies of one series nothing is written.
    let mut same = topology(
        None,
        &[("rec-0", OLD, None), ("rec-1", OLD, None)],
        &["rec-1"],
    );
    same.spec.fence.clone_from(&old.spec.fence);
    let next = write::next(&same, &Step::Promote).unwrap();
    assert_eq!(next.spec.shards[0].versions, BTreeMap::new());
}

#[test]
fn a_copy_that_is_started_anew_is_counted_by_nobody_and_a_new_one_is_not_older() {
    let before = topology(
        Some("9.1"),
        &[("rec-0", OLD, None), ("rec-1", OLD, None)],
        &["rec-1"],
    );
    let next = write::next(&before, &step(&before, &[])).unwrap();
    let shard = &next.spec.shards[0];
    assert_eq!(shard.in_sync, Vec::<String>::new());
    assert_eq!(shard.versions["rec-1"], "9.1");
    let add = Step::AddReplica {
        pod: "rec-2".to_owned(),
    };
    for (target, leads, expected) in [
        (Some("9.1"), OLD, Some("9.1")),
        (None, NEW, Some("9.1")),
        (Some("8.1"), NEW, Some("9.1")),
        (None, None, None),
    ] {
        let before = topology(
            target,
            &[("rec-0", leads, None), ("rec-1", leads, None)],
            &[],
        );
        let next = write::next(&before, &add).unwrap();
        let ordered = next.spec.shards[0].versions.get("rec-2");
        assert_eq!(
            ordered.map(String::as_str),
            expected,
            "{target:?} {leads:?}"
        );
    }
}

#[test]
fn a_move_that_was_given_up_is_not_tried_at_once() {
    let ready = topology(
        Some("9.1"),
        &[("rec-0", OLD, None), ("rec-1", NEW, Some("9.1"))],
        &["rec-1"],
    );
    let pods = ["rec-0", "rec-1"].map(|pod| (pod.to_owned(), WELL)).into();
    let mut watch = Watch::default();
    for pod in ["rec-0", "rec-1"] {
        watch.answered(pod, Some(true), 0);
    }
    watch.saw(&ready, &pods, 0);
    watch.gave_up(0);
    let at = |now| {
        let view = View {
            topology: &ready,
            pods: &pods,
            spare: None,
            watch: &watch,
            replace_ms: 1_800_000,
            now,
        };
        matches!(decide(&view), Step::Fence { planned: true, .. })
    };
    assert!(!at(PLANNED_AGAIN_MS - 1) && at(PLANNED_AGAIN_MS));
}

#[test]
fn people_read_what_serves_and_what_it_is_brought_to() {
    let told = |target, copies: &[Copy]| {
        let topology = topology(target, copies, &[]);
        let found = finding(&topology);
        assert_eq!(
            is_under_way(&topology),
            found.as_ref().is_some_and(|f| f.status == Some(false))
        );
        found.map(|found| found.message)
    };
    let both = [("rec-0", OLD, None), ("rec-1", NEW, Some("9.1"))];
    assert_eq!(
        told(Some("9.1"), &both).unwrap(),
        "is brought to Valkey 9.1, copy by copy: `rec-0` 8.1.1, `rec-1` 9.1.2"
    );
    assert_eq!(
        told(Some("8.1"), &both).unwrap(),
        "served by Valkey 8.1.1, 9.1.2"
    );
    assert_eq!(
        told(None, &[("rec-0", OLD, None)]).unwrap(),
        "served by Valkey 8.1.1"
    );
    assert_eq!(told(Some("9.1"), &[("rec-0", None, None)]), None);
    // It is to have a copy and has none: nothing is begun, and people read why.
    let mut waits = topology(Some("9.1"), &[("rec-0", OLD, None)], &[]);
    waits.spec.replication = true;
    let found = finding(&waits).unwrap();
    assert_eq!(
        (found.status, found.reason),
        (Some(false), "WaitsForReplica")
    );
    assert_eq!(
        found.message,
        "is brought to Valkey 9.1 once another pod holds a copy, so that clients are not kept waiting: `rec-0` 8.1.1; the \
         condition `InSync` says what keeps the copy away"
    );
}
