use kube::ResourceExt as _;
use serde_json::json;

use super::*;
use crate::k8s::testing::golden;

fn topology() -> DatabaseTopologySpec {
    serde_json::from_value(json!({
        "database": {"kind": "RedisEnterpriseDatabase", "namespace": "ns", "name": "db", "uid": "u"},
        "cluster": "rec", "epoch": 1, "port": 12000, "memoryBytes": 1, "evictionPolicy": "noeviction",
        "persistence": "disabled", "replication": false, "shards": []
    }))
    .unwrap()
}

fn policy(reach: &str) -> Policy {
    Policy {
        reach: Reach::parse(reach).unwrap(),
        name_by_port: false,
        service_port: None,
        annotations: BTreeMap::new(),
        labels: BTreeMap::from([
            ("app".to_owned(), "mine".to_owned()),
            ("team".to_owned(), "a".to_owned()),
        ]),
    }
}

fn target() -> Target {
    Target {
        pod: "rec-0".to_owned(),
        uid: None,
        host: None,
        address: "10.0.0.1".to_owned(),
        open: true,
    }
}

#[test]
fn every_asked_service_is_made_without_a_selector_and_with_its_slice() {
    let built = build(
        &topology(),
        &policy("cluster_ip, headless,load_balancer"),
        Some(Some(&target())),
        &[],
        Some("{}"),
    );
    let shown: Vec<_> = built
        .iter()
        .map(|one| {
            let spec = one.service.spec.as_ref().unwrap();
            assert_eq!(spec.selector, None);
            let slice = one.slice.as_ref().unwrap();
            assert_eq!(slice.labels()[SERVICE_NAME], one.service.name_any());
            (
                one.service.name_any(),
                spec.type_.clone().unwrap(),
                spec.cluster_ip.clone(),
                slice.name_any(),
            )
        })
        .collect();
    let line = |name: &str, kind: &str, ip: Option<&str>| {
        (
            name.to_owned(),
            kind.to_owned(),
            ip.map(str::to_owned),
            format!("{name}-meridian"),
        )
    };
    assert_eq!(
        shown,
        [
            line("db", "ClusterIP", None),
            line("db-headless", "ClusterIP", Some("None")),
            line("db-load-balancer", "LoadBalancer", None),
        ]
    );
}

#[test]
fn a_service_port_applies_to_all_but_the_headless_service() {
    let policy = Policy {
        service_port: Some(6379),
        ..policy("cluster_ip,headless")
    };
    let ports: Vec<_> = build(&topology(), &policy, None, &[], None)
        .iter()
        .map(|one| one.service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].clone())
        .map(|port| (port.port, port.target_port))
        .collect();
    assert_eq!(
        ports,
        [
            (6379, Some(IntOrString::Int(12000))),
            (12000, Some(IntOrString::Int(12000)))
        ]
    );
}

#[test]
fn without_a_decision_no_slice_is_written_and_nowhere_is_an_empty_slice() {
    assert!(
        build(&topology(), &policy("cluster_ip"), None, &[], None)
            .iter()
            .all(|one| one.slice.is_none())
    );
    let nowhere = build(
        &topology(),
        &policy("cluster_ip"),
        Some(None),
        &[],
        Some("m"),
    );
    let slice = nowhere[0].slice.as_ref().unwrap();
    assert_eq!(slice.endpoints.as_deref(), Some([].as_slice()));
    assert_eq!(slice.annotations()[MEMORY], "m");
}

#[test]
fn names_follow_the_port_where_the_cluster_says_so() {
    let policy = Policy {
        name_by_port: true,
        ..policy("cluster_ip")
    };
    assert_eq!(
        build(&topology(), &policy, None, &[], None)[0]
            .service
            .name_any(),
        "redis-12000"
    );
}

#[test]
fn our_labels_win_over_those_of_the_user() {
    let built = build(&topology(), &policy("cluster_ip"), None, &[], None);
    assert_eq!(built[0].service.labels()["app"], "redis-enterprise");
    assert_eq!(built[0].service.labels()["team"], "a");
}

#[test]
fn an_unknown_word_is_named() {
    assert_eq!(
        Reach::parse("cluster_ip,nodeport"),
        Err("nodeport".to_owned())
    );
}

#[test]
fn a_name_that_is_the_clusters_or_too_long_is_refused_with_the_next_step() {
    let check = |name: &str| check_name(name, &topology()).map_err(|problem| problem.to_string());
    assert_eq!(check("db"), Ok(()));
    assert_eq!(check("rec-x"), Ok(()));
    assert_eq!(check(&"a".repeat(63)), Ok(()));
    assert_eq!(
        check(&format!("{}-headless", "a".repeat(55))).unwrap_err(),
        format!(
            "Service `{}-headless` cannot be made: its name has 64 characters, expected at most 63. Choose a shorter \
             name for the database, take this type out of spec.servicesRiggerSpec.databaseServiceType of the cluster, \
             or set its serviceNaming to redis-port",
            "a".repeat(55)
        )
    );
    assert!(
        check("rec-sync")
            .unwrap_err()
            .contains("belongs to cluster `rec`")
    );
}

#[test]
fn the_services_of_a_database_are_the_golden_ones() {
    let policy = Policy {
        service_port: Some(6379),
        annotations: BTreeMap::from([("lb/zone".to_owned(), "a".to_owned())]),
        ..policy("cluster_ip,headless,load_balancer")
    };
    let built = build(&topology(), &policy, Some(Some(&target())), &[], Some("{}"));
    let all: Vec<_> = built
        .iter()
        .map(|one| json!({"service": one.service, "slice": one.slice}))
        .collect();
    golden("rigger/golden/services", &json!(all));
}

#[test]
fn the_services_of_a_database_that_is_entered_by_every_node_are_the_golden_ones() {
    let entered = DatabaseTopologySpec {
        entry_port: Some(32_000),
        ..topology()
    };
    let of = |number: u32, address: &str| Target {
        pod: format!("rec-{number}"),
        address: address.to_owned(),
        ..target()
    };
    let entries = [of(0, "10.0.0.1"), of(1, "10.0.0.2"), of(2, "fd00::3")];
    let policy = policy("cluster_ip,headless,load_balancer");
    let built = |lead, entries: &[Target]| -> Vec<_> {
        build(&entered, &policy, lead, entries, Some("{}"))
            .iter()
            .map(|one| json!({"service": one.service, "slice": one.slice}))
            .collect()
    };
    let primary = target();
    let all = built(Some(Some(&primary)), &entries);
    golden("rigger/golden/services-every-node", &json!(all));
    // Nobody takes clients yet, or nobody serves: as under every other policy.
    let before = |lead| build(&topology(), &policy, lead, &[], Some("{}"));
    for (lead, entries) in [(Some(Some(&primary)), &[][..]), (Some(None), &entries)] {
        let found = build(&entered, &policy, lead, entries, Some("{}"));
        assert_eq!(found, before(lead));
    }
}
