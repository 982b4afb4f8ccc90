//! A process of the hub at which people sign in, and the command line beside it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::provider::Provider;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A hub. It ends with the test.
pub(crate) struct Hub {
    dir: TempDir,
    web: u16,
    link: u16,
    settings: Vec<String>,
    process: Option<Child>,
}

impl Hub {
    /// One that has addresses and does not run yet.
    pub(crate) fn placed() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            web: free_port(),
            link: free_port(),
            settings: Vec::new(),
            process: None,
        }
    }

    /// An address of it.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.web)
    }

    pub(crate) fn callback(&self) -> String {
        self.at("/auth/callback")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write_roles(&self, roles: &str) {
        // As a ConfigMap changes: by another file in its place.
        std::fs::write(self.file("roles.new"), roles).unwrap();
        std::fs::rename(self.file("roles.new"), self.file("roles.yaml")).unwrap();
    }

    pub(crate) fn start(&mut self, provider: &Provider, roles: &str) {
        self.write_roles(roles);
        let path = |path: PathBuf| path.to_str().unwrap().to_owned();
        let mut settings = vec![
            ("--oidc-issuer", provider.issuer()),
            ("--oidc-client-id", "meridian".to_owned()),
            ("--oidc-scopes", "openid,email,groups".to_owned()),
            ("--oidc-ca", path(provider.certificate_file())),
            ("--oidc-roles", path(self.file("roles.yaml"))),
        ];
        if let Some(secret) = provider.secret() {
            std::fs::write(self.file("secret"), format!("{secret}\n")).unwrap();
            settings.push(("--oidc-client-secret-file", path(self.file("secret"))));
        }
        let settings = settings.into_iter();
        self.settings = settings
            .flat_map(|(name, value)| [name.to_owned(), value])
            .collect();
        self.spawn();
    }

    pub(crate) fn restart(&mut self) {
        self.stop();
        self.spawn();
    }

    fn spawn(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.file("log"));
        let process = Command::new(program("meridian-hub"))
            .args(["serve", "--data-dir"])
            .arg(self.file("data"))
            .args(["--web-listen", &format!("127.0.0.1:{}", self.web)])
            .args(["--link-listen", &format!("127.0.0.1:{}", self.link)])
            .args(["--advertise-link", &format!("127.0.0.1:{}", self.link)])
            .args(["--advertise-web", &format!("127.0.0.1:{}", self.web)])
            .args(&self.settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn();
        self.process = Some(process.unwrap());
        let ready = || {
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--fail", "--noproxy", "*", "--cacert"]);
            curl.arg(self.file("data/ca/root.crt"))
                .arg(self.at("/readyz"));
            curl.output().unwrap().status.success()
        };
        self.until(ready);
    }

    /// Waits until something is so.
    #[expect(
        clippy::disallowed_methods,
        reason = "between two looks at a condition, without a runtime"
    )]
    pub(crate) fn until(&self, is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < PATIENCE, "{}", self.logged());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn logged(&self) -> String {
        std::fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// The root of its certificates, PEM.
    pub(crate) fn root(&self) -> String {
        std::fs::read_to_string(self.file("data/ca/root.crt")).unwrap()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program("meridian"));
        let config = self.file("cli/config.yaml");
        std::fs::create_dir_all(config.parent().unwrap()).unwrap();
        let text = format!("hub: {}\ncaFile: ../data/ca/root.crt\n", self.at(""));
        std::fs::write(&config, text).unwrap();
        command
            .arg("--config")
            .arg(config)
            .env_remove("MERIDIAN_TOKEN_FILE");
        command
    }

    /// Runs the command line, as the first administrator or as who has signed in, and returns what it prints.
    pub(crate) fn meridian(&self, arguments: &[&str], as_administrator: bool) -> String {
        let mut command = self.command();
        if as_administrator {
            command
                .arg("--token-file")
                .arg(self.file("data/admin-token"));
        }
        let output = command.args(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success(),
            "{arguments:?}: {told}\n{}",
            self.logged()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Begins to sign in on the command line.
    pub(crate) fn login(&self) -> Login {
        let mut command = self.command();
        command.args(["login", "--no-browser", "--timeout", "60s"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let told = BufReader::new(process.stderr.take().unwrap());
        Login { process, told }
    }

    pub(crate) fn sessions_mode(&self) -> u32 {
        let file = std::fs::metadata(self.file("cli/sessions.json")).unwrap();
        file.permissions().mode() & 0o777
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A command line that waits for a browser.
pub(crate) struct Login {
    process: Child,
    told: BufReader<ChildStderr>,
}

impl Login {
    /// The address that a person is to open.
    pub(crate) fn address(&mut self) -> String {
        let mut lines = self.told.by_ref().lines().map_while(Result::ok);
        let found = lines.find(|line| line.trim().starts_with("https://"));
        found.unwrap().trim().to_owned()
    }

    /// Everything else that it said, once it has ended well or not.
    pub(crate) fn ended(mut self, well: bool) -> String {
        let mut said = String::new();
        let mut out = self.process.stdout.take().unwrap();
        out.read_to_string(&mut said).unwrap();
        self.told.read_to_string(&mut said).unwrap();
        assert_eq!(self.process.wait().unwrap().success(), well, "{said}");
        said
    }
}

fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join(name);
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
