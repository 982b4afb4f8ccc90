//! Writes that were made, and whose replies would leave after the permission has ended.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use redis::Value;

use super::{permit, revoke, send, status, text, writable};
use crate::harness::{Server, boot_ms, ok, refused, wait_until};

/// The permission ends while the server works on commands that it has received together. Played until the turn ends before
/// the alarm goes off: that would end these connections as well, and the internal user's.
#[test]
fn writes_of_a_turn_that_outlives_the_permission_are_not_acknowledged() {
    for epoch in 1..=30 {
        let server = Server::fenced(&[]);
        let (mut writer, mut reader) = (server.client(), server.client());
        let mut internal = server.internal();
        let end = boot_ms() + 500;
        ok(&mut internal, &format!("crdt.fence permit {epoch} {end}"));
        // All in one turn, in this order: the connection that was served last is looked at first.
        ok(&mut writer, "ping");
        server.pause(true);
        send(&mut writer, "set k v");
        send(&mut reader, "get k");
        let rest = Duration::from_millis((end + 15).saturating_sub(boot_ms()));
        send(
            &mut internal,
            &format!("debug sleep {}", rest.as_secs_f64()),
        );
        server.pause(false);
        let lost = writer.recv_response();
        assert!(lost.is_err(), "{lost:?}");
        let read = reader.recv_response();
        assert!(read.is_err(), "it may have seen the write: {read:?}");
        let made = ok(&mut server.client(), "get k");
        assert_eq!(made, text("v"), "it was made, and its reply held back");
        if server.info("crdt", "crdt_fence_ended_connections") == "0" {
            let slept = internal.recv_response();
            assert_eq!(slept.unwrap(), Value::Okay, "the internal user is served");
            assert_eq!(status(&server, "writable"), 0);
            return;
        }
    }
    panic!("no turn ended between the deadline and the alarm");
}

/// A process stopped somewhere in a thousand writes: what it has not answered by then it never acknowledges.
#[test]
fn a_pipeline_is_acknowledged_only_as_far_as_it_was_answered_in_time() {
    const WRITES: usize = 1_000;
    let server = Server::fenced(&[]);
    permit(&server, 1, &(boot_ms() + 4_000).to_string());
    let end = status(&server, "deadline").cast_unsigned();
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    // Slow and large enough that the server answers some before it has read the others.
    let slow = "local from = os.clock() while os.clock() - from < 0.0002 do end \
                return redis.call('incr','n')";
    let mut pipeline = Vec::new();
    for _ in 0..WRITES {
        let mut command = redis::cmd("EVAL");
        command.arg(slow).arg(0).arg(vec![b'x'; 4_000]);
        command.write_packed_command(&mut pipeline);
    }
    let mut sending = stream.try_clone().unwrap();
    // Ends with an error if the server closes the connection before it has read everything.
    let sender = std::thread::spawn(move || {
        let sent = sending.write_all(&pipeline).is_ok();
        // Where no acknowledgement was on its way, refusals follow on this connection, and its end after them.
        let _ = sending.shutdown(Shutdown::Write);
        sent
    });
    stream.peek(&mut [0]).unwrap();
    server.pause(true);
    let in_time = boot_ms() < end;
    assert!(
        in_time,
        "this machine is too slow for the test: nothing was stopped in time"
    );
    wait_until("the permission has run out", || boot_ms() >= end);
    stream.set_nonblocking(true).unwrap();
    let mut answered = Vec::new();
    let drained = stream.read_to_end(&mut answered).unwrap_err();
    assert_eq!(drained.kind(), ErrorKind::WouldBlock);
    server.pause(false);
    stream.set_nonblocking(false).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut late = Vec::new();
    // Closed, or reset with commands unread.
    let _ = stream.read_to_end(&mut late);
    let count = |bytes: &[u8]| {
        bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| line.starts_with(b":"))
            .count()
    };
    let (acknowledged, too_late) = (count(&answered), count(&late));
    assert!(acknowledged > 0 && acknowledged < WRITES, "{acknowledged}");
    assert_eq!(
        too_late,
        0,
        "acknowledged after the permission: {}",
        String::from_utf8_lossy(&late)
    );
    drop(stream);
    let sent = sender.join().unwrap();
    let made: usize = redis::from_redis_value(ok(&mut server.client(), "get n")).unwrap();
    assert!(
        acknowledged <= made && made < WRITES,
        "{acknowledged} acknowledged, {made} made, all sent: {sent}"
    );
}

#[test]
fn clients_that_wait_in_blocking_commands_are_not_served_after_the_permission() {
    let server = writable(&[]);
    let mut client = server.client();
    ok(&mut client, "xgroup create stream group $ mkstream");
    let blocking = [
        "blpop list 0",
        "brpop list 0",
        "blmove list other left right 0",
        "blmpop 0 1 list left",
        "bzpopmin zset 0",
        "bzmpop 0 1 zset min",
        "xreadgroup group group me block 0 streams stream >",
    ];
    let mut waiting: Vec<_> = blocking.iter().map(|_| server.client()).collect();
    for (connection, command) in waiting.iter_mut().zip(blocking) {
        send(connection, command);
    }
    wait_until("all of them wait", || {
        server.info("clients", "blocked_clients") == blocking.len().to_string()
    });
    revoke(&server, 1);
    let before = super::state(&server);
    for push in [
        "lpush list a",
        "rpush list a",
        "zadd zset 1 a",
        "xadd stream * f v",
    ] {
        assert!(refused(&mut client, push).starts_with("READONLY"), "{push}");
    }
    for command in blocking {
        assert!(
            refused(&mut server.client(), command).starts_with("READONLY"),
            "{command}"
        );
    }
    assert_eq!(
        server.info("clients", "blocked_clients"),
        blocking.len().to_string()
    );
    assert_eq!(super::state(&server), before);
    permit(&server, 2, "forever");
    ok(&mut client, "rpush list a");
    let served = waiting[0].recv_response().unwrap();
    assert_eq!(served, Value::Array(vec![text("list"), text("a")]));
}

/// The filter sees a command that has to wait once, before it waits.
#[test]
fn a_write_that_was_postponed_is_judged_when_it_runs() {
    let server = Server::fenced(&[]);
    let mut client = server.client();
    permit(&server, 1, &(boot_ms() + 1_000).to_string());
    ok(&mut client, "set k old");
    ok(&mut server.internal(), "client pause 600000 write");
    send(&mut client, "set k new");
    let end = status(&server, "deadline").cast_unsigned();
    wait_until("the write waits", || {
        server.info("clients", "blocked_clients") == "1"
    });
    assert!(
        boot_ms() < end,
        "it came too late to be let through to the pause"
    );
    wait_until("the permission has run out", || boot_ms() >= end);
    ok(&mut server.internal(), "client unpause");
    let reply = client.recv_response().unwrap();
    let words = reply.extract_error().unwrap_err().to_string();
    assert!(words.contains("NOREPLICAS"), "{words}");
    assert_eq!(ok(&mut client, "get k"), text("old"));
}
