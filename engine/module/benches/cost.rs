//! What operations cost with the module, against a server without it: in instructions of the server for each, and in time.
//!
//! `make bench-engine`. Needs valgrind. Instructions do not depend on what else the machine does, so that two figures can be
//! compared; they leave out the kernel, and the reading of the clock, which is a call into the kernel under valgrind and about
//! a hundred instructions without it. Time has all of that, and the client's share too: the servers take turns, and what is
//! printed is the ratio of neighbours in time, its median and the middle half of all rounds.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Different keys that an operation goes round.
const KEYS: usize = 1_000;
/// Rounds in which times are taken.
const ROUNDS: usize = 40;
/// Operations that are counted together.
const COUNTED: usize = 9_600;
/// Longest wait for a server that runs fifty times slower than usual.
const PATIENCE: Duration = Duration::from_secs(120);
const INTERNAL: &str = "meridian-internal";

/// An operation with one key; `#` stands for the key's number.
struct Operation {
    name: &'static str,
    words: &'static [&'static str],
    /// Lines of a reply.
    lines: usize,
}

const OPERATIONS: &[Operation] = &[
    operation("SET", &["SET", "s:#", "sixteen-bytes---"], 1),
    operation("GET", &["GET", "s:#"], 2),
    operation("INCR", &["INCR", "n:#"], 1),
    operation("HSET", &["HSET", "h:#", "field", "sixteen-bytes---"], 1),
    operation("SADD", &["SADD", "m:#", "member"], 1),
];

const fn operation(name: &'static str, words: &'static [&'static str], lines: usize) -> Operation {
    Operation { name, words, lines }
}

/// How a server is loaded, and what it is told before it is measured.
struct Setup {
    name: &'static str,
    module: Option<&'static [&'static str]>,
    before: Option<&'static [&'static str]>,
}

const SETUPS: &[Setup] = &[
    Setup {
        name: "plain",
        module: None,
        before: None,
    },
    Setup {
        name: "fence only",
        module: Some(&["engine", "none", "fence", "on"]),
        // A deadline, not `forever`: the clock is to be read.
        before: Some(&["CRDT.FENCE", "PERMIT", "1", "9000000000000000"]),
    },
    Setup {
        name: "Active-Active",
        module: Some(&[]),
        before: Some(&["CRDT.CONFIG", "SET", "1", "1", "1"]),
    },
];

fn main() -> Outcome<()> {
    println!("{}\n\n{}", instructions()?, times()?);
    Ok(())
}

fn instructions() -> Outcome<String> {
    let mut table = String::from("operation  P    plain  ");
    for setup in &SETUPS[1..] {
        write!(table, "{:>14} (ratio)", setup.name)?;
    }
    let measured: Vec<Vec<u64>> = SETUPS.iter().map(measure).collect::<Outcome<_>>()?;
    for (row, (operation, depth)) in cases().enumerate() {
        let plain = measured[0][row];
        write!(table, "\n{:<9} {depth:>2} {plain:>8}  ", operation.name)?;
        for setup in &measured[1..] {
            let ratio = plain as f64 / setup[row] as f64;
            write!(table, "{:>14} ({ratio:.3})", setup[row])?;
        }
    }
    Ok(format!(
        "instructions of the server for each operation; ratio: plain / with the module\n{table}"
    ))
}

/// Operations a second of each setup, and how much of the first one's the others reach.
fn times() -> Outcome<String> {
    let servers = SETUPS.iter().map(|setup| Server::start(setup, false));
    let servers: Vec<Server> = servers.collect::<Outcome<_>>()?;
    let mut clients: Vec<UnixStream> = servers
        .iter()
        .map(Server::connect)
        .collect::<Outcome<_>>()?;
    let mut table = format!(
        "operations a second over a Unix socket, {ROUNDS} rounds in turn; ratio: with the module / plain\n\
         operation  P     plain"
    );
    for setup in &SETUPS[1..] {
        write!(table, "  {:>14} ratio (middle half)", setup.name)?;
    }
    for (operation, depth) in cases() {
        let mut rates = vec![Vec::new(); clients.len()];
        for round in 0..=ROUNDS {
            for (client, rates) in clients.iter_mut().zip(&mut rates) {
                let begun = Instant::now();
                run(client, operation, depth, COUNTED)?;
                // After the first round every key exists and nothing is done for the first time.
                if round > 0 {
                    rates.push(COUNTED as f64 / begun.elapsed().as_secs_f64());
                }
            }
        }
        write!(
            table,
            "\n{:<9} {depth:>2} {:>9.0}",
            operation.name,
            at(&rates[0], 2)
        )?;
        for with in &rates[1..] {
            let pairs = with.iter().zip(&rates[0]);
            let ratios: Vec<f64> = pairs.map(|(with, plain)| with / plain).collect();
            let [low, middle, high] = [1, 2, 3].map(|quarter| at(&ratios, quarter));
            write!(
                table,
                "  {:>14.0} {middle:.3} ({low:.3}-{high:.3})",
                at(with, 2)
            )?;
        }
    }
    Ok(table)
}

/// The value below which so many quarters of all lie.
fn at(values: &[f64], quarter: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) * quarter / 4]
}

/// Operations, each alone and sixteen at once.
fn cases() -> impl Iterator<Item = (&'static Operation, usize)> {
    OPERATIONS
        .iter()
        .flat_map(|operation| [1, 16].map(|depth| (operation, depth)))
}

