//! Regions that hand effects to one another.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meridian_crdt::{Batch, Clock, Dot, Effect, Hlc, Incarnation, InstanceId, Op, Origin};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use redis::Value;

use crate::harness::{Server, assert_equal, exchange, ok, pull, refused, run};

fn text(text: &str) -> Value {
    Value::BulkString(text.into())
}

#[test]
fn counters_add_up_and_sets_unite() {
    let servers = [1, 2, 3].map(|id| Server::member(id, "1,2,3"));
    let mut clients: Vec<_> = servers.iter().map(Server::client).collect();
    for (number, client) in (1..).zip(&mut clients) {
        ok(client, &format!("incrby n {number}0"));
        ok(client, &format!("sadd s {number}"));
        ok(client, &format!("hset h f{number} v"));
        ok(client, &format!("hincrby h total {number}"));
        ok(client, "incrbyfloat x 0.1");
    }
    let all: Vec<_> = servers.iter().collect();
    exchange(&all);
    assert_equal(&all);
    for client in &mut clients {
        assert_eq!(ok(client, "get n"), text("60"));
        assert_eq!(ok(client, "get x"), text("0.3"));
        assert_eq!(ok(client, "scard s"), Value::Int(3));
        assert_eq!(ok(client, "hlen h"), Value::Int(4));
        assert_eq!(ok(client, "hget h total"), text("6"));
    }
}

#[test]
fn a_removal_spares_what_it_has_not_seen() {
    let (one, two) = (Server::member(1, "1,2"), Server::member(2, "1,2"));
    let both = [&one, &two];
    ok(&mut one.client(), "sadd s a b");
    exchange(&both);
    ok(&mut one.client(), "srem s a b");
    ok(&mut two.client(), "sadd s a");
    exchange(&both);
    assert_equal(&both);
    assert_eq!(
        ok(&mut one.client(), "smembers s"),
        Value::Array(vec![text("a")])
    );
}

#[test]
fn writes_of_the_life_a_requester_names_are_not_sent_back() {
    let (one, two) = (Server::member(1, "1,2"), Server::member(2, "1,2"));
    let (before, _): (Vec<u8>, String) =
        redis::cmd("CRDT.CLOCK").query(&mut one.internal()).unwrap();
    ok(&mut one.client(), "incr n");
    assert_eq!(pull(&one, 1, &two, 2), 1);
    let info: String = redis::cmd("INFO")
        .arg("crdt")
        .query(&mut one.internal())
        .unwrap();
    let life = info
        .lines()
        .find_map(|line| line.strip_prefix("crdt_incarnation:"))
        .unwrap();
    let answer = |life: Option<&str>| -> Vec<u8> {
        let mut command = redis::cmd("CRDT.PULL");
        command.arg(&before).arg(1).arg(1 << 20).arg(life);
        let (batch, _): (Vec<u8>, u8) = command.query(&mut two.internal()).unwrap();
        batch
    };
    assert!(!answer(None).is_empty(), "a lost tail would be sent back");
    assert!(answer(Some(life)).is_empty());
    assert!(
        !answer(Some("1")).is_empty(),
        "another life may have been lost"
    );
    assert!(refused(&mut two.internal(), "crdt.pull x 1 1 zz").starts_with("CRDTFORMAT"));
}

#[test]
fn a_report_of_nothing_is_a_write_that_promises_nothing() {
    let (one, two) = (Server::member(1, "1,2"), Server::member(2, "1,2"));
    ok(&mut two.client(), "incr n");
    run(&mut two.internal(), &["crdt.report", ""]).unwrap();
    assert_eq!(pull(&two, 2, &one, 1), 2, "the write and the report");
}

