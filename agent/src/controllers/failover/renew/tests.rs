use serde_json::{Value, json};

use super::*;

fn topology(fence: Option<i64>, members: &Value) -> DatabaseTopology {
    let fence = fence.map(|epoch| json!({"epoch": epoch, "candidate": "rec-1"}));
    serde_json::from_value(json!({
        "metadata": {"name": "db", "uid": "T", "generation": 7, "resourceVersion": "9"},
        "spec": {"database": {"kind": "K", "namespace": "ns", "name": "db", "uid": "u"}, "cluster": "rec", "epoch": 4,
                 "fence": fence, "port": 10000, "memoryBytes": 1, "evictionPolicy": "x", "persistence": "disabled",
                 "replication": true,
                 "shards": [{"id": 0, "slots": "0-16383", "primary": "rec-0", "replicas": ["rec-1"], "inSync": ["rec-1"]}]},
        "status": {"members": members},
    }))
    .unwrap()
}

fn member(node: &str, uid: &str, epoch: i64, generation: i64, own: &Value) -> Value {
    let mut shard =
        json!({"id": 0, "role": "replica", "ready": true, "writable": false, "port": 1});
    for (key, value) in own.as_object().unwrap() {
        shard[key] = value.clone();
    }
    json!({"node": node, "topologyUid": uid, "epoch": epoch, "generation": generation, "asOf": "t", "shards": [shard]})
}

fn refusing(mut member: Value) -> Value {
    member["refused"] = json!("TopologyRegressed: because");
    member
}

fn memory(epoch: i64, primary: &str) -> Memory {
    Memory {
        epoch,
        primary: primary.to_owned(),
        port: 10_000,
        ..Memory::default()
    }
}

fn word(renewed: Option<Renewed>) -> String {
    let Some(Renewed {
        epoch,
        fence,
        shard,
    }) = renewed
    else {
        return "stays".to_owned();
    };
    let fence = fence.map(|fence| (fence.epoch, fence.candidate));
    format!(
        "{epoch} {fence:?} {} {:?} in {:?}",
        shard.primary.unwrap(),
        shard.replicas,
        shard.in_sync
    )
}

#[test]
fn a_topology_that_is_older_than_what_a_node_obeys_is_raised_above_it_and_forgets_its_set() {
    let none = || json!({});
    let leads = || json!({"role": "primary"});
    let same = r#"5 Some((6, "rec-0")) rec-0 ["rec-1"] in []"#;
    let cases = [
        (
            "current",
            None,
            member("rec-1", "T", 4, 7, &none()),
            "stays",
        ),
        ("behind", None, member("rec-1", "T", 3, 6, &none()), "stays"),
        (
            "a later generation of this epoch",
            None,
            member("rec-1", "T", 4, 8, &none()),
            same,
        ),
        (
            "a fence that is not there",
            None,
            member("rec-1", "T", 4, 7, &json!({"fenced": 6})),
            r#"7 Some((8, "rec-0")) rec-0 ["rec-1"] in []"#,
        ),
        (
            "the fence that is there",
            Some(5),
            member("rec-1", "T", 4, 7, &json!({"fenced": 5})),
            "stays",
        ),
        (
            "the fence that is there has ended",
            Some(5),
            member("rec-1", "T", 5, 9, &leads()),
            r#"6 Some((7, "rec-1")) rec-1 ["rec-0"] in []"#,
        ),
        (
            "a primary of a later epoch",
            None,
            member("rec-1", "T", 9, 2, &leads()),
            r#"10 Some((11, "rec-1")) rec-1 ["rec-0"] in []"#,
        ),
        (
            "a replica in a later epoch",
            None,
            member("rec-1", "T", 9, 2, &none()),
            r#"10 Some((11, "rec-0")) rec-0 ["rec-1"] in []"#,
        ),
        (
            "another object, refused",
            None,
            refusing(member("rec-1", "OLD", 4, 2, &none())),
            same,
        ),
        (
            "another object, not yet refused",
            None,
            member("rec-1", "OLD", 4, 2, &none()),
            "stays",
        ),
        (
            "a refusal from before it was raised",
            None,
            refusing(member("rec-1", "OLD", 3, 2, &none())),
            "stays",
        ),
    ];
    for (name, fence, told, expected) in cases {
        let existing = topology(fence, &json!([told]));
        assert_eq!(word(raised(&existing, &[])), expected, "{name}");
    }
}

