//! A shard's role and permission: what is asked of Valkey and of the module's `CRDT.FENCE`.

use std::collections::BTreeMap;

use super::{Shard, ShardError};
use crate::permission::{Life, Permission, Until};
use crate::secret::{INTERNAL_USER, REPLICATION_USER};
use crate::valkey::Replicated;

impl Shard {
    /// The process that answers here, with everything it holds.
    ///
    /// # Errors
    /// [`ShardError`]; also while it loads its data, and if it was started without the guard of writes.
    pub(crate) async fn life(&self) -> Result<(Life, Replicated), ShardError> {
        self.ping().await?;
        let id = self.info_field("server", "run_id").await?;
        let mut ask = redis::cmd("CRDT.FENCE");
        let status: BTreeMap<String, i64> =
            self.ask("CRDT.FENCE STATUS", ask.arg("STATUS")).await?;
        let number = |name: &str| status.get(name).copied().unwrap_or(0);
        let positive = |name: &str| u64::try_from(number(name)).unwrap_or(0);
        let until = match number("deadline") {
            0 => None,
            -1 => Some(Until::Forever),
            _ => Some(Until::At(positive("deadline"))),
        };
        let replicated = self.replicated().await?;
        let life = Life {
            id,
            position: replicated.position.clone(),
            // A permission is always one of the highest epoch that the shard has seen.
            permission: until.map(|until| Permission {
                epoch: positive("epoch"),
                until,
            }),
            revoked: positive("revoked"),
        };
        Ok((life, replicated))
    }

    /// Where the shard stands in replication.
    ///
    /// # Errors
    /// [`ShardError`] as for every command.
    pub(crate) async fn replicated(&self) -> Result<Replicated, ShardError> {
        let info: String = self
            .ask("INFO replication", redis::cmd("INFO").arg("replication"))
            .await?;
        Replicated::parse(&info)
            .ok_or_else(|| self.nonsense("INFO replication", "it has no role in it"))
    }

    /// Gives the shard a permission.
    ///
    /// # Errors
    /// [`ShardError`]; a refusal says which epoch the shard has seen.
    pub(crate) async fn permit(&self, permission: Permission) -> Result<(), ShardError> {
        let mut command = redis::cmd("CRDT.FENCE");
        command.arg("PERMIT").arg(permission.epoch);
        match permission.until {
            Until::At(end) => command.arg(end),
            Until::Forever => command.arg("forever"),
        };
        self.ask::<String>("CRDT.FENCE PERMIT", &command)
            .await
            .map(drop)
    }

    /// Ends every permission up to `epoch`, for ever.
    ///
    /// # Errors
    /// [`ShardError`] as for every command.
    pub(crate) async fn revoke(&self, epoch: u64) -> Result<(), ShardError> {
        let mut command = redis::cmd("CRDT.FENCE");
        command.arg("REVOKE").arg(epoch);
        self.ask::<String>("CRDT.FENCE REVOKE", &command)
            .await
            .map(drop)
    }

    /// Makes the shard nobody's replica.
    ///
    /// # Errors
    /// [`ShardError`] as for every command.
    pub(crate) async fn lead(&self) -> Result<(), ShardError> {
        let mut command = redis::cmd("REPLICAOF");
        command.arg("NO").arg("ONE");
        self.ask::<String>("REPLICAOF NO ONE", &command)
            .await
            .map(drop)
    }

    /// Makes the shard the replica of the one at `host`:`port`, to which it logs in with `password`.
    ///
    /// # Errors
    /// [`ShardError`] as for every command.
    pub(crate) async fn follow(
        &self,
        host: &str,
        port: u16,
        password: &str,
    ) -> Result<(), ShardError> {
        self.log_in_with(password).await?;
        let mut command = redis::cmd("REPLICAOF");
        command.arg(host).arg(port);
        self.ask::<String>("REPLICAOF", &command).await.map(drop)
    }

    /// Makes it log in with `password` when it next connects to its primary. A connection that stands is not touched.
    ///
    /// # Errors
    /// [`ShardError`] as for every command.
    pub(crate) async fn log_in_with(&self, password: &str) -> Result<(), ShardError> {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg("primaryuser").arg(REPLICATION_USER);
        command.arg("primaryauth").arg(password);
        self.ask::<String>("CONFIG SET primaryauth", &command)
            .await
            .map(drop)
    }

    /// Closes the connections of the database's clients, subscribers too; not those of the node and of replicas.
    ///
    /// # Errors
    /// [`ShardError`] as for every command.
    pub(crate) async fn close_clients(&self) -> Result<(), ShardError> {
        let users: Vec<String> = self
            .ask("ACL USERS", redis::cmd("ACL").arg("USERS"))
            .await?;
        for user in users {
            if !is_client(&user) {
                continue;
            }
            let mut command = redis::cmd("CLIENT");
            command.arg("KILL").arg("USER").arg(&user);
            self.ask::<i64>("CLIENT KILL", &command).await?;
        }
        Ok(())
    }

    pub(super) async fn info_field(
        &self,
        section: &'static str,
        name: &str,
    ) -> Result<String, ShardError> {
        let info: String = self.ask("INFO", redis::cmd("INFO").arg(section)).await?;
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(|value| value.trim().to_owned())
            .ok_or_else(|| self.nonsense("INFO", &format!("it has no {name} in it")))
    }

    fn nonsense(&self, command: &'static str, message: &str) -> ShardError {
        ShardError::Refused {
            shard: self.name.clone(),
            command,
            code: "NONSENSE".to_owned(),
            message: message.to_owned(),
        }
    }
}

/// Whether somebody who logs in by this name is a client of the database, not a node or a replica.
fn is_client(user: &str) -> bool {
    ![INTERNAL_USER, REPLICATION_USER].contains(&user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_but_the_node_and_its_replicas_is_a_client() {
        let users = ["default", "shop", INTERNAL_USER, REPLICATION_USER];
        assert_eq!(users.map(is_client), [true, true, false, false]);
    }
}
