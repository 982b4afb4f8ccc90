//! Does a shard answer? A few bytes of its protocol by hand, so that PID 1 needs no client library.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::secret::INTERNAL_USER;

/// How long a shard may take to answer before it counts as not ready.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a shard said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It serves.
    Ready,
    /// It does not, for this reason.
    NotReady(String),
}

/// Logs in as the internal user over the shard's Unix socket and asks for a sign of life.
pub async fn ping(socket: &Path, internal_secret: &str) -> Answer {
    match tokio::time::timeout(PATIENCE, exchange(socket, internal_secret)).await {
        Ok(Ok(reply)) => judge(&reply),
        Ok(Err(e)) => Answer::NotReady(format!("{}: {e}", socket.display())),
        Err(_elapsed) => Answer::NotReady(format!("no answer within {} ms", PATIENCE.as_millis())),
    }
}

async fn exchange(socket: &Path, secret: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket).await?;
    stream
        .write_all(format!("AUTH {INTERNAL_USER} {secret}\r\nPING\r\n").as_bytes())
        .await?;
    let mut reply = Vec::new();
    while lines(&reply) < 2 {
        let mut chunk = [0_u8; 512];
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            break;
        }
        reply.extend_from_slice(chunk.get(..count).unwrap_or_default());
    }
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

fn lines(reply: &[u8]) -> usize {
    reply.iter().filter(|byte| **byte == b'\n').count()
}

fn judge(reply: &str) -> Answer {
    match reply.lines().last() {
        Some("+PONG") => Answer::Ready,
        Some(other) => Answer::NotReady(other.trim_start_matches('-').to_owned()),
        None => Answer::NotReady("closed the connection without a word".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pong_is_ready() {
        assert_eq!(judge("+OK\r\n+PONG\r\n"), Answer::Ready);
        let loading = "LOADING Valkey is loading the dataset in memory";
        assert_eq!(
            judge(&format!("+OK\r\n-{loading}\r\n")),
            Answer::NotReady(loading.to_owned())
        );
        assert!(matches!(judge(""), Answer::NotReady(_)));
    }
}
