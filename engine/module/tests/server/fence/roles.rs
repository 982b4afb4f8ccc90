//! Replicas, promotion and demotion.

use redis::Value;

use super::{follow, permit, revoke, send, state, status, text, writable};
use crate::harness::{Server, assert_equal, exchange, ok, refused, run, wait_until};

fn caught_up(replica: &Server, primary: &Server) {
    wait_until("the replica has everything", || {
        let up = replica.info("replication", "master_link_status") == "up";
        up && state(replica) == state(primary)
    });
}

#[test]
fn a_replica_takes_writes_from_its_primary_only() {
    let primary = writable(&[]);
    for options in [&[][..], &["--replica-read-only", "no"]] {
        let replica = Server::fenced(options);
        ok(&mut primary.client(), "set k v");
        follow(&replica, &primary);
        caught_up(&replica, &primary);
        for write in [
            "set k w",
            "zadd k 1 a",
            "xadd s * f v",
            "flushall",
            "fcall f 0 k",
        ] {
            let words = refused(&mut replica.client(), write);
            assert!(
                words.starts_with("READONLY") || write.starts_with("fcall"),
                "{write}: {words}"
            );
        }
        let script = ["EVAL", "return redis.call('set','k','w')", "0"];
        assert!(
            run(&mut replica.client(), &script)
                .unwrap_err()
                .contains("READONLY")
        );
        ok(&mut primary.client(), "rpush l a b c");
        ok(&mut primary.client(), "multi");
        caught_up(&replica, &primary);
        assert_eq!(ok(&mut replica.client(), "llen l"), Value::Int(3));
        let words = refused(&mut replica.internal(), "crdt.fence permit 9 forever");
        assert!(words.contains("follows a primary"), "{words}");
        ok(&mut primary.client(), "del l");
    }
}

#[test]
fn a_promoted_shard_waits_for_its_permission_and_a_demoted_one_has_none() {
    let (one, two) = (writable(&[]), Server::fenced(&[]));
    ok(&mut one.client(), "set k 1");
    follow(&two, &one);
    caught_up(&two, &one);
    let mut waiting = one.client();
    send(&mut waiting, "blpop list 0");
    wait_until("it waits", || one.info("clients", "blocked_clients") == "1");

    ok(&mut two.internal(), "replicaof no one");
    let words = refused(&mut two.client(), "set k 2");
    assert!(words.contains("no permission yet"), "{words}");
    assert!(refused(&mut two.copier(), "psync ? -1").starts_with("NOMASTERLINK"));
    permit(&two, 2, "forever");
    ok(&mut two.client(), "set k 2");

    follow(&one, &two);
    let reply = waiting.recv_response().unwrap();
    assert!(
        reply
            .extract_error()
            .unwrap_err()
            .to_string()
            .contains("UNBLOCKED")
    );
    caught_up(&one, &two);
    assert_eq!(ok(&mut one.client(), "get k"), text("2"));

    // Back again: the permission of the first time, without an end, is gone, and that of the second was never given.
    ok(&mut one.internal(), "replicaof no one");
    assert!(refused(&mut one.client(), "set k 3").starts_with("READONLY"));
    assert_eq!(status(&one, "deadline"), 0);
    permit(&one, 3, "forever");
    ok(&mut one.client(), "set k 3");
}

#[test]
fn a_replica_that_starts_as_one_has_no_permission_after_its_promotion() {
    let primary = writable(&[]);
    ok(&mut primary.client(), "set k v");
    let port = primary.port.to_string();
    let replica = Server::fenced(&[
        "--replicaof",
        "127.0.0.1",
        &port,
        "--primaryuser",
        "copier",
        "--primaryauth",
        "only-in-tests",
    ]);
    caught_up(&replica, &primary);
    assert!(refused(&mut replica.internal(), "crdt.fence permit 1 forever").contains("follows"));
    ok(&mut replica.internal(), "replicaof no one");
    assert!(refused(&mut replica.client(), "set k w").starts_with("READONLY"));
}

