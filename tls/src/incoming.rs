//! The loop that accepts.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Refused;

/// The pause after the system gave no connection; it doubles as long as that goes on.
const REFUSED: Duration = Duration::from_millis(10);
/// No pause is longer.
const REFUSED_MAX: Duration = Duration::from_secs(1);

/// How long a peer that was refused may take to read why, and to close.
const LEAVE: Duration = Duration::from_secs(2);
/// Bytes that are read of it meanwhile.
const UNREAD: u64 = 64 << 10;

/// What one listener allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For whom, in logs.
    pub purpose: &'static str,
    /// The longest handshake.
    pub handshake: Duration,
    /// Handshakes at one time, with those that were refused and take their leave; further connections wait in the kernel's queue.
    pub at_once: usize,
}

/// Yields connections after their handshake.
#[derive(Debug)]
pub struct Incoming<T> {
    ready: mpsc::Receiver<(T, SocketAddr)>,
    address: Result<SocketAddr, io::ErrorKind>,
}

struct Accepting<T, F> {
    tcp: TcpListener,
    limits: Limits,
    tasks: TaskTracker,
    stop: CancellationToken,
    ready: mpsc::Sender<(T, SocketAddr)>,
    shake: Arc<F>,
}

impl<T: Send + 'static> Incoming<T> {
    /// Accepts on `tcp` until `stop`, in tasks of `tasks`. `shake` makes of a connection what is yielded, or nothing if it took
    /// the connection for something else.
    pub fn start<F, A>(
        tcp: TcpListener,
        limits: Limits,
        tasks: &TaskTracker,
        stop: CancellationToken,
        shake: F,
    ) -> Self
    where
        F: Fn(TcpStream, SocketAddr) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Option<T>, Refused>> + Send + 'static,
    {
        let address = tcp.local_addr().map_err(|error| error.kind());
        // One place: the server takes a connection as soon as it stands, and a handshake that waits for it holds its permit.
        let (sender, ready) = mpsc::channel(1);
        let accepting = Accepting {
            tcp,
            limits,
            tasks: tasks.clone(),
            stop,
            ready: sender,
            shake: Arc::new(shake),
        };
        tasks.spawn(accepting.run());
        Self { ready, address }
    }

    /// The next connection; `None` after the stop.
    pub async fn next(&mut self) -> Option<(T, SocketAddr)> {
        self.ready.recv().await
    }

    /// The connections without their addresses, until the stop.
    pub fn connections(self) -> impl Stream<Item = io::Result<T>> + Send {
        ReceiverStream::new(self.ready).map(|(connection, _)| Ok(connection))
    }
}

impl<T, F, A> Accepting<T, F>
where
    T: Send + 'static,
    F: Fn(TcpStream, SocketAddr) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Option<T>, Refused>> + Send + 'static,
{
    async fn run(self) {
        let permits = Arc::new(Semaphore::new(self.limits.at_once));
        let mut refused = 0;
        loop {
            let next = async {
                let permit = Arc::clone(&permits).acquire_owned().await;
                (permit, self.tcp.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.ready.closed() => return,
                next = next => next,
            };
            match accepted {
                Ok((stream, from)) => {
                    refused = 0;
                    let handshake = self.handshake(stream, from);
                    self.tasks.spawn(async move {
                        handshake.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    let wait = pause(refused);
                    refused += 1;
                    let purpose = self.limits.purpose;
                    tracing::warn!(purpose, %error, ?wait, "a connection could not be accepted");
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = sleep(wait) => {}
                    }
                }
            }
        }
    }

    fn handshake(
        &self,
        stream: TcpStream,
        from: SocketAddr,
    ) -> impl Future<Output = ()> + Send + 'static {
        let Limits {
            purpose, handshake, ..
        } = self.limits;
        let (stop, ready, shake) = (
            self.stop.clone(),
            self.ready.clone(),
            Arc::clone(&self.shake),
        );
        async move {
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = timeout(handshake, shake(stream, from)) => ended,
            };
            match ended {
                Ok(Ok(Some(connection))) => {
                    if ready.send((connection, from)).await.is_err() {
                        tracing::debug!(purpose, %from, "the server stopped before it took the connection");
                    }
                }
                Ok(Ok(None)) => {}
                Ok(Err(refused)) => {
                    let Refused { why, stream } = refused;
                    tracing::info!(purpose, %from, error = chain(&*why), "a connection was refused");
                    if let Some(stream) = stream {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = leave(stream, LEAVE.min(handshake), UNREAD) => {}
                        }
                    }
                }
                Err(_elapsed) => {
                    tracing::info!(purpose, %from, limit = ?handshake, "a handshake took too long");
                }
            }
        }
    }
}

/// Closes a connection so that the peer can read what was said last. A socket that is closed while bytes of the peer are unread
/// answers them with a reset, and a reset overtakes the alert that says why: so our side is shut first, and the peer is read until
/// it closes too (RFC 9112 §9.6 asks this of HTTP servers), within bounds, because it may never do so.
async fn leave(mut stream: TcpStream, within: Duration, unread: u64) {
    let reading = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(unread), &mut tokio::io::sink()).await
    };
    match timeout(within, reading).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a refused peer broke off"),
        Err(_elapsed) => tracing::debug!("a refused peer did not close"),
    }
}

/// After so many refusals by the system in a row.
fn pause(refused: u32) -> Duration {
    REFUSED_MAX.min(REFUSED * 2_u32.pow(refused.min(10)))
}

