//! The end of a container's memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use redis::Value;

use super::client::{Connection, Target};
use super::inject::{self, Undo};
use super::site::Site;
use crate::lab::ProcessRecord;

/// What the shard may still take before its container's memory ends.
const SPARE_BYTES: u64 = 24 << 20;
/// Values that are written until the memory ends, and how many at most; the database's limit is above their sum.
const VALUE: usize = 1 << 20;
const VALUES: usize = 80;
/// How long a value may take before the next attempt.
const ANSWERED: Duration = Duration::from_secs(1);
/// How long values are written to a pod that the kernel neither ends nor lets answer.
const PRESSURE: Duration = Duration::from_secs(30);

/// Lets the container's memory end a little above what it uses, and writes until Valkey is gone.
///
/// At the edge of its memory a pod is either killed, or the kernel keeps it so busy finding pages that it falls silent. Who
/// leaves it alone then lets it find some, and it goes on before anybody need take over.
pub(super) async fn exhaust(site: &Site, pod: &str) -> Result<Undo> {
    let valkey = site.process(pod, "valkey-server")?;
    let (limit, usage) = memory_files(valkey.process.pid)?;
    let read =
        |path: &Path| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    let (before, used) = (read(&limit)?, read(&usage)?.trim().parse::<u64>()?);
    fs::write(&limit, (used + SPARE_BYTES).to_string())
        .with_context(|| format!("limit {}", limit.display()))?;
    let undo = Undo::Memory { limit, before };
    let (target, process) = (site.direct(pod)?, valkey.process);
    let pressed = std::thread::spawn(move || press(&target, &process));
    let pressed = tokio::task::spawn_blocking(move || pressed.join()).await?;
    let pressed = pressed.map_err(|_| anyhow::anyhow!("the client of large values panicked"));
    match pressed.and_then(|pressed| pressed) {
        Ok(()) => Ok(undo),
        Err(error) => {
            inject::undo(site, undo).await?;
            Err(error)
        }
    }
}

/// Writes large values until the process is gone or takes none any more, or nobody has been answered for as long as anybody
/// waits.
fn press(target: &Target, process: &ProcessRecord) -> Result<()> {
    let value = "x".repeat(VALUE);
    let until = Instant::now() + PRESSURE;
    let mut connection = None;
    let (mut taken, mut silent) = (0, false);
    while process.is_alive() && Instant::now() < until {
        if taken == VALUES {
            bail!("all {VALUES} MiB were taken and the memory did not end");
        }
        let key = format!("large:{taken}");
        match set(&mut connection, target, &key, &value) {
            Ok(Value::Okay) => (taken, silent) = (taken + 1, false),
            // Another leads already.
            Ok(_) => return Ok(()),
            Err(_) => (connection, silent) = (None, true),
        }
    }
    if process.is_alive() && !silent {
        bail!("the kernel let Valkey live, and it answers: {taken} MiB were taken");
    }
    Ok(())
}

fn set(
    connection: &mut Option<Connection>,
    target: &Target,
    key: &str,
    value: &str,
) -> Result<Value> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(Connection::open(target)?),
    };
    connection.ask(&["SET", key, value, "EX", "60"], ANSWERED)
}

/// Limit and use of memory of the control group that a process is in.
fn memory_files(pid: u32) -> Result<(PathBuf, PathBuf)> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let root = Path::new("/sys/fs/cgroup");
    let found = groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let path = path.trim_start_matches('/');
        let first = controllers.split(',').any(|name| name == "memory");
        first.then(|| root.join("memory").join(path))
    });
    let version_2 = || {
        let line = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        Some(root.join(line))
    };
    if let Some(group) = found {
        let file = |name: &str| group.join(format!("memory.{name}_in_bytes"));
        return Ok((file("limit"), file("usage")));
    }
    let group = version_2().context("the process is in no control group for memory")?;
    Ok((group.join("memory.max"), group.join("memory.current")))
}