/// What the server does of itself needs no permission.
#[test]
fn files_are_loaded_and_keys_expire_without_permission() {
    let mut server = writable(&[]);
    let mut client = server.client();
    ok(&mut client, "rpush l a b c");
    ok(&mut client, "set brief v px 1");
    server.persist();
    server.crash_and_restart();
    assert_eq!(ok(&mut server.client(), "llen l"), Value::Int(3));
    assert_eq!(ok(&mut server.client(), "exists brief"), Value::Int(0));
    assert_eq!(status(&server, "ever"), 0);
    assert!(refused(&mut server.client(), "rpush l d").starts_with("READONLY"));
    assert!(refused(&mut server.copier(), "psync ? -1").starts_with("NOMASTERLINK"));
}

#[test]
fn the_setting_that_shuts_the_gate_is_put_back() {
    let server = Server::fenced(&[
        "--min-replicas-to-write",
        "1",
        "--min-replicas-max-lag",
        "7",
    ]);
    let setting = |name: &str| ok(&mut server.internal(), &format!("config get {name}"));
    let pair = |name: &str, value: &str| Value::Array(vec![text(name), text(value)]);
    permit(&server, 1, "forever");
    assert_eq!(
        setting("min-replicas-to-write"),
        pair("min-replicas-to-write", "1")
    );
    assert_eq!(
        setting("min-replicas-max-lag"),
        pair("min-replicas-max-lag", "7")
    );
    assert!(refused(&mut server.client(), "set k v").starts_with("NOREPLICAS"));
    revoke(&server, 1);
    assert!(refused(&mut server.client(), "set k v").starts_with("READONLY"));
}

#[test]
fn a_shut_gate_that_was_saved_with_the_configuration_opens_again() {
    let server = Server::fenced(&["--min-replicas-to-write", "2147483647"]);
    assert!(refused(&mut server.client(), "set k v").starts_with("READONLY"));
    permit(&server, 1, "forever");
    ok(&mut server.client(), "set k v");
}

fn merging() -> Server {
    Server::with_module(&[], &["fence", "on"])
}

#[test]
fn an_active_active_shard_needs_permission_for_its_own_writes_and_those_of_peers() {
    let (one, peer) = (merging(), Server::member(2, "1,2"));
    one.configure(1, 1, "1,2");
    ok(&mut peer.client(), "incr n");
    let mut client = one.client();
    for write in ["incr n", "crdt.set k v", "sadd s a"] {
        assert!(
            refused(&mut client, write).starts_with("READONLY"),
            "{write}"
        );
    }
    let (batch, _): (Vec<u8>, u8) = redis::cmd("CRDT.PULL")
        .arg("")
        .arg(1)
        .arg(1000)
        .query(&mut peer.internal())
        .unwrap();
    let apply = [b"CRDT.APPLY".as_slice(), b"2", &batch];
    let words = run(&mut one.internal(), &apply).unwrap_err();
    assert!(words.starts_with("READONLY"), "{words}");
    let words = run(&mut one.internal(), &["CRDT.REPORT", ""]).unwrap_err();
    assert!(words.starts_with("READONLY"), "{words}");
    ok(&mut client, "multi");
    assert!(refused(&mut client, "set k v").starts_with("NOREPLICAS"));
    assert!(refused(&mut client, "exec").starts_with("EXECABORT"));
    permit(&one, 1, "forever");
    ok(&mut client, "incr n");
    exchange(&[&one, &peer]);
    assert_equal(&[&one, &peer]);
    ok(&mut client, "multi");
    ok(&mut client, "set k v");
    revoke(&one, 1);
    assert!(refused(&mut client, "exec").starts_with("EXECABORT"));
    assert_equal(&[&one, &peer]);
}

#[test]
fn a_promoted_active_active_shard_writes_under_an_incarnation_of_its_own() {
    let (one, two, peer) = (merging(), merging(), Server::member(2, "1,2"));
    one.configure(1, 1, "1,2");
    permit(&one, 1, "forever");
    ok(&mut one.client(), "incr n");
    ok(&mut peer.client(), "incr n");
    follow(&two, &one);
    exchange(&[&one, &peer]);
    wait_until("the replica has everything", || {
        two.digest() == one.digest()
    });
    drop(one);
    ok(&mut two.internal(), "replicaof no one");
    assert!(refused(&mut two.client(), "incr n").starts_with("READONLY"));
    permit(&two, 2, "forever");
    ok(&mut two.client(), "incr n");
    assert_eq!(two.info("crdt", "crdt_clock").matches("\"1/").count(), 2);
    exchange(&[&two, &peer]);
    assert_equal(&[&two, &peer]);
    assert_eq!(ok(&mut peer.client(), "get n"), text("3"));
}
