use std::collections::BTreeSet;

use redis::Value;

use crate::harness::{Server, ok, refused, run};

#[test]
fn writes_without_merge_rules_are_refused_by_name() {
    let server = Server::member(1, "1,2");
    let mut client = server.client();
    for command in [
        "zadd z 1 a",
        "LPUSH l a",
        "expire k 1",
        "flushall",
        "swapdb 0 1",
        "restore k 0 x",
        "pfcount h",
        "getex k",
    ] {
        let name = command.split(' ').next().unwrap();
        let words = refused(&mut client, command);
        assert!(words.contains(&format!("'{name}'")), "{words}");
        assert!(
            words.contains("not supported") || words.contains("reserved"),
            "{words}"
        );
    }
    let words = refused(&mut client, "set k v EX 10");
    assert!(words.contains("'set' with EX is not supported"), "{words}");
    let words = refused(&mut client, "select 1");
    assert!(words.contains("one logical database 0"), "{words}");
    ok(&mut client, "select 0");
}

#[test]
fn scripts_may_read_and_not_write() {
    let server = Server::member(1, "1,2");
    let mut client = server.client();
    ok(&mut client, "set k v");
    assert_eq!(
        ok(&mut client, "eval return(redis.call('get','k')) 0"),
        Value::BulkString(b"v".into())
    );
    let words = refused(&mut client, "eval return(redis.call('set','k','w')) 0");
    assert!(words.contains("'set' out of a script"), "{words}");
    let words = refused(&mut client, "eval return(redis.call('zadd','k','1','w')) 0");
    assert!(words.contains("'zadd' is not supported"), "{words}");
    assert_eq!(ok(&mut client, "get k"), Value::BulkString(b"v".into()));
}

#[test]
fn writes_wait_for_a_configuration() {
    let server = Server::blank(&[]);
    let words = refused(&mut server.client(), "set k v");
    assert!(words.contains("CRDT.CONFIG SET"), "{words}");
    server.configure(1, 1, "1");
    ok(&mut server.client(), "set k v");
}

#[test]
fn keys_of_several_slots_are_refused() {
    let server = Server::member(1, "1,2");
    let mut client = server.client();
    for command in ["mset a 1 b 2", "del a b", "unlink a b", "smove a b x"] {
        let words = refused(&mut client, command);
        assert!(words.starts_with("CROSSSLOT"), "{command}: {words}");
    }
    ok(&mut client, "mset {a}1 1 {a}2 2");
    assert_eq!(
        ok(&mut client, "mget {a}1 b"),
        Value::Array(vec![Value::BulkString(b"1".into()), Value::Nil])
    );
}

#[test]
fn internal_commands_are_for_the_internal_user_on_the_socket() {
    let server = Server::member(1, "1,2");
    let commands = [
        "crdt.clock",
        "crdt.digest",
        "crdt.config get",
        "crdt.pull x 2 1",
        "crdt.apply 2 x",
        "crdt.report x",
    ];
    for mut stranger in [
        server.client(),
        server.socket_client(),
        server.internal_over_tcp(),
    ] {
        for command in commands {
            let words = refused(&mut stranger, command);
            assert!(words.contains("internal user"), "{command}: {words}");
        }
    }
    ok(&mut server.internal(), "crdt.clock");
    let words = refused(&mut server.internal(), "crdt.e x");
    assert!(words.contains("append-only file"), "{words}");
}

#[test]
fn administrative_commands_are_for_the_internal_user_on_the_socket() {
    let server = Server::member(1, "1,2");
    let commands = [
        "config get save",
        "CONFIG SET save x",
        "module list",
        "replicaof no one",
        "slaveof no one",
        "debug sleep 0",
        "acl whoami2",
        "acl setuser x",
        "shutdown nosave",
        "bgrewriteaof",
        "save",
        "bgsave",
        "cluster reset",
        "failover",
        "monitor",
        "client kill 1.2.3.4:5",
        "psync ? -1",
        "sync",
        "replconf x y",
    ];
    for mut stranger in [server.client(), server.socket_client()] {
        for command in commands {
            let words = refused(&mut stranger, command);
            let name = command.split(' ').next().unwrap();
            assert!(
                words.contains(&format!("'{name}")) || words.contains("unknown subcommand"),
                "{command}: {words}"
            );
        }
    }
    assert!(refused(&mut server.internal_over_tcp(), "config get save").contains("reserved"));
    ok(&mut server.internal(), "config get save");
    ok(&mut server.client(), "slowlog get");
    ok(&mut server.client(), "client list");
    ok(&mut server.client(), "client setname x");
}

