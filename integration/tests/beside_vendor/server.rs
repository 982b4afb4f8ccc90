//! An API server and its etcd, without any host: what definitions keep, who owns what and what is refused is all theirs.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use meridian_integration::lab::{Binaries, LabConfig};
use meridian_integration::shell::{self, Output};
use meridian_integration::stack::cluster;
use meridian_integration::wait::until_true;
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// The namespace of Meridian.
pub(crate) const NAMESPACE: &str = "redis";

/// Ends with the test.
pub(crate) struct Server {
    dir: TempDir,
    kubectl: String,
    processes: Vec<Child>,
}

impl Server {
    /// One that answers, with the namespace of Meridian.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = LabConfig::from_environment().unwrap();
        let binaries = Binaries::find(&config.cache).unwrap();
        let [client, peer, port] = [(); 3].map(|()| free_port());
        let etcd = etcd(&dir, &binaries.kubernetes("etcd"), client, peer);
        write_files(dir.path(), port);
        let api = api_server(&dir, &binaries.kubernetes("kube-apiserver"), client, port);
        let server = Self {
            dir,
            kubectl: cluster::kubectl().unwrap(),
            processes: vec![api, etcd],
        };
        let ready = until_true("the API server is ready", PATIENCE, async || {
            Ok(server.kubectl(&["get", "--raw", "/readyz"], "").code == 0)
        });
        ready.await.unwrap();
        server.must(&["create", "namespace", NAMESPACE], "");
        server
    }

    /// Kubeconfig of `admin`, or of `agent`: the service account of the bundle.
    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.dir.path().join(user)
    }

    /// A file that goes with the server.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn kubectl(&self, args: &[&str], input: &str) -> Output {
        // Another server may have had this port before.
        let cache = self.file("cache");
        let config = self.kubeconfig("admin");
        let mut all = vec![
            "--kubeconfig",
            config.to_str().unwrap(),
            "-n",
            NAMESPACE,
            "--cache-dir",
            cache.to_str().unwrap(),
        ];
        all.extend_from_slice(args);
        shell::run(&self.kubectl, &all, &[], input).unwrap()
    }

    pub(crate) fn must(&self, args: &[&str], input: &str) -> String {
        let out = self.kubectl(args, input);
        assert_eq!(
            out.code, 0,
            "kubectl {args:?}: {}{}",
            out.stdout, out.stderr
        );
        out.stdout
    }

    /// An object, `null` if it is not there.
    pub(crate) fn get(&self, kind: &str, name: &str) -> Value {
        let args = [
            "get",
            kind,
            name,
            "-o",
            "json",
            "--ignore-not-found",
            "--show-managed-fields",
        ];
        let text = self.must(&args, "");
        if text.trim().is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&text).unwrap()
    }

    /// Runs a line that `meridian preflight` or the README shows, as a person in the repository would.
    pub(crate) fn line(&self, line: &str) -> Output {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let mut command = Command::new(&self.kubectl);
        command
            .args(words)
            .arg("--cache-dir")
            .arg(self.file("cache"));
        command.current_dir(root());
        command.env("KUBECONFIG", self.kubeconfig("admin"));
        let out = command.stdin(Stdio::null()).output().unwrap();
        Output {
            code: out.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        }
    }

    /// `meridian preflight` with these further words.
    pub(crate) fn preflight(&self, more: &[&str]) -> Output {
        let config = self.kubeconfig("admin");
        let mut words = vec!["preflight", "--namespace", NAMESPACE, "--kubeconfig"];
        words.push(config.to_str().unwrap());
        words.extend_from_slice(more);
        shell::run(program("meridian").to_str().unwrap(), &words, &[], "").unwrap()
    }

    /// Starts an agent with the rights of its bundle.
    pub(crate) fn agent(&self, node_image: &str) -> Agent {
        let (probes, log) = (free_port(), self.file("agent.log"));
        let words = [
            "run",
            "--namespace",
            NAMESPACE,
            "--identity",
            "beside",
            "--node-image",
            node_image,
        ];
        let process = Command::new(program("meridian-agent"))
            .args(words)
            .args(["--probes-listen", &format!("127.0.0.1:{probes}")])
            .args(["--admission-listen", &format!("127.0.0.1:{}", free_port())])
            .arg("--kubeconfig")
            .arg(self.kubeconfig("agent"))
            .env("RUST_LOG", "info,kube_client=error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(log).unwrap())
            .spawn();
        Agent(process.unwrap(), probes)
    }

    /// Notes of the Events of this reason about an object.
    pub(crate) fn notes(&self, reason: &str, about: &str) -> Vec<String> {
        let args = ["get", "events.events.k8s.io", "-o", "json"];
        let list: Value = serde_json::from_str(&self.must(&args, "")).unwrap();
        let all = list["items"].as_array().unwrap().iter();
        let meant = all.filter(|one| one["reason"] == reason && one["regarding"]["name"] == about);
        meant
            .map(|one| one["note"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// What a person would look at where something does not come.
    pub(crate) fn evidence(&self) -> String {
        let log = std::fs::read_to_string(self.file("agent.log")).unwrap_or_default();
        let kinds = "rec,redb,databasetopologies,statefulset,events";
        let shown = self.kubectl(&["get", kinds], "").stdout;
        let last: Vec<&str> = log.lines().rev().take(40).collect();
        format!(
            "{shown}\n{}",
            last.into_iter().rev().collect::<Vec<_>>().join("\n")
        )
    }

    /// Waits until this holds.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let waited = until_true(what, PATIENCE, async || Ok(holds())).await;
        if let Err(error) = waited {
            panic!("{error:#}\n{}", self.evidence());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for process in &mut self.processes {
            end(process);
        }
    }
}

/// An agent, and the port of its probes. Ends with the test.
pub(crate) struct Agent(Child, u16);

impl Agent {
    /// What `/readyz` says.
    pub(crate) fn readyz(&self) -> String {
        let address = format!("http://127.0.0.1:{}/readyz", self.1);
        let out = shell::run("curl", &["-s", &address], &[], "").unwrap();
        out.stdout
    }
}

impl Drop for Agent {
    /// In order, so that the next one leads at once.
    fn drop(&mut self) {
        let told = Command::new("kill").arg(self.0.id().to_string()).status();
        if told.is_ok_and(|status| status.success()) {
            drop(self.0.wait());
            return;
        }
        end(&mut self.0);
    }
}

fn end(process: &mut Child) {
    // It may have ended by itself, which the test has noticed by then.
    drop(process.kill());
    drop(process.wait());
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn etcd(dir: &TempDir, program: &Path, client: u16, peer: u16) -> Child {
    let address = |port: u16| format!("http://127.0.0.1:{port}");
    let mut command = Command::new(program);
    command
        .arg("--data-dir")
        .arg(dir.path().join("etcd"))
        .args(["--listen-client-urls", &address(client)])
        .args(["--advertise-client-urls", &address(client)])
        .args(["--listen-peer-urls", &address(peer)])
        .args(["--initial-advertise-peer-urls", &address(peer)])
        .args(["--initial-cluster", &format!("default={}", address(peer))])
        .arg("--unsafe-no-fsync");
    spawn(command, &dir.path().join("etcd.log"))
}

fn api_server(dir: &TempDir, program: &Path, etcd: u16, port: u16) -> Child {
    let file = |name: &str| dir.path().join(name).display().to_string();
    let mut command = Command::new(program);
    command.args([
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", file("certificates")),
        format!("--token-auth-file={}", file("tokens")),
        "--authorization-mode=RBAC".to_owned(),
        // Nobody makes the account of a pod here.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--service-cluster-ip-range=10.99.0.0/16".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file("accounts.pub")),
        format!(
            "--service-account-signing-key-file={}",
            file("accounts.key")
        ),
        "--endpoint-reconciler-type=none".to_owned(),
    ]);
    spawn(command, &dir.path().join("api.log"))
}

fn spawn(mut command: Command, log: &Path) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(File::create(log).unwrap()).spawn().unwrap()
}

/// Keys, tokens and a kubeconfig for each user.
fn write_files(dir: &Path, port: u16) {
    let key = rcgen::KeyPair::generate().unwrap();
    let account = format!("system:serviceaccount:{NAMESPACE}:meridian-agent");
    let groups = "\"system:serviceaccounts,system:authenticated\"";
    let tokens = format!("admin,admin,1,system:masters\nagent,{account},2,{groups}\n");
    for (name, text) in [
        ("accounts.key", key.serialize_pem()),
        ("accounts.pub", key.public_key_pem()),
        ("tokens", tokens),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
    }
    for user in ["admin", "agent"] {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: it\ncontexts: [{{name: it, context: {{cluster: it, user: it}}}}]\n\
             clusters: [{{name: it, cluster: {{server: \"https://127.0.0.1:{port}\", insecure-skip-tls-verify: true}}}}]\n\
             users: [{{name: it, user: {{token: {user}}}}}]\n"
        );
        std::fs::write(dir.join(user), text).unwrap();
    }
}

fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join(name);
    assert!(path.exists(), "{} is missing: make build", path.display());
    path
}

fn free_port() -> u16 {
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
