//! Processes of etcd for tests, and three of them that are one store. `hub/tests/hub_replicas.rs` includes this file too.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{EtcdSettings, EtcdStore, Tls};

/// How long a member may take to answer.
const START: Duration = Duration::from_secs(60);

/// An etcd of three members.
pub(super) struct Group {
    dir: TempDir,
    ports: Vec<(u16, u16)>,
    processes: Vec<Child>,
}

impl Group {
    pub(super) async fn start() -> Self {
        let ports: Vec<_> = (0..3).map(|_| (free_port(), free_port())).collect();
        let mut group = Self {
            dir: tempfile::tempdir().unwrap(),
            ports,
            processes: Vec::new(),
        };
        for at in 0..3 {
            let process = group.member(at);
            group.processes.push(process);
        }
        answers(&group.settings()).await;
        group
    }

    pub(super) fn settings(&self) -> EtcdSettings {
        let address = |(client, _): &(u16, u16)| format!("http://127.0.0.1:{client}");
        EtcdSettings {
            endpoints: self.ports.iter().map(address).collect(),
            root: "/meridian".to_owned(),
            tls: Tls::default(),
            login: None,
        }
    }

    pub(super) async fn kill(&mut self, at: usize) {
        end(&mut self.processes[at]);
    }

    /// Starts it again and waits until it has caught up: the next one may be killed then.
    pub(super) async fn restart(&mut self, at: usize) {
        self.processes[at] = self.member(at);
        let all = self.settings();
        let alone = EtcdSettings {
            endpoints: vec![all.endpoints[at].clone()],
            ..all
        };
        answers(&alone).await;
    }

    fn member(&self, at: usize) -> Child {
        let name = |at: usize| format!("member-{at}");
        let ports = self.ports.iter().enumerate();
        let cluster: Vec<_> = ports
            .map(|(at, (_, peer))| format!("{}=http://127.0.0.1:{peer}", name(at)))
            .collect();
        let dir = self.dir.path();
        member(
            dir,
            &name(at),
            "http",
            self.ports[at],
            &cluster.join(","),
            &[],
        )
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.processes.iter_mut().for_each(end);
    }
}

pub(super) fn end(process: &mut Child) {
    // It may have ended by itself, which the test has noticed by then.
    drop(process.kill());
    drop(process.wait());
}

/// Of one counter for all of a test program.
pub(crate) fn free_port() -> u16 {
    // Below the ports that the kernel gives to connections, and none twice: another could take one that is only looked for.
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

pub(super) fn member(
    dir: &Path,
    name: &str,
    scheme: &str,
    (client, peer): (u16, u16),
    cluster: &str,
    more: &[String],
) -> Child {
    let client = format!("{scheme}://127.0.0.1:{client}");
    let peer = format!("http://127.0.0.1:{peer}");
    let alone = format!("{name}={peer}");
    let log = std::fs::File::create(dir.join(format!("{name}.log"))).unwrap();
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tools/etcd");
    Command::new(program)
        .args(["--name", name, "--data-dir"])
        .arg(dir.join(name))
        .args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args([
            "--initial-cluster",
            if cluster.is_empty() { &alone } else { cluster },
        ])
        .args(["--log-level", "warn", "--unsafe-no-fsync"])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Waits until a store can be opened.
pub(super) async fn answers(settings: &EtcdSettings) {
    let begun = Instant::now();
    loop {
        match EtcdStore::open(settings).await {
            Ok(_) => return,
            Err(error) if begun.elapsed() > START => panic!("{error:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
