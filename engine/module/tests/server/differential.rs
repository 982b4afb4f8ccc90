//! With one region alone, replies are those of a plain server.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use redis::{Connection, Value};

use crate::harness::{Server, ok, run};

const KEYS: &[&str] = &["{k}1", "{k}2", "{k}3", "{k}4"];
const FIELDS: &[&str] = &["f", "g", "h"];
const VALUES: &[&str] = &[
    "",
    "0",
    "7",
    "-3",
    "10.50",
    "1.25",
    "text",
    "007",
    "1x",
    "\u{fc}\u{0}x",
];
const NUMBERS: &[&str] = &["1", "-2", "100", "0", "x", "1.5", "", "+5"];
const FLOATS: &[&str] = &["0.1", "-0.25", "3", "5.0e3", "x", "", "1e-3"];

/// A random command: mostly valid, often on a key of the wrong kind.
fn command(random: &mut SmallRng) -> Vec<&'static str> {
    let mut pick = |from: &[&'static str]| *from.choose(random).unwrap();
    let (key, other, field, more) = (pick(KEYS), pick(KEYS), pick(FIELDS), pick(FIELDS));
    let (value, number, float) = (pick(VALUES), pick(NUMBERS), pick(FLOATS));
    let option = pick(&["NX", "XX", "GET", "nonsense"]);
    let second = pick(&["GET", "NX", "XX"]);
    let forms: &[Vec<&'static str>] = &[
        vec!["SET", key, value],
        vec!["set", key, value, option],
        vec!["SET", key, value, option, second],
        vec!["SETNX", key, value],
        vec!["GETSET", key, value],
        vec!["GETDEL", key],
        vec!["MSET", key, value, other, number],
        vec!["MSET", key, value, other],
        vec!["APPEND", key, value],
        vec!["SETRANGE", key, number, value],
        vec!["INCR", key],
        vec!["DECR", key],
        vec!["INCRBY", key, number],
        vec!["DECRBY", key, number],
        vec!["INCRBYFLOAT", key, float],
        vec!["SADD", key, field],
        vec!["SADD", key, field, more, value],
        vec!["SREM", key, field],
        vec!["SREM", key, field, more, value],
        vec!["SPOP", key, "100"],
        vec!["SPOP", key, "0"],
        vec!["SPOP", key, "-1"],
        vec!["SPOP", key, "x"],
        vec!["SPOP", key, "1", "x"],
        vec!["SMOVE", key, other, field],
        vec!["HSET", key, field, value],
        vec!["HSET", key, field, value, more, number],
        vec!["HSET", key, field, value, more],
        vec!["HMSET", key, field, value, more, value],
        vec!["HSETNX", key, field, value],
        vec!["HDEL", key, field],
        vec!["HDEL", key, field, more, field],
        vec!["HINCRBY", key, field, number],
        vec!["HINCRBYFLOAT", key, field, float],
        vec!["DEL", key],
        vec!["DEL", key, other, key],
        vec!["UNLINK", key],
        vec!["SET", key],
        vec!["HSET", key, field],
        vec!["INCR"],
        vec!["TYPE", key],
        vec!["GET", key],
        vec!["STRLEN", key],
    ];
    forms.choose(random).unwrap().clone()
}

/// A reply without the order that sets do not have.
fn settled(reply: Result<Value, String>, unordered: bool) -> Result<Value, String> {
    let sorted = |mut items: Vec<Value>| {
        items.sort_by_key(|item| format!("{item:?}"));
        items
    };
    reply.map(|value| match value {
        Value::Array(items) if unordered => Value::Array(sorted(items)),
        Value::Set(items) => Value::Set(sorted(items)),
        other => other,
    })
}

/// Everything that clients can read.
fn contents(client: &mut Connection) -> Vec<(String, Result<Value, String>)> {
    let read = |client: &mut Connection, key: &&str| {
        let kind: String = redis::cmd("TYPE").arg(*key).query(client).unwrap();
        let reply = match kind.as_str() {
            "set" => settled(run(client, &["SMEMBERS", key]), true),
            "hash" => {
                let mut fields: Vec<(Vec<u8>, Vec<u8>)> =
                    redis::cmd("HGETALL").arg(*key).query(client).unwrap();
                fields.sort();
                Ok(Value::SimpleString(format!("{fields:?}")))
            }
            _ => run(client, &["GET", key]),
        };
        (kind, reply)
    };
    KEYS.iter().map(|key| read(client, key)).collect()
}

