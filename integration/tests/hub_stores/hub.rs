//! A process of the hub, and the command line beside it.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::body::{self, Body};
use http::{Request, header, response::Parts};
use meridian_agent::link::{identity::Identity, join::JoinMaterial};
use meridian_hub::{ca::Authority, web::forward::Client};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::joining::join;
use super::member::Member;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Something secret in the environment of every hub here.
pub(crate) const SECRET_OF_THE_ENVIRONMENT: &str = "Canary0fTheEnvironment7b1e";

/// Path of the databases.
pub(crate) const DATABASES: &str = "/api/v1/activeactivedatabases";

/// What belongs to a store and is not in it.
pub(crate) const AUTHORITY: [&str; 3] = ["ca/root.key", "ca/root.crt", "admin-token"];

/// A hub. It ends with the test.
pub(crate) struct Hub {
    pub(crate) dir: TempDir,
    web: u16,
    link: u16,
    endpoints: Vec<String>,
    process: Option<Child>,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            success: output.status.success(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Hub {
    /// On a file.
    pub(crate) async fn start() -> Self {
        Self::over(Vec::new()).await
    }

    /// On these members of etcd, or on a file if there are none.
    pub(crate) async fn over(endpoints: Vec<String>) -> Self {
        let mut hub = Self::stopped();
        hub.endpoints = endpoints;
        hub.again().await;
        hub
    }

    /// One that was never started.
    pub(crate) fn stopped() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            web: free_port(),
            link: free_port(),
            endpoints: Vec::new(),
            process: None,
        }
    }

    /// At the addresses of one that runs no more.
    pub(crate) fn listens_as(&mut self, other: &Self) {
        (self.web, self.link) = (other.web, other.link);
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.data().join("hub.redb")
    }

    /// From the next start on.
    #[cfg(feature = "lab")]
    pub(crate) fn keep_state_in(&mut self, endpoints: Vec<String>) {
        self.endpoints = endpoints;
    }

