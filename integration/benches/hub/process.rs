//! The hub's process, and what the kernel says of it.

use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::{
    api::Api,
    etcd::{self, Etcd},
};

/// How long the hub may take until it answers.
const READY: Duration = Duration::from_secs(60);

/// What a hub keeps its state in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// A redb file.
    Redb,
    /// An etcd of one member on this machine, which syncs what it writes.
    Etcd,
}

/// What replicas have in common: an etcd and an authority.
#[derive(Clone)]
pub(crate) struct Shared {
    etcd: Arc<Etcd>,
    dir: Arc<TempDir>,
}

impl Shared {
    /// Starts the etcd and makes the authority.
    pub(crate) fn start(program: &Path) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let made = Command::new(program)
            .args(["init", "--ca-dir"])
            .arg(dir.path().join("ca"))
            .output()?;
        ensure!(made.status.success(), "{made:?}");
        Ok(Self {
            etcd: Arc::new(Etcd::start(dir.path())?),
            dir: Arc::new(dir),
        })
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca")
    }
}

/// A hub with a folder of its own, where its state is unless it shares one. It ends with this value.
pub(crate) struct Hub {
    program: PathBuf,
    shared: Option<Shared>,
    dir: TempDir,
    web: u16,
    link: u16,
    process: Child,
}

impl Hub {
    /// Starts one over a redb file and waits until it answers.
    pub(crate) async fn start(program: &Path) -> Result<(Self, Api)> {
        Self::start_over(program, Backing::Redb).await
    }

    /// Starts one and waits until it answers.
    pub(crate) async fn start_over(program: &Path, backing: Backing) -> Result<(Self, Api)> {
        let shared = match backing {
            Backing::Redb => None,
            Backing::Etcd => Some(Shared::start(program)?),
        };
        Self::start_with(program, shared).await
    }

    /// Starts one beside others that share their state with it, and waits until it answers.
    pub(crate) async fn start_with(program: &Path, shared: Option<Shared>) -> Result<(Self, Api)> {
        let dir = tempfile::tempdir()?;
        let (web, link) = (free_port()?, free_port()?);
        let process = spawn(program, dir.path(), (web, link), shared.as_ref(), None)?;
        let hub = Self {
            program: program.to_owned(),
            shared,
            dir,
            web,
            link,
            process,
        };
        let api = hub.ready().await?;
        Ok((hub, api))
    }

