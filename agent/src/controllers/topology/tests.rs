use proptest::prelude::*;

use super::*;

mod versions;

use meridian_api::crds::topology::{DatabaseTopologyStatus, MemberReport, ShardReport, ShardRole};

fn wanted() -> Wanted {
    Wanted {
        database: DatabaseReference {
            kind: "RedisEnterpriseDatabase".to_owned(),
            namespace: "ns".to_owned(),
            name: "db".to_owned(),
            uid: "u1".to_owned(),
        },
        cluster: "rec".to_owned(),
        port: None,
        memory_bytes: 100,
        eviction_policy: "noeviction".to_owned(),
        persistence: Persistence::AofEverySecond,
        version: Version {
            asked: Asked::Nothing,
            policy: None,
            bundle: Bundle::default(),
        },
        tls: None,
        by_every_node: false,
        placement: None,
        metric_labels: Default::default(),
        replication: false,
        active_active: None,
    }
}

fn nodes() -> Vec<Node> {
    (0..3)
        .map(|i| Node {
            pod: format!("rec-{i}"),
            ready: true,
            limit: Some(10_000),
            host: Some(format!("host-{i}")),
            rack: None,
        })
        .collect()
}

fn fresh() -> Found {
    Found {
        nodes: nodes(),
        ..Found::default()
    }
}

fn created(change: Change) -> DatabaseTopology {
    let Change::Create {
        topology, memory, ..
    } = change
    else {
        panic!("expected a creation, found {change:?}")
    };
    assert_eq!(
        Memory::of(&topology.spec),
        Some(memory),
        "what is remembered is what is ordered"
    );
    *topology
}

fn other(name: &str, port: i32, pod: &str) -> DatabaseTopology {
    let mut wanted = wanted();
    name.clone_into(&mut wanted.database.name);
    let mut topology = created(decide(&wanted, &fresh()).unwrap());
    topology.spec.port = port;
    topology.spec.shards[0].primary = Some(pod.to_owned());
    topology
}

#[test]
fn new_databases_are_golden() {
    let replicated = Wanted {
        replication: true,
        port: Some(12_000),
        ..wanted()
    };
    let member = |id: i64, name: &str| {
        serde_json::json!({
            "instanceId": id, "name": name, "endpoint": format!("10.0.0.{id}:443"), "local": id == 1,
            "serverName": format!("db.rec.ns.{name}.meridian.internal"),
            "spiffeId": format!("spiffe://meridian.local/cluster/{id}/rec/ns/rec"),
        })
    };
    let membership = serde_json::json!({
        "guid": "u1", "instanceId": 1, "configVersion": 4, "ghosts": [2],
        "members": [member(1, "eu"), member(3, "us")],
    });
    let database = DatabaseReference {
        kind: "RedisEnterpriseActiveActiveDatabase".to_owned(),
        ..wanted().database
    };
    let active_active = Wanted {
        database,
        replication: true,
        active_active: serde_json::from_value(membership).unwrap(),
        ..wanted()
    };
    for (name, wanted) in [
        ("single", wanted()),
        ("replicated", replicated),
        ("active-active", active_active),
    ] {
        let topology = created(decide(&wanted, &fresh()).unwrap());
        let path = format!("controllers/topology/golden/{name}");
        crate::k8s::testing::golden(&path, &serde_json::json!(topology));
    }
}

#[test]
fn a_new_database_gets_the_first_free_port_the_emptiest_node_and_epoch_one() {
    let found = Found {
        others: [other("a", 10_000, "rec-0"), other("b", 10_002, "rec-1")]
            .iter()
            .map(Given::of)
            .collect(),
        ..fresh()
    };
    let topology = created(decide(&wanted(), &found).unwrap());
    assert_eq!((topology.spec.port, topology.spec.epoch), (10_001, 1));
    assert_eq!(topology.spec.shards[0].primary.as_deref(), Some("rec-2"));
    assert_eq!(topology.spec.shards[0].slots, "0-16383");
    assert_eq!(
        topology.metadata.owner_references, None,
        "data has no owner"
    );
}

#[test]
fn a_port_of_another_database_is_refused_with_its_name() {
    let found = Found {
        others: vec![Given::of(&other("a", 12_000, "rec-0"))],
        ..fresh()
    };
    let refused = decide(
        &Wanted {
            port: Some(12_000),
            ..wanted()
        },
        &found,
    )
    .unwrap_err();
    assert_eq!(
        refused,
        TopologyError::PortTaken {
            port: 12_000,
            other: "a".to_owned()
        }
    );
}

