//! What a connection died of.
//!
//! Under TLS 1.3 a hub refuses a client's certificate after the client's handshake. Its alert then meets whatever reads the
//! connection first, which is seldom the call that fails of it: the HTTP library ends the connection, and tells later calls only
//! that it is closed. So the stream under that library notes the error itself.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// Reads after a failed write: an alert takes one, and what a hub sent before it a few more.
const LAST_READS: usize = 16;
/// How long it may take until what has arrived can be read. A failed write is known at once, what came before the reset only
/// after the runtime has heard of it.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Bytes of each.
const LAST_READ: usize = 4 * 1024;

/// The first error of a connection. Connections that follow one another share it: it stands until the hub is heard on a newer one,
/// because only that shows that the hub let us in.
#[derive(Debug, Clone, Default)]
pub(super) struct Noted(Arc<Mutex<Option<Arc<io::Error>>>>);

impl Noted {
    /// What the connection died of.
    pub(super) fn error(&self) -> Option<Arc<io::Error>> {
        self.slot().clone()
    }

    fn note(&self, error: io::Error) -> io::Error {
        let error = Arc::new(error);
        self.slot().get_or_insert_with(|| Arc::clone(&error));
        io::Error::new(error.kind(), error)
    }

    fn heard(&self) {
        self.slot().take();
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<io::Error>>> {
        // The slot is whole at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that notes its first error.
#[derive(Debug)]
pub(super) struct Noting<S> {
    stream: S,
    noted: Noted,
    heard: bool,
    broken: Option<Broken>,
}

/// Nothing more can be written. What the hub said last may be here already, or the system may be about to hand it out.
#[derive(Debug)]
struct Broken {
    error: io::Error,
    reads: usize,
    until: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Noting<S> {
    pub(super) fn new(stream: S, noted: Noted) -> Self {
        Self {
            stream,
            noted,
            heard: false,
            broken: None,
        }
    }

    /// Writes, and where that fails for good, notes why: what the hub said last, if it can still be read, says more than the
    /// failed write.
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.broken.is_none() {
            match ready!(write(Pin::new(&mut self.stream), context)) {
                Ok(written) => return Poll::Ready(Ok(written)),
                Err(error) => {
                    self.broken = Some(Broken {
                        error,
                        reads: LAST_READS,
                        until: Box::pin(sleep(LAST_WORDS)),
                    });
                }
            }
        }
        let error = ready!(self.last_words(context));
        Poll::Ready(Err(self.noted.note(error)))
    }

    fn last_words(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let mut bytes = [0; LAST_READ];
        while let Some(broken) = &mut self.broken
            && broken.reads > 0
        {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => broken.reads -= 1,
                Poll::Ready(Err(said)) => {
                    self.broken = None;
                    return Poll::Ready(said);
                }
                Poll::Ready(Ok(())) => break,
                Poll::Pending => {
                    ready!(broken.until.as_mut().poll(context));
                    break;
                }
            }
        }
        let broken = self.broken.take().map(|broken| broken.error);
        Poll::Ready(broken.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Noting<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut this.stream).poll_read(context, buffer));
        if !this.heard && buffer.filled().len() > before {
            this.heard = true;
            this.noted.heard();
        }
        Poll::Ready(read.map_err(|error| this.noted.note(error)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Noting<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .written(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().written(context, S::poll_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().written(context, S::poll_shutdown)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().written(context, |stream, context| {
            stream.poll_write_vectored(context, bytes)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Read {
        Bytes,
        Alert(&'static str),
        NotYet,
        Never,
    }

    /// Takes no byte, and reads what was put in.
    #[derive(Debug)]
    struct Dead(VecDeque<Read>);

    impl AsyncRead for Dead {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match self.0.pop_front() {
                Some(Read::Bytes) => buffer.put_slice(b"!"),
                Some(Read::Alert(alert)) => return Poll::Ready(Err(io::Error::other(alert))),
                Some(Read::NotYet) => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Read::Never) => return Poll::Pending,
                None => {}
            }
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Dead {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn dead(reads: &[Read], noted: &Noted) -> Noting<Dead> {
        Noting::new(Dead(reads.iter().copied().collect()), noted.clone())
    }

    fn text(noted: &Noted) -> Option<String> {
        noted.error().map(|error| error.to_string())
    }

    #[tokio::test]
    async fn the_first_error_stands_until_a_hub_is_heard() {
        let noted = Noted::default();
        for alert in ["refused", "another"] {
            let mut stream = dead(&[Read::Alert(alert)], &noted);
            assert_eq!(stream.read_u8().await.unwrap_err().to_string(), alert);
            assert_eq!(text(&noted).as_deref(), Some("refused"));
        }
        let mut stream = dead(&[Read::Bytes, Read::Alert("late")], &noted);
        stream.read_u8().await.unwrap();
        assert_eq!(text(&noted), None);
        stream.read_u8().await.unwrap_err();
        assert_eq!(text(&noted).as_deref(), Some("late"));
    }

    async fn unwritten(reads: &[Read]) -> String {
        let noted = Noted::default();
        let error = dead(reads, &noted).write_all(b"!").await.unwrap_err();
        assert_eq!(text(&noted), Some(error.to_string()));
        error.to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_write_finds_what_the_hub_said_before() {
        let said = Read::Alert("refused");
        assert_eq!(unwritten(&[Read::Bytes, said]).await, "refused");
        assert_eq!(
            unwritten(&[Read::Bytes, Read::NotYet, said]).await,
            "refused"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_write_after_which_nothing_can_be_read_is_told_as_it_is() {
        for reads in [&[Read::Bytes][..], &[Read::Never], &[Read::Bytes; 99]] {
            assert_eq!(unwritten(reads).await, "broken pipe");
        }
    }
}
