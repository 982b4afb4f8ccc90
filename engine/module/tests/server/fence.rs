//! No write is made or acknowledged without a permission.

mod commands;
mod departure;
mod replies;
mod roles;
mod scripts;

use redis::{Connection, Value};

use crate::harness::{COPIER, Server, boot_ms, ok, refused, run, wait_until};

/// Longer than any test takes.
const LONG: u64 = 600_000;

fn permit(server: &Server, epoch: u64, deadline: &str) {
    ok(
        &mut server.internal(),
        &format!("crdt.fence permit {epoch} {deadline}"),
    );
}

fn writable(options: &[&str]) -> Server {
    let server = Server::fenced(options);
    permit(&server, 1, "forever");
    server
}

fn revoke(server: &Server, epoch: u64) {
    ok(
        &mut server.internal(),
        &format!("crdt.fence revoke {epoch}"),
    );
}

fn status(server: &Server, field: &str) -> i64 {
    let reply: Vec<(String, i64)> = redis::cmd("CRDT.FENCE")
        .arg("STATUS")
        .query(&mut server.internal())
        .unwrap();
    reply.into_iter().find(|(name, _)| name == field).unwrap().1
}

fn text(text: &str) -> Value {
    Value::BulkString(text.into())
}

/// Lets scripts run for as long as they take on a machine under load, without anything in between.
fn never_slow(server: &Server) {
    ok(
        &mut server.internal(),
        "config set busy-reply-threshold 60000",
    );
}

/// Makes `replica` follow `primary` as the user for replication.
fn follow(replica: &Server, primary: &Server) {
    let mut internal = replica.internal();
    ok(&mut internal, &format!("config set primaryuser {COPIER}"));
    ok(&mut internal, "config set primaryauth only-in-tests");
    ok(
        &mut internal,
        &format!("replicaof 127.0.0.1 {}", primary.port),
    );
}

/// Everything that the server holds, in one number, and how much it has sent to replicas.
fn state(server: &Server) -> (Value, String) {
    let digest = ok(&mut server.internal(), "debug digest");
    (digest, server.info("replication", "master_repl_offset"))
}

#[test]
fn a_shard_starts_without_permission_and_reads_all_the_same() {
    let server = Server::fenced(&[]);
    let mut client = server.client();
    let words = refused(&mut client, "set k v");
    assert!(words.starts_with("READONLY 'set' was not done"), "{words}");
    assert!(words.contains("no permission yet"), "{words}");
    assert_eq!(ok(&mut client, "get k"), Value::Nil);
    permit(&server, 1, "forever");
    ok(&mut client, "set k v");
    ok(&mut client, "zadd z 1 a");
    assert_eq!(ok(&mut client, "get k"), text("v"));
}

#[test]
fn permissions_follow_their_epoch() {
    let server = Server::fenced(&[]);
    let mut internal = server.internal();
    permit(&server, 5, "forever");
    for (command, part) in [
        ("permit 4 forever", "STALE epoch 4 is over: epoch 5"),
        ("permit 0 forever", "0 is no epoch"),
        ("permit x forever", "'x', expected a number"),
        ("permit 5 soon", "'soon', expected milliseconds"),
        ("permit 5", "syntax"),
        ("nonsense", "syntax"),
    ] {
        let words = refused(&mut internal, &format!("crdt.fence {command}"));
        assert!(words.contains(part), "{command}: {words}");
    }
    revoke(&server, 5);
    revoke(&server, 5);
    let words = refused(&mut server.client(), "set k v");
    assert!(words.contains("taken back"), "{words}");
    let words = refused(&mut internal, "crdt.fence permit 5 forever");
    assert!(words.contains("epoch 5 was revoked"), "{words}");
    permit(&server, 6, "forever");
    ok(&mut server.client(), "set k v");
}

#[test]
fn the_state_of_the_fence_is_shown() {
    let server = Server::fenced(&[]);
    let all = |server: &Server| {
        ["epoch", "revoked", "deadline", "writable", "ever"].map(|field| status(server, field))
    };
    assert_eq!(all(&server), [0, 0, 0, 0, 0]);
    assert!(status(&server, "now").abs_diff(boot_ms().cast_signed()) < 10_000);
    permit(&server, 3, "forever");
    assert_eq!(all(&server), [3, 0, -1, 1, 1]);
    assert_eq!(server.info("crdt", "crdt_fence_writable"), "1");
    assert_eq!(server.info("crdt", "crdt_fence_epoch"), "3");
    revoke(&server, 4);
    assert_eq!(all(&server), [4, 4, 0, 0, 1]);
    let end = boot_ms() + LONG;
    permit(&server, 5, &end.to_string());
    permit(&server, 5, &(end - 1000).to_string());
    assert_eq!(all(&server), [5, 4, end.cast_signed(), 1, 1]);
}

#[test]
fn a_permission_runs_out_by_itself() {
    let server = Server::fenced(&[]);
    let mut client = server.client();
    let end = boot_ms() + 1_000;
    permit(&server, 1, &end.to_string());
    wait_until("the permission has run out", || {
        let reply = run(&mut client, &["INCR", "n"]);
        assert!(reply.is_err() || boot_ms() < end + 1_000, "{reply:?}");
        if reply.is_err() {
            // Whoever waited for a reply when it ended was disconnected.
            client = server.client();
        }
        reply.is_err_and(|words| words.contains("ran out"))
    });
    assert!(boot_ms() >= end, "it was cut short");
    let before = state(&server);
    refused(&mut client, "incr n");
    assert_eq!(state(&server), before);
    permit(&server, 1, &(boot_ms() + LONG).to_string());
    ok(&mut client, "incr n");
}