#[test]
fn a_deleted_topology_is_rebuilt_where_the_data_is_with_a_higher_epoch() {
    let memories = vec![
        Memory {
            epoch: 4,
            primary: "rec-2".to_owned(),
            port: 10_007,
            ..Memory::default()
        },
        Memory {
            epoch: 3,
            primary: "rec-1".to_owned(),
            port: 10_007,
            ..Memory::default()
        },
    ];
    let found = Found {
        memories,
        has_served: true,
        nodes: Vec::new(),
        ..Found::default()
    };
    let change = decide(&wanted(), &found).unwrap();
    assert!(matches!(change, Change::Create { rebuilt: true, .. }));
    let topology = created(change);
    assert_eq!((topology.spec.epoch, topology.spec.port), (5, 10_007));
    assert_eq!(topology.spec.shards[0].primary.as_deref(), Some("rec-2"));
}

#[test]
fn a_database_that_has_served_is_never_placed_anew_without_a_memory() {
    let found = Found {
        has_served: true,
        ..fresh()
    };
    assert_eq!(decide(&wanted(), &found), Err(TopologyError::Lost));
}

#[test]
fn a_change_of_the_spec_keeps_place_port_and_epoch() {
    let existing = created(decide(&wanted(), &fresh()).unwrap());
    let found = Found {
        existing: Some(existing.clone()),
        ..fresh()
    };
    let Change::Swap(next) = decide(
        &Wanted {
            memory_bytes: 500,
            port: Some(11_111),
            ..wanted()
        },
        &found,
    )
    .unwrap() else {
        panic!("expected a swap");
    };
    assert_eq!(next.spec.memory_bytes, 500);
    assert_eq!(
        (next.spec.epoch, next.spec.port, &next.spec.shards),
        (
            existing.spec.epoch,
            existing.spec.port,
            &existing.spec.shards
        )
    );
}

#[test]
fn a_topology_older_than_what_was_ordered_gets_an_epoch_above_both() {
    let existing = created(decide(&wanted(), &fresh()).unwrap());
    let memories = vec![Memory {
        epoch: 7,
        primary: "rec-0".to_owned(),
        port: existing.spec.port,
        ..Memory::default()
    }];
    let found = Found {
        existing: Some(existing),
        memories,
        ..fresh()
    };
    let Change::Swap(next) = decide(&wanted(), &found).unwrap() else {
        panic!("expected a swap")
    };
    assert_eq!(next.spec.epoch, 8);
}

#[test]
fn a_topology_out_of_a_backup_follows_the_node_that_serves_in_a_newer_epoch() {
    let mut existing = created(decide(&wanted(), &fresh()).unwrap());
    let shard = ShardReport {
        ready: true,
        writable: true,
        ..ShardReport::new(0, ShardRole::Primary, 1)
    };
    let member = MemberReport {
        node: "rec-2".to_owned(),
        epoch: 9,
        shards: vec![shard],
        ..MemberReport::default()
    };
    existing.status = Some(DatabaseTopologyStatus {
        members: vec![member],
        ..DatabaseTopologyStatus::default()
    });
    let found = Found {
        existing: Some(existing),
        ..fresh()
    };
    let Change::Swap(next) = decide(&wanted(), &found).unwrap() else {
        panic!("expected a swap")
    };
    assert_eq!(
        (next.spec.epoch, next.spec.shards[0].primary.as_deref()),
        (10, Some("rec-2"))
    );
}

#[test]
fn a_database_that_was_created_again_takes_over_its_own_topology() {
    let existing = created(decide(&wanted(), &fresh()).unwrap());
    let mut again = wanted();
    again.database.uid = "u2".to_owned();
    let found = Found {
        existing: Some(existing),
        ..fresh()
    };
    let Change::Swap(next) = decide(&again, &found).unwrap() else {
        panic!("expected a swap")
    };
    assert_eq!(next.spec.database.uid, "u2");
}

#[test]
fn a_topology_of_another_kind_of_database_is_left_alone() {
    let existing = created(decide(&wanted(), &fresh()).unwrap());
    let mut active = wanted();
    active.database.kind = "RedisEnterpriseActiveActiveDatabase".to_owned();
    let refused = decide(
        &active,
        &Found {
            existing: Some(existing),
            ..fresh()
        },
    )
    .unwrap_err();
    assert_eq!(refused.fault(), Fault::Foreign);
}

proptest! {
    #[test]
    fn deciding_twice_changes_nothing_the_second_time(memory in 1_i64..1_000_000, epochs in prop::collection::vec(1_i64..50, 0..3)) {
        let wanted = Wanted { memory_bytes: memory % 7_000, ..wanted() };
        let memories: Vec<Memory> =
            epochs.iter().map(|epoch| Memory { epoch: *epoch, primary: "rec-1".to_owned(), port: 10_005, ..Memory::default() }).collect();
        let found = Found { memories: memories.clone(), ..fresh() };
        let topology = created(decide(&wanted, &found).unwrap());
        prop_assert!(memories.iter().all(|memory| topology.spec.epoch > memory.epoch));
        let now = Found { existing: Some(topology.clone()), memories, ..fresh() };
        prop_assert_eq!(decide(&wanted, &now).unwrap(), Change::Keep(Box::new(topology)));
    }
}

