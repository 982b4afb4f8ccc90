//! A real Kubernetes API server over an etcd of its own, without controllers and without nodes: what the agent of a member asks.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use kube::{
    Client, Config, ResourceExt as _,
    api::{Api, DynamicObject, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    discovery::ApiResource,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

use super::{
    etcd::Etcd,
    fleet::encoded,
    process::{Usage, free_port},
};

/// How long one may take until it answers.
const READY: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(100);

/// It ends with this value.
pub(crate) struct ApiServer {
    dir: PathBuf,
    etcd: Etcd,
    process: Child,
}

impl ApiServer {
    /// Starts one in this folder and waits until it serves the kinds of Redis Enterprise and ours.
    pub(crate) async fn start(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let port = free_port()?;
        certificates(&dir, port)?;
        let etcd = Etcd::start(&dir)?;
        let process = spawn(&dir, &etcd, port)?;
        let server = Self { dir, etcd, process };
        server.ready().await?;
        server.define().await?;
        Ok(server)
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    pub(crate) async fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        Ok(Client::try_from(config)?)
    }

    /// Processor time of the API server and of its etcd.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        Ok(Usage::of(self.process.id())?.cpu + self.etcd.usage()?.cpu)
    }

    async fn ready(&self) -> Result<()> {
        let client = self.client().await?;
        let begun = Instant::now();
        loop {
            let asked = client
                .request_text(http::Request::get("/readyz").body(Vec::new())?)
                .await;
            let Err(failed) = asked else { return Ok(()) };
            ensure!(
                begun.elapsed() < READY,
                "the API server is not ready: {failed:#}; its log is {}",
                self.dir.join("apiserver.log").display()
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Applies the definitions, and waits until all are served.
    async fn define(&self) -> Result<()> {
        let client = self.client().await?;
        let kind = ApiResource {
            group: "apiextensions.k8s.io".into(),
            version: "v1".into(),
            api_version: "apiextensions.k8s.io/v1".into(),
            kind: "CustomResourceDefinition".into(),
            plural: "customresourcedefinitions".into(),
        };
        let definitions: Api<DynamicObject> = Api::all_with(client, &kind);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let text = fs::read_to_string(entry?.path())?;
            let definition: DynamicObject = serde_saphyr::from_str(&text)?;
            let apply = PatchParams::apply("bench").force();
            let name = definition.name_any();
            definitions
                .patch(&name, &apply, &Patch::Apply(&definition))
                .await?;
            names.push(name);
        }
        let begun = Instant::now();
        for name in names {
            while !established(&definitions.get(&name).await?) {
                ensure!(begun.elapsed() < READY, "{name} is not served");
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        // It may have ended by itself, which the bench has noticed by then.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn established(definition: &DynamicObject) -> bool {
    let conditions = definition.data["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| {
        condition["type"] == json!("Established") && condition["status"] == json!("True")
    })
}

fn spawn(dir: &Path, etcd: &Etcd, port: u16) -> Result<Child> {
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tools/kube-apiserver");
    let file = |name: &str| dir.join(name).display().to_string();
    Command::new(&program)
        .arg(format!("--etcd-servers={}", etcd.url()))
        .args(["--bind-address=127.0.0.1", "--authorization-mode=RBAC"])
        .arg(format!("--secure-port={port}"))
        // Nobody reaches it by a Service, and loopback is no address of an endpoint.
        .arg("--endpoint-reconciler-type=none")
        .arg("--service-cluster-ip-range=10.96.0.0/16")
        .arg(format!("--client-ca-file={}", file("ca.crt")))
        .arg(format!("--tls-cert-file={}", file("server.crt")))
        .arg(format!("--tls-private-key-file={}", file("server.key")))
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(format!(
            "--service-account-key-file={}",
            file("accounts.pub")
        ))
        .arg(format!(
            "--service-account-signing-key-file={}",
            file("accounts.key")
        ))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(dir.join("apiserver.log"))?)
        .spawn()
        .with_context(|| format!("start {}", program.display()))
}

/// An authority, the server's certificate, an administrator's kubeconfig, and the key of service accounts.
fn certificates(dir: &Path, port: u16) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::default();
    parameters
        .distinguished_name
        .push(DnType::CommonName, "bench-ca");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let authority = parameters.self_signed(&key)?.pem();
    let issuer = Issuer::new(parameters, key);
    fs::write(dir.join("ca.crt"), &authority)?;

    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server = parameters.signed_by(&key, &issuer)?;
    fs::write(dir.join("server.crt"), server.pem())?;
    fs::write(dir.join("server.key"), key.serialize_pem())?;

    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::default();
    let name = &mut parameters.distinguished_name;
    name.push(DnType::CommonName, "bench");
    name.push(DnType::OrganizationName, "system:masters");
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let person = parameters.signed_by(&key, &issuer)?;
    let [ca, certificate, secret] =
        [authority, person.pem(), key.serialize_pem()].map(|text| encoded(&text));
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "member",
        "contexts": [{ "name": "member", "context": { "cluster": "member", "user": "bench" } }],
        "clusters": [{ "name": "member", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "certificate-authority-data": ca,
        } }],
        "users": [{ "name": "bench", "user": {
            "client-certificate-data": certificate, "client-key-data": secret,
        } }],
    });
    fs::write(dir.join("kubeconfig"), kubeconfig.to_string())?;

    let accounts = KeyPair::generate()?;
    fs::write(dir.join("accounts.key"), accounts.serialize_pem())?;
    fs::write(dir.join("accounts.pub"), accounts.public_key_pem())?;
    Ok(())
}
