//! The hub's web API, asked over connections that stay open.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde_json::{Value, json};

/// Path of the Active-Active databases.
pub(crate) const DATABASES: &str = "/api/v1/activeactivedatabases";
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks as the administrator. Clones share the connections.
#[derive(Clone)]
pub(crate) struct Api {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    token: String,
}

impl Api {
    /// A hub whose administrator's token and roots are in this folder, as a data folder or an authority's has them.
    pub(crate) fn open(folder: &Path, port: u16) -> Result<Self> {
        let token = fs::read_to_string(folder.join("admin-token"))?;
        let mut roots = RootCertStore::empty();
        let within = [folder.join("ca/root.crt"), folder.join("root.crt")];
        let root = within.iter().find(|path| path.exists());
        let root = root.with_context(|| format!("no root.crt in {}", folder.display()))?;
        roots.add(CertificateDer::from_pem_file(root)?)?;
        let tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            base: format!("https://127.0.0.1:{port}"),
            token: format!("Bearer {}", token.trim()),
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<http::Response<Incoming>> {
        let kind = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::AUTHORIZATION, &self.token)
            .header(header::CONTENT_TYPE, kind)
            .body(body.map(Value::to_string).unwrap_or_default().into())?;
        let sent = tokio::time::timeout(PATIENCE, self.client.request(request)).await;
        sent.with_context(|| format!("{path}: no answer within {PATIENCE:?}"))?
            .with_context(|| path.to_owned())
    }

    /// Asks, and takes whatever is answered.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes)> {
        let (parts, body) = self.send(method, path, body).await?.into_parts();
        Ok((parts.status, body.collect().await?.to_bytes()))
    }

    async fn must(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, answer) = self.ask(method, path, body).await?;
        if !status.is_success() {
            bail!("{path}: {status}: {}", String::from_utf8_lossy(&answer));
        }
        serde_json::from_slice(&answer).with_context(|| format!("answer of {path}"))
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.must(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.must(Method::POST, path, Some(body)).await
    }

    /// What follows `?watch=true`, piece by piece.
    pub(crate) async fn watch(&self, path: &str) -> Result<Incoming> {
        let answer = self
            .send(Method::GET, &format!("{path}?watch=true"), None)
            .await?;
        anyhow::ensure!(answer.status().is_success(), "{path}: {}", answer.status());
        Ok(answer.into_body())
    }

    /// Members that have a session now, as the metrics tell it.
    pub(crate) async fn connected(&self) -> Result<usize> {
        Ok(usize::try_from(self.metric("connected_members").await?)?)
    }

    /// A metric of the hub without labels, by its name behind `meridian_hub_`.
    pub(crate) async fn metric(&self, name: &str) -> Result<u64> {
        let (_, metrics) = self.ask(Method::GET, "/metrics", None).await?;
        let text = String::from_utf8_lossy(&metrics);
        let begin = format!("meridian_hub_{name} ");
        let number = text.lines().find_map(|line| line.strip_prefix(&begin));
        let number = number.with_context(|| format!("no metric {name}"))?;
        Ok(number.trim().parse()?)
    }

    /// The store's revision, which counts the transactions that wrote.
    pub(crate) async fn revision(&self) -> Result<u64> {
        let list = self.get("/api/v1/clusters?limit=1").await?;
        let revision = list["metadata"]["resourceVersion"].as_str();
        Ok(revision.context("a list without a revision")?.parse()?)
    }
}

/// A database of this name over these participants.
pub(crate) fn database(name: &str, participants: &[String]) -> Value {
    let participants: Vec<Value> = participants
        .iter()
        .map(|name| json!({ "name": name }))
        .collect();
    json!({
        "apiVersion": "app.redislabs.com/v1alpha1",
        "kind": "RedisEnterpriseActiveActiveDatabase",
        "metadata": { "name": name },
        "spec": {
            "participatingClusters": participants,
            "globalConfigurations": { "memorySize": "100MB" },
        },
    })
}
