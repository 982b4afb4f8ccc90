//! The first bytes of a connection: they say by which name the other end wants to be routed. Nothing is consumed; what was read
//! is given back in front of the stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A ClientHello with a post-quantum key share is below 2 KiB; this is generous.
const HELLO_MAX: usize = 16 * 1024;

/// How long a client may take to say hello.
const PATIENCE: Duration = Duration::from_secs(5);

/// What another pod of the same cluster puts in front of a connection that it relays. It is not the beginning of any TLS record,
/// and a connection that carries it is never relayed again: no circle, however stale two topologies are.
pub(super) const RELAY_MARK: &[u8] = b"MERIDIAN-RELAY-1\n";

/// Why a connection cannot be routed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SniError {
    /// It ended or stayed silent.
    #[error("the connection gave no complete TLS hello")]
    Io(#[from] io::Error),
    /// It is not TLS.
    #[error("not a TLS hello")]
    NotTls(#[source] rustls::Error),
    /// It is TLS without a name.
    #[error("the TLS hello has no server name")]
    NoName,
    /// It is longer than any hello.
    #[error("the TLS hello is longer than {HELLO_MAX} bytes")]
    TooLong,
}

/// A connection whose hello was read.
#[derive(Debug)]
pub(super) struct Greeted {
    /// The server name, in lower case.
    pub server_name: String,
    /// `true` if another pod relayed it.
    pub relayed: bool,
    /// The connection, complete from its first byte (without the relay mark).
    pub stream: Rewound,
}

/// Reads the hello.
///
/// # Errors
/// [`SniError`] if it is none, or has no name.
pub(super) async fn greet(mut stream: TcpStream) -> Result<Greeted, SniError> {
    let reading = async {
        let mut seen = Vec::new();
        loop {
            let mut chunk = [0_u8; 2048];
            let count = stream.read(&mut chunk).await?;
            if count == 0 {
                return Err(SniError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            seen.extend_from_slice(chunk.get(..count).unwrap_or_default());
            let relayed = seen.starts_with(RELAY_MARK);
            let hello = seen
                .get(if relayed { RELAY_MARK.len() } else { 0 }..)
                .unwrap_or_default();
            if let Some(server_name) = server_name(hello)? {
                return Ok((server_name, relayed, hello.to_vec()));
            }
        }
    };
    let (server_name, relayed, front) = tokio::time::timeout(PATIENCE, reading)
        .await
        .map_err(|_| SniError::Io(io::ErrorKind::TimedOut.into()))??;
    Ok(Greeted {
        server_name,
        relayed,
        stream: Rewound {
            front,
            taken: 0,
            stream,
        },
    })
}

/// The server name in a hello; `None` if the hello is not complete.
fn server_name(hello: &[u8]) -> Result<Option<String>, SniError> {
    if RELAY_MARK.starts_with(hello) {
        return Ok(None);
    }
    if hello.len() > HELLO_MAX {
        return Err(SniError::TooLong);
    }
    let mut acceptor = Acceptor::default();
    let mut rest = hello;
    while !rest.is_empty() {
        acceptor.read_tls(&mut rest)?;
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                return hello
                    .server_name()
                    .map(|name| Some(name.to_ascii_lowercase()))
                    .ok_or(SniError::NoName);
            }
            Ok(None) => {}
            Err((error, _alert)) => return Err(SniError::NotTls(error)),
        }
    }
    Ok(None)
}

/// A connection with bytes put back in front of it.
#[derive(Debug)]
pub(super) struct Rewound {
    front: Vec<u8>,
    taken: usize,
    stream: TcpStream,
}

impl Rewound {
    /// A connection from which nothing was read.
    #[must_use]
    pub(super) fn untouched(stream: TcpStream) -> Self {
        Self {
            front: Vec::new(),
            taken: 0,
            stream,
        }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let left = this.front.get(this.taken..).unwrap_or_default();
        if left.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let count = left.len().min(buf.remaining());
        buf.put_slice(left.get(..count).unwrap_or_default());
        this.taken += count;
        if this.taken == this.front.len() {
            this.front = Vec::new();
            this.taken = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use std::sync::Arc;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    fn hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    async fn greeted(sent: Vec<u8>) -> Result<(String, bool, Vec<u8>), SniError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let sending = tokio::spawn(async move {
            for byte in sent.chunks(100) {
                near.write_all(byte).await.unwrap();
            }
            near.shutdown().await.unwrap();
        });
        let mut greeted = greet(far).await?;
        sending.await.unwrap();
        let mut all = Vec::new();
        greeted.stream.read_to_end(&mut all).await.unwrap();
        Ok((greeted.server_name, greeted.relayed, all))
    }

    #[tokio::test]
    async fn the_name_is_read_and_every_byte_given_back() {
        let mut sent = hello("DB.Region-1.example");
        sent.extend_from_slice(&[7; 5000]);
        let (name, relayed, received) = greeted(sent.clone()).await.unwrap();
        assert_eq!((name.as_str(), relayed), ("db.region-1.example", false));
        assert_eq!(received, sent);
    }

    #[tokio::test]
    async fn a_relayed_connection_is_known_as_one() {
        let plain = hello("db.example");
        let sent = [RELAY_MARK, plain.as_slice()].concat();
        assert_eq!(
            greeted(sent).await.unwrap(),
            ("db.example".to_owned(), true, plain)
        );
    }

    #[tokio::test]
    async fn what_is_not_tls_or_has_no_name_is_refused() {
        assert!(matches!(
            greeted(b"GET / HTTP/1.1\r\n\r\n".to_vec()).await,
            Err(SniError::NotTls(_))
        ));
        assert!(matches!(
            greeted(hello("127.0.0.1")).await,
            Err(SniError::NoName)
        ));
        assert!(matches!(
            greeted(hello("db.example")[..50].to_vec()).await,
            Err(SniError::Io(_))
        ));
    }
}