/// Queues three commands, does something, and runs EXEC.
fn exec_after(client: &mut Connection, meanwhile: impl FnOnce()) -> Result<Value, String> {
    ok(client, "multi");
    for command in ["set a 1", "get a", "incr b"] {
        assert_eq!(ok(client, command), Value::SimpleString("QUEUED".into()));
    }
    meanwhile();
    run(client, &["EXEC"])
}

#[test]
fn a_transaction_queued_before_the_end_of_its_permission_applies_nothing() {
    let server = writable(&[]);
    let mut client = server.client();
    exec_after(&mut client, || ()).unwrap();
    let before = state(&server);
    let words = exec_after(&mut client, || revoke(&server, 1)).unwrap_err();
    assert!(words.starts_with("EXECABORT"), "{words}");
    assert_eq!(state(&server), before);
    assert_eq!(ok(&mut client, "ping"), Value::SimpleString("PONG".into()));

    permit(&server, 2, &(boot_ms() + 500).to_string());
    let end = status(&server, "deadline").cast_unsigned();
    let words = exec_after(&mut client, || {
        wait_until("the permission has run out", || boot_ms() >= end);
    });
    assert!(
        words
            .clone()
            .is_err_and(|words| words.starts_with("EXECABORT")),
        "{words:?}"
    );
    assert_eq!(state(&server), before);
}

#[test]
fn a_transaction_that_only_reads_needs_no_permission() {
    let server = writable(&[]);
    let mut client = server.client();
    ok(&mut client, "set k v");
    revoke(&server, 1);
    ok(&mut client, "multi");
    ok(&mut client, "get k");
    assert_eq!(ok(&mut client, "exec"), Value::Array(vec![text("v")]));
}

#[test]
fn a_write_refused_while_queueing_aborts_its_transaction() {
    let server = Server::fenced(&[]);
    let mut client = server.client();
    let writes = ["set k v", "pfcount h", "xgroup create s g 0 mkstream"];
    for (epoch, write) in (1..).zip(writes) {
        ok(&mut client, "multi");
        ok(&mut client, "get k");
        refused(&mut client, write);
        permit(&server, epoch, "forever");
        let words = refused(&mut client, "exec");
        assert!(words.starts_with("EXECABORT"), "{words}");
        revoke(&server, epoch);
    }
    assert_eq!(ok(&mut client, "exists k h s"), Value::Int(0));
}

/// Sends a command without waiting for its reply.
fn send(client: &mut Connection, command: &str) {
    let mut request = redis::Cmd::new();
    command.split(' ').for_each(|word| {
        request.arg(word);
    });
    client
        .send_packed_command(&request.get_packed_command())
        .unwrap();
}

#[test]
fn a_process_that_was_stopped_does_not_make_the_writes_that_waited() {
    let server = Server::fenced(&[]);
    let mut client = server.client();
    let end = boot_ms() + 1_500;
    permit(&server, 1, &end.to_string());
    ok(&mut client, "incr n");
    let before = state(&server);
    server.pause(true);
    send(&mut client, "incr n");
    wait_until("the permission has run out", || boot_ms() >= end);
    server.pause(false);
    let reply = client.recv_response().unwrap();
    let words = reply.extract_error().unwrap_err().to_string();
    assert!(words.contains("ran out"), "{words}");
    assert_eq!(state(&server), before);
}

#[test]
fn a_shard_is_not_copied_before_it_held_a_permission() {
    let (primary, replica) = (Server::fenced(&[]), writable(&[]));
    ok(&mut replica.client(), "set k of-the-replica");
    let mut copier = primary.copier();
    let words = refused(&mut copier, "psync ? -1");
    assert!(
        words.starts_with("NOMASTERLINK") && words.contains("'psync'"),
        "{words}"
    );
    assert!(refused(&mut copier, "sync").starts_with("NOMASTERLINK"));
    assert!(refused(&mut primary.internal(), "sync").starts_with("NOMASTERLINK"));
    assert!(refused(&mut primary.client(), "psync ? -1").contains("reserved"));
    follow(&replica, &primary);
    let turned_away = || -> u64 {
        let calls = primary.info("commandstats", "cmdstat_crdt.refused");
        calls.split(['=', ',']).nth(1).unwrap().parse().unwrap()
    };
    let before = turned_away();
    wait_until("the replica was turned away", || turned_away() > before);
    assert_eq!(ok(&mut replica.client(), "get k"), text("of-the-replica"));
    permit(&primary, 2, &boot_ms().to_string());
    assert_eq!(
        status(&primary, "ever"),
        0,
        "that permission had run out on arrival"
    );
    permit(&primary, 2, "forever");
    wait_until("the replica has the primary's data", || {
        ok(&mut replica.client(), "get k") == Value::Nil
    });
    revoke(&primary, 2);
    assert_eq!(status(&primary, "ever"), 1);
}
