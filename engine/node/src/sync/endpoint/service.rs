//! The source's side of the protocol: checks who asks, then answers each request with one batch as soon as there is one.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::info;

use super::{Remote, SharedTable, Source};
use crate::sync::proto::replication_server::Replication;
use crate::sync::proto::{
    self, BatchPart, Hello, Idle, PullReply, PullRequest, Want, Welcome, pull_reply::Kind as Reply,
    pull_request::Kind as Asked,
};
use crate::sync::shard::{Batch, Missing, ShardError, ShardState};

/// Parts on their way to a receiver: enough to keep the connection busy, few enough to keep memory flat.
const REPLY_QUEUE: usize = 4;

/// The word with which the engine says that its backlog begins after what was asked for.
const BACKLOG_GONE: &str = "BACKLOGGONE";

/// The service.
pub(super) struct Pull {
    table: SharedTable,
}

impl Pull {
    pub(super) fn new(table: SharedTable) -> Self {
        Self { table }
    }
}

/// Checks a hello against the memberships this region knows.
fn admit(table: &super::Table, hello: &Hello, remote: Option<&Remote>) -> Result<Source, Status> {
    if !(hello.protocol_min..=hello.protocol_max).contains(&proto::PROTOCOL) {
        return Err(Status::failed_precondition(format!(
            "this region speaks protocol version {}, the other speaks {} to {}: upgrade the older one",
            proto::PROTOCOL,
            hello.protocol_min,
            hello.protocol_max
        )));
    }
    let source = table.sources.get(&hello.database_guid).ok_or_else(|| {
        Status::not_found(format!(
            "database {} is not served by this node",
            hello.database_guid
        ))
    })?;
    let membership = &source.membership;
    let claimed = hello.instance_id;
    let peer = membership.peers.get(&claimed).ok_or_else(|| {
        let standing = if membership.ghosts.contains(&claimed) {
            "was removed"
        } else {
            "is no member"
        };
        Status::permission_denied(format!(
            "instance {claimed} {standing} (configuration {} of database {})",
            membership.config_version, source.database
        ))
    })?;
    if hello.source_instance_id != membership.instance_id {
        return Err(Status::permission_denied(format!(
            "this is instance {}, not {}: the other region's address of {} is wrong",
            membership.instance_id, hello.source_instance_id, hello.source_instance_id
        )));
    }
    match remote {
        Some(Remote::Anyone) => Ok(source.clone()),
        Some(Remote::Verified {
            spiffe_id,
            database,
        }) if *spiffe_id == peer.spiffe_id && *database == source.database => Ok(source.clone()),
        Some(Remote::Verified { spiffe_id, .. }) => Err(Status::permission_denied(format!(
            "{spiffe_id} is not instance {claimed} of database {}",
            source.database
        ))),
        None => Err(Status::internal(
            "the connection has no identity: this is a defect",
        )),
    }
}

#[tonic::async_trait]
impl Replication for Pull {
    type PullStream = ReceiverStream<Result<PullReply, Status>>;

