//! A group of standalone regions for one test, and what can be done to it. Its processes end with it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use meridian_integration::wait::{Look, until};
use redis::aio::MultiplexedConnection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What every condition on one machine must hold within, also on a loaded one.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Regions 1 to n, running.
pub(crate) struct Group {
    /// Dropped first: their logs are read then.
    pub(crate) regions: Vec<Region>,
    addresses: Vec<(u16, u16)>,
    dir: tempfile::TempDir,
}

/// One region.
pub(crate) struct Region {
    pub(crate) id: u32,
    pub(crate) dir: PathBuf,
    port: u16,
    log: PathBuf,
    process: Option<Child>,
}

/// A program that the build left beside the tests.
fn built(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().and_then(Path::parent).unwrap().join(name);
    assert!(
        path.exists(),
        "{} is not there; build it: cargo build -p meridian-node -p crdt-module",
        path.display()
    );
    path
}

fn valkey() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("tools/valkey-server");
    std::env::var_os("MERIDIAN_VALKEY_SERVER").map_or(here, PathBuf::from)
}

/// Runs `meridian-node` to its end.
pub(crate) fn node(args: &[&str]) -> Output {
    Command::new(built("meridian-node"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What a GET of `path` answers: the status line and the body.
pub(crate) fn http(port: u16, path: &str) -> anyhow::Result<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(SOON))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok((
        head.lines().next().unwrap_or_default().to_owned(),
        body.to_owned(),
    ))
}

/// A port that nobody listens on, outside the range from which the system serves outgoing connections.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id() * 64;
    loop {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        let port = u16::try_from(20_000 + offset).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Group {
    /// Starts `count` regions and waits until every link is up.
    pub(crate) async fn start(count: u32) -> Self {
        let mut group = Self::prepare(count);
        for id in 1..=count {
            group.launch(id, |_| {});
        }
        for id in 1..=count {
            group.region(id).links_up().await;
        }
        group
    }

    /// Certificates and addresses for `count` regions; none runs yet.
    pub(crate) fn prepare(count: u32) -> Self {
        let dir = tempfile::Builder::new().prefix("mrd").tempdir().unwrap();
        let group = Self {
            addresses: (0..count).map(|_| (free_port(), free_port())).collect(),
            dir,
            regions: Vec::new(),
        };
        let made = node(&[
            "certs",
            "--regions",
            &count.to_string(),
            "--dir",
            &group.path("certs"),
        ]);
        assert!(made.status.success(), "{made:?}");
        group
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// The command that runs region `id`.
    pub(crate) fn command(&self, id: u32) -> Command {
        let (port, sync) = self.addresses[id as usize - 1];
        let mut command = Command::new(built("meridian-node"));
        command.args([
            "standalone",
            "--id",
            &id.to_string(),
            "--dir",
            &self.path(&format!("r{id}")),
        ]);
        command.args([
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--sync-listen",
            &format!("127.0.0.1:{sync}"),
        ]);
        for (other, (_, sync)) in (1..).zip(&self.addresses) {
            if other != id {
                command.args(["--peer", &format!("{other}=127.0.0.1:{sync}")]);
            }
        }
        command
            .arg("--certs")
            .arg(self.path(&format!("certs/region-{id}")));
        command
            .arg("--valkey-server")
            .arg(valkey())
            .arg("--module")
            .arg(built("libcrdt.so"));
        command.stdin(Stdio::null());
        command
    }

    /// Starts region `id`, after `change` to its command.
    pub(crate) fn launch(&mut self, id: u32, change: impl FnOnce(&mut Command)) {
        let log = PathBuf::from(self.path(&format!("r{id}.log")));
        let mut command = self.command(id);
        change(&mut command);
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let process = command
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let dir = PathBuf::from(self.path(&format!("r{id}")));
        let region = Region {
            id,
            dir,
            port: self.addresses[id as usize - 1].0,
            log,
            process: Some(process),
        };
        self.regions.retain(|r| r.id != id);
        self.regions.push(region);
    }

    pub(crate) fn region(&self, id: u32) -> &Region {
        self.regions.iter().find(|r| r.id == id).unwrap()
    }

    pub(crate) fn region_mut(&mut self, id: u32) -> &mut Region {
        self.regions.iter_mut().find(|r| r.id == id).unwrap()
    }

    /// Waits until all regions have the same values and clocks; returns that digest.
    pub(crate) async fn converged(&self) -> String {
        until("all regions have one digest", SOON, || async {
            let mut digests = Vec::new();
            for region in &self.regions {
                digests.push(region.digest().await?);
            }
            if digests.windows(2).all(|pair| pair[0] == pair[1]) {
                Ok(Look::Holds(digests.remove(0)))
            } else {
                Ok(Look::NotYet(format!("{digests:?}")))
            }
        })
        .await
        .unwrap()
    }
}

impl Region {
    /// A client's connection.
    pub(crate) async fn client(&self) -> MultiplexedConnection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        // The library's half second is less than a loaded machine may need for one fsync.
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(SOON));
        until(
            &format!("region {} takes clients", self.id),
            SOON,
            || async {
                let mut connection = client
                    .get_multiplexed_async_connection_with_config(&config)
                    .await?;
                redis::cmd("PING")
                    .query_async::<String>(&mut connection)
                    .await?;
                Ok(Look::Holds(connection))
            },
        )
        .await
        .unwrap()
    }

    /// What a command replies to a client of its own.
    pub(crate) async fn ask<T: redis::FromRedisValue>(
        &self,
        command: &[&str],
    ) -> redis::RedisResult<T> {
        let mut client = self.client().await;
        let mut cmd = redis::cmd(command[0]);
        cmd.arg(&command[1..]);
        cmd.query_async(&mut client).await
    }

    /// Waits until a command replies `expected`.
    pub(crate) async fn replies<T>(&self, command: &[&str], expected: T)
    where
        T: redis::FromRedisValue + PartialEq + std::fmt::Debug,
    {
        until(
            &format!("region {} replies {expected:?} to {command:?}", self.id),
            SOON,
            || async {
                let reply: T = self.ask(command).await?;
                if reply == expected {
                    Ok(Look::Holds(()))
                } else {
                    Ok(Look::NotYet(format!("{reply:?}")))
                }
            },
        )
        .await
        .unwrap();
    }

    /// What a command replies to the node itself, over the shard's Unix socket.
    pub(crate) async fn internal<T: redis::FromRedisValue>(
        &self,
        command: &[&str],
    ) -> anyhow::Result<T> {
        let secret = fs::read_to_string(self.dir.join("run/internal-secret"))?;
        let socket = self.dir.join("run/db-1.sock");
        let url = format!(
            "redis+unix://{}?user=meridian-internal&pass={secret}",
            socket.display()
        );
        let mut connection = redis::Client::open(url)?
            .get_multiplexed_async_connection()
            .await?;
        Ok(redis::cmd(command[0])
            .arg(&command[1..])
            .query_async(&mut connection)
            .await?)
    }

    async fn digest(&self) -> anyhow::Result<String> {
        self.internal(&["CRDT.DIGEST"]).await
    }

    /// `meridian-node sync <verb>`, whose answer is the status.
    pub(crate) fn sync(&self, args: &[&str]) -> anyhow::Result<Value> {
        let output = node(&[&["sync"], args, &["--dir", self.dir.to_str().unwrap()]].concat());
        anyhow::ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The link from `peer`, once `wanted` says yes to it.
    pub(crate) async fn link(
        &self,
        peer: u32,
        condition: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        until(
            &format!("region {}'s link from {peer}: {condition}", self.id),
            SOON,
            || async {
                let status = self.sync(&["status"])?;
                let links = status["databases"][0]["links"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                match links.into_iter().find(|link| link["instanceId"] == peer) {
                    Some(link) if wanted(&link) => Ok(Look::Holds(link)),
                    other => Ok(Look::NotYet(format!("{other:?}"))),
                }
            },
        )
        .await
        .unwrap()
    }

    /// Waits until every link is up.
    pub(crate) async fn links_up(&self) {
        until(
            &format!("every link of region {} is up", self.id),
            SOON,
            || async {
                let status = self.sync(&["status"])?;
                let links = status["databases"][0]["links"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                let up = status["databases"][0]["shards"][0]["ready"] == true
                    && links.iter().all(|link| link["state"] == "up");
                if up {
                    Ok(Look::Holds(()))
                } else {
                    Ok(Look::NotYet(status.to_string()))
                }
            },
        )
        .await
        .unwrap();
    }

    /// What PID 1 says about a process: `sync` or `db-1`.
    pub(crate) fn unit(&self, name: &str) -> anyhow::Result<Value> {
        let mut stream = UnixStream::connect(self.dir.join("run/supervisor.sock"))?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(b"\"status\"\n")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(serde_json::from_str::<Value>(&line)?["units"][name].clone())
    }

    /// Kills a process and waits until PID 1 has started it again.
    pub(crate) async fn kill_unit(&self, name: &str) {
        let before = self.unit(name).unwrap();
        let pid = i32::try_from(before["pid"].as_i64().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        until(&format!("{name} is started again"), SOON, || async {
            let now = self.unit(name)?;
            let again = now["state"] == "running" && now["pid"] != before["pid"];
            if again {
                Ok(Look::Holds(()))
            } else {
                Ok(Look::NotYet(now.to_string()))
            }
        })
        .await
        .unwrap();
    }

    /// Sends a signal to PID 1 and waits for its end.
    pub(crate) async fn end(&mut self, signal: Signal) -> std::process::ExitStatus {
        let mut process = self.process.take().unwrap();
        let pid = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        let process = std::sync::Mutex::new(&mut process);
        until(&format!("region {} ends", self.id), SOON, || async {
            let status = process.lock().unwrap().try_wait()?;
            Ok(status.map_or(Look::NotYet("it runs".to_owned()), Look::Holds))
        })
        .await
        .unwrap()
    }
}

/// Ends every process that works below `dir`: a Valkey that is only asked to end goes on without its files, because it cannot
/// save them.
fn end_all_in(dir: &Path) {
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            continue;
        };
        if fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir)) {
            let _gone = kill_process(pid, Signal::KILL);
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _gone = process.kill();
            let _status = process.wait();
        }
        end_all_in(&self.dir);
        if std::thread::panicking() {
            for log in [&self.log, &self.dir.join("shards/db-1/valkey.log")] {
                let text = fs::read_to_string(log).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let tail = lines.len().saturating_sub(30);
                eprintln!("--- {} (end)\n{}", log.display(), lines[tail..].join("\n"));
            }
        }
    }
}