fn measure(setup: &Setup) -> Outcome<Vec<u64>> {
    let server = Server::start(setup, true)?;
    let mut client = server.connect()?;
    let mut figures = Vec::new();
    for (operation, depth) in cases() {
        // Twice: after the first round every key exists and nothing is done for the first time.
        run(&mut client, operation, depth, 2 * KEYS)?;
        server.count()?;
        run(&mut client, operation, depth, COUNTED)?;
        figures.push(server.count()? / COUNTED as u64);
    }
    Ok(figures)
}

/// Sends operations, `depth` at a time, and waits for the replies to each lot.
fn run(client: &mut UnixStream, operation: &Operation, depth: usize, times: usize) -> Outcome<()> {
    let lots = (0..times / depth).map(|lot| {
        let keys = (lot * depth..(lot + 1) * depth).map(|place| (place % KEYS).to_string());
        keys.flat_map(|key| {
            let words = operation.words.iter().map(|word| word.replace('#', &key));
            packed(&words.collect::<Vec<_>>())
        })
        .collect::<Vec<u8>>()
    });
    for lot in lots {
        exchange(client, &lot, depth * operation.lines)?;
    }
    Ok(())
}

/// A command as clients send it.
fn packed<T: AsRef<str>>(words: &[T]) -> Vec<u8> {
    let head = format!("*{}\r\n", words.len());
    let words = words.iter().map(AsRef::as_ref);
    let rest = words.map(|word| format!("${}\r\n{word}\r\n", word.len()));
    (head + &rest.collect::<String>()).into_bytes()
}

/// Sends bytes and reads so many lines, none of which may be an error.
fn exchange(client: &mut UnixStream, bytes: &[u8], lines: usize) -> Outcome<()> {
    client.write_all(bytes)?;
    let mut reply = Vec::new();
    let mut part = [0; 4096];
    while reply.iter().filter(|byte| **byte == b'\n').count() < lines {
        match client.read(&mut part)? {
            0 => return Err("the server closed the connection".into()),
            length => reply.extend_from_slice(&part[..length]),
        }
    }
    if reply
        .split(|byte| *byte == b'\n')
        .any(|line| line.starts_with(b"-"))
    {
        return Err(format!("refused: {}", String::from_utf8_lossy(&reply)).into());
    }
    Ok(())
}

/// A server, under callgrind if its instructions are counted.
struct Server {
    process: Child,
    directory: TempDir,
}

impl Server {
    fn start(setup: &Setup, counted: bool) -> Outcome<Self> {
        let directory = TempDir::new()?;
        let users =
            format!("user default on nopass ~* &* +@all\nuser {INTERNAL} on nopass ~* &* +@all\n");
        fs::write(directory.path().join("users.acl"), users)?;
        let server = std::env::var_os("MERIDIAN_VALKEY_SERVER")
            .map_or_else(|| workspace().join("tools/valkey-server"), PathBuf::from);
        let mut command = if counted {
            let mut under = Command::new("valgrind");
            under.args(["--tool=callgrind", "--trace-children=yes"]);
            under.arg("--callgrind-out-file=counts").arg(server);
            under
        } else {
            Command::new(server)
        };
        command
            .current_dir(directory.path())
            // The server's clock costs the same for each second, and seconds are many here.
            .args([
                "--port",
                "0",
                "--unixsocket",
                "s.sock",
                "--save",
                "",
                "--hz",
                "1",
            ])
            .args(["--dynamic-hz", "no", "--aclfile", "users.acl"]);
        if let Some(arguments) = setup.module {
            command.arg("--loadmodule").arg(library()?);
            command.args(["internal-user", INTERNAL]).args(arguments);
        }
        let process = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Self { process, directory };
        if let Some(words) = setup.before {
            let mut client = server.connect()?;
            exchange(&mut client, &packed(&["AUTH", INTERNAL, "any"]), 1)?;
            exchange(&mut client, &packed(words), 1)?;
        }
        Ok(server)
    }

    fn connect(&self) -> Outcome<UnixStream> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(self.directory.path().join("s.sock")) {
                Ok(mut client) => {
                    client.set_read_timeout(Some(PATIENCE))?;
                    exchange(&mut client, &packed(&["PING"]), 1)?;
                    return Ok(client);
                }
                Err(error) if Instant::now() > deadline => {
                    return Err(format!("the server did not start: {error}").into());
                }
                Err(_) => std::thread::park_timeout(Duration::from_millis(50)),
            }
        }
    }

    /// Instructions since the last call.
    fn count(&self) -> Outcome<u64> {
        let before = self.dumps()?;
        let id = self.process.id().to_string();
        let told = Command::new("callgrind_control")
            .args(["--dump", &id])
            .output()?;
        if !told.status.success() {
            return Err(format!(
                "callgrind_control: {}",
                String::from_utf8_lossy(&told.stderr)
            )
            .into());
        }
        let path = self.directory.path().join(format!("counts.{}", before + 1));
        let text = fs::read_to_string(&path)?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
        let total = total.ok_or_else(|| format!("{}: no line 'totals'", path.display()))?;
        Ok(total.trim().parse()?)
    }

    fn dumps(&self) -> Outcome<usize> {
        let names = fs::read_dir(self.directory.path())?.filter_map(Result::ok);
        let is_dump = |name: String| name.starts_with("counts.");
        Ok(names
            .filter(|entry| is_dump(entry.file_name().to_string_lossy().into_owned()))
            .count())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The module, built for release: cargo does not build it for benches.
fn library() -> Outcome<PathBuf> {
    let target = std::env::current_exe()?;
    let path = target
        .ancestors()
        .nth(2)
        .map(|folder| folder.join("libcrdt.so"));
    let path = path.ok_or("this program lies in no target folder")?;
    if path.exists() {
        return Ok(path);
    }
    Err(format!(
        "{}: not there; run: cargo build --release -p crdt-module",
        path.display()
    )
    .into())
}
