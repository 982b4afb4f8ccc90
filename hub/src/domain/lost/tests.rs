use serde_json::json;

use super::*;
use crate::domain::desired::Action;

fn told(kind: &str, name: &str, data_bearing: bool) -> Desired {
    Desired {
        object_id: "6f0c2a52-3b5e-4a3e-9d57-0d9a3c1f1e11".parse().unwrap(),
        api_version: "v1".to_owned(),
        kind: kind.to_owned(),
        namespace: "redis".to_owned(),
        name: name.to_owned(),
        data_bearing,
        after: Vec::new(),
        plan_number: Default::default(),
        action: Action::Upsert { body: json!({}) },
    }
}

#[test]
fn what_may_be_left_of_a_member_is_listed_with_the_way_to_remove_it() {
    let rec = Rec {
        namespace: "redis".to_owned(),
        name: "rec".to_owned(),
        ..Rec::default()
    };
    let objects = [
        told("ActiveActiveInstance", "cart", true),
        told("RedisEnterpriseActiveActiveDatabase", "cart", true),
        told("RedisEnterpriseRemoteCluster", "eu", false),
    ];
    let left = residue(objects.iter(), std::slice::from_ref(&rec));
    let ways: Vec<_> = left.iter().map(|one| one.remove.as_str()).collect();
    for way in [
        "delete activeactiveinstance cart",
        "delete reaadb cart",
        "delete rerc eu",
        "delete databasetopology cart",
        "delete secret,service,endpointslice -l meridian.dev/database=cart",
        "/redis-enterprise-storage-rec-",
        "delete secret -l redis.io/cluster=rec",
        "delete deployment meridian-agent",
        "validatingwebhookconfiguration redis-enterprise-admission-redis",
    ] {
        assert!(ways.iter().any(|one| one.contains(way)), "{way}: {ways:#?}");
    }
    assert!(ways.iter().all(|one| one.contains("kubectl")), "{ways:#?}");
}

#[test]
fn of_a_member_that_reported_nothing_and_was_told_nothing_nothing_is_known() {
    assert!(residue(std::iter::empty(), &[]).is_empty());
}
