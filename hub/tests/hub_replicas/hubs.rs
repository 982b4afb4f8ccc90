//! Processes of the hub over one etcd.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use axum::body::{self, Body};
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use meridian_hub::ca::Authority;
use meridian_hub::web::forward::Client;
use serde_json::Value;
use tempfile::TempDir;

use super::group::{Group, free_port};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An answer of the web API.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// Three replicas, what they share, and the etcd below them. All ends with the test.
pub(crate) struct Hubs {
    pub(crate) etcd: Group,
    pub(crate) dir: TempDir,
    ports: Vec<(u16, u16)>,
    processes: Vec<Child>,
    client: Client,
    token: String,
}

impl Hubs {
    /// Starts them and waits until one leads and all are ready.
    pub(crate) async fn start() -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca");
        let made = Command::new(program())
            .arg("init")
            .arg("--ca-dir")
            .arg(&ca)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let (authority, _) = Authority::given(&ca, "meridian.local".parse().unwrap()).unwrap();
        let mut hubs = Self {
            etcd: Group::start().await,
            client: Client::new(&authority.roots()).unwrap(),
            token: std::fs::read_to_string(ca.join("admin-token")).unwrap(),
            dir,
            ports: (0..3).map(|_| (free_port(), free_port())).collect(),
            processes: Vec::new(),
        };
        for at in 0..3 {
            let name = |what: &str| hubs.dir.path().join(format!("hub-{at}{what}"));
            let log = std::fs::File::create(name(".log")).unwrap();
            let mut command = hubs.command(&name(""), hubs.ports[at], &ca);
            let process = command.stderr(log).spawn().unwrap();
            hubs.processes.push(process);
        }
        hubs.leader_among(&[0, 1, 2]).await;
        for at in 0..3 {
            hubs.until_ready(at).await;
        }
        hubs
    }

    fn command(&self, dir: &Path, (web, link): (u16, u16), ca: &Path) -> Command {
        let endpoints = self.etcd.settings().endpoints.join(",");
        let mut command = Command::new(program());
        command
            .args(["serve", "--data-dir"])
            .arg(dir)
            .arg("--ca-dir")
            .arg(ca)
            .args(["--web-listen", &format!("127.0.0.1:{web}")])
            .args(["--link-listen", &format!("127.0.0.1:{link}")])
            .args(["--replica-web", &format!("127.0.0.1:{web}")])
            .args(["--advertise-link", "localhost:8444"])
            .args(["--etcd-endpoints", &endpoints])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Runs one more hub, with this authority, until it ends by itself.
    pub(crate) fn another(&self, ca: &Path) -> Output {
        let dir = self.dir.path().join("another");
        let mut command = self.command(&dir, (free_port(), free_port()), ca);
        command.stderr(Stdio::piped()).output().unwrap()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, at: usize) {
        self.processes[at].kill().unwrap();
        self.processes[at].wait().unwrap();
    }

    /// Another signal, by its name.
    pub(crate) fn signal(&self, at: usize, name: &str) {
        let pid = self.processes[at].id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self, at: usize) -> bool {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.processes[at].try_wait().unwrap() {
                return status.success();
            }
            assert!(begun.elapsed() < PATIENCE, "{}", self.logs());
            pause().await;
        }
    }

    /// Whether somebody listens on the link of this replica: only a leader does.
    pub(crate) fn leads(&self, at: usize) -> bool {
        let address = ([127, 0, 0, 1], self.ports[at].1).into();
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
    }

    /// Waits until exactly one of these leads.
    pub(crate) async fn leader_among(&self, candidates: &[usize]) -> usize {
        let begun = Instant::now();
        loop {
            let leaders = candidates.iter().filter(|at| self.leads(**at));
            match leaders.copied().collect::<Vec<_>>()[..] {
                [one] => return one,
                [] => assert!(begun.elapsed() < PATIENCE, "nobody leads\n{}", self.logs()),
                ref more => panic!("{more:?} lead at once\n{}", self.logs()),
            }
            pause().await;
        }
    }

    async fn until_ready(&self, at: usize) {
        let begun = Instant::now();
        loop {
            match self.call(at, "GET", "/readyz", None, &[]).await {
                Some(answer) if answer.status == StatusCode::OK => return,
                other => assert!(begun.elapsed() < PATIENCE, "{other:?}\n{}", self.logs()),
            }
            pause().await;
        }
    }

    /// Asks a replica; `None` where it does not answer.
    pub(crate) async fn call(
        &self,
        at: usize,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&'static str, &str)],
    ) -> Option<Answer> {
        let answer = self.send(at, method, path, body, headers).await?;
        let (parts, body) = answer.into_parts();
        let bytes = body::to_bytes(body, 1 << 20).await.ok()?;
        Some(Answer {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        })
    }

    /// Asks a replica, and leaves what it answers to be read; `None` where it does not answer.
    pub(crate) async fn send(
        &self,
        at: usize,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&'static str, &str)],
    ) -> Option<Response> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json");
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let mut request = request.body(body).unwrap();
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).unwrap();
            let name = HeaderName::from_static(name);
            request.headers_mut().insert(name, value);
        }
        let address = format!("127.0.0.1:{}", self.ports[at].0);
        let sent = self.client.send(&address, request);
        tokio::time::timeout(PATIENCE, sent).await.ok()?.ok()
    }

    /// Makes a join token for a cluster of this name through a replica.
    pub(crate) async fn write(&self, at: usize, name: &str) -> Option<Answer> {
        let body = serde_json::json!({
            "apiVersion": "meridian.dev/v1alpha1",
            "kind": "Token",
            "metadata": {},
            "spec": { "clusterName": name },
        });
        self.call(at, "POST", "/api/v1/tokens", Some(&body), &[])
            .await
    }

    /// Names of the clusters that tokens are for, as a replica answers; with a header that asks for the newest, or without.
    pub(crate) async fn names(
        &self,
        at: usize,
        headers: &[(&'static str, &'static str)],
    ) -> Vec<String> {
        let answer = self.call(at, "GET", "/api/v1/tokens", None, headers).await;
        let items = answer.map(|answer| answer.body["items"].clone());
        let items = items.unwrap_or_default();
        let names = items.as_array().into_iter().flatten();
        let name = |item: &Value| item["spec"]["clusterName"].as_str().map(str::to_owned);
        names.filter_map(name).collect()
    }

    pub(crate) fn logs(&self) -> String {
        let logs = (0..3).map(|at| {
            let path = self.dir.path().join(format!("hub-{at}.log"));
            format!(
                "--- {at}\n{}",
                std::fs::read_to_string(path).unwrap_or_default()
            )
        });
        logs.collect()
    }
}

impl Drop for Hubs {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // It may have ended by itself, which the test has noticed by then.
            drop(process.kill());
            drop(process.wait());
        }
    }
}

pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_meridian-hub"))
}
