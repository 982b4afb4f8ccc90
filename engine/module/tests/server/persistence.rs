//! What survives the end of a process.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redis::Value;

use crate::harness::{Server, assert_equal, exchange, ok, pull, refused, wait_until};

/// The incarnations of an instance that a clock's JSON names.
fn lives(clock: &str, instance: u32) -> usize {
    clock.matches(&format!("\"{instance}/")).count()
}

#[test]
fn a_killed_region_comes_back_under_a_new_incarnation_and_all_agree() {
    let mut one = Server::member(1, "1,2,3");
    let (two, three) = (Server::member(2, "1,2,3"), Server::member(3, "1,2,3"));
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let mut client = one.client();
        let (stop, acknowledged) = (&stop, &acknowledged);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let number = acknowledged.load(Ordering::Relaxed);
                let added = redis::cmd("SADD")
                    .arg("s")
                    .arg(format!("early{number}"))
                    .query::<u64>(&mut client);
                if added.is_err()
                    || redis::cmd("INCR")
                        .arg("n")
                        .query::<u64>(&mut client)
                        .is_err()
                {
                    return;
                }
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        });
        wait_until("500 writes are acknowledged", || {
            acknowledged.load(Ordering::Relaxed) >= 500
        });
        exchange(&[&one, &two]);
        let taken = acknowledged.load(Ordering::Relaxed);
        wait_until("the load went on", || {
            acknowledged.load(Ordering::Relaxed) > taken + 100
        });
        one.crash_and_restart();
        stop.store(true, Ordering::Relaxed);
    });
    let mut client = one.client();
    for number in 0..50 {
        ok(&mut client, "incr n");
        ok(&mut client, &format!("sadd s late{number}"));
    }
    let all = [&one, &two, &three];
    exchange(&all);
    exchange(&all);
    assert_equal(&all);
    assert_eq!(
        lives(&two.info("crdt", "crdt_clock"), 1),
        2,
        "the second life must not continue the first"
    );
    let total: u64 = redis::cmd("GET").arg("n").query(&mut client).unwrap();
    let kept = acknowledged.load(Ordering::Relaxed) + 50;
    assert!(
        total <= kept + 1,
        "counted twice: {total} of at most {kept} and one unanswered"
    );
    assert!(total >= 550, "what a peer had received was lost: {total}");
}

/// What one peer had received before the loss comes back from it; what nobody had is gone; nothing is counted twice.
#[test]
fn a_lost_tail_comes_back_from_the_peer_that_has_it() {
    let mut one = Server::member(1, "1,2,3");
    let (two, three) = (Server::member(2, "1,2,3"), Server::member(3, "1,2,3"));
    let mut client = one.client();
    ok(&mut client, "incr n");
    ok(&mut client, "sadd s kept");
    exchange(&[&one, &two, &three]);
    let kept = one.append_only_length();
    for number in 0..10 {
        ok(&mut client, "incr n");
        ok(&mut client, &format!("sadd s sent{number}"));
    }
    pull(&one, 1, &two, 2);
    ok(&mut client, "incr n");
    ok(&mut client, "sadd s unsent");
    one.append_only_length();
    one.restart_with_the_first(kept);
    let mut client = one.client();
    assert_eq!(ok(&mut client, "get n"), Value::BulkString(b"1".into()));
    for number in 0..5 {
        ok(&mut client, "incr n");
        ok(&mut client, &format!("sadd s late{number}"));
    }
    let all = [&one, &two, &three];
    exchange(&all);
    exchange(&all);
    assert_equal(&all);
    assert_eq!(ok(&mut client, "get n"), Value::BulkString(b"16".into()));
    assert_eq!(ok(&mut client, "scard s"), Value::Int(16));
    assert_eq!(ok(&mut client, "sismember s unsent"), Value::Int(0));
}

#[test]
fn a_restart_keeps_metadata_from_the_append_only_file() {
    let mut one = Server::member(1, "1,2");
    let two = Server::member(2, "1,2");
    ok(&mut one.client(), "sadd s a b");
    ok(&mut two.client(), "incr n");
    exchange(&[&one, &two]);
    ok(&mut one.client(), "incr n");
    one.persist();
    let before = one.digest();
    one.crash_and_restart();
    assert_eq!(one.digest(), before);
    ok(&mut two.client(), "srem s a");
    exchange(&[&one, &two]);
    assert_equal(&[&one, &two]);
    assert_eq!(ok(&mut one.client(), "scard s"), Value::Int(1));
}

#[test]
fn a_rewrite_of_the_append_only_file_keeps_metadata() {
    let mut one = Server::member(1, "1,2");
    let two = Server::member(2, "1,2");
    ok(&mut one.client(), "sadd s a b");
    exchange(&[&one, &two]);
    ok(&mut one.client(), "srem s a");
    let pending = one.info("crdt", "crdt_gc_pending");
    ok(&mut one.internal(), "bgrewriteaof");
    wait_until("the rewrite is done", || {
        one.info("persistence", "aof_rewrite_in_progress") == "0"
            && one.info("persistence", "aof_rewrite_scheduled") == "0"
            && one.info("persistence", "aof_last_bgrewrite_status") == "ok"
    });
    ok(&mut one.client(), "incr n");
    one.persist();
    let (before, backlog) = (one.digest(), one.info("crdt", "crdt_backlog_effects"));
    one.crash_and_restart();
    assert_eq!(one.digest(), before);
    assert_eq!(one.info("crdt", "crdt_backlog_effects"), backlog);
    assert_ne!(pending, "0");
    ok(&mut two.client(), "sadd s a");
    exchange(&[&one, &two]);
    assert_equal(&[&one, &two]);
    assert_eq!(ok(&mut two.client(), "scard s"), Value::Int(2));
}

/// The server itself goes on after a command of the file that fails; this shard must not write on top of it.
#[test]
fn an_effect_in_the_file_that_cannot_be_read_stops_all_writes() {
    for damage in [
        ["crdt.e", "garbage"].as_slice(),
        &["crdt.apply", "2", "garbage"],
    ] {
        stops_writes(damage);
    }
}

fn stops_writes(damage: &[&str]) {
    let mut one = Server::member(1, "1,2");
    ok(&mut one.client(), "set k v");
    one.persist();
    one.restart_with(damage);
    assert_eq!(
        ok(&mut one.client(), "get k"),
        Value::BulkString(b"v".into())
    );
    for command in ["set k w", "incr n"] {
        assert!(refused(&mut one.client(), command).contains("writes are refused"));
    }
    one.crash_and_restart();
    assert!(refused(&mut one.client(), "set k w").contains("writes are refused"));
}

#[test]
fn a_rewrite_without_snapshot_preamble_cannot_be_chosen() {
    let server = Server::blank(&["--aof-use-rdb-preamble", "no", "--import-mode", "no"]);
    for setting in ["aof-use-rdb-preamble", "import-mode"] {
        let (_, value): (String, String) = redis::cmd("CONFIG")
            .arg("GET")
            .arg(setting)
            .query(&mut server.internal())
            .unwrap();
        assert_eq!(value, "yes", "{setting}");
    }
}