/// With I/O threads the server looks commands up before the filter has seen them.
#[test]
fn the_filter_holds_with_io_threads() {
    let server = Server::blank(&["--io-threads", "4", "--events-per-io-thread", "0"]);
    server.configure(1, 1, "1");
    std::thread::scope(|scope| {
        for place in 0..8 {
            let mut client = server.client();
            scope.spawn(move || {
                for round in 0..200 {
                    let mut pipe = redis::pipe();
                    pipe.cmd("SET")
                        .arg(format!("k{place}"))
                        .arg(round)
                        .cmd("INCR")
                        .arg(format!("n{place}"));
                    let replies: (String, u64) = pipe.query(&mut client).unwrap();
                    assert_eq!(replies, ("OK".to_owned(), round + 1));
                    assert!(refused(&mut client, "zadd z 1 a").contains("not supported"));
                }
            });
        }
    });
    assert_eq!(
        server.info("crdt", "crdt_written"),
        (8 * 200 * 2).to_string()
    );
}

/// Commands about the connection itself, which would upset the test's own.
pub const CONNECTION: &[&str] = &[
    "auth",
    "client|reply",
    "discard",
    "exec",
    "hello",
    "multi",
    "psubscribe",
    "punsubscribe",
    "quit",
    "reset",
    "ssubscribe",
    "subscribe",
    "sunsubscribe",
    "unsubscribe",
];

/// Commands that a default user can run, one by one: a new one must be judged by a person.
#[test]
fn the_list_of_commands_that_pass_is_the_reviewed_one() {
    let server = Server::member(1, "1,2");
    let mut client = server.client();
    let Value::Array(commands) = ok(&mut client, "command list") else {
        panic!("COMMAND LIST gave no list")
    };
    let names: BTreeSet<_> = commands
        .into_iter()
        .map(|name| redis::from_redis_value::<String>(name).unwrap())
        .collect();
    // Of every series that is bundled; a server has those of its own.
    let reviewed: BTreeSet<_> = include_str!("passing.txt")
        .lines()
        .filter(|name| names.contains(*name))
        .map(str::to_owned)
        .collect();
    let mut passing = BTreeSet::new();
    for name in names
        .into_iter()
        .filter(|name| !name.starts_with("crdt.") && !CONNECTION.contains(&name.as_str()))
    {
        let arguments: Vec<_> = name.split('|').chain(["x"; 6]).collect();
        let words = run(&mut client, &arguments).err().unwrap_or_default();
        if !words.contains("not supported in an Active-Active")
            && !words.contains("reserved for the operator")
        {
            passing.insert(name);
        }
    }
    let news: Vec<_> = passing.difference(&reviewed).collect();
    let gone: Vec<_> = reviewed.difference(&passing).collect();
    assert!(
        news.is_empty() && gone.is_empty(),
        "passing but not reviewed: {news:?}; reviewed but refused: {gone:?}"
    );
}

#[test]
fn a_user_with_write_rights_writes_and_one_with_a_single_command_needs_both_names() {
    let server = Server::member(1, "1,2");
    let mut internal = server.internal();
    ok(&mut internal, "acl setuser writer on nopass ~* +@write");
    ok(&mut internal, "acl setuser narrow on nopass ~* +set");
    ok(
        &mut internal,
        "acl setuser both on nopass ~* +set +crdt.set",
    );
    let mut client = server.client();
    ok(&mut client, "auth writer x");
    ok(&mut client, "set k v");
    ok(&mut client, "auth both x");
    ok(&mut client, "set k v");
    ok(&mut client, "auth narrow x");
    let words = refused(&mut client, "set k v");
    assert!(words.contains("'crdt.set'"), "{words}");
}
