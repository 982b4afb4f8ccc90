//! The hub process of a stack, and the CLI pointed at it.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::Paths;
use crate::{
    shell::{self, Output},
    wait::{Look, until, until_true},
};

/// How long the hub may take to become ready.
const READY: Duration = Duration::from_secs(20);

/// Where the hub's process id and start time stand, below the stack's state.
const PID_FILE: &str = "hub.pid";

/// A running hub.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Address of this machine that every cluster reaches.
    host: String,
    cli: String,
    program: String,
    data: PathBuf,
    pid_file: PathBuf,
    log: PathBuf,
}

impl Hub {
    fn at(paths: &Paths) -> anyhow::Result<Self> {
        Ok(Self {
            host: lab_host(paths)?,
            cli: paths.program("meridian")?,
            program: paths.program("meridian-hub")?,
            data: paths.state.join("hub"),
            pid_file: paths.state.join(PID_FILE),
            log: paths.state.join("hub.log"),
        })
    }

    /// Starts the hub unless it runs, and waits until it is ready.
    ///
    /// # Errors
    /// If it does not become ready: with the end of its log.
    pub async fn start(paths: &Paths) -> anyhow::Result<Self> {
        let hub = Self::at(paths)?;
        if hub.pid().is_none() {
            hub.spawn()?;
        }
        hub.ready().await?;
        Ok(hub)
    }

    /// The hub that an earlier [`Hub::start`] left running.
    ///
    /// # Errors
    /// If none runs.
    pub fn attach(paths: &Paths) -> anyhow::Result<Self> {
        let hub = Self::at(paths)?;
        ensure!(
            hub.pid().is_some(),
            "no hub runs from {}: `make demo` starts one",
            hub.data.display()
        );
        Ok(hub)
    }

    /// Starts the process; it outlives this one.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(&self) -> anyhow::Result<()> {
        let host = &self.host;
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(&self.program)
            .arg("serve")
            .arg("--data-dir")
            .arg(&self.data)
            .args(["--web-listen", &format!("{host}:8443")])
            .args(["--link-listen", &format!("{host}:8444")])
            .args(["--advertise-link", &format!("{host}:8444")])
            .args(["--advertise-web", &format!("{host}:8443")])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", self.program))?;
        let started = start_time(child.id()).context("the hub ended at once")?;
        fs::write(&self.pid_file, format!("{} {started}", child.id()))?;
        Ok(())
    }

    /// Waits until the hub answers its CLI.
    ///
    /// # Errors
    /// After [`READY`], with the end of its log.
    pub async fn ready(&self) -> anyhow::Result<()> {
        until("hub ready", READY, || async {
            let out = self.cli(&["cluster", "list", "-o", "json"])?;
            Ok(if out.code == 0 {
                Look::Holds(())
            } else {
                Look::NotYet(out.stderr)
            })
        })
        .await
        .with_context(|| format!("end of {}:\n{}", self.log.display(), self.log_end()))
    }

    /// The last lines of the hub's log.
    #[must_use]
    pub fn log_end(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Process id, if the process that was started still runs (a reused id does not count).
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        running(&self.pid_file)
    }

    /// Kills the hub at once, as a crash would.
    ///
    /// # Errors
    /// If it does not run, or does not end.
    pub async fn kill(&self) -> anyhow::Result<()> {
        let pid = self.pid().context("the hub does not run")?;
        signal(pid, "-KILL")?;
        ended(&self.pid_file).await
    }

    /// Ends the hub of a stack politely, if it runs, and waits until it has.
    ///
    /// # Errors
    /// If it cannot be signalled, or does not end.
    pub async fn stop(paths: &Paths) -> anyhow::Result<()> {
        let pid_file = paths.state.join(PID_FILE);
        let Some(pid) = running(&pid_file) else {
            return Ok(());
        };
        signal(pid, "-TERM")?;
        ended(&pid_file).await
    }

    /// Folder of the hub's data.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Runs the CLI against this hub.
    ///
    /// # Errors
    /// If it cannot be started. Its exit code is in the output.
    pub fn cli(&self, args: &[&str]) -> anyhow::Result<Output> {
        self.cli_with(args, "")
    }

    /// As [`Hub::cli`], with text on standard input.
    ///
    /// # Errors
    /// As [`Hub::cli`].
    pub fn cli_with(&self, args: &[&str], input: &str) -> anyhow::Result<Output> {
        let env = self.env();
        let env: Vec<(&str, &str)> = env.iter().map(|(k, v)| (*k, v.as_str())).collect();
        shell::run(&self.cli, args, &env, input)
    }

    /// Environment that points the CLI at this hub.
    #[must_use]
    pub fn env(&self) -> [(&'static str, String); 3] {
        [
            ("MERIDIAN_HUB", format!("https://{}:8443", self.host)),
            (
                "MERIDIAN_TOKEN_FILE",
                self.data.join("admin-token").display().to_string(),
            ),
            (
                "MERIDIAN_CA_FILE",
                self.data.join("ca/root.crt").display().to_string(),
            ),
        ]
    }

    /// Runs the CLI; it must succeed.
    ///
    /// # Errors
    /// With what it printed.
    pub fn must(&self, args: &[&str], input: &str) -> anyhow::Result<String> {
        let out = self.cli_with(args, input)?;
        ensure!(
            out.code == 0,
            "`meridian {}` ended with {}:\n{}{}",
            args.join(" "),
            out.code,
            out.stdout,
            out.stderr
        );
        Ok(out.stdout)
    }

    /// An object or list of the hub as JSON.
    ///
    /// # Errors
    /// If the CLI fails or prints no JSON.
    pub fn get(&self, args: &[&str]) -> anyhow::Result<Value> {
        let mut all = args.to_vec();
        all.extend(["-o", "json"]);
        serde_json::from_str(&self.must(&all, "")?).context("output of `meridian -o json`")
    }

    /// What the web API answers to `GET` below `/api/v1/`, for what the CLI does not show.
    ///
    /// # Errors
    /// If the hub does not answer, or not with JSON.
    pub fn api(&self, path: &str) -> anyhow::Result<Value> {
        self.ask("GET", path)
    }

    /// Lets the hub go on after it observed: what a person does who has looked.
    ///
    /// # Errors
    /// If the hub refuses: with its answer.
    pub fn adopt(&self) -> anyhow::Result<Value> {
        self.ask("POST", "hub/adopt")
    }

    fn ask(&self, method: &str, path: &str) -> anyhow::Result<Value> {
        let token = fs::read_to_string(self.data.join("admin-token"))?;
        let root = self.data.join("ca/root.crt").display().to_string();
        let url = format!("https://{}:8443/api/v1/{path}", self.host);
        // From standard input, so that the token stands in no list of processes.
        let header = format!("header = \"Authorization: Bearer {}\"\n", token.trim());
        let args = [
            "--silent",
            "--show-error",
            "--fail-with-body",
            "--request",
            method,
            "--cacert",
            &root,
            "--config",
            "-",
            &url,
        ];
        let answer = shell::succeed("curl", &args, &[], &header)?;
        serde_json::from_str(&answer).with_context(|| format!("answer of {url}: {answer}"))
    }

    /// Waits until the hub shows the cluster as connected.
    ///
    /// # Errors
    /// After `within`.
    pub async fn connected(&self, cluster: &str, within: Duration) -> anyhow::Result<()> {
        until(&format!("cluster {cluster} connected"), within, || async {
            let list = self.get(&["cluster", "list"])?;
            let found = items(&list)
                .iter()
                .find(|c| c["metadata"]["name"] == cluster)
                .cloned();
            Ok(match found {
                Some(c) if c["status"]["state"] == "Connected" => Look::Holds(()),
                Some(c) => Look::NotYet(c["status"].to_string()),
                None => Look::NotYet("not registered".into()),
            })
        })
        .await
    }
}

