//! Scripts and functions: each of their writes is checked.

use redis::Value;

use super::{never_slow, permit, revoke, send, state, text, writable};
use crate::harness::{Server, boot_ms, ok, refused, run, wait_until};

const SET: &str = "return redis.call('set','k','v')";
const FUNCTION: &str = "#!lua name=lib\n\
    redis.register_function('w', function() return redis.call('set','k','v') end)\n\
    redis.register_function{function_name='r', callback=function() return redis.call('get','k') end, flags={'no-writes'}}";

#[test]
fn scripts_and_functions_read_without_permission_and_do_not_write() {
    let server = writable(&[]);
    let mut client = server.client();
    ok(&mut client, "set k old");
    run(&mut client, &["FUNCTION", "LOAD", FUNCTION]).unwrap();
    let Ok(Value::BulkString(sha)) = run(&mut client, &["SCRIPT", "LOAD", SET]) else {
        panic!("SCRIPT LOAD gave no hash")
    };
    let sha = String::from_utf8(sha).unwrap();
    revoke(&server, 1);
    let before = state(&server);
    let declared = format!("#!lua flags=no-writes\n{SET}");
    let undeclared = format!("#!lua\n{SET}");
    for writes in [
        ["EVAL", SET, "0"],
        ["EVAL", &undeclared, "0"],
        ["EVALSHA", &sha, "0"],
        ["FCALL", "w", "0"],
    ] {
        let words = run(&mut client, &writes).unwrap_err();
        let fenced = words.contains("READONLY") || words.contains("NOREPLICAS");
        assert!(fenced, "{writes:?}: {words}");
    }
    let words = run(&mut client, &["EVAL", &declared, "0"]).unwrap_err();
    assert!(words.starts_with("READONLY"), "{words}");
    // A script that handles the refusal, and a transaction of scripts.
    let caught = run(&mut client, &["EVAL", &SET.replace(".call", ".pcall"), "0"]);
    assert!(caught.unwrap_err().starts_with("READONLY"));
    ok(&mut client, "multi");
    run(&mut client, &["EVAL", SET, "0"]).unwrap();
    let inner = run(&mut client, &["EXEC"]);
    assert!(format!("{inner:?}").contains("READONLY"), "{inner:?}");
    assert_eq!(state(&server), before);
    for reads in [
        ["EVAL", "return redis.call('get','k')", "0"],
        ["FCALL", "r", "0"],
        ["EVAL_RO", "return redis.call('get','k')", "0"],
    ] {
        assert_eq!(run(&mut client, &reads), Ok(text("old")), "{reads:?}");
    }
}

/// A refused command says what it was and why, however few its arguments are, and the lists of arguments that a script's calls
/// share are never written beyond their end.
#[test]
fn calls_of_scripts_with_few_arguments_are_refused_by_name() {
    let server = writable(&[]);
    let mut client = server.client();
    revoke(&server, 1);
    for command in ["'flushall'", "'incr','n'", "'set','k','v'"] {
        let name = command.split('\'').nth(1).unwrap();
        let script = format!("local e for i = 1, 200 do e = redis.pcall({command}) end return e");
        for _ in 0..20 {
            let words = run(&mut client, &["EVAL", &script, "0"]).unwrap_err();
            assert!(words.starts_with("READONLY"), "{words}");
            assert!(words.contains(&format!("'{name}'")), "{words}");
        }
    }
    let words = run(&mut client, &["flushall"]).unwrap_err();
    assert!(words.contains("'flushall'"), "{words}");
}

/// Lua that keeps the server busy for this many seconds.
fn busy(seconds: f64) -> String {
    format!("local from = os.clock() while os.clock() - from < {seconds} do end ")
}

#[test]
fn a_script_that_outlives_its_permission_loses_its_next_write_and_its_reply() {
    let server = Server::fenced(&[]);
    let mut client = server.client();
    never_slow(&server);
    permit(&server, 1, &(boot_ms() + 400).to_string());
    let script = format!(
        "redis.call('set','first','1') {} return redis.call('set','second','1')",
        busy(0.5)
    );
    run(&mut client, &["EVAL", &script, "0"]).unwrap_err();
    let mut client = server.client();
    assert_eq!(ok(&mut client, "exists first second"), Value::Int(1));
    assert_eq!(server.info("crdt", "crdt_fence_disconnected_clients"), "1");

    permit(&server, 1, &(boot_ms() + 400).to_string());
    let script = format!("{} return redis.call('set','third','1')", busy(0.5));
    let words = run(&mut client, &["EVAL", &script, "0"]).unwrap_err();
    assert!(
        words.contains("READONLY") && words.contains("wrote before it stays"),
        "{words}"
    );
    assert_eq!(ok(&mut client, "exists third"), Value::Int(0));
}

#[test]
fn a_transaction_that_began_with_a_permission_is_finished_and_not_acknowledged_after_it() {
    let server = Server::fenced(&[]);
    let mut client = server.client();
    never_slow(&server);
    permit(&server, 1, &(boot_ms() + 400).to_string());
    ok(&mut client, "multi");
    ok(&mut client, "set a 1");
    let script = format!("{} return redis.call('set','b','1')", busy(0.5));
    run(&mut client, &["EVAL", &script, "0"]).unwrap();
    ok(&mut client, "set c 1");
    let lost = run(&mut client, &["EXEC"]).unwrap_err();
    assert!(!lost.contains("EXECABORT"), "{lost}");
    assert_eq!(ok(&mut server.client(), "exists a b c"), Value::Int(3));
    assert!(refused(&mut server.client(), "set d 1").starts_with("READONLY"));
}

/// The permission ends while a script runs: what was ready to run behind it comes too late.
#[test]
fn a_transaction_behind_a_slow_script_is_judged_when_it_runs() {
    let server = Server::fenced(&[]);
    let (mut slow, mut client) = (server.client(), server.client());
    never_slow(&server);
    let end = boot_ms() + 1_500;
    permit(&server, 1, &end.to_string());
    ok(&mut client, "multi");
    ok(&mut client, "set a 1");
    // The connection that was served last is looked at first.
    ok(&mut slow, "ping");
    server.pause(true);
    slow.send_packed_command(
        &redis::cmd("EVAL")
            .arg(busy(0.9))
            .arg(0)
            .get_packed_command(),
    )
    .unwrap();
    send(&mut client, "exec");
    wait_until("the permission nearly ends", || boot_ms() + 500 >= end);
    server.pause(false);
    let reply = client.recv_response().unwrap();
    let words = reply.extract_error().unwrap_err().to_string();
    assert!(words.starts_with("ExecAbort"), "{words}");
    assert_eq!(ok(&mut client, "exists a"), Value::Int(0));
}

#[test]
fn permissions_arrive_while_a_slow_script_runs() {
    let server = Server::fenced(&[]);
    let mut slow = server.client();
    permit(&server, 1, &(boot_ms() + 5_000).to_string());
    let mut internal = server.internal();
    let script = format!("{} return redis.call('set','k','v')", busy(1.3));
    slow.send_packed_command(&redis::cmd("EVAL").arg(script).arg(0).get_packed_command())
        .unwrap();
    wait_until("the script is called slow", || {
        run(&mut server.client(), &["GET", "k"]).is_err_and(|words| words.starts_with("BUSY"))
    });
    ok(&mut internal, "crdt.fence permit 1 forever");
    assert_eq!(slow.recv_response().unwrap(), Value::Okay);
}
