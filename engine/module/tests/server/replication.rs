//! Replicas inside a region.

use redis::Value;

use crate::harness::{Server, assert_equal, exchange, ok, refused, wait_until};

/// Makes `replica` follow `primary`, and waits until it has everything.
fn follow(replica: &Server, primary: &Server) {
    let mut internal = replica.internal();
    ok(&mut internal, "config set primaryuser meridian-internal");
    ok(&mut internal, "config set primaryauth only-in-tests");
    ok(
        &mut internal,
        &format!("replicaof 127.0.0.1 {}", primary.port),
    );
    wait_until("the replica is in sync", || {
        replica.info("replication", "master_link_status") == "up"
    });
}

fn caught_up(replica: &Server, primary: &Server) {
    wait_until("the replica has everything", || {
        replica.digest() == primary.digest()
    });
}

#[test]
fn a_replica_gets_values_and_metadata_by_snapshot_and_by_stream() {
    let (primary, peer) = (Server::member(1, "1,2"), Server::member(2, "1,2"));
    let replica = Server::blank(&[]);
    ok(&mut primary.client(), "sadd s a b");
    ok(&mut peer.client(), "incr n");
    exchange(&[&primary, &peer]);
    follow(&replica, &primary);
    caught_up(&replica, &primary);
    ok(&mut primary.client(), "srem s a");
    ok(&mut peer.client(), "incr n");
    exchange(&[&primary, &peer]);
    caught_up(&replica, &primary);
    let acknowledged = ok(&mut primary.client(), "wait 1 10000");
    assert_eq!(
        acknowledged,
        Value::Int(1),
        "the primary's own requests pass the replica's filter"
    );
    for field in [
        "crdt_clock",
        "crdt_gc_pending",
        "crdt_backlog_effects",
        "crdt_config_version",
    ] {
        assert_eq!(
            replica.info("crdt", field),
            primary.info("crdt", field),
            "{field}"
        );
    }
    assert!(refused(&mut replica.client(), "set k v").starts_with("READONLY"));
}

/// A replica that starts as one, as a pod that comes back does.
#[test]
fn a_server_that_starts_as_a_replica_follows() {
    let primary = Server::member(1, "1,2");
    ok(&mut primary.client(), "incr n");
    let port = primary.port.to_string();
    let replica = Server::blank(&[
        "--replicaof",
        "127.0.0.1",
        &port,
        "--primaryuser",
        "meridian-internal",
        "--primaryauth",
        "only-in-tests",
    ]);
    wait_until("the replica is in sync", || {
        replica.info("replication", "master_link_status") == "up"
    });
    ok(&mut primary.client(), "incr n");
    caught_up(&replica, &primary);
    assert!(refused(&mut replica.client(), "set k v").starts_with("READONLY"));
    assert!(refused(&mut replica.internal(), "crdt.config set 1 2 1,2").starts_with("READONLY"));
}

/// A replica that takes writes would change values without metadata.
#[test]
fn a_writable_replica_takes_no_writes() {
    let (primary, replica) = (
        Server::member(1, "1,2"),
        Server::blank(&["--replica-read-only", "no"]),
    );
    follow(&replica, &primary);
    assert!(refused(&mut replica.client(), "set k v").starts_with("READONLY"));
    assert!(refused(&mut replica.client(), "zadd z 1 a").contains("not supported"));
}

#[test]
fn a_promoted_replica_goes_on_under_an_incarnation_of_its_own() {
    let (primary, peer) = (Server::member(1, "1,2"), Server::member(2, "1,2"));
    let replica = Server::blank(&[]);
    ok(&mut primary.client(), "incr n");
    follow(&replica, &primary);
    caught_up(&replica, &primary);
    drop(primary);
    ok(&mut replica.internal(), "replicaof no one");
    ok(&mut replica.client(), "incr n");
    assert_eq!(
        replica.info("crdt", "crdt_clock").matches("\"1/").count(),
        2
    );
    exchange(&[&replica, &peer]);
    assert_equal(&[&replica, &peer]);
    assert_eq!(
        ok(&mut peer.client(), "get n"),
        Value::BulkString(b"2".into())
    );
}

#[test]
fn a_follower_of_an_empty_primary_forgets_what_it_had() {
    let (old, empty) = (Server::member(1, "1"), Server::blank(&[]));
    ok(&mut old.client(), "set k v");
    follow(&old, &empty);
    caught_up(&old, &empty);
    assert_eq!(old.info("crdt", "crdt_config_version"), "0");
}
