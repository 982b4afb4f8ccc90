//! An etcd of one member whose data is put aside and put back, as a snapshot of its volume.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use meridian_hub::store::etcd::{EtcdSettings, EtcdStore, Tls};
use tempfile::TempDir;

use super::hub::{PATIENCE, free_port};

/// What is done with the data while it is stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Put {
    Aside,
    Back,
}

/// Ends with the test.
pub(crate) struct Etcd {
    dir: TempDir,
    ports: (u16, u16),
    process: Child,
}

impl Etcd {
    pub(crate) async fn start() -> Self {
        let (dir, ports) = (tempfile::tempdir().unwrap(), (free_port(), free_port()));
        let process = member(&dir, ports);
        let etcd = Self {
            dir,
            ports,
            process,
        };
        etcd.answers().await;
        etcd
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        vec![format!("http://127.0.0.1:{}", self.ports.0)]
    }

    pub(crate) async fn stopped(&mut self, put: Put) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let path = |name: &str| self.dir.path().join(name);
        let (from, to) = match put {
            Put::Aside => (path("one"), path("copy")),
            Put::Back => (path("copy"), path("one")),
        };
        if to.exists() {
            std::fs::remove_dir_all(&to).unwrap();
        }
        let copied = Command::new("cp").arg("-a").args([from, to]).status();
        assert!(copied.unwrap().success());
        self.process = member(&self.dir, self.ports);
        self.answers().await;
    }

    async fn answers(&self) {
        let settings = EtcdSettings {
            endpoints: self.endpoints(),
            root: "/meridian".to_owned(),
            tls: Tls::default(),
            login: None,
        };
        let begun = Instant::now();
        while let Err(error) = EtcdStore::open(&settings).await {
            assert!(begun.elapsed() < PATIENCE, "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed by then.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn member(dir: &TempDir, (client, peer): (u16, u16)) -> Child {
    let address = |port: u16| format!("http://127.0.0.1:{port}");
    let log = std::fs::File::create(dir.path().join("etcd.log")).unwrap();
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tools/etcd");
    Command::new(program)
        .args(["--name", "one", "--data-dir"])
        .arg(dir.path().join("one"))
        .args(["--listen-client-urls", &address(client)])
        .args(["--advertise-client-urls", &address(client)])
        .args(["--listen-peer-urls", &address(peer)])
        .args(["--initial-advertise-peer-urls", &address(peer)])
        .args(["--initial-cluster", &format!("one={}", address(peer))])
        .args(["--log-level", "warn"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}