fn compare(mut ours: Connection, mut plain: Connection, seed: u64, steps: usize) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut history = Vec::new();
    for _ in 0..steps {
        let command = command(&mut random);
        let unordered = command[0].eq_ignore_ascii_case("SPOP");
        history.push(command.clone());
        let (got, expected) = (run(&mut ours, &command), run(&mut plain, &command));
        let tail = &history[history.len().saturating_sub(12)..];
        assert_eq!(
            settled(got, unordered),
            settled(expected, unordered),
            "seed {seed}, after {tail:?}"
        );
        assert_eq!(
            contents(&mut ours),
            contents(&mut plain),
            "seed {seed}, after {tail:?}"
        );
    }
}

#[test]
fn replies_and_values_are_those_of_a_plain_server() {
    let (module, plain) = (Server::member(1, "1"), Server::plain());
    compare(module.client(), plain.client(), 1, 3_000);
}

#[test]
fn replies_in_the_newer_protocol_are_those_of_a_plain_server() {
    let (module, plain) = (Server::member(1, "1"), Server::plain());
    compare(module.client_resp3(), plain.client_resp3(), 2, 3_000);
}

#[test]
fn transactions_reply_as_those_of_a_plain_server() {
    let (module, plain) = (Server::member(1, "1"), Server::plain());
    let (mut ours, mut theirs) = (module.client(), plain.client());
    let mut random = SmallRng::seed_from_u64(3);
    for _ in 0..300 {
        let mut steps = vec![vec!["MULTI"]];
        steps.extend(
            (0..random.random_range(0..6))
                .map(|_| command(&mut random))
                .filter(|step| step[0] != "SPOP"),
        );
        steps.push(vec!["EXEC"]);
        for step in &steps {
            assert_eq!(
                run(&mut ours, step),
                run(&mut theirs, step),
                "{step:?} of {steps:?}"
            );
        }
        assert_eq!(
            contents(&mut ours),
            contents(&mut theirs),
            "after {steps:?}"
        );
    }
}

#[test]
fn a_random_pop_takes_elements_that_were_there() {
    let server = Server::member(1, "1");
    let mut client = server.client();
    ok(&mut client, "sadd s a b c d");
    let one: String = redis::cmd("SPOP").arg("s").query(&mut client).unwrap();
    let two: Vec<String> = redis::cmd("SPOP")
        .arg("s")
        .arg(2)
        .query(&mut client)
        .unwrap();
    let mut all: Vec<String> = redis::cmd("SMEMBERS").arg("s").query(&mut client).unwrap();
    all.push(one);
    all.extend(two);
    all.sort();
    assert_eq!(all, ["a", "b", "c", "d"]);
    assert_eq!(ok(&mut client, "spop missing"), Value::Nil);
}

/// The one intended difference: sums beyond 2^58 are refused, so that concurrent increments cannot overflow 64 bits.
#[test]
fn counters_end_at_two_to_the_58() {
    let server = Server::member(1, "1");
    let mut client = server.client();
    assert_eq!(
        ok(&mut client, &format!("incrby n {}", 1_i64 << 58)),
        Value::Int(1 << 58)
    );
    let words = run(&mut client, &["incr", "n"]).unwrap_err();
    assert_eq!(words, "ERR increment or decrement would overflow");
    let words = run(&mut client, &["decrby", "n", "-9223372036854775808"]).unwrap_err();
    assert_eq!(words, "ERR decrement would overflow");
}

/// Values are stored as compactly as a plain server stores them, whatever the module had to read for the write.
#[test]
fn values_are_native() {
    let (module, plain) = (Server::member(1, "1"), Server::plain());
    let (mut ours, mut theirs) = (module.client(), plain.client());
    let writes = [
        "set n 5",
        "incr n",
        "incrby n 7",
        "incrbyfloat x 1.5",
        "incr fresh",
        "set short text",
        "setnx once 12",
        "getset n 9",
        "append s 1",
        "sadd ints 1 2",
        "sadd words a b",
        "hset h f v",
        "hincrby h n 1",
    ];
    for write in writes {
        ok(&mut ours, write);
        ok(&mut theirs, write);
        let question = format!("object encoding {}", write.split(' ').nth(1).unwrap());
        assert_eq!(
            ok(&mut ours, &question),
            ok(&mut theirs, &question),
            "{write}"
        );
    }
}
