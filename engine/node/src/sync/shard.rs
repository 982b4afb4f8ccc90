//! Talking to one shard of this node, over its Unix socket as the internal user. The only module that spells `CRDT.*` commands.

mod encrypt;
mod fence;
mod healing;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{
    Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo as _, RedisConnectionInfo, RedisError,
};

use super::topology::Membership;
use crate::desired::DesiredShard;
use crate::secret::INTERNAL_USER;
use crate::valkey::managed;

pub(super) use watch::{ShardState, Watched, watch};

/// A command that takes longer than this has lost its shard. Loading and big batches are below it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a shard did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShardError {
    /// It does not run, or the connection broke.
    #[error("shard {shard} does not answer ({command})")]
    Gone {
        /// Which shard.
        shard: String,
        /// While it was asked what.
        command: &'static str,
        /// Why.
        #[source]
        source: RedisError,
    },
    /// It answered with an error.
    #[error("shard {shard} refused {command}: {message}")]
    Refused {
        /// Which shard.
        shard: String,
        /// What it was asked.
        command: &'static str,
        /// The first word of its answer.
        code: String,
        /// Its answer.
        message: String,
    },
}

impl ShardError {
    /// The first word of a refusal.
    #[must_use]
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Gone { .. } => None,
            Self::Refused { code, .. } => Some(code),
        }
    }
}

/// How to reach a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShardAddress {
    /// Its process name.
    pub name: String,
    /// Its Unix socket.
    pub socket: PathBuf,
    /// The file with the internal user's password.
    pub secret: PathBuf,
    /// The directory of its append-only files.
    pub append_only: PathBuf,
    /// The note that its last process was stopped in order.
    pub saved: PathBuf,
    /// Why it did not load its files at its newest start.
    pub refused: PathBuf,
    /// The note that it began anew and was never whole since.
    pub unfinished: PathBuf,
    /// The certificate that its clients see, and its key.
    pub client_pair: [PathBuf; 2],
    /// Whose certificates let clients in, where they must show one.
    pub trusted: PathBuf,
}

/// A setting of ours that somebody else has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Drift {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub found: String,
    /// What it should be.
    pub wanted: String,
}

/// A connection to a shard, shared by all who hold a copy.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    name: String,
    connection: MultiplexedConnection,
}

/// A shard's clock: what the engine compares, and what people read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock {
    /// The engine's encoding.
    pub blob: Bytes,
    /// The same as JSON text.
    pub text: String,
}

/// What a receiver has, so that a source can tell what it lacks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Missing<'a> {
    /// The receiver's clock.
    pub(crate) clock: &'a [u8],
    /// The receiver.
    pub(crate) requester: u32,
    /// The life it is living, of which it lacks nothing; empty if it has none.
    pub(crate) incarnation: &'a str,
}

/// What a source has for a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// The engine's encoding; empty: nothing.
    pub data: Bytes,
    /// There is more at once.
    pub more: bool,
}

