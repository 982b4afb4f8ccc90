use super::*;

pub(crate) fn shard() -> DesiredShard {
    DesiredShard {
        role: Role::Primary,
        bind: "0.0.0.0".to_owned(),
        port: 12000,
        max_memory_bytes: 1 << 20,
        eviction_policy: "noeviction".to_owned(),
        persistence: Persistence::AofEverySecond,
        engine: Engine::Plain,
        version: None,
        password: Password::NoneOnLoopback,
        users: Vec::new(),
        access: String::new(),
        mutual: Mutual::default(),
        tls: None,
        replication: None,
    }
}

pub(crate) fn database(uid: &str, epoch: u64, generation: u64, shards: u32) -> DesiredDatabase {
    DesiredDatabase {
        topology_uid: uid.to_owned(),
        epoch,
        generation,
        owner: "owner".to_owned(),
        fence: None,
        shards: (1..=shards).map(|id| (id, shard())).collect(),
    }
}

pub(crate) fn state(databases: &[(&str, DesiredDatabase)]) -> DesiredState {
    DesiredState {
        format: FORMAT,
        databases: databases
            .iter()
            .map(|(name, d)| ((*name).to_owned(), d.clone()))
            .collect(),
    }
}

#[test]
fn what_can_change_while_running_needs_no_restart() {
    let running = shard();
    let live = DesiredShard {
        max_memory_bytes: 5,
        eviction_policy: "allkeys-lru".to_owned(),
        persistence: Persistence::AofAlways,
        password: Password::None,
        ..shard()
    };
    assert!(!running.needs_restart(&live));
    assert!(running.needs_restart(&DesiredShard {
        port: 12001,
        ..shard()
    }));
    assert!(running.needs_restart(&DesiredShard {
        bind: "127.0.0.1".to_owned(),
        ..shard()
    }));
    assert!(running.needs_restart(&DesiredShard {
        engine: Engine::ActiveActive,
        ..shard()
    }));
    let replicated = DesiredShard {
        replication: Some(Replication::default()),
        ..shard()
    };
    assert!(
        running.needs_restart(&replicated),
        "the guard of writes is loaded at the start only"
    );
    assert!(!replicated.needs_restart(&DesiredShard {
        role: Role::Replica {
            host: "h".to_owned()
        },
        ..replicated.clone()
    }));
}

#[test]
fn only_a_copy_that_nobody_counts_on_begins_anew_without_its_files() {
    let replica = |replication: Replication| DesiredShard {
        role: Role::Replica {
            host: "h".to_owned(),
        },
        replication: Some(replication),
        ..shard()
    };
    let me = || BTreeSet::from(["b".to_owned()]);
    let among = Replication {
        me: "b".to_owned(),
        replicas: me(),
        ..Replication::default()
    };
    let in_sync = Replication {
        in_sync: me(),
        ..among.clone()
    };
    let joining = Replication {
        joining: me(),
        ..among.clone()
    };
    let primary = DesiredShard {
        role: Role::Primary,
        ..replica(among.clone())
    };
    // (shard, epoch of a fence, what becomes of its files)
    let cases = [
        (replica(among.clone()), None, Unreadable::CopyAnew),
        (replica(among.clone()), Some(4), Unreadable::Wait),
        // What became of that failover is known.
        (replica(among), Some(3), Unreadable::CopyAnew),
        (replica(in_sync), None, Unreadable::Wait),
        (replica(joining), None, Unreadable::Wait),
        (primary, None, Unreadable::Stay),
        (shard(), None, Unreadable::Stay),
    ];
    for (shard, fence, wanted) in cases {
        let database = DesiredDatabase {
            fence: fence.map(|epoch| Fence {
                epoch,
                candidate: "c".to_owned(),
                planned: false,
            }),
            ..database("u", 3, 9, 0)
        };
        assert_eq!(database.unreadable(&shard), wanted, "{fence:?} {shard:?}");
    }
}

#[test]
fn a_file_of_the_version_before_replication_is_read() {
    let text = r#"{"format":1,"databases":{"db":{"topologyUid":"u","epoch":1,"generation":1,"owner":"o","shards":{"1":{
        "role":"primary","bind":"0.0.0.0","port":1,"maxMemoryBytes":0,"evictionPolicy":"noeviction",
        "persistence":"disabled","engine":"plain","password":"none"}}}}}"#;
    let state: DesiredState = serde_json::from_str(text).unwrap();
    let shard = &state.databases["db"].shards[&1];
    assert_eq!((&shard.role, &shard.replication), (&Role::Primary, &None));
}

#[test]
fn the_file_is_read_back_as_it_was_written() {
    let state = state(&[("db", database("u", 3, 9, 2))]);
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<DesiredState>(&text).unwrap(), state);
    let names: Vec<String> = state.shards().map(|(name, ..)| name.to_string()).collect();
    assert_eq!(names, ["db-1", "db-2"]);
}

#[test]
fn no_two_databases_of_a_node_share_a_way_out() {
    assert_eq!(way_out(12_000).to_string(), "127.77.46.224");
    let all: BTreeSet<Ipv4Addr> = (10_000..20_000).map(way_out).collect();
    assert_eq!(all.len(), 10_000);
    assert!(all.iter().all(Ipv4Addr::is_loopback));
}