/// Address of this machine on the lab's bridge.
fn lab_host(paths: &Paths) -> anyhow::Result<String> {
    let status = shell::succeed(&paths.program("lab")?, &["status", "-o", "json"], &[], "")?;
    let status: Value = serde_json::from_str(&status).context("output of `lab status -o json`")?;
    let host = status["hostAddress"]
        .as_str()
        .context("`lab status` names no hostAddress")?;
    Ok(host.to_owned())
}

/// The items of a Kubernetes-shaped list.
#[must_use]
pub fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}

/// The process that the file names, if it still runs.
fn running(pid_file: &Path) -> Option<u32> {
    let text = fs::read_to_string(pid_file).ok()?;
    let (pid, started) = text.split_once(' ')?;
    let pid: u32 = pid.parse().ok()?;
    (start_time(pid)? == started).then_some(pid)
}

async fn ended(pid_file: &Path) -> anyhow::Result<()> {
    until_true("the hub ended", READY, || async {
        Ok(running(pid_file).is_none())
    })
    .await
}

/// When the process started, in clock ticks since boot; `None`: it has ended.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    alive_since(&stat)
}

/// Field 22 of a process's `stat` (proc(5)), unless the process has ended: a zombie has once its first thread is its last (field
/// 20); until then others hold its sockets and files, and only its parent has not looked yet.
fn alive_since(stat: &str) -> Option<String> {
    let after_name = stat.rsplit_once(") ")?.1;
    let fields: Vec<&str> = after_name.split(' ').collect();
    let ended = fields.first() == Some(&"Z") && fields.get(17) == Some(&"1");
    if ended {
        return None;
    }
    fields.get(19).map(|since| (*since).to_owned())
}

fn signal(pid: u32, signal: &str) -> anyhow::Result<()> {
    shell::succeed("kill", &[signal, &pid.to_string()], &[], "").map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::alive_since;

    #[test]
    fn a_process_has_ended_when_the_last_of_its_threads_has() {
        let stat = |state: &str, threads: u32| {
            format!("7 (a) b) {state} 1 7 7 0 -1 4194560 9 0 0 0 1 2 0 0 20 0 {threads} 0 4711 0 0")
        };
        for (state, threads, since) in [
            ("S", 1, Some("4711")),
            ("S", 9, Some("4711")),
            ("Z", 2, Some("4711")),
            ("Z", 1, None),
        ] {
            let found = alive_since(&stat(state, threads));
            assert_eq!(found.as_deref(), since, "{state} {threads}");
        }
    }
}