#[test]
fn what_was_raised_is_not_raised_again() {
    let told = member("rec-1", "T", 4, 8, &json!({"fenced": 6}));
    let mut existing = topology(None, &json!([told]));
    let renewed = raised(&existing, &[]).unwrap();
    existing.spec.epoch = renewed.epoch;
    existing.spec.fence = renewed.fence;
    existing.spec.shards = vec![renewed.shard];
    assert_eq!(raised(&existing, &[]), None);
}

#[test]
fn a_topology_that_is_made_again_remembers_its_set_and_every_fence_and_begins_fenced() {
    let last = Memory {
        fence: Some(6),
        replicas: vec!["rec-1".to_owned()],
        in_sync: vec!["rec-1".to_owned()],
        ..memory(4, "rec-0")
    };
    let made = |memories: &[Memory]| word(rebuilt(memories, false, ShardAssignment::default()));
    assert_eq!(
        made(&[last.clone(), memory(4, "rec-0")]),
        r#"7 Some((8, "rec-0")) rec-0 ["rec-1"] in ["rec-1"]"#
    );
    assert_eq!(
        made(&[memory(3, "rec-2"), last]),
        r#"7 Some((8, "rec-0")) rec-0 ["rec-1"] in ["rec-1"]"#
    );
    assert_eq!(made(&[memory(4, "rec-0")]), "5 None rec-0 [] in []");
    assert_eq!(made(&[]), "stays");
}

#[test]
fn only_a_database_that_never_served_leads_with_what_it_has_when_its_topology_is_made_again() {
    let last = Memory {
        replicas: vec!["rec-1".to_owned()],
        ..memory(1, "rec-0")
    };
    for (never, as_is) in [(true, Some(3)), (false, None)] {
        let made = rebuilt(
            std::slice::from_ref(&last),
            never,
            ShardAssignment::default(),
        )
        .unwrap();
        assert_eq!(made.shard.as_is, as_is);
    }
}

#[test]
fn what_an_older_agent_wrote_is_understood() {
    let text = r#"{"epoch":1,"primary":"rec-0","port":10000}"#;
    assert_eq!(
        serde_json::from_str::<Memory>(text).unwrap(),
        memory(1, "rec-0")
    );
    assert_eq!(serde_json::to_string(&memory(1, "rec-0")).unwrap(), text);
}

fn said(generation: i64, in_sync: &[&str]) -> Memory {
    Memory {
        in_sync: in_sync.iter().map(|pod| (*pod).to_owned()).collect(),
        said: Some(Said {
            uid: "T".to_owned(),
            generation,
        }),
        ..memory(3, "rec-0")
    }
}

#[test]
fn what_stands_is_remembered_unless_something_later_is() {
    let old = said(4, &["rec-1"]);
    let stays = |known: &Memory| old.clone().instead_of(Some(known)).is_none();
    assert!(stays(&said(5, &[])), "a step was remembered since");
    assert!(stays(&old), "it says so already");
    assert!(!stays(&said(4, &[])), "of the same generation");
    assert!(!stays(&said(3, &["rec-1"])));
    assert!(!stays(&memory(9, "rec-0")), "nobody knows of what");
    let another = Memory {
        said: Some(Said {
            uid: "U".to_owned(),
            generation: 9,
        }),
        ..said(9, &[])
    };
    assert!(!stays(&another), "of a topology that is gone");
    assert!(old.clone().instead_of(None).is_some());
}

#[test]
fn of_two_steps_from_one_topology_only_those_may_take_over_whom_both_call_in_sync() {
    let left_out = said(5, &["rec-2"]);
    let both = said(5, &["rec-1", "rec-2"]).beside(Some(&left_out));
    assert_eq!(both, None, "the smaller set stays");
    let both = left_out.clone().beside(Some(&said(5, &["rec-1"])));
    assert_eq!(both.unwrap().in_sync, Vec::<String>::new());
    let promoted = Memory {
        epoch: 4,
        primary: "rec-1".to_owned(),
        ..said(5, &[])
    };
    assert_eq!(
        left_out.clone().beside(Some(&promoted)),
        None,
        "its place stays"
    );
    assert_eq!(promoted.clone().beside(Some(&left_out)), Some(promoted));
    let fenced = Memory {
        fence: Some(4),
        ..left_out.clone()
    };
    assert_eq!(
        left_out.clone().beside(Some(&fenced)),
        None,
        "its fence stays"
    );
    assert_eq!(left_out.clone().beside(Some(&said(6, &[]))), None, "later");
    let next = left_out.clone().beside(Some(&said(4, &["rec-1"])));
    assert_eq!(next, Some(left_out), "what stood before is over");
}
