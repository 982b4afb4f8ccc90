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
        trace: None,
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
        "/redis-enterprise-storage-rec-[0-9]+$'",
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

#[test]
fn what_is_left_is_listed_in_the_order_in_which_it_can_be_removed() {
    let rec = Rec {
        namespace: "redis".to_owned(),
        name: "rec".to_owned(),
        ..Rec::default()
    };
    let objects = [
        told("RedisEnterpriseRemoteCluster", "eu", false),
        told("ActiveActiveInstance", "cart", true),
        told("RedisEnterpriseActiveActiveDatabase", "cart", true),
    ];
    let left = residue(objects.iter(), std::slice::from_ref(&rec));
    let kinds: Vec<_> = left.iter().map(|one| one.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "Deployment, Secret",
            "RedisEnterpriseActiveActiveDatabase",
            "ActiveActiveInstance",
            "DatabaseTopology, Secret, Service, EndpointSlice",
            "RedisEnterpriseRemoteCluster",
            "RedisEnterpriseDatabase, RedisEnterpriseCluster",
            "PersistentVolumeClaim",
            "Secret",
        ]
    );
}

#[test]
fn nothing_that_waits_for_a_finalizer_is_deleted_before_it_is_released() {
    let rec = Rec {
        namespace: "redis".to_owned(),
        name: "rec".to_owned(),
        ..Rec::default()
    };
    let objects = [
        told("RedisEnterpriseRemoteCluster", "eu", false),
        told("ActiveActiveInstance", "cart", true),
        told("RedisEnterpriseActiveActiveDatabase", "cart", true),
    ];
    let left = residue(objects.iter(), std::slice::from_ref(&rec));
    for (released, deleted) in [
        ("patch reaadb cart ", "delete reaadb cart "),
        (
            "patch activeactiveinstance cart ",
            "delete activeactiveinstance cart ",
        ),
        ("patch rerc eu ", "delete rerc eu "),
        ("patch @ ", "delete redb --all"),
        ("patch rec rec ", "delete rec rec "),
    ] {
        let way = left.iter().find(|one| one.remove.contains(deleted));
        let way = &way.unwrap().remove;
        let (first, then) = (way.find(released), way.find(deleted));
        assert!(first.is_some() && first < then, "{way}");
        let free = r#"--type=merge -p '{"metadata":{"finalizers":null}}';"#;
        assert!(way[first.unwrap()..then.unwrap()].contains(free), "{way}");
    }
}

#[test]
fn what_no_object_can_be_called_stands_in_no_command() {
    let called = |namespace: &str, name: &str| Rec {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ..Rec::default()
    };
    let mut object = told("RedisEnterpriseRemoteCluster", "eu", false);
    object.namespace = "redis; reboot".to_owned();
    let named = told("RedisEnterpriseRemoteCluster", "$(reboot)", false);
    let recs = [called("redis", "rec; reboot"), called("`reboot`", "rec")];
    let left = residue([&object, &named].into_iter(), &recs);
    assert!(left.is_empty(), "{left:#?}");
    let dotted = residue(std::iter::empty(), &[called("redis", "rec.eu")]);
    let volumes = dotted
        .iter()
        .find(|one| one.kind == "PersistentVolumeClaim");
    assert!(volumes.unwrap().remove.contains("-rec[.]eu-[0-9]+$'"));
}