#[test]
fn what_is_remembered_while_a_fence_stands_is_no_newer_order() {
    let mut existing = created(decide(&wanted(), &fresh()).unwrap());
    existing.spec.fence = Some(meridian_api::crds::topology::Fence {
        epoch: 2,
        candidate: "rec-1".to_owned(),
        planned: false,
    });
    let port = existing.spec.port;
    let with = |epoch: i64| Found {
        existing: Some(existing.clone()),
        memories: vec![Memory {
            epoch,
            primary: "rec-1".to_owned(),
            port,
            ..Memory::default()
        }],
        ..fresh()
    };
    assert!(matches!(
        decide(&wanted(), &with(2)).unwrap(),
        Change::Keep(_)
    ));
    let Change::Swap(next) = decide(&wanted(), &with(3)).unwrap() else {
        panic!("an order above the fence is newer than the topology");
    };
    // It begins fenced: who leads elsewhere must have ended first.
    let fence = next.spec.fence.as_ref().unwrap();
    assert_eq!(
        (next.spec.epoch, fence.epoch, fence.candidate.as_str()),
        (4, 5, "rec-1")
    );
    assert_eq!(next.spec.shards[0].primary.as_deref(), Some("rec-1"));
}

#[test]
fn a_database_with_replication_gets_a_replica_on_another_host_if_there_is_one() {
    let replicated = Wanted {
        replication: true,
        ..wanted()
    };
    let topology = created(decide(&replicated, &fresh()).unwrap());
    assert_eq!(topology.spec.shards[0].primary.as_deref(), Some("rec-0"));
    assert_eq!(topology.spec.shards[0].replicas, ["rec-1"]);
    assert!(topology.spec.replication && topology.spec.shards[0].in_sync.is_empty());
    let alone = Found {
        nodes: nodes().into_iter().take(1).collect(),
        ..fresh()
    };
    let topology = created(decide(&replicated, &alone).unwrap());
    assert!(topology.spec.replication && topology.spec.shards[0].replicas.is_empty());
}

#[test]
fn the_memory_of_replicas_counts_as_well() {
    let mut big = other("big", 10_001, "rec-0");
    big.spec.memory_bytes = 6_950;
    big.spec.shards[0].replicas = vec!["rec-1".to_owned()];
    let found = Found {
        others: vec![Given::of(&big)],
        ..fresh()
    };
    let topology = created(decide(&wanted(), &found).unwrap());
    assert_eq!(topology.spec.shards[0].primary.as_deref(), Some("rec-2"));
    let replicated = Wanted {
        replication: true,
        ..wanted()
    };
    let topology = created(decide(&replicated, &found).unwrap());
    assert!(
        topology.spec.shards[0].replicas.is_empty(),
        "neither of the others has 100 bytes left"
    );
}

#[test]
fn a_name_that_a_database_of_another_namespace_has_is_refused_with_that_one() {
    let mut theirs = other("db", 10_000, "rec-0");
    "team-a".clone_into(&mut theirs.spec.database.namespace);
    let found = Found {
        existing: Some(theirs),
        ..fresh()
    };
    let refused = decide(&wanted(), &found).unwrap_err();
    assert_eq!(refused.fault(), Fault::Foreign);
    assert!(
        refused
            .to_string()
            .starts_with("the name `db` is taken: the RedisEnterpriseDatabase `team-a/db` has it"),
        "{refused}"
    );
}

#[test]
fn a_database_is_entered_by_every_node_from_when_and_until_its_policy_says_so() {
    let existing = created(decide(&wanted(), &fresh()).unwrap());
    let port = existing.spec.port;
    let decided = |by_every_node: bool, existing: DatabaseTopology| {
        let wanted = Wanted {
            by_every_node,
            ..wanted()
        };
        let found = Found {
            existing: Some(existing),
            ..fresh()
        };
        match decide(&wanted, &found).unwrap() {
            Change::Swap(next) | Change::Keep(next) => *next,
            other @ Change::Create { .. } => panic!("{other:?}"),
        }
    };
    let entered = decided(true, existing.clone());
    assert_eq!(entered.spec.entry_port, Some(port + 20_000));
    assert_eq!(entered.spec.epoch, existing.spec.epoch);
    assert_eq!(decided(false, entered).spec.entry_port, None);
}