/// An error and its causes; what an error repeats of its cause is said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Listener for Incoming<T> {
    type Io = T;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.next().await {
            Some(ready) => ready,
            // No more come; the server ends by its own signal.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.address.map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Refusal;

    const SOON: Duration = Duration::from_secs(30);

    /// A handshake is one byte; `x` is refused, `X` with words, `-` is taken for something else.
    async fn byte(mut stream: TcpStream) -> Result<Option<TcpStream>, Refused> {
        match stream.read_u8().await? {
            b'x' => Err(Refusal::from("no").into()),
            b'X' => {
                stream.write_all(b"no").await?;
                Err(Refused {
                    why: "no".into(),
                    stream: Some(stream),
                })
            }
            b'-' => Ok(None),
            _ => Ok(Some(stream)),
        }
    }

    struct Bench {
        incoming: Incoming<TcpStream>,
        stop: CancellationToken,
        tasks: TaskTracker,
    }

    async fn bench(handshake: Duration, at_once: usize) -> Bench {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let limits = Limits {
            purpose: "a test",
            handshake,
            at_once,
        };
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let shake = |stream, _from| byte(stream);
        let incoming = Incoming::start(tcp, limits, &tasks, stop.clone(), shake);
        Bench {
            incoming,
            stop,
            tasks,
        }
    }

    impl Bench {
        async fn dial(&self, says: &[u8]) -> TcpStream {
            let mut stream = TcpStream::connect(self.incoming.address.unwrap())
                .await
                .unwrap();
            stream.write_all(says).await.unwrap();
            stream
        }

        async fn next(&mut self) -> Option<SocketAddr> {
            let next = timeout(SOON, self.incoming.next()).await;
            next.expect("something happens").map(|(_, from)| from)
        }
    }

    #[tokio::test]
    async fn a_peer_that_says_nothing_holds_up_nobody() {
        let mut bench = bench(SOON, 2).await;
        let _silent = bench.dial(b"").await;
        for _ in 0..5 {
            let peer = bench.dial(b"!").await;
            assert_eq!(bench.next().await, peer.local_addr().ok());
        }
    }

    #[tokio::test]
    async fn silent_peers_are_cut_off_and_make_room() {
        let mut bench = bench(Duration::from_millis(200), 2).await;
        let mut silent = [bench.dial(b"").await, bench.dial(b"").await];
        let peer = bench.dial(b"!").await;
        assert_eq!(bench.next().await, peer.local_addr().ok());
        for stream in &mut silent {
            let read = timeout(SOON, stream.read(&mut [0])).await.unwrap();
            assert_eq!(read.unwrap(), 0, "it was closed");
        }
    }

    #[tokio::test]
    async fn no_more_handshakes_run_at_once_than_allowed() {
        let mut bench = bench(SOON, 2).await;
        let mut silent = vec![bench.dial(b"").await, bench.dial(b"").await];
        let peer = bench.dial(b"!").await;
        let early = timeout(Duration::from_millis(300), bench.incoming.next()).await;
        assert!(early.is_err(), "there was no room for it");
        drop(silent.pop());
        assert_eq!(bench.next().await, peer.local_addr().ok());
    }

    #[tokio::test]
    async fn what_is_refused_or_taken_otherwise_is_not_yielded() {
        let mut bench = bench(SOON, 1).await;
        let _others = (bench.dial(b"x").await, bench.dial(b"-").await);
        let peer = bench.dial(b"!").await;
        assert_eq!(bench.next().await, peer.local_addr().ok());
    }

    #[tokio::test]
    async fn a_stop_ends_everything() {
        let mut bench = bench(SOON, 4).await;
        let _silent = bench.dial(b"").await;
        bench.stop.cancel();
        assert_eq!(bench.next().await, None);
        bench.tasks.close();
        timeout(SOON, bench.tasks.wait())
            .await
            .expect("no task is left");
    }

    #[tokio::test]
    async fn who_is_refused_can_read_why_though_it_said_more_than_was_read() {
        let bench = bench(SOON, 1).await;
        let mut peer = bench.dial(&[b'X'; 4_000]).await;
        let mut said = String::new();
        peer.read_to_string(&mut said).await.expect("no reset");
        assert_eq!(said, "no");
    }

    #[tokio::test]
    async fn who_is_refused_keeps_its_place_until_it_leaves_and_not_for_good() {
        let mut bench = bench(Duration::from_secs(1), 1).await;
        let mut refused = bench.dial(b"X").await;
        assert_eq!(refused.read_u8().await.unwrap(), b'n');
        let peer = bench.dial(b"!").await;
        let early = timeout(Duration::from_millis(300), bench.incoming.next()).await;
        assert!(early.is_err(), "there was no room for it");
        assert_eq!(bench.next().await, peer.local_addr().ok());
        drop(refused);
    }

    #[tokio::test]
    async fn a_refused_peer_that_talks_on_is_cut_off() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(tcp.local_addr().unwrap()).await.unwrap();
        let (stream, _) = tcp.accept().await.unwrap();
        peer.write_all(&[0; 8_192]).await.unwrap();
        timeout(SOON, leave(stream, SOON * 10, 4_096))
            .await
            .expect("so many bytes are enough");
    }

    #[test]
    fn pauses_grow_while_the_system_gives_nothing() {
        assert_eq!((pause(0), pause(3)), (REFUSED, REFUSED * 8));
        assert_eq!(pause(u32::MAX), REFUSED_MAX);
    }
}
