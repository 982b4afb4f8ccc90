use std::net::SocketAddr;

use super::*;
use crate::desired::Password;
use crate::standalone::{Region, file};

fn topology() -> Topology {
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let region = Region {
        id: 1,
        listen: at("127.0.0.1:7001"),
        sync_listen: at("127.0.0.1:8001"),
        peers: BTreeMap::from([(2, "h2:8002".to_owned()), (3, "h3:8003".to_owned())]),
        certs: None,
        database: "db".to_owned(),
        max_memory_bytes: 7,
        aof_always: false,
        metrics_listen: None,
    };
    file(&region, None).topology
}

fn proposal(
    topology: &Topology,
    passwords: &[&str],
    last: &DesiredState,
) -> (DesiredState, Vec<Problem>) {
    let access = passwords
        .iter()
        .map(|name| ((*name).to_owned(), Access::only(Password::None)))
        .collect();
    propose(
        std::slice::from_ref(topology),
        &NodeFacts {
            node: "region-1",
            bind: "0.0.0.0",
            access: &access,
            mutual: &Mutual::default(),
            host: &|pod| format!("{pod}.host"),
        },
        last,
    )
}

#[test]
fn a_primary_here_becomes_a_shard() {
    let (state, problems) = proposal(&topology(), &["db"], &DesiredState::default());
    assert_eq!(problems, []);
    let (name, database, shard) = state.shards().next().unwrap();
    assert_eq!(
        (
            name.as_str(),
            database.epoch,
            shard.port,
            shard.max_memory_bytes
        ),
        ("db-1", 1, 7001, 7)
    );
    assert_eq!(shard.engine, Engine::ActiveActive);
}

#[test]
fn a_primary_elsewhere_is_nothing_unless_it_was_here() {
    let mut topology = topology();
    let (last, _) = proposal(&topology, &["db"], &DesiredState::default());
    topology.spec.shards[0].primary = Some("region-9".to_owned());
    assert_eq!(
        proposal(&topology, &["db"], &DesiredState::default()).0,
        DesiredState::default()
    );
    let (state, _) = proposal(&topology, &["db"], &last);
    assert!(
        state.databases["db"].shards.is_empty(),
        "an order to run nothing"
    );
}

#[test]
fn a_topology_without_shards_is_taken_over_by_every_node_and_needs_no_password() {
    let mut topology = topology();
    let (last, _) = proposal(&topology, &["db"], &DesiredState::default());
    topology.spec.shards.clear();
    topology.spec.epoch = 2;
    for last in [last, DesiredState::default()] {
        let (state, problems) = proposal(&topology, &[], &last);
        assert_eq!(problems, []);
        let ordered = &state.databases["db"];
        assert_eq!((ordered.epoch, ordered.shards.len()), (2, 0));
    }
}

#[test]
fn an_unknown_password_starts_nothing_and_stops_nothing() {
    let (state, problems) = proposal(&topology(), &[], &DesiredState::default());
    assert_eq!(state, DesiredState::default());
    assert!(problems[0].message.contains("password"), "{problems:?}");
    let (last, _) = proposal(&topology(), &["db"], &DesiredState::default());
    assert_eq!(proposal(&topology(), &[], &last).0, last);
}

#[test]
fn an_active_active_shard_always_has_an_aof() {
    let mut topology = topology();
    let mut kept = |word: ApiPersistence| {
        topology.spec.persistence = word;
        let (state, problems) = proposal(&topology, &["db"], &DesiredState::default());
        (
            state.shards().next().map(|(_, _, shard)| shard.persistence),
            problems.len(),
        )
    };
    assert_eq!(
        kept(ApiPersistence::Disabled),
        (Some(Persistence::AofEverySecond), 0)
    );
    assert_eq!(
        kept(ApiPersistence::SnapshotEvery6Hour),
        (Some(Persistence::AofEverySecond), 0)
    );
    assert_eq!(
        kept(ApiPersistence::AofAlways),
        (Some(Persistence::AofAlways), 0)
    );
    assert_eq!(kept(ApiPersistence::Other("tape".to_owned())), (None, 1));
}

#[test]
fn fields_that_make_no_sense_are_named() {
    let mut topology = topology();
    topology.spec.port = 0;
    let (_, problems) = proposal(&topology, &["db"], &DesiredState::default());
    assert!(
        problems[0].message.contains("spec.port is 0"),
        "{problems:?}"
    );
}

#[test]
fn peers_are_the_other_members() {
    let membership = membership(&topology(), "region-1").unwrap().unwrap();
    assert_eq!(membership.peers.keys().copied().collect::<Vec<_>>(), [2, 3]);
    assert_eq!(membership.peers[&2].endpoint, "h2:8002");
    assert_eq!(super::membership(&topology(), "region-9").unwrap(), None);
}

#[test]
fn a_member_named_twice_is_refused() {
    let mut topology = topology();
    let members = &mut topology.spec.active_active.as_mut().unwrap().members;
    members.push(members[1].clone());
    assert!(
        membership(&topology, "region-1")
            .unwrap_err()
            .contains("twice")
    );
}

#[test]
fn server_names_lead_to_the_pod_with_the_primary() {
    let topologies = [topology()];
    let name = "db.region-1.standalone.meridian.internal";
    assert_eq!(
        routes(topologies.iter(), "region-1")[name],
        Route::Here("db".to_owned())
    );
    assert_eq!(
        routes(topologies.iter(), "region-9")[name],
        Route::Relay("region-1".to_owned())
    );
    let mut headless = topology();
    headless.spec.shards[0].primary = None;
    assert!(routes([headless].iter(), "region-1").is_empty());
}
