use serde_json::json;

use super::*;

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