    async fn pull(
        &self,
        request: Request<Streaming<PullRequest>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let remote = request.extensions().get::<Remote>().cloned();
        let mut asked = request.into_inner();
        let Some(PullRequest {
            kind: Some(Asked::Hello(hello)),
        }) = asked.message().await?
        else {
            return Err(Status::invalid_argument(
                "the first message must be a hello",
            ));
        };
        let source = admit(&self.table.load(), &hello, remote.as_ref())?;
        info!(
            database = source.database,
            peer = hello.instance_id,
            "pulls from here"
        );
        let (replies, outgoing) = mpsc::channel(REPLY_QUEUE);
        let conversation = Conversation {
            table: Arc::clone(&self.table),
            hello,
            remote,
            source,
            replies,
        };
        drop(tokio::spawn(conversation.hold(asked)));
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

struct Conversation {
    table: SharedTable,
    hello: Hello,
    remote: Option<Remote>,
    source: Source,
    replies: mpsc::Sender<Result<PullReply, Status>>,
}

impl Conversation {
    async fn hold(mut self, asked: Streaming<PullRequest>) {
        let replies = self.replies.clone();
        let ended = tokio::select! {
            ended = self.serve(asked) => ended,
            () = replies.closed() => Ok(()),
        };
        let peer = self.hello.instance_id;
        match ended {
            Ok(()) => info!(database = self.source.database, peer, "ended its pull"),
            Err(status) => {
                info!(
                    database = self.source.database,
                    peer,
                    reason = status.message(),
                    "its pull was ended"
                );
                // It may be gone already.
                let _gone = self.replies.send(Err(status)).await;
            }
        }
    }

    async fn serve(&mut self, mut asked: Streaming<PullRequest>) -> Result<(), Status> {
        let membership = &self.source.membership;
        let welcome = Welcome {
            protocol: proto::PROTOCOL,
            instance_id: membership.instance_id,
            config_version: membership.config_version,
        };
        self.send(Reply::Welcome(welcome)).await?;
        while let Some(request) = asked.message().await? {
            match request.kind {
                Some(Asked::Want(want)) => self.answer(&want).await?,
                Some(Asked::Hello(_)) => return Err(Status::invalid_argument("a second hello")),
                // A request of a kind that this version does not know cannot be answered.
                None => return Err(Status::unimplemented("a request of an unknown kind")),
            }
        }
        Ok(())
    }

    /// Waits until there is something for `want`, and sends it.
    async fn answer(&mut self, want: &Want) -> Result<(), Status> {
        loop {
            // Somebody may have been removed while it waited.
            self.source = admit(&self.table.load(), &self.hello, self.remote.as_ref())?;
            let mut state = self.source.shard.clone();
            let clock_text = {
                let now = state.borrow_and_update();
                now.clock
                    .as_ref()
                    .map(|clock| clock.text.clone())
                    .unwrap_or_default()
            };
            let shard = serving(&state)?;
            let max_bytes = want.max_bytes.clamp(1, proto::BATCH_BYTES);
            let batch = shard
                .pull(
                    &Missing {
                        clock: &want.clock,
                        requester: self.hello.instance_id,
                        incarnation: &want.incarnation,
                    },
                    max_bytes,
                )
                .await
                .map_err(|e| self.refusal(&e))?;
            if !batch.data.is_empty() {
                return self.send_batch(batch, &clock_text).await;
            }
            match tokio::time::timeout(proto::IDLE_INTERVAL, state.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_closed)) => return Err(Status::unavailable("the shard is stopping")),
                Err(_elapsed) => {
                    self.send(Reply::Idle(Idle {
                        source_clock: clock_text,
                    }))
                    .await?
                }
            }
        }
    }

    async fn send_batch(&self, batch: Batch, clock_text: &str) -> Result<(), Status> {
        let Batch { mut data, more } = batch;
        while data.len() > proto::PART_BYTES {
            let part = data.split_to(proto::PART_BYTES);
            self.send(part_of(part)).await?;
        }
        self.send(Reply::BatchPart(BatchPart {
            data,
            last: true,
            more,
            source_clock: clock_text.to_owned(),
        }))
        .await
    }

    async fn send(&self, kind: Reply) -> Result<(), Status> {
        let reply = PullReply { kind: Some(kind) };
        self.replies
            .send(Ok(reply))
            .await
            .map_err(|_| Status::cancelled("the receiver is gone"))
    }

    fn refusal(&self, error: &ShardError) -> Status {
        if error.code() == Some(BACKLOG_GONE) {
            return Status::out_of_range(format!(
                "instance {} no longer holds the writes that instance {} lacks (its backlog begins later): remove that region from \
                 the database and add it again with empty data. The engine says: {error}",
                self.source.membership.instance_id, self.hello.instance_id
            ));
        }
        Status::unavailable(crate::run::chain(error))
    }
}