#[test]
fn nothing_is_applied_twice() {
    let (one, two) = (Server::member(1, "1,2"), Server::member(2, "1,2"));
    ok(&mut one.client(), "incr n");
    ok(&mut one.client(), "incr n");
    let (clock, _): (Vec<u8>, String) =
        redis::cmd("CRDT.CLOCK").query(&mut two.internal()).unwrap();
    let (batch, _): (Vec<u8>, u8) = redis::cmd("CRDT.PULL")
        .arg(clock)
        .arg(2)
        .arg(1 << 20)
        .query(&mut one.internal())
        .unwrap();
    for new in [2_u64, 0, 0] {
        let applied: u64 = redis::cmd("CRDT.APPLY")
            .arg(1)
            .arg(&batch)
            .query(&mut two.internal())
            .unwrap();
        assert_eq!(applied, new);
    }
    assert_eq!(ok(&mut two.client(), "get n"), text("2"));
    assert_eq!(two.info("crdt", "crdt_ovc_filtered_effect_reqs"), "4");
}

#[test]
fn no_bytes_stand_for_the_clock_of_a_shard_that_has_seen_nothing() {
    let one = Server::member(1, "1,2");
    let mut internal = one.internal();
    ok(&mut one.client(), "set k v");
    assert_eq!(run(&mut internal, &["CRDT.REPORT", ""]), Ok(Value::Okay));
    let (batch, more): (Vec<u8>, u8) = redis::cmd("CRDT.PULL")
        .arg("")
        .arg(2)
        .arg(1000)
        .query(&mut internal)
        .unwrap();
    assert_eq!((Batch::decode(&batch).unwrap().effects.len(), more), (2, 0));
}

#[test]
fn strangers_and_garbage_are_refused_by_name() {
    let (one, three) = (Server::member(1, "1,2"), Server::member(3, "1,3"));
    ok(&mut three.client(), "set k v");
    let (clock, _): (Vec<u8>, String) =
        redis::cmd("CRDT.CLOCK").query(&mut one.internal()).unwrap();
    let (batch, _): (Vec<u8>, u8) = redis::cmd("CRDT.PULL")
        .arg(clock)
        .arg(1)
        .arg(1 << 20)
        .query(&mut three.internal())
        .unwrap();
    let mut internal = one.internal();
    let words = run(&mut internal, &[b"CRDT.APPLY".as_slice(), b"3", &batch]).unwrap_err();
    assert!(
        words.contains("source instance 3") && words.contains("no member"),
        "{words}"
    );
    assert!(refused(&mut internal, "crdt.apply 2 garbage").starts_with("CRDTFORMAT"));
    assert!(refused(&mut internal, "crdt.pull garbage 2 1").starts_with("CRDTFORMAT"));
    assert!(refused(&mut internal, "crdt.config set 1 1 1,2,3").contains("raise the version"));
    assert!(
        refused(&mut internal, "crdt.config set 2 2 1,2").contains("never changes its instance")
    );
    assert_eq!(ok(&mut one.client(), "exists k"), Value::Int(0));
}

#[test]
fn reports_of_all_members_let_metadata_go() {
    let (one, two) = (Server::member(1, "1,2"), Server::member(2, "1,2"));
    let both = [&one, &two];
    ok(&mut one.client(), "sadd s a b c");
    ok(&mut two.client(), "hset h f v");
    exchange(&both);
    assert_ne!(one.info("crdt", "crdt_gc_pending"), "0");
    let report = |server: &Server| {
        let mut internal = server.internal();
        let (clock, _): (Vec<u8>, String) = redis::cmd("CRDT.CLOCK").query(&mut internal).unwrap();
        redis::cmd("CRDT.REPORT")
            .arg(clock)
            .exec(&mut internal)
            .unwrap();
    };
    for _ in 0..2 {
        both.iter().for_each(|server| report(server));
        exchange(&both);
    }
    for server in both {
        crate::harness::wait_until("no metadata is left", || {
            server.info("crdt", "crdt_gc_pending") == "0"
        });
    }
    assert_equal(&both);
    ok(&mut one.client(), "srem s a");
    pull(&one, 1, &two, 2);
    assert_eq!(ok(&mut two.client(), "scard s"), Value::Int(2));
}

