use redis::Value;

use crate::harness::{Server, assert_equal, exchange, ok, pull, refused};

#[test]
fn a_refused_command_aborts_its_transaction() {
    let server = Server::member(1, "1,2");
    let mut client = server.client();
    ok(&mut client, "multi");
    ok(&mut client, "set k v");
    let words = refused(&mut client, "zadd z 1 a");
    assert!(words.contains("'zadd' is not supported"), "{words}");
    assert!(refused(&mut client, "exec").starts_with("EXECABORT"));
    assert_eq!(ok(&mut client, "exists k"), Value::Int(0));
    assert_eq!(server.info("crdt", "crdt_written"), "0");
}

#[test]
fn the_writes_of_a_transaction_lie_in_one_slot() {
    let server = Server::member(1, "1,2");
    let mut client = server.client();
    ok(&mut client, "multi");
    ok(&mut client, "set {a}1 v");
    ok(&mut client, "get b");
    let words = refused(&mut client, "set b v");
    assert!(words.contains("CROSSSLOT"), "{words}");
    assert!(refused(&mut client, "exec").starts_with("EXECABORT"));
    ok(&mut client, "multi");
    ok(&mut client, "set b v");
    ok(&mut client, "discard");
    ok(&mut client, "set {a}1 v");
    ok(&mut client, "set b v");
    ok(&mut client, "multi");
    ok(&mut client, "mset {a}1 1 {a}2 2");
    ok(&mut client, "sadd {a}3 x");
    ok(&mut client, "exec");
    assert_eq!(ok(&mut client, "exists {a}1 {a}2 {a}3 b"), Value::Int(4));
}

#[test]
fn peers_get_a_transaction_in_one_go() {
    let (one, two) = (Server::member(1, "1,2"), Server::member(2, "1,2"));
    let mut client = one.client();
    ok(&mut client, "set before 1");
    ok(&mut client, "multi");
    for command in ["set {t}a 1", "incr {t}n", "sadd {t}s x y", "hset {t}h f v"] {
        ok(&mut client, command);
    }
    ok(&mut client, "exec");
    ok(&mut client, "set after 1");
    let (clock, _): (Vec<u8>, String) =
        redis::cmd("CRDT.CLOCK").query(&mut two.internal()).unwrap();
    let take = |clock: &[u8]| -> (Vec<u8>, u8) {
        redis::cmd("CRDT.PULL")
            .arg(clock)
            .arg(2)
            .arg(1)
            .query(&mut one.internal())
            .unwrap()
    };
    let mut applied = Vec::new();
    let (mut clock, mut more) = (clock, 1);
    while more == 1 {
        let (batch, left) = take(&clock);
        more = left;
        applied.push(
            redis::cmd("CRDT.APPLY")
                .arg(1)
                .arg(batch)
                .query::<u64>(&mut two.internal())
                .unwrap(),
        );
        (clock, _) = redis::cmd("CRDT.CLOCK")
            .query::<(Vec<u8>, String)>(&mut two.internal())
            .unwrap();
    }
    assert_eq!(applied, [1, 4, 1]);
    assert_equal(&[&one, &two]);
}

#[test]
fn transactions_one_after_another_are_not_joined() {
    let (one, two) = (Server::member(1, "1,2"), Server::member(2, "1,2"));
    let mut client = one.client();
    for round in ["1", "2"] {
        ok(&mut client, "multi");
        ok(&mut client, &format!("set {{t}}a {round}"));
        ok(&mut client, &format!("set {{t}}b {round}"));
        ok(&mut client, "exec");
    }
    let (clock, _): (Vec<u8>, String) =
        redis::cmd("CRDT.CLOCK").query(&mut two.internal()).unwrap();
    let (batch, more): (Vec<u8>, u8) = redis::cmd("CRDT.PULL")
        .arg(clock)
        .arg(2)
        .arg(1)
        .query(&mut one.internal())
        .unwrap();
    let applied: u64 = redis::cmd("CRDT.APPLY")
        .arg(1)
        .arg(batch)
        .query(&mut two.internal())
        .unwrap();
    assert_eq!((applied, more), (2, 1));
    assert_eq!(pull(&one, 1, &two, 2), 2);
    exchange(&[&one, &two]);
    assert_equal(&[&one, &two]);
}

#[test]
fn watched_keys_stop_a_transaction() {
    let server = Server::member(1, "1,2");
    let (mut client, mut other) = (server.client(), server.client());
    ok(&mut client, "watch k");
    ok(&mut other, "set k other");
    ok(&mut client, "multi");
    ok(&mut client, "set k mine");
    assert_eq!(ok(&mut client, "exec"), Value::Nil);
    assert_eq!(ok(&mut client, "get k"), Value::BulkString(b"other".into()));
}
