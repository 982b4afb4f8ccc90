//! One connection: TCP, then TLS, within their times.

use std::{error::Error as StdError, sync::Arc};

use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::{Service, ServiceExt as _, service_fn};

use super::{
    CONNECT_WITHIN, HubAddress,
    noted::{Noted, Noting},
};

/// HTTP/2 in ALPN.
pub(super) const HTTP_2: &[u8] = b"h2";

type Failed = Box<dyn StdError + Send + Sync>;
type Opened = TokioIo<Noting<TlsStream<TcpStream>>>;

/// How connections to one address are opened.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    pub(super) address: HubAddress,
    pub(super) server: ServerName<'static>,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) noted: Noted,
}

impl Opening {
    /// For the transport, which opens one now, and another whenever it broke.
    pub(super) fn connector(
        self,
    ) -> impl Service<Uri, Response = Opened, Error = Failed, Future: Send> + Send + 'static {
        service_fn(move |_| {
            let opening = self.clone();
            async move { opening.open().await }
        })
    }

    async fn open(self) -> Result<Opened, Failed> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_WITHIN));
        let uri = format!("http://{}", self.address).parse()?;
        let stream = within("there was no connection", tcp.oneshot(uri)).await?;
        let shaking = TlsConnector::from(self.tls).connect(self.server, stream.into_inner());
        let stream = within("the port is open, but there was no TLS handshake", shaking).await?;
        if stream.get_ref().1.alpn_protocol() != Some(HTTP_2) {
            return Err(
                "TLS was agreed on, but HTTP/2 was not: this is not the link port of a hub".into(),
            );
        }
        Ok(TokioIo::new(Noting::new(stream, self.noted)))
    }
}

async fn within<T, E: Into<Failed>>(
    otherwise: &str,
    done: impl Future<Output = Result<T, E>>,
) -> Result<T, Failed> {
    match timeout(CONNECT_WITHIN, done).await {
        Ok(done) => done.map_err(Into::into),
        Err(_elapsed) => Err(format!("{otherwise} within {} s", CONNECT_WITHIN.as_secs()).into()),
    }
}
