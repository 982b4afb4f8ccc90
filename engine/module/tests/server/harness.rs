//! Servers as child processes, and connections to them.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use redis::{Client, Connection, RedisError, Value};
use tempfile::TempDir;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);
const INTERNAL: &str = "meridian-internal";
const SECRET: &str = "only-in-tests";
/// The user by which replicas attach; it can run nothing else.
pub const COPIER: &str = "copier";

/// A running server.
pub struct Server {
    process: Process,
    directory: TempDir,
    arguments: Vec<String>,
    pub port: u16,
}

impl Server {
    /// A plain server without the module.
    pub fn plain() -> Self {
        Self::launch(Vec::new())
    }

    /// A server with the module, without a configuration.
    pub fn blank(options: &[&str]) -> Self {
        Self::with_module(options, &[])
    }

    /// A server of native commands that asks for permissions.
    pub fn fenced(options: &[&str]) -> Self {
        Self::with_module(options, &["engine", "none", "fence", "on"])
    }

    /// A server with the module loaded with further arguments.
    pub fn with_module(options: &[&str], further: &[&str]) -> Self {
        let module = module().to_string_lossy().into_owned();
        let mut arguments: Vec<_> = ["--appendonly", "yes", "--appendfsync", "everysec"]
            .map(String::from)
            .into();
        arguments.extend(options.iter().map(ToString::to_string));
        arguments.extend([
            "--loadmodule".to_owned(),
            module,
            "internal-user".to_owned(),
            INTERNAL.to_owned(),
            "replication-user".to_owned(),
            COPIER.to_owned(),
        ]);
        arguments.extend(further.iter().map(ToString::to_string));
        Self::launch(arguments)
    }

    /// A server with the module as instance `id` among `members`.
    pub fn member(id: u32, members: &str) -> Self {
        let server = Self::blank(&[]);
        server.configure(id, 1, members);
        server
    }

    fn launch(arguments: Vec<String>) -> Self {
        let directory = TempDir::new().unwrap();
        let mut users = format!(
            "user default on nopass ~* &* +@all\nuser {INTERNAL} on >{SECRET} ~* &* +@all\n"
        );
        if arguments.iter().any(|argument| argument == "--loadmodule") {
            // A plain server does not know the command by which the module refuses.
            users +=
                &format!("user {COPIER} on >{SECRET} +psync +sync +replconf +ping +crdt.refused\n");
        }
        std::fs::write(directory.path().join("users.acl"), users).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let process = spawn(directory.path(), port, &arguments);
        Self {
            process,
            directory,
            arguments,
            port,
        }
    }

    /// Ends the server without warning and starts it again on the same files.
    pub fn crash_and_restart(&mut self) {
        self.crash();
        self.process = spawn(self.directory.path(), self.port, &self.arguments);
    }

    /// Ends the server, adds a command to its append-only file, and starts it again.
    pub fn restart_with(&mut self, command: &[&str]) {
        self.crash();
        let words = command
            .iter()
            .map(|word| format!("${}\r\n{word}\r\n", word.len()));
        let text = format!("*{}\r\n{}", command.len(), words.collect::<String>());
        self.append_only_file().write_all(text.as_bytes()).unwrap();
        self.process = spawn(self.directory.path(), self.port, &self.arguments);
    }

    /// Ends the server, cuts its append-only file to this length, and starts it again: a machine that lost its last writes.
    pub fn restart_with_the_first(&mut self, bytes: u64) {
        self.crash();
        self.append_only_file().set_len(bytes).unwrap();
        self.process = spawn(self.directory.path(), self.port, &self.arguments);
    }

    /// Waits until everything written so far is on disk. WAITAOF looks at the writes of its own connection only, so this makes one.
    pub fn persist(&self) {
        let mut client = self.client();
        ok(&mut client, "incr persisted");
        let done = ok(&mut client, "waitaof 1 0 20000");
        assert_eq!(
            done,
            Value::Array(vec![Value::Int(1), Value::Int(0)]),
            "not on disk in time"
        );
    }

    /// Length of the append-only file, everything written so far included.
    pub fn append_only_length(&self) -> u64 {
        self.persist();
        self.append_only_file().metadata().unwrap().len()
    }

