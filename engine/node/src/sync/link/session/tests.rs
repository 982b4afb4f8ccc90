//! A link against a source that a test plays, and a shard of which only the answers matter.

use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request as Call, Response};

use super::*;
use crate::sync::proto::replication_server::{Replication, ReplicationServer};
use crate::sync::proto::{Idle, Welcome};
use crate::sync::shard::ShardAddress;
use crate::sync::topology::Peer;

/// A source that welcomes, says what it was given to say, and ends the stream.
struct Source(Vec<Reply>);

#[tonic::async_trait]
impl Replication for Source {
    type PullStream = ReceiverStream<Result<PullReply, Status>>;

    async fn pull(
        &self,
        asked: Call<Streaming<PullRequest>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let (replies, stream) = mpsc::channel(4);
        let words = self.0.clone();
        tokio::spawn(async move {
            let mut asked = asked.into_inner();
            // One answer to each question; the stream ends with `replies`.
            for kind in words {
                if !matches!(asked.message().await, Ok(Some(_))) {
                    return;
                }
                drop(replies.send(Ok(PullReply { kind: Some(kind) })).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

async fn source(words: Vec<Reply>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(ReplicationServer::new(Source(words)))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    address
}

fn welcome() -> Reply {
    Reply::Welcome(Welcome {
        protocol: proto::PROTOCOL,
        instance_id: 2,
        config_version: 1,
    })
}

/// A shard that has a clock and a life, and says OK to everything else.
async fn shard(dir: &Path) -> Shard {
    let (socket, secret) = (dir.join("shard.sock"), dir.join("secret"));
    std::fs::write(&secret, "s").unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    let address = ShardAddress {
        name: "db-1".to_owned(),
        socket,
        secret,
        refused: dir.join("refused"),
        unfinished: dir.join("unfinished"),
        append_only: dir.join("aof"),
        saved: dir.join("saved"),
        client_pair: [dir.join("crt"), dir.join("key")],
        trusted: dir.join("trusted"),
    };
    Shard::connect(&address).await.unwrap()
}

/// Reads commands as arrays of bulk strings (RESP2) until the client leaves.
async fn answer(stream: UnixStream) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    while let Some(command) = command(&mut read).await {
        let answer = match command.first().map(String::as_str) {
            Some("CRDT.CLOCK") => "*2\r\n$1\r\nc\r\n$2\r\n{}\r\n",
            Some("INFO") => "$18\r\ncrdt_incarnation:7\r\n",
            Some(_) | None => "+OK\r\n",
        };
        if write.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn command<R: tokio::io::AsyncRead + Unpin>(read: &mut BufReader<R>) -> Option<Vec<String>> {
    let mut words = Vec::new();
    for _ in 0..length(read).await? {
        let mut word = vec![0; length(read).await?];
        read.read_exact(&mut word).await.ok()?;
        read.read_exact(&mut [0; 2]).await.ok()?;
        words.push(String::from_utf8_lossy(&word).into_owned());
    }
    Some(words)
}

/// The number in a header line such as `*3` or `$5`.
async fn length<R: tokio::io::AsyncRead + Unpin>(read: &mut BufReader<R>) -> Option<usize> {
    let mut line = String::new();
    read.read_line(&mut line).await.ok()?;
    line.trim_end().get(1..)?.parse().ok()
}

/// Runs one connection to a source that says `words`, as the sixth attempt; what the count of attempts is then.
async fn attempts_after(words: Vec<Reply>) -> u32 {
    let dir = TempDir::new().unwrap();
    let shard = Some(shard(dir.path()).await);
    let (_serving, states) = watch::channel(ShardState {
        shard,
        ..ShardState::default()
    });
    let config = LinkConfig {
        database: "db".to_owned(),
        guid: "g".to_owned(),
        instance_id: 1,
        config_version: 1,
        peer: Peer {
            instance_id: 2,
            name: "two".to_owned(),
            endpoint: source(words).await.to_string(),
            server_name: String::new(),
            spiffe_id: String::new(),
        },
        security: Security::Insecure,
    };
    let status = SharedStatus::new(watch::channel(0).0);
    let mut attempt = 5;
    let error = run(&config, states, &status, &mut attempt).await;
    assert!(
        matches!(&error, SessionError::Source(_, Code::Unavailable)),
        "{error}"
    );
    assert!(
        status.view().source_config_version.is_some(),
        "it was welcomed"
    );
    attempt
}

#[tokio::test]
async fn a_source_that_only_welcomes_does_not_reset_the_back_off() {
    assert_eq!(attempts_after(vec![welcome()]).await, 5);
}

#[tokio::test]
async fn a_source_that_serves_resets_the_back_off() {
    let idle = Reply::Idle(Idle {
        source_clock: "{}".to_owned(),
    });
    assert_eq!(attempts_after(vec![welcome(), idle]).await, 0);
}

#[test]
fn only_what_nobody_can_mend_by_trying_again_stalls() {
    let refused = |code: &str| {
        SessionError::Rejected(ShardError::Refused {
            shard: "db-1".to_owned(),
            command: "CRDT.APPLY",
            code: code.to_owned(),
            message: code.to_owned(),
        })
    };
    assert!(refused("CRDTFUTURE").stalls());
    assert!(!refused("LOADING").stalls());
    assert!(SessionError::from(Status::out_of_range("gone")).stalls());
    assert!(!SessionError::from(Status::unavailable("later")).stalls());
}
