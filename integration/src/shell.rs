//! Runs commands as a person would, and tells everything when one fails.

use std::{
    ffi::OsStr,
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

/// What a command printed and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit code; -1 if a signal ended the command.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a program with arguments, environment and standard input.
///
/// # Errors
/// If it cannot be started.
pub fn run<S: AsRef<OsStr>>(
    program: &str,
    args: &[S],
    env: &[(&str, &str)],
    input: &str,
) -> anyhow::Result<Output> {
    let mut child = Command::new(program)
        .args(args)
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input may close it first.
        if let Err(e) = stdin.write_all(input.as_bytes())
            && e.kind() != std::io::ErrorKind::BrokenPipe
        {
            bail!("write to {program}: {e}");
        }
    }
    let out = child
        .wait_with_output()
        .with_context(|| format!("wait for {program}"))?;
    Ok(Output {
        code: out.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    })
}

/// As [`run`], and the command must succeed; gives its standard output.
///
/// # Errors
/// If it cannot be started or exits non-zero: with the command line and all it printed.
pub fn succeed<S: AsRef<OsStr>>(
    program: &str,
    args: &[S],
    env: &[(&str, &str)],
    input: &str,
) -> anyhow::Result<String> {
    let out = run(program, args, env, input)?;
    if out.code != 0 {
        let line: Vec<_> = args
            .iter()
            .map(|a| a.as_ref().to_string_lossy().into_owned())
            .collect();
        bail!(
            "`{program} {}` ended with {}:\n{}{}",
            line.join(" "),
            out.code,
            out.stdout,
            out.stderr
        );
    }
    Ok(out.stdout)
}
