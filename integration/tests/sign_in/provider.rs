//! The process of an OpenID provider.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::hub::free_port;

/// A provider. It ends with the test.
pub(crate) struct Provider {
    dir: TempDir,
    port: u16,
    certificate: String,
    client: Value,
    process: Option<Child>,
}

impl Provider {
    /// One that knows a hub by where it sends browsers back to; it does not run yet.
    pub(crate) fn placed(callback: &str, method: &str, algorithm: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
        let mut client = json!({
            "client_id": "meridian",
            "redirect_uris": [callback],
            "response_types": ["code"],
            "grant_types": ["authorization_code"],
            "scope": "openid email groups",
            "token_endpoint_auth_method": method,
            "id_token_signed_response_alg": algorithm,
        });
        if method != "none" {
            client["client_secret"] = "a secret: with a colon".into();
        }
        let settings = json!({
            "port": port,
            "certificate": made.cert.pem(),
            "key": made.signing_key.serialize_pem(),
            "client": client,
            "people": {
                "ann": { "email": "ann@example.com", "groups": ["platform", "everybody"] },
                "bob": { "email": "bob@example.com", "groups": ["shop"] },
                "eve": { "email": "eve@example.com", "groups": ["guests", "visitors"] },
            },
        });
        std::fs::write(dir.path().join("settings.json"), settings.to_string()).unwrap();
        std::fs::write(dir.path().join("provider.crt"), made.cert.pem()).unwrap();
        Self {
            dir,
            port,
            certificate: made.cert.pem(),
            client,
            process: None,
        }
    }

    pub(crate) fn start(&mut self) {
        let cache = std::env::var_os("MERIDIAN_CACHE").map(PathBuf::from);
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let cache = cache
            .or_else(|| Some(home?.join(".cache/meridian")))
            .unwrap();
        let program = cache.join("oidc");
        assert!(
            program.join("provider.mjs").exists(),
            "{} is missing: tools/prerequisites.sh --only oidc",
            program.display()
        );
        let mut process = Command::new(program.join("node"))
            .arg(program.join("provider.mjs"))
            .arg(self.dir.path().join("settings.json"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut said = said.map_while(Result::ok);
        assert!(
            said.any(|line| line.starts_with("listening ")),
            "the provider ended"
        );
        // What it says later must not fill the pipe.
        std::thread::spawn(move || said.for_each(drop));
        self.process = Some(process);
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn issuer(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub(crate) fn certificate(&self) -> String {
        self.certificate.clone()
    }

    pub(crate) fn certificate_file(&self) -> PathBuf {
        self.dir.path().join("provider.crt")
    }

    pub(crate) fn secret(&self) -> Option<&str> {
        self.client["client_secret"].as_str()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop();
    }
}
