//! One node of a test's cluster: its processes, and what it says of itself.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use meridian_api::crds::topology::{MemberReport, ShardReport};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cluster::PORT;

/// What every condition on one machine must hold within, also on a loaded one.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The servers of each bundled series, the lowest first, in `tools`.
pub(crate) const SERVERS: [&str; 2] = ["valkey-server", "valkey-server-9.1"];

/// The probes of PID 1.
const PROBES: u16 = 8080;

/// Waits until `look` finds something; its errors say why it has not yet.
pub(crate) async fn until<T>(
    condition: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    loop {
        ticks.tick().await;
        match look().await {
            Ok(found) => return found,
            Err(reason) => assert!(
                start.elapsed() < within,
                "{condition}: not within {within:?}; last seen: {reason}"
            ),
        }
    }
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) host: String,
    dir: PathBuf,
    shared: PathBuf,
    log: PathBuf,
    /// Its shards lie on a volume of this size, MiB; `None`: beside everything else.
    volume: Option<u32>,
    process: Option<Child>,
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
}

fn module() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_meridian-node"));
    let path = program.with_file_name("libcrdt.so");
    assert!(
        path.exists(),
        "{} is not there; build it: cargo build -p crdt-module",
        path.display()
    );
    path
}

impl Node {
    pub(crate) fn new(name: &str, host: String, root: &Path) -> Self {
        Self {
            name: name.to_owned(),
            host,
            dir: root.join(name),
            shared: root.join("api"),
            log: root.join(format!("{name}.log")),
            volume: None,
            process: None,
        }
    }

    /// Puts its shards on a volume of so many MiB that is its own, before it starts.
    pub(crate) fn limit_volume(&mut self, mebibytes: u32) {
        self.volume = Some(mebibytes);
    }

    /// Where its processes see the files of its shard.
    pub(crate) fn shard_dir(&self) -> PathBuf {
        let shard = self.dir.join("shards/db-0");
        if self.volume.is_none() {
            return shard;
        }
        let root = format!("/proc/{}/root", self.supervisor().as_raw_nonzero());
        Path::new(&root).join(shard.strip_prefix("/").unwrap())
    }

