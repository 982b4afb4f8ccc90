//! The log of the agent's process, as somebody else's tools read it.
use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

/// Ends the agent whatever becomes of the test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing of it is left.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_line_of_the_log_is_a_json_object_where_it_is_asked_for() {
    let kubeconfig = Path::new(env!("CARGO_TARGET_TMPDIR")).join("log-kubeconfig");
    // Nobody listens there, which is something to write about.
    let text = "{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: \"http://127.0.0.1:1\"}}], \
                contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {}}]}";
    fs::write(&kubeconfig, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_meridian-agent"))
        .arg("run")
        .arg("--kubeconfig")
        .arg(&kubeconfig)
        .args([
            "--namespace",
            "ns",
            "--identity",
            "agent-0",
            "--node-image",
            "node:1",
        ])
        .args([
            "--probes-listen",
            "127.0.0.1:0",
            "--admission-listen",
            "127.0.0.1:0",
        ])
        .env("MERIDIAN_LOG_JSON", "true")
        .env_remove("RUST_LOG")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let _agent = Agent(child);
    let mut lines = Vec::new();
    for line in log.lines().map_while(Result::ok) {
        let line: Value = serde_json::from_str(&line).unwrap_or(Value::String(line));
        let told = line["level"] == "WARN" || line["level"] == "ERROR";
        lines.push(line);
        if told {
            break;
        }
    }
    for line in &lines {
        for field in ["timestamp", "level", "target"] {
            assert!(line[field].is_string(), "{field}: {line}");
        }
        assert!(line["fields"]["message"].is_string(), "{line}");
    }
    let start = lines.first().unwrap();
    assert_eq!(start["fields"]["message"], "agent starts");
    assert_eq!(start["fields"]["namespace"], "ns");
    assert!(lines.len() > 1, "it says what it cannot reach: {lines:?}");
}
