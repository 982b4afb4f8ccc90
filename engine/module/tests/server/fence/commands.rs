//! Every command of the server: who can run it, and whether it needs a permission.

use std::collections::BTreeMap;

use redis::Value;

use super::{state, writable};
use crate::harness::{Server, ok, refused, run};
use crate::refusals::CONNECTION;

/// Commands that would hold up or end the test's own connection.
const UNSUITABLE: &[&str] = &["crdt.fence", "crdt.refused"];

/// How a server answers each command to an ordinary client: `operator` if it is kept from it, `write` if it asks for a
/// permission, `passes` otherwise.
fn answers(server: &Server) -> BTreeMap<String, &'static str> {
    let mut client = server.client();
    let Value::Array(names) = ok(&mut client, "command list") else {
        panic!("COMMAND LIST gave no list")
    };
    let names = names
        .into_iter()
        .map(|name| redis::from_redis_value::<String>(name).unwrap())
        .filter(|name| {
            !CONNECTION.contains(&name.as_str()) && !UNSUITABLE.contains(&name.as_str())
        });
    let mut answers = BTreeMap::new();
    for name in names {
        let arguments: Vec<_> = name.split('|').chain(["x"; 6]).collect();
        let words = run(&mut client, &arguments).err().unwrap_or_default();
        let answer = match words {
            words if words.contains("reserved for the operator") => "operator",
            words if words.starts_with("READONLY") => "write",
            _ => "passes",
        };
        answers.insert(name, answer);
    }
    answers
}

/// The commands of every series that is bundled, of which a server has those of its own.
fn reviewed(found: &BTreeMap<String, &'static str>) -> BTreeMap<String, &'static str> {
    let lines = include_str!("commands.txt").lines();
    lines
        .map(|line| line.split_once(' ').unwrap())
        .map(|(answer, name)| (name.to_owned(), answer))
        .filter(|(name, _)| found.contains_key(name))
        .collect()
}

/// A new command must be judged by a person: what can an ordinary client do with it?
#[test]
fn the_list_of_commands_without_permission_is_the_reviewed_one() {
    let server = Server::fenced(&[]);
    let before = state(&server);
    let found = answers(&server);
    let reviewed = reviewed(&found);
    let news: Vec<_> = found
        .iter()
        .filter(|(name, answer)| reviewed.get(*name) != Some(answer))
        .map(|(name, answer)| format!("{answer} {name}"))
        .collect();
    assert!(
        news.is_empty(),
        "found, and not reviewed as such: {news:#?}"
    );
    assert_eq!(state(&server), before, "something was written");
}

#[test]
fn with_a_permission_or_without_a_fence_all_writes_pass_and_administration_is_kept_back() {
    let permitted = writable(&[]);
    let unfenced = Server::with_module(&[], &["engine", "none"]);
    for server in [permitted, unfenced] {
        let found = answers(&server);
        let open: BTreeMap<_, _> = reviewed(&found)
            .into_iter()
            .map(|(name, answer)| (name, if answer == "write" { "passes" } else { answer }))
            .collect();
        assert_eq!(found, open);
    }
}

#[test]
fn administrative_commands_are_for_the_internal_user_on_the_socket() {
    let server = writable(&[]);
    let commands = [
        "config get save",
        "module list",
        "replicaof no one",
        "debug sleep 0",
        "acl list",
        "client kill id 1",
        "client pause 1",
        "shutdown nosave",
        "failover",
        "monitor",
        "migrate 127.0.0.1 1 k 0 1",
    ];
    for mut stranger in [
        server.client(),
        server.socket_client(),
        server.internal_over_tcp(),
    ] {
        for command in commands {
            let words = refused(&mut stranger, command);
            assert!(
                words.contains("reserved for the operator"),
                "{command}: {words}"
            );
        }
        for command in [
            "crdt.fence status",
            "crdt.fence permit 2 forever",
            "crdt.fence revoke 9",
        ] {
            let words = refused(&mut stranger, command);
            assert!(words.contains("internal user"), "{command}: {words}");
        }
    }
    ok(&mut server.internal(), "config get save");
    ok(&mut server.client(), "set k v");
}

/// Values are native, and so is everything that a plain database can do.
#[test]
fn a_fenced_shard_with_a_permission_is_a_plain_one() {
    let server = writable(&[]);
    let mut client = server.client();
    for (command, reply) in [
        ("select 3", Value::Okay),
        ("set k v EX 100", Value::Okay),
        ("copy k l", Value::Int(1)),
        ("zadd z 1 a 2 b", Value::Int(2)),
        ("sort z by nosort store m", Value::Int(2)),
        ("pfadd h a b", Value::Int(1)),
        ("pfcount h", Value::Int(2)),
        ("move k 4", Value::Int(1)),
        ("swapdb 3 4", Value::Okay),
        ("persist k", Value::Int(1)),
        ("eval return(redis.call('incr','n')) 0", Value::Int(1)),
        ("wait 0 0", Value::Int(0)),
        ("flushall", Value::Okay),
    ] {
        assert_eq!(
            run(&mut client, &command.split(' ').collect::<Vec<_>>()),
            Ok(reply),
            "{command}"
        );
    }
}