    /// Waits until it answers.
    pub(crate) async fn ready(&self) -> Result<Api> {
        let begun = Instant::now();
        loop {
            let failed = match Api::open(&self.authority(), self.web) {
                Ok(api) => match api.get("/api/v1/hub").await {
                    Ok(_) => return Ok(api),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            ensure!(
                begun.elapsed() < READY,
                "the hub does not answer: {failed:#}; {}",
                self.log_end()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills it as a crash would, and starts it again, on one core if that is named; returns when it was started.
    pub(crate) fn crash(&mut self, core: Option<usize>) -> Result<Instant> {
        self.kill()?;
        let started = Instant::now();
        self.restart(core)?;
        Ok(started)
    }

    /// Kills it as a crash would.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts one that was killed again, on one core if that is named.
    pub(crate) fn restart(&mut self, core: Option<usize>) -> Result<()> {
        let (ports, shared) = ((self.web, self.link), self.shared.as_ref());
        self.process = spawn(&self.program, self.dir.path(), ports, shared, core)?;
        Ok(())
    }

    /// Whether it takes members, which only the one that leads does.
    pub(crate) fn leads(&self) -> bool {
        TcpStream::connect(self.link()).is_ok()
    }

    /// Lets it run on every core again.
    pub(crate) fn unpin(&self) -> Result<()> {
        let last = std::thread::available_parallelism()?
            .get()
            .saturating_sub(1);
        let (cores, pid) = (format!("0-{last}"), self.process.id().to_string());
        let set = Command::new("taskset")
            .args(["-a", "-c", "-p", &cores, &pid])
            .stdout(Stdio::null())
            .status()?;
        ensure!(set.success(), "taskset failed: {set}");
        Ok(())
    }

    fn data(&self) -> PathBuf {
        data(self.dir.path())
    }

    /// Folder of the administrator's token and of the roots.
    fn authority(&self) -> PathBuf {
        let shared = self.shared.as_ref().map(Shared::ca);
        shared.unwrap_or_else(|| self.data())
    }

    /// Address of the link.
    pub(crate) fn link(&self) -> String {
        format!("127.0.0.1:{}", self.link)
    }

    /// Bytes of the store's file that are in use on the disk.
    pub(crate) fn store_bytes(&self) -> Result<u64> {
        use std::os::unix::fs::MetadataExt as _;
        let file = match &self.shared {
            Some(shared) => etcd::data(shared.dir.path()).join("member/snap/db"),
            None => self.data().join("hub.redb"),
        };
        Ok(fs::metadata(file)?.blocks() * 512)
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        Usage::of(self.process.id())
    }

    fn log_end(&self) -> String {
        let text = fs::read_to_string(log(self.dir.path())).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // It may have ended by itself, which the bench has noticed by then.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn data(dir: &Path) -> PathBuf {
    dir.join("data")
}

fn log(dir: &Path) -> PathBuf {
    dir.join("hub.log")
}

fn spawn(
    program: &Path,
    dir: &Path,
    (web, link): (u16, u16),
    shared: Option<&Shared>,
    core: Option<usize>,
) -> Result<Child> {
    let mut command = match core {
        Some(core) => {
            let mut pinned = Command::new("taskset");
            pinned.args(["-c", &core.to_string()]).arg(program);
            pinned
        }
        None => Command::new(program),
    };
    let replica = shared.map_or_else(Vec::new, |shared| {
        let (ca, web) = (shared.ca().into_os_string(), format!("127.0.0.1:{web}"));
        let named = ["--ca-dir".into(), ca, "--replica-web".into(), web.into()];
        let endpoint = ["--etcd-endpoints".into(), shared.etcd.url().into()];
        named.into_iter().chain(endpoint).collect()
    });
    let log = File::options().create(true).append(true).open(log(dir))?;
    command
        .args(["serve", "--data-dir"])
        .arg(data(dir))
        .args(["--web-listen", &format!("127.0.0.1:{web}")])
        .args(["--link-listen", &format!("127.0.0.1:{link}")])
        .args(["--advertise-link", &format!("127.0.0.1:{link}")])
        .args(["--advertise-web", &format!("127.0.0.1:{web}")])
        // As deploy/bundle/hub.yaml has it.
        .env(
            "_RJEM_MALLOC_CONF",
            "narenas:1,dirty_decay_ms:1000,muzzy_decay_ms:0",
        )
        // The bench is one caller that stands for many.
        .args(["--limit-requests", "0"])
        .args(replica)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {}", program.display()))
}

pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// What a process has used so far (proc_pid_stat(5), proc_pid_status(5), proc_pid_io(5)).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Processor time of all threads.
    pub(crate) cpu: Duration,
    /// Resident memory now, bytes.
    pub(crate) resident: u64,
    /// Bytes that went towards the disk.
    pub(crate) written: u64,
    /// When it was looked at.
    pub(crate) at: Instant,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let stat = read("stat")?;
        let (_, after) = stat.rsplit_once(')').context("no name in stat")?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        let ticks = |n: usize| -> Result<u64> { Ok(fields.get(n).context("short stat")?.parse()?) };
        let number = |text: &str, name: &str| -> Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let value = line.with_context(|| format!("no {name}"))?.trim();
            Ok(value.trim_end_matches(" kB").parse()?)
        };
        Ok(Self {
            // Hundredths of a second.
            cpu: Duration::from_millis((ticks(11)? + ticks(12)?) * 10),
            resident: number(&read("status")?, "VmRSS:")? * 1024,
            written: number(&read("io")?, "write_bytes:")?,
            at: Instant::now(),
        })
    }

    /// Processor time since an earlier look.
    pub(crate) fn cpu_since(&self, earlier: &Self) -> Duration {
        self.cpu.saturating_sub(earlier.cpu)
    }

    /// Percent of one core since an earlier look.
    pub(crate) fn busy_since(&self, earlier: &Self) -> f64 {
        let wall = self.at.duration_since(earlier.at).as_secs_f64();
        self.cpu_since(earlier).as_secs_f64() / wall * 100.0
    }
}
