//! A tunnel through a proxy: CONNECT (RFC 9110 §9.3.6), by plain HTTP/1.1 or by TLS with the proxy.

use std::{pin::pin, sync::Arc};

use axum::body::Body;
use http::{Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, client::conn::http1, ext::ReasonPhrase};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use thiserror::Error;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{
    CONNECT_WITHIN, HubAddress,
    opening::{Bytes, Failed, tcp, within},
    proxy::{Proxy, ProxySettings},
};
use crate::link::member::chain;

/// Most bytes that the head of a proxy's answer may have.
const HEAD_MAX: usize = 16 * 1024;
/// Most headers of it.
const HEADERS_MAX: usize = 64;

/// A proxy makes no connection to the hub.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{who} makes no connection to the hub at {hub}: {reason}; {next}")]
pub(super) struct NoTunnel {
    who: String,
    hub: String,
    reason: String,
    next: &'static str,
}

const SETTINGS: &str =
    "correct the settings of the proxy (Secret `meridian-hub-proxy`, or --hub-proxy of the agent)";
const AWAY: &str = "look whether the proxy runs and lets this cluster in, or set another one (Secret `meridian-hub-proxy`)";
const TRUST: &str = "put the certificate of the proxy's authority into `ca.crt` of the Secret `meridian-hub-proxy`, and its name into `url`";
const CREDENTIALS: &str = "put `username` and `password` for the proxy into the Secret `meridian-hub-proxy`; only Basic authentication is spoken";
const ALLOW: &str = "let the proxy allow CONNECT to this address and port, or name the hub in `no-proxy` of the Secret `meridian-hub-proxy`";
const REACH: &str = "the proxy could not reach the hub: look at the proxy's log and its name server, and at whether the hub listens there";
const NO_PROXY: &str = "this is not how a proxy for CONNECT answers: look at what listens there";

/// The proxy for this hub, by the settings as they are now.
pub(super) async fn proxy(
    settings: &ProxySettings,
    hub: &HubAddress,
) -> Result<Option<Proxy>, NoTunnel> {
    settings.for_hub(hub).await.map_err(|reason| NoTunnel {
        who: "the configured proxy".to_owned(),
        hub: hub.to_string(),
        reason,
        next: SETTINGS,
    })
}

/// Bytes to and from the hub, by way of the proxy.
pub(super) async fn open(proxy: &Proxy, hub: &HubAddress) -> Result<Box<dyn Bytes>, NoTunnel> {
    let failed = |(reason, next): Refusal| NoTunnel {
        who: format!("the proxy {proxy}"),
        hub: hub.to_string(),
        reason: chain(&*reason),
        next,
    };
    let stream = tcp(&proxy.address)
        .await
        .map_err(|error| failed((error, AWAY)))?;
    if !proxy.tls {
        return ask(stream, proxy, hub).await.map_err(failed);
    }
    let config = trusting(proxy.roots_pem.as_deref()).map_err(|error| failed((error, TRUST)))?;
    let name = ServerName::try_from(proxy.address.host.clone());
    let name = name.map_err(|error| failed((error.into(), SETTINGS)))?;
    let shaking = TlsConnector::from(config).connect(name, stream);
    let shaken = within("it listens, but there was no TLS handshake", shaking).await;
    let stream = shaken.map_err(|error| failed((error, TRUST)))?;
    ask(stream, proxy, hub).await.map_err(failed)
}

/// TLS with the proxy, by its own roots and no others.
fn trusting(roots_pem: Option<&str>) -> Result<Arc<ClientConfig>, Failed> {
    let pem = roots_pem.ok_or(
        "an https:// proxy needs `ca.crt`, the certificate of the authority that signed its own",
    )?;
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(root?)?;
    }
    if roots.is_empty() {
        return Err("`ca.crt` has no PEM certificate".into());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Why there is no tunnel, and what helps.
type Refusal = (Failed, &'static str);

async fn ask<S: Bytes + 'static>(
    stream: S,
    proxy: &Proxy,
    hub: &HubAddress,
) -> Result<Box<dyn Bytes>, Refusal> {
    let asked = timeout(CONNECT_WITHIN * 2, connect(stream, proxy, hub)).await;
    asked.unwrap_or_else(|_elapsed| {
        let reason = format!(
            "it did not answer within {} s",
            2 * CONNECT_WITHIN.as_secs()
        );
        Err((reason.into(), REACH))
    })
}

async fn connect<S: Bytes + 'static>(
    stream: S,
    proxy: &Proxy,
    hub: &HubAddress,
) -> Result<Box<dyn Bytes>, Refusal> {
    let broken = |error: hyper::Error| (Failed::from(error), NO_PROXY);
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(hub.to_string())
        .header(header::HOST, hub.to_string());
    if let Some(credentials) = &proxy.credentials {
        request = request.header(header::PROXY_AUTHORIZATION, credentials);
    }
    let request = request
        .body(Body::empty())
        .map_err(|error| (error.into(), SETTINGS))?;
    let mut client = http1::Builder::new();
    client.max_buf_size(HEAD_MAX).max_headers(HEADERS_MAX);
    let (mut sender, connection) = client
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let mut connection = pin!(connection.with_upgrades());
    let mut answering = pin!(sender.send_request(request));
    let mut over = false;
    // A proxy that answers and closes at once ends the connection before the answer is taken.
    let answered = tokio::select! {
        biased;
        answered = &mut answering => answered,
        _ = &mut connection => {
            over = true;
            answering.await
        }
    };
    let response = answered.map_err(broken)?;
    if !response.status().is_success() {
        return Err(refused(&response));
    }
    let upgrade = hyper::upgrade::on(response);
    let upgraded = if over {
        upgrade.await
    } else {
        let (ended, upgraded) = tokio::join!(connection, upgrade);
        ended.and(upgraded)
    };
    Ok(Box::new(TokioIo::new(upgraded.map_err(broken)?)))
}

/// What the proxy's answer says, and what helps.
fn refused(response: &Response<Incoming>) -> Refusal {
    let status = response.status();
    let phrase = response.extensions().get::<ReasonPhrase>();
    let phrase = phrase.and_then(|phrase| std::str::from_utf8(phrase.as_bytes()).ok());
    let phrase = phrase.or(status.canonical_reason()).unwrap_or_default();
    let mut reason = format!("it answered `{} {phrase}`", status.as_u16());
    let offered = response.headers().get_all(header::PROXY_AUTHENTICATE);
    let offered: Vec<_> = offered
        .iter()
        .filter_map(|offer| offer.to_str().ok())
        .collect();
    if !offered.is_empty() {
        reason = format!("{reason} and asks for {}", offered.join(", "));
    }
    let next = match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED => CREDENTIALS,
        StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED => ALLOW,
        status if status.is_server_error() => REACH,
        _ => NO_PROXY,
    };
    (reason.into(), next)
}
