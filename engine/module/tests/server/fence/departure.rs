//! Replies on their way: after the last look at the permission, and where no look can be.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use redis::Value;

use super::{permit, send, status, text, writable};
use crate::harness::{Server, boot_ms, ok, run, wait_until};
use crate::trace::hold_after;

/// Longer than the grace of the alarm.
const PAST_MS: u64 = 200;

fn past(end: u64) {
    wait_until("the permission has run out", || boot_ms() >= end + PAST_MS);
}

fn ended(server: &Server) -> u64 {
    let text = server.info("crdt", "crdt_fence_ended_connections");
    text.parse().unwrap()
}

/// How long the server does nothing between its last look and the reply.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rest {
    /// It goes on at once.
    None,
    /// A signal stops it.
    Stopped,
    /// The disk does not answer.
    Hung,
}

/// Between the last look and the reply lies the write to the append-only file: there it stops, until the permission is over.
#[test]
fn a_reply_that_was_on_its_way_when_the_process_stopped_does_not_leave() {
    for rest in [Rest::None, Rest::Stopped, Rest::Hung] {
        let server = Server::fenced(&["--appendfsync", "always"]);
        let mut client = server.client();
        ok(&mut client, "ping");
        permit(&server, 1, &(boot_ms() + 1_500).to_string());
        let end = status(&server, "deadline").cast_unsigned();
        let held = hold_after(&server, libc::SYS_fdatasync, || {
            send(&mut client, "set k v");
        });
        assert!(boot_ms() < end, "this machine is too slow for the test");
        match rest {
            Rest::None => held.release(),
            Rest::Stopped => {
                server.pause(true);
                held.release();
                past(end);
                server.pause(false);
            }
            Rest::Hung => {
                past(end);
                held.release();
            }
        }
        let reply = client.recv_response();
        if rest == Rest::None {
            assert_eq!(reply.unwrap(), Value::Okay);
            past(end);
            assert_eq!(
                ok(&mut client, "get k"),
                text("v"),
                "there was nothing to end"
            );
            assert_eq!(ended(&server), 0);
        } else {
            assert!(reply.is_err(), "{rest:?}: {reply:?}");
            assert!(ended(&server) > 0, "{rest:?}");
            assert_eq!(ok(&mut server.client(), "get k"), text("v"), "it was made");
        }
        permit(&server, 1, &(boot_ms() + 60_000).to_string());
        ok(&mut server.client(), "set k again");
    }
}

/// The alarm of a permission that was renewed in time finds the later deadline.
#[test]
fn an_alarm_of_before_a_renewal_ends_nothing() {
    let server = Server::fenced(&[]);
    let mut client = server.client();
    for _ in 0..3 {
        let start = boot_ms();
        permit(&server, 1, &(start + 300).to_string());
        permit(&server, 1, &(start + 60_000).to_string());
        // Busy when the first would have gone off.
        let slow = "local from = os.clock() while os.clock() - from < 0.4 do end \
                    return redis.call('incr','n')";
        run(&mut client, &["EVAL", slow, "0"]).unwrap();
        assert!(boot_ms() >= start + 400);
    }
    permit(&server, 2, "forever");
    assert_eq!(ok(&mut client, "get n"), text("3"));
    assert_eq!(ended(&server), 0);
}

/// While the server calls a script slow, it sends replies of before it without looking at the permission.
#[test]
fn a_reply_of_before_a_slow_script_does_not_leave_after_the_permission() {
    let server = Server::fenced(&[]);
    let (mut writer, mut slow) = (server.client(), server.client());
    ok(
        &mut server.internal(),
        "config set busy-reply-threshold 900",
    );
    permit(&server, 1, &(boot_ms() + 700).to_string());
    ok(&mut slow, "ping");
    ok(&mut writer, "ping");
    // Both in one turn, the write first.
    server.pause(true);
    send(&mut writer, "set k v");
    let busy = "local from = os.clock() while os.clock() - from < 1.2 do end";
    let busy = redis::cmd("EVAL").arg(busy).arg(0).get_packed_command();
    slow.send_packed_command(&busy).unwrap();
    server.pause(false);
    let reply = writer.recv_response();
    assert!(reply.is_err(), "{reply:?}");
    wait_until("the script has ended", || {
        // If it has not yet. Clients that come just then are sent away as well; those of the node are not.
        let mut internal = server.internal();
        let _ = run(&mut internal, &["SCRIPT", "KILL"]);
        run(&mut internal, &["GET", "k"]) == Ok(text("v"))
    });
    assert!(ended(&server) > 0);
}

/// What does not fit in the socket stays with the server until the client reads, whenever that is.
#[test]
fn the_rest_of_a_long_reply_does_not_leave_after_the_permission() {
    const LENGTH: usize = 24 << 20;
    for revoked in [false, true] {
        let server = writable(&[]);
        let value = vec![b'x'; LENGTH];
        run(&mut server.client(), &[&b"SET"[..], b"long", &value]).unwrap();
        permit(&server, 1, &(boot_ms() + 1_500).to_string());
        let end = status(&server, "deadline").cast_unsigned();
        let mut idle = server.client();
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
            .write_all(b"GET long\r\nSET acknowledged 1\r\n")
            .unwrap();
        wait_until("it is written", || {
            ok(&mut idle, "exists acknowledged") == Value::Int(1)
        });
        if revoked {
            super::revoke(&server, 1);
        } else {
            past(end);
        }
        let mut received = Vec::new();
        // Closed, or reset.
        let _ = stream.read_to_end(&mut received);
        let length = received.len();
        assert!(
            length < LENGTH && !received.ends_with(b"+OK\r\n"),
            "{length}"
        );
        assert_eq!(
            ok(&mut idle, "exists acknowledged"),
            Value::Int(1),
            "who waits for nothing stays connected"
        );
        // A server that is not woken in time, for want of a processor, leaves it to the alarm.
        assert!(ended(&server) <= u64::from(!revoked));
    }
}

/// The alarm would stop the main thread, and the others would go on answering.
#[test]
fn a_fence_and_threads_that_answer_do_not_go_together() {
    let server = std::panic::catch_unwind(|| Server::fenced(&["--io-threads", "4"]));
    let words = server.err().unwrap().downcast::<String>().unwrap();
    assert!(
        words.contains("io-threads is 4, and a fence needs 1"),
        "{words}"
    );
}
