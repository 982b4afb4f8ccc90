//! One connection: TCP, a proxy where there is one, then TLS with the hub, each within its time.

use std::{error::Error as StdError, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};
use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::{Service, ServiceExt as _, service_fn};

use super::{
    CONNECT_WITHIN, HubAddress,
    noted::{Noted, Noting},
    proxy::{Proxy, ProxySettings},
    tunnel,
};

/// HTTP/2 in ALPN.
pub(super) const HTTP_2: &[u8] = b"h2";

pub(super) type Failed = Box<dyn StdError + Send + Sync>;
type Opened = TokioIo<Noting<TlsStream<Box<dyn Bytes>>>>;

/// What carries the bytes of TLS: a socket, or a tunnel through a proxy.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// What failed behind a proxy that had agreed.
#[derive(Debug, Error)]
#[error("through the proxy {proxy}")]
struct Through {
    proxy: Proxy,
    #[source]
    error: Failed,
}

/// How connections to one address are opened.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    pub(super) address: HubAddress,
    pub(super) server: ServerName<'static>,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) proxy: ProxySettings,
    pub(super) noted: Noted,
}

impl Opening {
    /// For the transport, which opens one now, and another whenever it broke.
    pub(super) fn connector(
        self,
    ) -> impl Service<
        Uri,
        Response = Opened,
        Error = Failed,
        Future = BoxFuture<'static, Result<Opened, Failed>>,
    > + Send
    + 'static {
        service_fn(move |_| self.clone().open().boxed())
    }

    async fn open(self) -> Result<Opened, Failed> {
        let proxy = tunnel::proxy(&self.proxy, &self.address).await?;
        let stream: Box<dyn Bytes> = match &proxy {
            Some(proxy) => tunnel::open(proxy, &self.address).await?,
            None => Box::new(tcp(&self.address).await?),
        };
        let shaking = TlsConnector::from(self.tls).connect(self.server, stream);
        let shaken = within("the port is open, but there was no TLS handshake", shaking).await;
        let stream = shaken.map_err(|error| match proxy {
            Some(proxy) => Through { proxy, error }.into(),
            None => error,
        })?;
        if stream.get_ref().1.alpn_protocol() != Some(HTTP_2) {
            return Err(
                "TLS was agreed on, but HTTP/2 was not: this is not the link port of a hub".into(),
            );
        }
        Ok(TokioIo::new(Noting::new(stream, self.noted)))
    }
}

/// A connection to `address`, whichever of the addresses behind its name answers first.
pub(super) async fn tcp(address: &HubAddress) -> Result<TcpStream, Failed> {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_WITHIN));
    let uri = format!("http://{address}").parse()?;
    let connected = within("there was no connection", tcp.oneshot(uri)).await?;
    Ok(connected.into_inner())
}

/// Waits for what takes at most [`CONNECT_WITHIN`], and says `otherwise` if it takes longer.
pub(super) async fn within<T, E: Into<Failed>>(
    otherwise: &str,
    done: impl Future<Output = Result<T, E>>,
) -> Result<T, Failed> {
    match timeout(CONNECT_WITHIN, done).await {
        Ok(done) => done.map_err(Into::into),
        Err(_elapsed) => Err(format!("{otherwise} within {} s", CONNECT_WITHIN.as_secs()).into()),
    }
}