    fn append_only_file(&self) -> File {
        let files = std::fs::read_dir(self.directory.path().join("appendonlydir")).unwrap();
        let mut paths = files.map(|file| file.unwrap().path());
        let path = paths
            .find(|path| path.to_string_lossy().ends_with(".incr.aof"))
            .unwrap();
        OpenOptions::new().append(true).open(path).unwrap()
    }

    fn crash(&mut self) {
        self.process.kill();
    }

    /// Stops the process without ending it, as a machine that hangs does, or lets it go on.
    pub fn pause(&self, pause: bool) {
        let signal = if pause { Signal::STOP } else { Signal::CONT };
        let id = Pid::from_raw(self.id()).unwrap();
        kill_process(id, signal).unwrap();
        // What comes before it has stopped, it may still take.
        let state = format!("/proc/{}/stat", self.id());
        wait_until("it has stopped", || {
            let state = std::fs::read_to_string(&state).unwrap();
            !pause || state.contains(") T ") || state.contains(") t ")
        });
    }

    /// The id of the process, and of its main thread.
    pub fn id(&self) -> i32 {
        self.process.0.id().cast_signed()
    }

    pub fn configure(&self, id: u32, version: u64, members: &str) {
        let mut internal = self.internal();
        let reply = run(
            &mut internal,
            &[
                "CRDT.CONFIG",
                "SET",
                &id.to_string(),
                &version.to_string(),
                members,
            ],
        );
        assert_eq!(reply, Ok(Value::Okay));
    }

    /// The default user over TCP.
    pub fn client(&self) -> Connection {
        connect(&format!("redis://127.0.0.1:{}/", self.port))
    }

    /// The default user over TCP with the newer protocol.
    pub fn client_resp3(&self) -> Connection {
        connect(&format!("redis://127.0.0.1:{}/?protocol=resp3", self.port))
    }

    /// The default user on the Unix socket.
    pub fn socket_client(&self) -> Connection {
        connect(&format!("unix://{}", self.socket().display()))
    }

    /// The internal user on the Unix socket.
    pub fn internal(&self) -> Connection {
        connect(&format!(
            "unix://{}?user={INTERNAL}&pass={SECRET}",
            self.socket().display()
        ))
    }

    /// The user for replication over TCP.
    pub fn copier(&self) -> Connection {
        connect(&format!(
            "redis://{COPIER}:{SECRET}@127.0.0.1:{}/",
            self.port
        ))
    }

    /// The internal user over TCP.
    pub fn internal_over_tcp(&self) -> Connection {
        connect(&format!(
            "redis://{INTERNAL}:{SECRET}@127.0.0.1:{}/",
            self.port
        ))
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("s.sock")
    }

    /// The value of one field of `INFO crdt` or another section.
    pub fn info(&self, section: &str, field: &str) -> String {
        let text: String = redis::cmd("INFO")
            .arg(section)
            .query(&mut self.internal())
            .unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("INFO {section} has no {field}: {text}"))
            .to_owned()
    }

    pub fn digest(&self) -> String {
        redis::cmd("CRDT.DIGEST")
            .query(&mut self.internal())
            .unwrap()
    }
}

/// A child that does not outlive this value.
struct Process(Child);

impl Process {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts the server and returns once it takes connections.
fn spawn(directory: &Path, port: u16, arguments: &[String]) -> Process {
    let child = Command::new(valkey_server())
        .current_dir(directory)
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--unixsocket",
            "s.sock",
        ])
        .args([
            "--aclfile",
            "users.acl",
            "--save",
            "",
            "--repl-diskless-sync-delay",
            "0",
            "--databases",
            "16",
            "--enable-debug-command",
            "local",
        ])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut process = Process(child);
    let output = process.0.stdout.take().unwrap();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // Read to the end, or the server would block on a full pipe.
            let _ = tell.send(line);
        }
    });
    let deadline = Instant::now() + PATIENCE;
    let mut log = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = told
            .recv_timeout(left)
            .unwrap_or_else(|_| panic!("the server did not start:\n{}", log.join("\n")));
        if line.contains("Ready to accept connections unix") {
            return process;
        }
        log.push(line);
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn valkey_server() -> PathBuf {
    std::env::var_os("MERIDIAN_VALKEY_SERVER")
        .map_or_else(|| workspace().join("tools/valkey-server"), PathBuf::from)
}

