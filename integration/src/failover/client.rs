//! A client that stands in any network of this machine: that of a pod, which no cut reaches, or that of a node.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use redis::Value;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustix::time::{ClockId, clock_gettime};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_millis(500);
/// How often a client that waits for an answer looks whether it should go on.
const LOOK: Duration = Duration::from_millis(100);

/// Microseconds of CLOCK_BOOTTIME, the clock of the fence.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let part = |value: i64| u64::try_from(value).unwrap_or_default();
    part(now.tv_sec) * 1_000_000 + part(now.tv_nsec) / 1_000
}

/// Where a client stands, whom it talks to, and as whom.
#[derive(Debug)]
pub(crate) struct Target {
    /// The network namespace.
    pub(crate) network: File,
    /// Whom.
    pub(crate) address: SocketAddr,
    /// The password of the default user.
    pub(crate) password: String,
}

/// The network in which a thread began.
#[derive(Debug)]
pub(crate) struct Home(File);

impl Home {
    /// The calling thread's.
    pub(crate) fn here() -> Result<Self> {
        Ok(Self(File::open("/proc/thread-self/ns/net")?))
    }

    /// Brings the calling thread back. Whoever stays in the network of a pod that is gone keeps its links alive, and the
    /// next pod with its address is not heard.
    pub(crate) fn enter(&self) -> Result<()> {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
            .context("leave the client's network")
    }
}

/// A connection with at most one unanswered command.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    /// Moves the calling thread into the target's network, for good, and connects.
    pub(crate) fn open(target: &Target) -> Result<Self> {
        move_into_link_name_space(target.network.as_fd(), Some(LinkNameSpaceType::Network))
            .context("enter the client's network")?;
        let stream = TcpStream::connect_timeout(&target.address, CONNECT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_write_timeout(Some(CONNECT))?;
        let read = Vec::new();
        let mut connection = Self { stream, read };
        let answer = connection.ask(&["AUTH", &target.password], CONNECT)?;
        ensure!(answer == Value::Okay, "AUTH: {answer:?}");
        Ok(connection)
    }

    /// Sends a command.
    pub(crate) fn send<S: AsRef<str>>(&mut self, words: &[S]) -> Result<()> {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word.as_ref());
        }
        self.stream.write_all(&command.get_packed_command())?;
        Ok(())
    }

    /// Waits for the answer to the last command for as long as `patient` says.
    pub(crate) fn answer(&mut self, patient: impl Fn() -> bool) -> Result<Value> {
        let mut part = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut part) {
                Ok(0) => bail!("closed"),
                Ok(length) => self.read.extend_from_slice(&part[..length]),
                Err(error) if is_pause(&error) && patient() => continue,
                Err(error) if is_pause(&error) => bail!("no answer in time"),
                Err(error) => return Err(error.into()),
            }
            // One answer at most is on its way, so what cannot be read yet is not whole yet.
            if let Ok(value) = redis::parse_redis_value(&self.read) {
                self.read.clear();
                return Ok(value);
            }
        }
    }

    /// Sends a command and waits for its answer.
    pub(crate) fn ask<S: AsRef<str>>(&mut self, words: &[S], within: Duration) -> Result<Value> {
        self.send(words)?;
        let started = Instant::now();
        self.answer(|| started.elapsed() < within)
    }
}

fn is_pause(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
