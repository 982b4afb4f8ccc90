//! An etcd of one member that lets in whom it is told to.

use std::path::Path;
use std::process::Child;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::{EtcdSettings, Login, Tls};
use super::group::{answers, end, free_port, member};

/// Whom an etcd lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody.
    Open,
    /// Who shows a certificate.
    Certificates,
    /// Who knows the password of `root`.
    Login,
}

const NAME: &str = "one";

/// An etcd of one member. Ends with the test.
pub(crate) struct Etcd {
    dir: TempDir,
    access: Access,
    client: u16,
    peer: u16,
    process: Child,
}

impl Etcd {
    pub(crate) async fn start(access: Access) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let dir = tempfile::tempdir().unwrap();
        let (client, peer) = (free_port(), free_port());
        let mut more = Vec::new();
        if access == Access::Certificates {
            certificates(dir.path());
            for (flag, file) in [
                ("--trusted-ca-file", "ca.crt"),
                ("--cert-file", "tls.crt"),
                ("--key-file", "tls.key"),
            ] {
                more.push(flag.to_owned());
                more.push(dir.path().join(file).display().to_string());
            }
            more.push("--client-cert-auth".to_owned());
        }
        let ports = (client, peer);
        let process = member(dir.path(), NAME, scheme(access), ports, "", &more);
        let etcd = Self {
            dir,
            access,
            client,
            peer,
            process,
        };
        match access {
            Access::Open | Access::Certificates => answers(&etcd.settings()).await,
            Access::Login => {
                let open = EtcdSettings {
                    login: None,
                    ..etcd.settings()
                };
                answers(&open).await;
                etcd.demand_login().await;
            }
        }
        etcd
    }

    pub(crate) fn settings(&self) -> EtcdSettings {
        let file = |name: &str| self.dir.path().join(name);
        let tls = if self.access == Access::Certificates {
            Tls {
                ca: Some(file("ca.crt")),
                identity: Some((file("tls.crt"), file("tls.key"))),
            }
        } else {
            Tls::default()
        };
        EtcdSettings {
            endpoints: vec![format!(
                "{}://127.0.0.1:{}",
                scheme(self.access),
                self.client
            )],
            root: "/meridian".to_owned(),
            tls,
            login: (self.access == Access::Login).then(|| Login {
                user: "root".to_owned(),
                password: "word".to_owned().into(),
            }),
        }
    }

    /// Stops it, does something with the directory of its data, and starts it again. Only where everybody is let in.
    pub(crate) async fn stopped(&mut self, with: impl FnOnce(&Path)) {
        end(&mut self.process);
        with(&self.dir.path().join(NAME));
        let ports = (self.client, self.peer);
        self.process = member(self.dir.path(), NAME, scheme(self.access), ports, "", &[]);
        answers(&self.settings()).await;
    }

    async fn demand_login(&self) {
        for (path, body) in [
            ("user/add", r#"{"name":"root","password":"word"}"#),
            ("role/add", r#"{"name":"root"}"#),
            ("user/grant", r#"{"user":"root","role":"root"}"#),
            ("enable", "{}"),
        ] {
            let answer = self.gateway(path, body, None).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        }
    }

    pub(super) async fn change_password(&self, password: &str) {
        for known in ["word", password] {
            let login = format!(r#"{{"name":"root","password":"{known}"}}"#);
            let answer = self.gateway("authenticate", &login, None).await;
            let Some(token) = answer.split(r#""token":""#).nth(1) else {
                continue;
            };
            let token = token.split('"').next().unwrap();
            let body = format!(r#"{{"name":"root","password":"{password}"}}"#);
            let answer = self.gateway("user/changepw", &body, Some(token)).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            return;
        }
        panic!("no password of root is right");
    }

    /// A request to etcd's own gateway from JSON, which saves the tests a client of its user management.
    async fn gateway(&self, path: &str, body: &str, token: Option<&str>) -> String {
        let authorization =
            token.map_or_else(String::new, |token| format!("Authorization: {token}\r\n"));
        let request = format!(
            "POST /v3/auth/{path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n{authorization}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.client))
            .await
            .unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

fn scheme(access: Access) -> &'static str {
    match access {
        Access::Certificates => "https",
        Access::Open | Access::Login => "http",
    }
}

/// An authority, and one certificate that serves both sides.
fn certificates(dir: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &ca).unwrap();
    for (name, text) in [
        ("ca.crt", ca.pem()),
        ("tls.crt", certificate.pem()),
        ("tls.key", key.serialize_pem()),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
    }
}