    /// A second replica over the same etcd, which follows.
    #[cfg(feature = "lab")]
    pub(crate) async fn follower(&self) -> Self {
        let mut hub = Self::stopped();
        hub.endpoints.clone_from(&self.endpoints);
        hub.has_the_authority_of(self);
        hub.spawn();
        let begun = Instant::now();
        while hub.role().await.as_deref() != Some("follows") {
            assert!(begun.elapsed() < PATIENCE, "{}", hub.logged());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        hub
    }

    /// Gets what belongs to a store and is not in it: its authority and the first administrator's token.
    pub(crate) fn has_the_authority_of(&self, other: &Self) {
        self.has_the_authority_in(&other.data());
    }

    /// As [`Hub::has_the_authority_of`], out of a folder.
    pub(crate) fn has_the_authority_in(&self, folder: &Path) {
        std::fs::create_dir_all(self.data().join("ca")).unwrap();
        for file in AUTHORITY {
            let own = self.data().join(file);
            std::fs::copy(folder.join(file), &own).unwrap();
            // As a hub makes them: git keeps no such modes.
            std::fs::set_permissions(own, Permissions::from_mode(0o600)).unwrap();
        }
    }

    #[cfg(feature = "lab")]
    async fn role(&self) -> Option<String> {
        let (_, hub) = self.call("GET", "/api/v1/hub", None).await?;
        Some(hub["role"].as_str()?.to_owned())
    }

    /// Starts one that cannot, and returns what it says.
    pub(crate) fn refuses_to_start(&self) -> Ran {
        self.command()
            .stderr(Stdio::piped())
            .output()
            .unwrap()
            .into()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program("meridian-hub"));
        command
            .args(["serve", "--data-dir"])
            .arg(self.data())
            .args(["--web-listen", &format!("127.0.0.1:{}", self.web)])
            .args(["--link-listen", &format!("127.0.0.1:{}", self.link)])
            .args(["--advertise-link", &format!("127.0.0.1:{}", self.link)])
            .args(["--advertise-web", &format!("127.0.0.1:{}", self.web)])
            .args(self.state())
            .env("MERIDIAN_HUB_CA_MARGIN", "200ms")
            .env("MERIDIAN_PROXY_PASSWORD", SECRET_OF_THE_ENVIRONMENT)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    fn spawn(&mut self) {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let log = std::fs::File::options();
        let log = log.clone().create(true).append(true).open(self.log());
        let process = self.command().stderr(log.unwrap()).spawn();
        self.process = Some(process.unwrap());
    }

    /// Starts and waits until it leads.
    pub(crate) async fn again(&mut self) {
        self.spawn();
        let begun = Instant::now();
        let ready = || {
            let address = ([127, 0, 0, 1], self.link).into();
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
        };
        while !ready() || self.call("GET", "/api/v1/hub", None).await.is_none() {
            assert!(begun.elapsed() < PATIENCE, "{}", self.logged());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn state(&self) -> Vec<String> {
        match self.endpoints.is_empty() {
            true => Vec::new(),
            false => vec!["--etcd-endpoints".to_owned(), self.endpoints.join(",")],
        }
    }

    /// SIGTERM, and waits for its end.
    pub(crate) async fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        let pid = process.id().to_string();
        let sent = Command::new("kill").args(["-s", "TERM", &pid]).status();
        assert!(sent.unwrap().success());
        let ended = tokio::task::spawn_blocking(move || process.wait()).await;
        let ended = ended.unwrap().unwrap();
        assert!(ended.success(), "{ended:?}\n{}", self.logged());
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("hub.log")
    }

    pub(crate) fn logged(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Asks as the administrator; `None` where nobody answers.
    async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        let (parts, answer) = self.call_within(method, path, body, None).await?;
        Some((parts.status.as_u16(), answer))
    }

    /// As [`Hub::call`], within a trace, and with the whole head of the answer.
    pub(crate) async fn call_within(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        traceparent: Option<&str>,
    ) -> Option<(Parts, Value)> {
        let domain = "meridian.local".parse().unwrap();
        let (ca, _) = Authority::given(&self.data().join("ca"), domain).ok()?;
        let token = std::fs::read_to_string(self.data().join("admin-token")).ok()?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json");
        let request = match traceparent {
            Some(traceparent) => request.header("traceparent", traceparent),
            None => request,
        };
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let client = Client::new(&ca.roots()).unwrap();
        let address = format!("127.0.0.1:{}", self.web);
        let sent = client.send(&address, request.body(body).unwrap()).await;
        let (parts, body) = sent.ok()?.into_parts();
        let bytes = body::to_bytes(body, 1 << 20).await.ok()?;
        // A hub that does not lead yet.
        let leads = parts.status != 503;
        leads.then(|| (parts, serde_json::from_slice(&bytes).unwrap_or_default()))
    }

    pub(crate) async fn status(&self) -> Value {
        self.call("GET", "/api/v1/hub", None).await.unwrap().1
    }

    /// A database over both members; the status of the answer.
    pub(crate) async fn create(&self, name: &str) -> u16 {
        let body = database(name);
        self.call("POST", DATABASES, Some(&body)).await.unwrap().0
    }

    /// As [`Hub::create`], once the hub knows the RECs of both, and returns when it is planned.
    pub(crate) async fn creates(&self, name: &str) {
        let begun = Instant::now();
        while self.create(name).await != 202 {
            assert!(begun.elapsed() < PATIENCE, "{}", self.logged());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        while self.database(name).await["status"]["planNumber"].is_null() {
            assert!(begun.elapsed() < PATIENCE, "{}", self.logged());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it knows a remote cluster.
    pub(crate) async fn knows(&self, name: &str) {
        let (begun, path) = (Instant::now(), format!("/api/v1/remoteclusters/{name}"));
        while self.call("GET", &path, None).await.unwrap().0 != 200 {
            assert!(begun.elapsed() < PATIENCE, "{}", self.logged());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn database(&self, name: &str) -> Value {
        let path = format!("{DATABASES}/{name}");
        self.call("GET", &path, None).await.unwrap().1
    }

    /// Makes a join token for a cluster of this name; the status of the answer.
    pub(crate) async fn token(&self, cluster: &str) -> u16 {
        let path = "/api/v1/tokens";
        let made = self.call("POST", path, Some(&token_for(cluster))).await;
        made.unwrap().0
    }

    /// The names of the clusters for which there are tokens.
    pub(crate) async fn tokens(&self) -> BTreeSet<String> {
        let (_, list) = self.call("GET", "/api/v1/tokens", None).await.unwrap();
        let items = list["items"].as_array().unwrap();
        let names = items.iter().map(|it| it["spec"]["clusterName"].as_str());
        names.map(|name| name.unwrap().to_owned()).collect()
    }

    /// What a cluster of this name joins with; perhaps a person must approve it.
    pub(crate) async fn material(&self, name: &str, require_approval: bool) -> JoinMaterial {
        let path = "/api/v1/tokens";
        let mut wanted = token_for(name);
        wanted["spec"]["requireApproval"] = json!(require_approval);
        let made = self.call("POST", path, Some(&wanted)).await;
        let made = &made.unwrap().1["status"]["join"];
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        JoinMaterial {
            addresses: vec![format!("127.0.0.1:{}", self.link).parse().unwrap()],
            ca_pem: text("caPem"),
            token: text("token"),
            name: name.to_owned(),
        }
    }

    /// A member that has joined.
    pub(crate) async fn joined(&self, name: &str, uid: &str) -> Member {
        let material = self.material(name, false).await;
        let mut identity = Identity::generate().unwrap();
        join(&mut identity, &material, uid).await.unwrap();
        Member {
            identity,
            uid: uid.to_owned(),
        }
    }

    /// Runs the command line against this hub.
    pub(crate) fn cli(&self, args: &[&str]) -> Ran {
        let ran = Command::new(program("meridian"))
            .args(args)
            .env("MERIDIAN_HUB", format!("https://127.0.0.1:{}", self.web))
            .env("MERIDIAN_TOKEN_FILE", self.data().join("admin-token"))
            .env("MERIDIAN_CA_FILE", self.roots_file())
            .stdin(Stdio::null())
            .output();
        ran.unwrap().into()
    }

    /// What people trust the hub by: the roots that it printed, and before that its first one.
    pub(crate) fn roots_file(&self) -> PathBuf {
        let printed = self.dir.path().join("roots.crt");
        if printed.exists() {
            return printed;
        }
        self.data().join("ca/root.crt")
    }

    /// People get the roots that the hub prints.
    pub(crate) fn prints_its_roots(&self) {
        let ran = self.cli(&["ca", "roots"]);
        assert!(ran.success, "{ran:?}");
        std::fs::write(self.dir.path().join("roots.crt"), ran.stdout).unwrap();
    }

    /// SIGKILL, as a machine that loses its power.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Backs the hub up while it runs.
    pub(crate) fn backup(&self) -> PathBuf {
        let number = std::fs::read_dir(self.dir.path()).unwrap().count();
        let file = self.dir.path().join(format!("{number}.backup"));
        let ran = self.cli(&["hub", "backup", "--file", file.to_str().unwrap()]);
        assert!(ran.success, "{ran:?}");
        file
    }

    /// Runs `meridian-hub restore` for this hub, which does not run.
    pub(crate) fn restore(&self, file: &Path, more: &[&str]) -> Ran {
        let ran = Command::new(program("meridian-hub"))
            .args(["restore", "--file"])
            .arg(file)
            .arg("--data-dir")
            .arg(self.data())
            .args(self.state())
            .args(more)
            .output();
        ran.unwrap().into()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself, which the test has noticed by then.
            drop(process.kill());
            drop(process.wait());
        }
    }
}

/// A database over both members.
pub(crate) fn database(name: &str) -> Value {
    json!({
        "apiVersion": "app.redislabs.com/v1alpha1",
        "kind": "RedisEnterpriseActiveActiveDatabase",
        "metadata": { "name": name },
        "spec": {
            "participatingClusters": [{ "name": "eu-1" }, { "name": "us-1" }],
            "globalConfigurations": { "memorySize": "100MB" },
        },
    })
}

pub(crate) fn token_for(cluster: &str) -> Value {
    json!({
        "apiVersion": "meridian.dev/v1alpha1",
        "kind": "Token",
        "metadata": {},
        "spec": { "clusterName": cluster },
    })
}

/// A program beside the folder of the tests.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap();
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is missing: cargo build --bins",
        path.display()
    );
    path
}

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
