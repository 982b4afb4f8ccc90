//! A browser: curl with a jar of cookies, which goes where it is sent.

use std::process::Command;

use tempfile::TempDir;

/// Redirections that are followed.
const HOPS: usize = 10;

/// What a page was.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) address: String,
    pub(crate) body: String,
    location: String,
}

/// A browser with cookies of its own.
pub(crate) struct Browser {
    dir: TempDir,
}

impl Browser {
    /// Trusts these certificates, PEM.
    pub(crate) fn new(roots: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("roots.pem"), roots.concat()).unwrap();
        std::fs::write(dir.path().join("jar"), "").unwrap();
        Self { dir }
    }

    /// Another with the same cookies.
    pub(crate) fn copy(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for file in ["roots.pem", "jar"] {
            std::fs::copy(self.dir.path().join(file), dir.path().join(file)).unwrap();
        }
        Self { dir }
    }

    pub(crate) fn cookies(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("jar")).unwrap()
    }

    /// Goes to an address, with a form if there is one, and on from there; to `until` only up to its door.
    pub(crate) fn follow(&self, address: &str, form: Option<&str>, until: Option<&str>) -> Page {
        let (method, sent) = (if form.is_some() { "POST" } else { "GET" }, form);
        let mut page = self.send(method, address, &[], sent);
        for _ in 0..HOPS {
            if page.location.is_empty() {
                return page;
            }
            let next = page.location.clone();
            if until.is_some_and(|until| next.contains(until)) {
                return Page {
                    address: next,
                    ..page
                };
            }
            page = self.send("GET", &next, &[], None);
        }
        page
    }

    /// One request with JSON, and no step further.
    pub(crate) fn ask(
        &self,
        method: &str,
        address: &str,
        headers: &[&str],
        body: Option<&str>,
    ) -> Page {
        let mut headers = headers.to_vec();
        headers.push("Content-Type: application/json");
        self.send(method, address, &headers, body)
    }

    fn send(&self, method: &str, address: &str, headers: &[&str], body: Option<&str>) -> Page {
        let jar = self.dir.path().join("jar");
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--max-time",
            "60",
            "--noproxy",
            "*",
            "--request",
            method,
        ]);
        curl.arg("--cookie").arg(&jar).arg("--cookie-jar").arg(&jar);
        curl.arg("--cacert").arg(self.dir.path().join("roots.pem"));
        curl.args(["--write-out", "\n%{http_code} %{redirect_url}"]);
        for header in headers {
            curl.args(["--header", header]);
        }
        if let Some(body) = body {
            curl.args(["--data", body]);
        }
        let output = curl.arg(address).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{method} {address}: {told}");
        let (body, last) = text.rsplit_once('\n').unwrap();
        let (status, location) = last.split_once(' ').unwrap();
        Page {
            status: status.parse().unwrap(),
            address: address.to_owned(),
            body: body.to_owned(),
            location: location.to_owned(),
        }
    }
}
