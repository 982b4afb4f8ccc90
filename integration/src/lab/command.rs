//! Running the machine's own commands (ip, iptables, ctr, …) and reading their answers.

use std::ffi::OsStr;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::error::{LabError, Result};

/// Runs a command to its end and returns what it printed.
pub(crate) async fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String> {
    run_with_input(program, arguments, "").await
}

/// As [`run`], with this on its input.
pub(crate) async fn run_with_input<S: AsRef<OsStr>>(
    program: &str,
    arguments: &[S],
    input: &str,
) -> Result<String> {
    let shown = || {
        let mut line = program.to_owned();
        for argument in arguments {
            line.push(' ');
            line.push_str(&argument.as_ref().to_string_lossy());
        }
        if !input.is_empty() {
            line.push_str(" <<< ");
            line.push_str(&input.trim_end().replace('\n', "; "));
        }
        line
    };
    let failed = |error: std::io::Error| LabError::Command {
        command: shown(),
        status: "no start".to_owned(),
        stderr: format!("{error}; `tools/prerequisites.sh` installs what is missing"),
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(if input.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await.map_err(failed)?;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(LabError::Command {
        command: shown(),
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