/// A batch of instance 2 with one effect, stamped this far ahead of the wall clock.
fn batch_ahead(ahead: Duration) -> Vec<u8> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the stamp has to be ahead of the server's own clock"
    )]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + ahead;
    let origin = Origin {
        instance: InstanceId(2),
        incarnation: Incarnation(7),
    };
    let effect = Effect {
        dot: Dot { origin, seq: 1 },
        hlc: Hlc::from_millis(u64::try_from(now.as_millis()).unwrap()),
        context: Clock::new(),
        group: None,
        op: Op::Delete {
            keys: vec![b"k".to_vec()],
        },
    };
    Batch {
        effects: vec![Arc::from(effect.encode())],
        more: false,
    }
    .encode()
}

#[test]
fn a_stamp_from_the_future_stalls_its_source_and_is_never_skipped() {
    let one = Server::member(1, "1,2");
    let mut internal = one.internal();
    let far = batch_ahead(Duration::from_secs(600));
    for _ in 0..2 {
        let words = run(&mut internal, &[b"CRDT.APPLY".as_slice(), b"2", &far]).unwrap_err();
        assert!(
            words.contains("source instance 2") && words.contains("ahead"),
            "{words}"
        );
        assert_eq!(one.info("crdt", "crdt_clock"), "{}");
    }
    let near = batch_ahead(Duration::from_secs(5));
    assert_eq!(
        run(&mut internal, &[b"CRDT.APPLY".as_slice(), b"2", &near]),
        Ok(Value::Int(1))
    );
}

/// Random writes in three regions with exchanges at random moments.
#[test]
fn random_writes_converge() {
    let servers = [1, 2, 3].map(|id| Server::member(id, "1,2,3"));
    let mut clients: Vec<_> = servers.iter().map(Server::client).collect();
    let mut random = SmallRng::seed_from_u64(4);
    for _ in 0..1_500 {
        let place = random.random_range(0..3);
        let (key, element) = (random.random_range(0..4), random.random_range(0..3));
        let commands = [
            format!("set k{key} {element}"),
            format!("incrby k{key} {element}"),
            format!("sadd k{key} {element}"),
            format!("srem k{key} {element}"),
            format!("hset k{key} f{element} {element}"),
            format!("hincrby k{key} f{element} 2"),
            format!("hdel k{key} f{element}"),
            format!("del k{key}"),
        ];
        let command: Vec<_> = commands.choose(&mut random).unwrap().split(' ').collect();
        if let Err(words) = run(&mut clients[place], &command) {
            assert!(
                words.starts_with("WRONGTYPE") || words.contains("not an integer"),
                "{command:?}: {words}"
            );
        }
        if random.random_ratio(1, 20) {
            let (from, to) = (random.random_range(0..3_u32), random.random_range(0..3_u32));
            if from != to {
                pull(
                    &servers[from as usize],
                    from + 1,
                    &servers[to as usize],
                    to + 1,
                );
            }
        }
    }
    let all: Vec<_> = servers.iter().collect();
    exchange(&all);
    assert_equal(&all);
}

#[test]
fn the_backlog_is_bounded_by_the_memory_limit_and_says_when_it_is_gone() {
    let (one, two) = (
        Server::blank(&["--maxmemory", "100mb"]),
        Server::member(2, "1,2"),
    );
    one.configure(1, 1, "1,2");
    let mut client = one.client();
    let big = "x".repeat(1 << 20);
    let bytes = || {
        one.info("crdt", "crdt_backlog_bytes")
            .parse::<usize>()
            .unwrap()
    };
    crate::harness::wait_until("the backlog reaches its bound", || {
        ok(&mut client, &format!("set k {big}"));
        one.info("crdt", "crdt_backlog_effects") != one.info("crdt", "crdt_written")
            && bytes() < 12 << 20
    });
    let (clock, _): (Vec<u8>, String) =
        redis::cmd("CRDT.CLOCK").query(&mut two.internal()).unwrap();
    let words = run(
        &mut one.internal(),
        &[b"CRDT.PULL".as_slice(), &clock, b"2", b"1000"],
    )
    .unwrap_err();
    assert!(words.starts_with("BACKLOGGONE"), "{words}");
}