    /// The program of the node, among mounts of its own if it needs some.
    fn program(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_meridian-node");
        let Some(mebibytes) = self.volume else {
            return Command::new(program);
        };
        let shards = self.dir.join("shards");
        fs::create_dir_all(&shards).unwrap();
        let mount = format!(
            "mount -t tmpfs -o size={mebibytes}m volume '{}' && exec \"$0\" \"$@\"",
            shards.display()
        );
        let mut command = Command::new("unshare");
        command.args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            &mount,
            program,
        ]);
        command
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where it sees the internal Secret.
    pub(crate) fn internal_dir(&self) -> PathBuf {
        self.dir.with_extension("internal")
    }

    pub(crate) fn start(&mut self) {
        let valkey = std::env::var_os("MERIDIAN_VALKEY_SERVER").unwrap_or_else(|| {
            let tools = repository().join("tools");
            let servers = SERVERS.map(|name| tools.join(name).to_string_lossy().into_owned());
            servers.join(",").into()
        });
        let output = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        let process = self
            .program()
            .arg("run")
            .arg("--dir")
            .arg(&self.dir)
            .arg("--run-dir")
            .arg(self.dir.join("run"))
            .args(["--probe-listen", &format!("{}:{PROBES}", self.host)])
            .args(["--source", "directory"])
            .arg("--internal-dir")
            .arg(self.internal_dir())
            .arg("--valkey-server")
            .arg(valkey)
            .arg("--module")
            .arg(module())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        self.process = Some(process);
    }

    /// What it reported last.
    pub(crate) fn report(&self) -> Result<MemberReport, String> {
        let path = self.shared.join(format!("reports/db.{}.json", self.name));
        let text = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        serde_json::from_slice(&text).map_err(|e| e.to_string())
    }

    /// What it reported last of the shard, once that is about `epoch` and `wanted`.
    pub(crate) async fn reports(
        &self,
        epoch: i64,
        condition: &str,
        wanted: impl Fn(&ShardReport) -> bool,
    ) -> ShardReport {
        until(
            &format!("{} reports {condition}", self.name),
            SOON,
            async || {
                let report = self.report()?;
                let shard = report.shards.first().ok_or("no shard")?;
                if report.epoch == epoch && wanted(shard) {
                    Ok(shard.clone())
                } else {
                    Err(format!("{report:?}"))
                }
            },
        )
        .await
    }

    /// A GET at PID 1.
    pub(crate) fn get(&self, path: &str) -> std::io::Result<Value> {
        let mut stream = TcpStream::connect((self.host.as_str(), PROBES))?;
        stream.set_read_timeout(Some(SOON))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").map_or("", |parts| parts.1);
        Ok(serde_json::from_str(body)?)
    }

    /// What PID 1 says.
    fn status(&self) -> std::io::Result<Value> {
        let mut stream = UnixStream::connect(self.dir.join("run/supervisor.sock"))?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(b"\"status\"\n")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }

    /// The process id of a unit: `sync` or `db-0`.
    pub(crate) fn pid(&self, unit: &str) -> Result<Pid, String> {
        let report = self.status().map_err(|e| e.to_string())?;
        report["units"][unit]["pid"]
            .as_i64()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
            .ok_or_else(|| format!("{unit} does not run: {report}"))
    }

    /// How often a unit was killed because it hung.
    pub(crate) fn hangs(&self, unit: &str) -> u64 {
        self.status().unwrap()["units"][unit]["hangs"]
            .as_u64()
            .unwrap()
    }

    /// What a command replies to the node itself, over the shard's Unix socket.
    pub(crate) async fn internal(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let secret = fs::read_to_string(self.dir.join("run/internal-secret"))?;
        let socket = self.dir.join("run/db-0.sock");
        let url = format!(
            "redis+unix://{}?user=meridian-internal&pass={secret}",
            socket.display()
        );
        let mut connection = redis::Client::open(url)?
            .get_multiplexed_async_connection()
            .await?;
        redis::cmd(words[0])
            .arg(&words[1..])
            .query_async(&mut connection)
            .await
    }

    /// How likely the kernel is to end a process of it when memory is used up; `None`: PID 1.
    pub(crate) fn sacrifice(&self, unit: Option<&str>) -> i32 {
        let pid = unit.map_or_else(|| self.supervisor(), |unit| self.pid(unit).unwrap());
        let file = format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero());
        fs::read_to_string(file).unwrap().trim().parse().unwrap()
    }

    /// PID 1 itself.
    fn supervisor(&self) -> Pid {
        let id = self.process.as_ref().unwrap().id();
        Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
    }

    /// Sends a signal to one of its processes.
    pub(crate) fn signal(&self, unit: &str, signal: Signal) {
        kill_process(self.pid(unit).unwrap(), signal).unwrap();
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        kill_process(self.supervisor(), Signal::TERM).unwrap();
    }

    /// Stops every process of it in its tracks, as when its machine is suspended.
    pub(crate) fn freeze(&self) -> Frozen {
        let pids = vec![
            self.supervisor(),
            self.pid("sync").unwrap(),
            self.pid("db-0").unwrap(),
        ];
        for pid in &pids {
            kill_process(*pid, Signal::STOP).unwrap();
        }
        Frozen(pids)
    }

    /// What it says of itself and of its processes.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Whether it has written `words` to its log.
    pub(crate) fn logged(&self, words: &str) -> bool {
        fs::read_to_string(&self.log).is_ok_and(|text| text.contains(words))
    }

    /// Waits until its process has ended.
    pub(crate) async fn ends(&mut self, within: Duration) {
        let mut process = self.process.take().unwrap();
        until(
            &format!("{} ends", self.name),
            within,
            async || match process.try_wait().map_err(|e| e.to_string())? {
                Some(_) => Ok(()),
                None => Err("it runs".to_owned()),
            },
        )
        .await;
    }
}

/// A client that says exactly what it is told to, when it is told to.
pub(crate) struct Raw {
    stream: BufReader<TcpStream>,
}

impl Raw {
    pub(crate) fn connect(host: &str) -> Self {
        let stream = TcpStream::connect((host, PORT)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub(crate) fn send(&mut self, line: &str) {
        write!(self.stream.get_mut(), "{line}\r\n").unwrap();
    }

    /// The next line of an answer; empty if the connection was closed.
    pub(crate) fn receive(&mut self) -> String {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(_) => line.trim_end().to_owned(),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
                String::new()
            }
        }
    }

    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.receive()
    }
}

/// Processes that do not run; they do again when this is dropped.
pub(crate) struct Frozen(pub(crate) Vec<Pid>);

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in &self.0 {
            // It may have been ended meanwhile.
            let _gone = kill_process(*pid, Signal::CONT);
        }
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

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _gone = process.kill();
            let _status = process.wait();
        }
        end_all_in(&self.dir);
        if std::thread::panicking() {
            for log in [&self.log, &self.dir.join("shards/db-0/valkey.log")] {
                let text = fs::read_to_string(log).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let tail = lines.len().saturating_sub(40);
                eprintln!("--- {} (end)\n{}", log.display(), lines[tail..].join("\n"));
            }
        }
    }
}
