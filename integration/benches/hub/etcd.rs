//! An etcd of one member that syncs what it writes, below a hub or below a Kubernetes API server.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::process::{Usage, free_port};

/// It ends with this value.
pub(crate) struct Etcd {
    client: u16,
    process: Child,
}

impl Etcd {
    /// Starts one with its data and its log in this folder; clients try until it answers.
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let (client, peer) = (free_port()?, free_port()?);
        let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tools/etcd");
        let (listen, peers) = (url(client), url(peer));
        let process = Command::new(&program)
            .args(["--name", "bench", "--log-level", "error", "--data-dir"])
            .arg(data(dir))
            .args(["--listen-client-urls", &listen])
            .args(["--advertise-client-urls", &listen])
            .args(["--listen-peer-urls", &peers])
            .args(["--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("bench={peers}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.join("etcd.log"))?)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Self { client, process })
    }

    /// Where clients reach it.
    pub(crate) fn url(&self) -> String {
        url(self.client)
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        Usage::of(self.process.id())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended by itself, which its clients have noticed by then.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Where the etcd of a folder keeps its data.
pub(crate) fn data(dir: &Path) -> PathBuf {
    dir.join("etcd")
}