/// The library under test, which must not be older than its sources: cargo does not build it for these tests.
fn module() -> PathBuf {
    let library = std::env::current_exe()
        .unwrap()
        .ancestors()
        .nth(2)
        .unwrap()
        .join("libcrdt.so");
    let built = std::fs::metadata(&library).and_then(|file| file.modified());
    let built = built.unwrap_or_else(|error| {
        panic!(
            "{}: {error}; run: cargo build -p crdt-module",
            library.display()
        )
    });
    for sources in ["engine/module/src", "engine/crdt/src"] {
        let newest = newest(&workspace().join(sources));
        assert!(
            newest <= built,
            "{} is older than {sources}; run: cargo build -p crdt-module",
            library.display()
        );
    }
    library
}

fn newest(directory: &Path) -> SystemTime {
    let entries = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let times = entries.map(|path| {
        if path.is_dir() {
            newest(&path)
        } else {
            std::fs::metadata(&path).unwrap().modified().unwrap()
        }
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn connect(url: &str) -> Connection {
    let connection = Client::open(url)
        .unwrap()
        .get_connection_with_timeout(PATIENCE)
        .unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection
}

/// An error as the server worded it.
fn words(error: &RedisError) -> String {
    format!(
        "{} {}",
        error.code().unwrap_or("-"),
        error.detail().unwrap_or_default()
    )
}

/// Runs one command; an error is the server's words.
pub fn run<A: redis::ToRedisArgs>(
    connection: &mut Connection,
    command: &[A],
) -> Result<Value, String> {
    let mut request = redis::Cmd::new();
    for argument in command {
        request.arg(argument);
    }
    request.query(connection).map_err(|error| words(&error))
}

/// Runs one command that must succeed.
pub fn ok(connection: &mut Connection, command: &str) -> Value {
    let arguments: Vec<_> = command.split(' ').collect();
    run(connection, &arguments).unwrap_or_else(|error| panic!("{command}: {error}"))
}

/// Runs one command that must fail; the server's words.
pub fn refused(connection: &mut Connection, command: &str) -> String {
    let arguments: Vec<_> = command.split(' ').collect();
    match run(connection, &arguments) {
        Err(error) => error,
        Ok(reply) => panic!("{command} was accepted: {reply:?}"),
    }
}

/// Milliseconds since the machine was booted, as the module counts them.
pub fn boot_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec.cast_unsigned() * 1000 + time.tv_nsec.cast_unsigned() / 1_000_000
}

/// Waits until `condition` holds, looking again at short intervals.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain until {what}"
        );
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Effects that `from` has for `to`, handed over until none are left; how many were new.
pub fn pull(from: &Server, from_id: u32, to: &Server, to_id: u32) -> u64 {
    let (mut source, mut target) = (from.internal(), to.internal());
    let mut applied = 0;
    loop {
        let (clock, _): (Vec<u8>, String) = redis::cmd("CRDT.CLOCK").query(&mut target).unwrap();
        let (batch, more): (Vec<u8>, u8) = redis::cmd("CRDT.PULL")
            .arg(clock)
            .arg(to_id)
            .arg(64 << 10)
            .query(&mut source)
            .unwrap();
        if !batch.is_empty() {
            let new: u64 = redis::cmd("CRDT.APPLY")
                .arg(from_id)
                .arg(batch)
                .query(&mut target)
                .unwrap();
            applied += new;
        }
        if more == 0 {
            return applied;
        }
    }
}

/// Everybody pulls from everybody, once.
pub fn exchange(servers: &[&Server]) {
    for (to, target) in (1..).zip(servers) {
        for (from, source) in (1..).zip(servers) {
            if from != to {
                pull(source, from, target, to);
            }
        }
    }
}

/// All servers hold the same values and clocks.
pub fn assert_equal(servers: &[&Server]) {
    let digests: Vec<_> = servers.iter().map(|server| server.digest()).collect();
    assert!(
        digests.windows(2).all(|pair| pair[0] == pair[1]),
        "digests differ: {digests:#?}"
    );
}
