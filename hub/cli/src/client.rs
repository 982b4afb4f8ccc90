//! Requests to the hub over TLS that trusts one root only.

use std::{error::Error as _, fs, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use meridian_api::web::Problem;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;

use crate::{
    config::{Credential, Target},
    error::CliError,
};

/// Largest answer that is read, bytes.
const LARGEST_ANSWER: usize = 64 << 20;
/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);

/// A watch that says nothing for this long is broken.
const SILENCE: Duration = Duration::from_secs(45);

/// A hub that can be asked.
pub(crate) struct Hub {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    authorization: Option<HeaderValue>,
    request_timeout: Duration,
}

impl Hub {
    /// Reads token and root certificate.
    pub(crate) fn new(target: &Target) -> Result<Self, CliError> {
        let authorization = match &target.credential {
            Credential::File(file) => Some(bearer(&read(file)?, &file.display().to_string())?),
            Credential::Session(session) => Some(bearer(&session.0, "sessions.json")?),
            Credential::Nobody => None,
        };
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(CONNECT));
        http.enforce_http(false);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls(target)?)
            .https_only()
            .enable_http1()
            .enable_http2()
            .wrap_connector(http);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(https),
            base: target.hub.clone(),
            authorization,
            request_timeout: target.request_timeout,
        })
    }

    /// Sends a request to `/api/v1/<path>`; the answer is JSON, or null if it is empty.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, CliError> {
        self.call_at(method, &format!("/api/v1/{path}"), body).await
    }

    /// Sends a request to any path of the hub. Where it sends a browser on to is not followed: the answer is then null.
    pub(crate) async fn call_at(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, CliError> {
        let name = format!("{method} {path}");
        let (status, bytes) = self.in_time(self.exchange(method, path, body)).await??;
        if !status.is_success() && !status.is_redirection() {
            return Err(CliError::Problem(Box::new(problem(status, &bytes))));
        }
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|error| CliError::Answer {
            request: name,
            reason: error.to_string(),
        })
    }

    /// Asks for something that is read in pieces, each of which may take as long as a request.
    pub(crate) async fn download(
        &self,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Download<'_>, CliError> {
        self.download_at(&format!("/api/v1/{path}"), headers).await
    }

    /// As [`Hub::download`], of any path of the hub.
    pub(crate) async fn download_at(
        &self,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Download<'_>, CliError> {
        let sent = self.send(Method::GET, path, None, headers);
        let answer = self.in_time(sent).await??;
        let status = answer.status();
        if !status.is_success() {
            let bytes = self.in_time(self.whole(answer.into_body())).await??;
            return Err(CliError::Problem(Box::new(problem(status, &bytes))));
        }
        Ok(Download {
            hub: self,
            body: answer.into_body(),
            within: self.request_timeout,
        })
    }

    /// Asks for what changes. The hub says something at least every 15 seconds.
    pub(crate) async fn watch(&self, path: &str) -> Result<Download<'_>, CliError> {
        let told = self.download(path, HeaderMap::new()).await?;
        Ok(Download {
            within: self.request_timeout.max(SILENCE),
            ..told
        })
    }

    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, CliError> {
        self.in_time_of(self.request_timeout, work).await
    }

    async fn in_time_of<T>(
        &self,
        within: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, CliError> {
        let done = tokio::time::timeout(within, work).await;
        done.map_err(|_| self.unreachable(format!("no answer within {} s", within.as_secs())))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), CliError> {
        let answer = self.send(method, path, body, HeaderMap::new()).await?;
        let status = answer.status();
        Ok((status, self.whole(answer.into_body()).await?))
    }

    async fn whole(&self, body: Incoming) -> Result<Bytes, CliError> {
        let body = Limited::new(body, LARGEST_ANSWER).collect().await;
        let body =
            body.map_err(|error| self.unreachable(format!("the answer broke off: {error}")))?;
        Ok(body.to_bytes())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, CliError> {
        let uri: Uri = format!("{}{path}", self.base).parse().map_err(|error| {
            CliError::Usage(format!("hub: {:?} is not an address: {error}", self.base))
        })?;
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization.clone());
        }
        let mut request = request
            .header(header::ACCEPT, "application/json, application/problem+json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body.map(Value::to_string).unwrap_or_default()))
            .map_err(|error| CliError::Usage(format!("the request cannot be built: {error}")))?;
        request.headers_mut().extend(headers);
        let answer = self.client.request(request).await;
        answer.map_err(|error| self.unreachable(causes(&error)))
    }

    fn unreachable(&self, reason: String) -> CliError {
        CliError::Unreachable {
            hub: self.base.clone(),
            reason,
        }
    }
}

/// An answer that is read in pieces.
pub(crate) struct Download<'h> {
    hub: &'h Hub,
    body: Incoming,
    /// Longest time for a piece.
    within: Duration,
}

impl Download<'_> {
    /// The next piece; `None` at the end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, CliError> {
        loop {
            let Some(frame) = self.hub.in_time_of(self.within, self.body.frame()).await? else {
                return Ok(None);
            };
            let broken = |error: hyper::Error| {
                let reason = format!("the answer broke off: {error}");
                self.hub.unreachable(reason)
            };
            // Whatever follows the body says nothing of it.
            if let Ok(piece) = frame.map_err(broken)?.into_data() {
                return Ok(Some(piece));
            }
        }
    }
}

/// The whole chain of causes, and the next step where the cause is known.
fn causes(error: &hyper_util::client::legacy::Error) -> String {
    let mut texts = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        cause = error.source();
    }
    let mut text = texts.join(": ");
    if text.is_empty() {
        text = error.to_string();
    }
    if text.contains("UnknownIssuer") {
        text.push_str("; --ca-file is not the root of this hub");
    } else if text.contains("NotValidForName") {
        text.push_str("; reach the hub by a name of its certificate (--advertise-web)");
    }
    text
}

/// What the hub says is wrong; something in between may answer without a problem.
fn problem(status: StatusCode, bytes: &Bytes) -> Problem {
    serde_json::from_slice(bytes).unwrap_or_else(|_| Problem {
        type_: "about:blank".to_owned(),
        title: format!("the answer was {status}"),
        status: status.as_u16(),
        detail: String::new(),
        instance: None,
        trace_id: None,
        kind: None,
        errors: Vec::new(),
    })
}

fn tls(target: &Target) -> Result<ClientConfig, CliError> {
    let pem = read(&target.ca_file)?;
    let unusable = |reason: String| CliError::Document {
        place: target.ca_file.display().to_string(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate =
            certificate.map_err(|error| unusable(format!("not a PEM certificate: {error:?}")))?;
        roots
            .add(certificate)
            .map_err(|error| unusable(format!("not a root certificate: {error}")))?;
    }
    if roots.is_empty() {
        return Err(unusable(
            "found no certificate, expected the hub's root as PEM".to_owned(),
        ));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn bearer(token: &str, file: &str) -> Result<HeaderValue, CliError> {
    let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
    let mut value =
        value.map_err(|_| CliError::Usage(format!("{file}: found no bearer token in it")))?;
    value.set_sensitive(true);
    Ok(value)
}

fn read(path: &std::path::Path) -> Result<String, CliError> {
    fs::read_to_string(path).map_err(|source| CliError::File {
        path: path.to_owned(),
        source,
    })
}