fn part_of(data: Bytes) -> Reply {
    Reply::BatchPart(BatchPart {
        data,
        last: false,
        more: false,
        source_clock: String::new(),
    })
}

fn serving(state: &watch::Receiver<ShardState>) -> Result<crate::sync::shard::Shard, Status> {
    let state = state.borrow();
    state.shard.clone().ok_or_else(|| {
        let reason = state
            .error
            .clone()
            .unwrap_or_else(|| "it has not started yet".to_owned());
        Status::unavailable(format!("the source's shard does not serve: {reason}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::ShardName;
    use crate::sync::endpoint::Table;
    use crate::sync::topology::{Membership, Peer};
    use std::collections::BTreeMap;
    use tonic::Code;

    fn table() -> Table {
        let peer = Peer {
            instance_id: 2,
            name: "two".to_owned(),
            endpoint: "h:1".to_owned(),
            server_name: "db.two".to_owned(),
            spiffe_id: "spiffe://t/two".to_owned(),
        };
        let membership = Membership {
            shard: ShardName::new("db", 1),
            guid: "g".to_owned(),
            instance_id: 1,
            config_version: 4,
            peers: BTreeMap::from([(2, peer)]),
            ghosts: vec![3],
        };
        let (_, shard) = watch::channel(ShardState::default());
        let source = Source {
            database: "db".to_owned(),
            membership,
            shard,
        };
        Table {
            sources: BTreeMap::from([("g".to_owned(), source)]),
            routes: BTreeMap::new(),
        }
    }

    fn hello() -> Hello {
        Hello {
            protocol_min: 1,
            protocol_max: 3,
            database_guid: "g".to_owned(),
            instance_id: 2,
            config_version: 1,
            source_instance_id: 1,
        }
    }

    fn verified(spiffe_id: &str, database: &str) -> Remote {
        Remote::Verified {
            spiffe_id: spiffe_id.to_owned(),
            database: database.to_owned(),
        }
    }

    #[test]
    fn a_member_with_its_own_certificate_is_admitted() {
        assert!(admit(&table(), &hello(), Some(&verified("spiffe://t/two", "db"))).is_ok());
        assert!(admit(&table(), &hello(), Some(&Remote::Anyone)).is_ok());
    }

    #[test]
    fn everybody_else_is_refused_with_the_reason() {
        let two = verified("spiffe://t/two", "db");
        let cases = [
            (
                hello(),
                Some(verified("spiffe://t/three", "db")),
                Code::PermissionDenied,
                "is not instance 2",
            ),
            (
                hello(),
                Some(verified("spiffe://t/two", "other")),
                Code::PermissionDenied,
                "is not instance 2",
            ),
            (hello(), None, Code::Internal, "no identity"),
            (
                Hello {
                    instance_id: 3,
                    ..hello()
                },
                Some(two.clone()),
                Code::PermissionDenied,
                "was removed",
            ),
            (
                Hello {
                    instance_id: 9,
                    ..hello()
                },
                Some(two.clone()),
                Code::PermissionDenied,
                "is no member",
            ),
            (
                Hello {
                    source_instance_id: 5,
                    ..hello()
                },
                Some(two.clone()),
                Code::PermissionDenied,
                "not 5",
            ),
            (
                Hello {
                    database_guid: "x".to_owned(),
                    ..hello()
                },
                Some(two.clone()),
                Code::NotFound,
                "database x",
            ),
            (
                Hello {
                    protocol_min: 2,
                    ..hello()
                },
                Some(two),
                Code::FailedPrecondition,
                "protocol version 1",
            ),
        ];
        for (hello, remote, code, word) in cases {
            let status = admit(&table(), &hello, remote.as_ref()).unwrap_err();
            assert_eq!(status.code(), code, "{status:?}");
            assert!(status.message().contains(word), "{status:?}");
        }
    }
}