impl Shard {
    /// Connects and logs in.
    ///
    /// # Errors
    /// [`ShardError::Gone`] if the shard or the secret is not there.
    pub(super) async fn connect(address: &ShardAddress) -> Result<Self, ShardError> {
        let name = address.name.clone();
        let gone = |source| ShardError::Gone {
            shard: name.clone(),
            command: "connect",
            source,
        };
        let password = read_secret(&address.secret).map_err(gone)?;
        let login = RedisConnectionInfo::default()
            .set_username(INTERNAL_USER)
            .set_password(password);
        let info = ConnectionAddr::Unix(address.socket.clone())
            .into_connection_info()
            .map_err(gone)?
            .set_redis_settings(login);
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(2)))
            .set_response_timeout(Some(PATIENCE));
        let client = redis::Client::open(info).map_err(gone)?;
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(gone)?;
        Ok(Self { name, connection })
    }

    async fn ask<T: FromRedisValue>(
        &self,
        name: &'static str,
        command: &Cmd,
    ) -> Result<T, ShardError> {
        let mut connection = self.connection.clone();
        command
            .query_async(&mut connection)
            .await
            .map_err(|source| match source.code() {
                Some(code) if !source.is_unrecoverable_error() => ShardError::Refused {
                    shard: self.name.clone(),
                    command: name,
                    code: code.to_owned(),
                    message: source
                        .detail()
                        .map_or_else(|| source.to_string(), |detail| format!("{code} {detail}")),
                },
                Some(_) | None => ShardError::Gone {
                    shard: self.name.clone(),
                    command: name,
                    source,
                },
            })
    }

    /// A sign of life; an error while it loads its data.
    ///
    /// # Errors
    /// [`ShardError`] as for every command.
    pub(super) async fn ping(&self) -> Result<(), ShardError> {
        self.ask::<String>("PING", &redis::cmd("PING"))
            .await
            .map(drop)
    }

    /// Makes a running shard use what PID 1 wrote into its files.
    ///
    /// # Errors
    /// [`ShardError`] as for every command.
    pub(super) async fn settle(
        &self,
        desired: &DesiredShard,
        address: &ShardAddress,
    ) -> Result<(), ShardError> {
        self.encrypt(desired, address).await?;
        let mut command = redis::cmd("CONFIG");
        command.arg("SET");
        for (name, value) in managed(desired) {
            command.arg(name).arg(value);
        }
        self.ask::<String>("CONFIG SET", &command).await?;
        self.ask::<String>("ACL LOAD", redis::cmd("ACL").arg("LOAD"))
            .await
            .map(drop)
    }

    /// Settings of ours that somebody else has changed: name, what was found, and what it should be.
    ///
    /// # Errors
    /// [`ShardError`] as for every command.
    pub(super) async fn drifted(&self, desired: &DesiredShard) -> Result<Vec<Drift>, ShardError> {
        let mut wanted = managed(desired);
        wanted.extend(encrypt::ports(desired));
        let mut command = redis::cmd("CONFIG");
        command.arg("GET");
        for (name, _) in &wanted {
            command.arg(*name);
        }
        let found: BTreeMap<String, String> = self.ask("CONFIG GET", &command).await?;
        Ok(differences(&found, wanted))
    }

    /// The process that answers.
    ///
    /// # Errors
    /// [`ShardError`] as for every command.
    pub(super) async fn process(&self) -> Result<String, ShardError> {
        self.info_field("server", "process_id").await
    }

    /// Tells the engine who is a member.
    ///
    /// # Errors
    /// [`ShardError`] as for every command.
    pub(super) async fn configure(&self, membership: &Membership) -> Result<(), ShardError> {
        let join = |ids: &mut dyn Iterator<Item = u32>| {
            ids.map(|id| id.to_string()).collect::<Vec<_>>().join(",")
        };
        let members = join(
            &mut std::iter::once(membership.instance_id).chain(membership.peers.keys().copied()),
        );
        let mut command = redis::cmd("CRDT.CONFIG");
        command
            .arg("SET")
            .arg(membership.instance_id)
            .arg(membership.config_version)
            .arg(members);
        if !membership.ghosts.is_empty() {
            command
                .arg("GHOSTS")
                .arg(join(&mut membership.ghosts.iter().copied()));
        }
        self.ask::<redis::Value>("CRDT.CONFIG SET", &command)
            .await
            .map(drop)
    }

    /// Everything the shard has.
    ///
    /// # Errors
    /// [`ShardError`] as for every command.
    pub(super) async fn clock(&self) -> Result<Clock, ShardError> {
        let (blob, text): (Bytes, String) =
            self.ask("CRDT.CLOCK", &redis::cmd("CRDT.CLOCK")).await?;
        Ok(Clock { blob, text })
    }

    /// The sections of `INFO`; those that the shard does not know are left out.
    ///
    /// # Errors
    /// [`ShardError`] as for every command.
    pub(super) async fn info(&self, sections: &[&str]) -> Result<String, ShardError> {
        self.ask("INFO", redis::cmd("INFO").arg(sections)).await
    }

    /// The life that the shard is living, as the engine writes it; empty while it has not written.
    ///
    /// # Errors
    /// [`ShardError`] as for every command.
    pub(crate) async fn incarnation(&self) -> Result<String, ShardError> {
        let info: String = self
            .ask("INFO crdt", redis::cmd("INFO").arg("crdt"))
            .await?;
        let found = info
            .lines()
            .find_map(|line| line.strip_prefix("crdt_incarnation:"));
        Ok(found.unwrap_or_default().trim().to_owned())
    }

    /// Effects of this region that a receiver lacks.
    ///
    /// # Errors
    /// [`ShardError`]; the code says if the backlog no longer reaches back that far.
    pub(crate) async fn pull(
        &self,
        missing: &Missing<'_>,
        max_bytes: u64,
    ) -> Result<Batch, ShardError> {
        let mut command = redis::cmd("CRDT.PULL");
        command
            .arg(missing.clock)
            .arg(missing.requester)
            .arg(max_bytes);
        if !missing.incarnation.is_empty() {
            command.arg(missing.incarnation);
        }
        let (data, more): (Option<Bytes>, i64) = self.ask("CRDT.PULL", &command).await?;
        Ok(Batch {
            data: data.unwrap_or_default(),
            more: more != 0,
        })
    }

    /// Applies a batch of `source`; the number of effects that were new.
    ///
    /// # Errors
    /// [`ShardError`] as for every command.
    pub(super) async fn apply(&self, source: u32, batch: &[u8]) -> Result<u64, ShardError> {
        let mut command = redis::cmd("CRDT.APPLY");
        command.arg(source).arg(batch);
        self.ask("CRDT.APPLY", &command).await
    }

    /// Announces a clock that this region cannot lose any more.
    ///
    /// # Errors
    /// [`ShardError`] as for every command.
    pub(super) async fn report(&self, durable: &[u8]) -> Result<(), ShardError> {
        let mut command = redis::cmd("CRDT.REPORT");
        command.arg(durable);
        self.ask::<redis::Value>("CRDT.REPORT", &command)
            .await
            .map(drop)
    }

    /// `true` if everything that was written before this question is in the append-only file when the answer comes.
    ///
    /// Valkey writes its buffer to the file before it sends any answer, except while an fsync is under way in its background
    /// thread. If none is, the buffer of this moment has been written before this answer was sent.
    ///
    /// # Errors
    /// [`ShardError`] as for every command.
    pub(crate) async fn is_written(&self) -> Result<bool, ShardError> {
        self.persists(&[
            "aof_enabled:1",
            "aof_pending_bio_fsync:0",
            "aof_last_write_status:ok",
        ])
        .await
    }

    /// Whether every write goes to an append-only file.
    ///
    /// # Errors
    /// [`ShardError`] as for every command.
    pub(crate) async fn appends(&self) -> Result<bool, ShardError> {
        self.persists(&["aof_enabled:1"]).await
    }

    /// Makes the append-only file anew from what is in memory, in the background.
    ///
    /// # Errors
    /// [`ShardError`]; a refusal if the disk has no room even for its name.
    async fn rewrite(&self) -> Result<(), ShardError> {
        self.ask::<String>("BGREWRITEAOF", &redis::cmd("BGREWRITEAOF"))
            .await
            .map(drop)
    }

    async fn persists(&self, wanted: &[&str]) -> Result<bool, ShardError> {
        let info: String = self
            .ask("INFO persistence", redis::cmd("INFO").arg("persistence"))
            .await?;
        let said = |wanted: &&str| info.lines().any(|line| line.trim_end() == *wanted);
        Ok(wanted.iter().all(said))
    }
}

fn differences(
    found: &BTreeMap<String, String>,
    wanted: Vec<(&'static str, String)>,
) -> Vec<Drift> {
    let differs = |(name, wanted): (&'static str, String)| {
        // A server that was built without TLS has no such setting.
        let found = found.get(name)?.clone();
        (found != wanted).then_some(Drift {
            name,
            found,
            wanted,
        })
    };
    wanted.into_iter().filter_map(differs).collect()
}

fn read_secret(path: &Path) -> Result<String, RedisError> {
    std::fs::read_to_string(path).map_err(RedisError::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_of_ours_that_differ_have_drifted() {
        let found = [("save", ""), ("maxmemory", "1"), ("slowlog-max-len", "7")];
        let found = found.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let wanted = [("save", ""), ("maxmemory", "2"), ("tls-port", "0")];
        let wanted = wanted
            .map(|(name, value)| (name, value.to_owned()))
            .to_vec();
        let drift = Drift {
            name: "maxmemory",
            found: "1".to_owned(),
            wanted: "2".to_owned(),
        };
        assert_eq!(differences(&found.into(), wanted), [drift]);
    }
}
