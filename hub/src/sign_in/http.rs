//! Requests to the provider: HTTPS only, bounded in time, bytes and number, and no redirect is followed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::provider::ProviderError;

/// Longest time for one request, from the name to the last byte.
const WITHIN: Duration = Duration::from_secs(10);
/// Largest answer.
const LARGEST: usize = 512 * 1024;
/// Requests at one time.
const AT_ONCE: usize = 16;

/// Speaks to the provider.
pub(super) struct Http {
    tls: TlsConnector,
    places: Semaphore,
    within: Duration,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Http")
    }
}

impl Http {
    /// Trusts the authorities of this file and no others, or those that the machine trusts.
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, ProviderError> {
        let roots = match ca_file {
            Some(file) => of_file(file)?,
            None => of_machine(),
        };
        if roots.is_empty() {
            return Err(ProviderError::Settings(
                "no certificate authority is trusted on this machine: name those of the issuer with --oidc-ca, or install \
                 the package ca-certificates"
                    .to_owned(),
            ));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| ProviderError::Settings(e.to_string()))?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            places: Semaphore::new(AT_ONCE),
            within: WITHIN,
        })
    }

    /// Asks for a document.
    pub(super) async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, ProviderError> {
        let request = Request::get(url).header(header::ACCEPT, "application/json");
        let request = request.body(Full::default());
        self.json(url, request).await
    }

    /// Sends a form, with credentials where the provider wants them there.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        url: &str,
        form: String,
        authorization: Option<HeaderValue>,
    ) -> Result<T, ProviderError> {
        let mut request = Request::post(url)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        self.json(url, request.body(Full::from(form))).await
    }

    async fn json<T: DeserializeOwned>(
        &self,
        url: &str,
        request: http::Result<Request<Full<Bytes>>>,
    ) -> Result<T, ProviderError> {
        let failed = |reason: String| ProviderError::Unreachable {
            url: url.to_owned(),
            reason,
        };
        let request = request.map_err(|e| failed(e.to_string()))?;
        let Ok(_place) = self.places.try_acquire() else {
            return Err(failed(format!("{AT_ONCE} requests wait for it already")));
        };
        let answered = timeout(self.within, self.exchange(request)).await;
        let (status, bytes) = answered
            .map_err(|_| failed(format!("no answer within {} s", self.within.as_secs())))?
            .map_err(failed)?;
        if !status.is_success() {
            return Err(ProviderError::Refused {
                url: url.to_owned(),
                status: status.as_u16(),
                error: word(&bytes),
            });
        }
        serde_json::from_slice(&bytes).map_err(|e| ProviderError::Unusable {
            url: url.to_owned(),
            reason: format!("its answer is not what it should be: {e}"),
        })
    }

    async fn exchange(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(http::StatusCode, Bytes), String> {
        let uri = request.uri().clone();
        let (host, port) = place(&uri).ok_or("it is no https address")?;
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|e| e.to_string())?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse().map_err(|_| "its path is none")?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let authority = HeaderValue::from_str(authority).map_err(|e| e.to_string())?;
        request.headers_mut().insert(header::HOST, authority);
        let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await;
        let stream = stream.map_err(|e| e.to_string())?;
        let stream = self.tls.connect(name, stream).await;
        let stream = stream
            .map_err(|e| format!("{e}; --oidc-ca names the authorities of its certificate"))?;
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|e| e.to_string())?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the OpenID provider broke");
            }
        });
        let answer = sender
            .send_request(request)
            .await
            .map_err(|e| e.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST).collect().await;
        Ok((status, body.map_err(|e| e.to_string())?.to_bytes()))
    }
}

/// Host and port of an https address.
pub(super) fn place(uri: &Uri) -> Option<(String, u16)> {
    let is_https = uri.scheme_str() == Some("https");
    let host = uri.host().filter(|host| is_https && !host.is_empty())?;
    Some((host.to_owned(), uri.port_u16().unwrap_or(443)))
}

/// The word by which a provider says what is wrong (RFC 6749, section 5.2), and nothing else of its answer.
fn word(bytes: &[u8]) -> String {
    let answer: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let word = answer["error"].as_str().unwrap_or("no reason");
    plain(word)
}

/// A word of the provider's as it may stand in a log and on a screen.
pub(super) fn plain(word: &str) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || "_-. ".contains(*c);
    word.chars().filter(plain).take(64).collect()
}

fn of_file(file: &Path) -> Result<RootCertStore, ProviderError> {
    let wrong =
        |why: String| ProviderError::Settings(format!("--oidc-ca {}: {why}", file.display()));
    let mut roots = RootCertStore::empty();
    let all = CertificateDer::pem_file_iter(file).map_err(|e| wrong(e.to_string()))?;
    for one in all {
        let one = one.map_err(|e| wrong(e.to_string()))?;
        roots.add(one).map_err(|e| wrong(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("found no certificate, expected PEM".to_owned()));
    }
    Ok(roots)
}

fn of_machine() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "an authority that this machine trusts cannot be read");
    }
    roots.add_parsable_certificates(found.certs);
    roots
}
