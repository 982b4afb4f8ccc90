use meridian_api::crds::shared::Condition;
use serde_json::{Value, json};

use super::*;

fn topology(conditions: Value) -> DatabaseTopology {
    serde_json::from_value(json!({
        "metadata": {"name": "db", "namespace": "ns", "uid": "T", "generation": 1},
        "spec": {"database": {"kind": "K", "namespace": "ns", "name": "db", "uid": "u"}, "cluster": "rec", "epoch": 1,
                 "port": 10000, "memoryBytes": 1, "evictionPolicy": "x", "persistence": "disabled", "replication": true,
                 "shards": [{"id": 0, "slots": "0-16383", "primary": "rec-0", "replicas": ["rec-1"]}]},
        "status": {"conditions": conditions},
    }))
    .unwrap()
}

#[test]
fn conditions_are_written_only_when_they_say_something_new_and_leave_others_alone() {
    let other = json!({"type": "ServicesReady", "status": "True", "reason": "Leads", "message": "m",
                       "lastTransitionTime": "t"});
    let before = topology(json!([other]));
    let findings = differing(&before, None).unwrap();
    let written = status(&before, &findings);
    let types: Vec<&str> = written
        .conditions
        .iter()
        .map(|condition| condition.type_.as_str())
        .collect();
    assert_eq!(types, ["FailoverInProgress", "InSync", "PrimaryAvailable"]);
    let conditions: Vec<Condition> = written.conditions;
    assert_eq!(differing(&topology(json!(conditions)), None), None);
}
