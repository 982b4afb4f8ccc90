//! Doing what the core orders.

use tracing::{info, warn};

use super::{Event, Order, Position, Roles};
use crate::atomic_file;
use crate::permission::Following;
use crate::secret::replication_password;
use crate::sync::alive::on_disk;
use crate::sync::shard::ShardError;
use crate::valkey::Replicated;

impl Roles {
    /// Carries out one order; what happened.
    pub(super) async fn carry_out(&mut self, order: Order) -> Vec<Event> {
        if !matches!(order, Order::Permit(_)) {
            info!(shard = self.shared.address.name, ?order, "role");
        }
        if let Order::Record(facts) = &order {
            return match on_disk(|| atomic_file::write_json(&self.shared.facts, facts)) {
                Ok(()) => vec![Event::Done],
                Err(error) => {
                    let text = crate::run::chain(&error);
                    warn!(
                        shard = self.shared.address.name,
                        error = text,
                        "nothing is done before this is on disk"
                    );
                    self.shard = None;
                    self.problem = Some(text);
                    vec![Event::Down]
                }
            };
        }
        match self.timely(self.tell(&order)).await {
            Ok(Told::Done) => self.look_again(&order).await,
            Ok(Told::CannotLead(position)) => {
                // It is copying: the core must know before it orders anything else.
                self.shard = None;
                vec![Event::Seen(position), Event::Down]
            }
            Err(error) => vec![self.lost(&error)],
        }
    }

    async fn tell(&self, order: &Order) -> Result<Told, ShardError> {
        let Some(shard) = &self.shard else {
            return Err(ShardError::Refused {
                shard: self.shared.address.name.clone(),
                command: "any",
                code: "GONE".to_owned(),
                message: "there is no connection".to_owned(),
            });
        };
        match order {
            Order::Record(_) => {}
            Order::Revoke(epoch) => shard.revoke(*epoch).await?,
            Order::Permit(permission) => shard.permit(*permission).await?,
            Order::Lead => {
                let position = shard.replicated().await?.position;
                if let Position::Follows {
                    state: Following::Copying,
                    ..
                } = position
                {
                    return Ok(Told::CannotLead(position));
                }
                shard.lead().await?;
            }
            Order::Follow(host) => {
                let password = replication_password(&self.shared.internal).unwrap_or_default();
                shard.follow(host, self.port, &password).await?;
            }
            Order::CloseClients => shard.close_clients().await?,
        }
        Ok(Told::Done)
    }

    /// Whom it follows is the core's to say; at which port depends on what is encrypted, and changes while it follows.
    pub(super) async fn follow_at_its_port(
        &self,
        replicated: &Replicated,
    ) -> Result<(), ShardError> {
        let (Some(shard), Position::Follows { host, .. }) = (&self.shard, &replicated.position)
        else {
            return Ok(());
        };
        if replicated.port == self.port {
            return Ok(());
        }
        info!(
            shard = self.shared.address.name,
            host,
            port = self.port,
            "follows at another port"
        );
        let password = replication_password(&self.shared.internal).unwrap_or_default();
        self.timely(shard.follow(host, self.port, &password)).await
    }

    /// The password may change while the shard runs: it must log in with the new one when it next connects to its primary,
    /// whoever that is then.
    pub(super) async fn keep_password(&mut self) -> Result<(), ShardError> {
        let newest = replication_password(&self.shared.internal);
        let (Some(shard), Some(password)) = (&self.shard, &newest) else {
            return Ok(());
        };
        if self.password == newest {
            return Ok(());
        }
        self.timely(shard.log_in_with(password)).await?;
        self.password = newest;
        Ok(())
    }

    /// After anything that changes what the shard writes or follows, its final position must be known before it is reported.
    async fn look_again(&mut self, order: &Order) -> Vec<Event> {
        if matches!(order, Order::Permit(_)) {
            return vec![Event::Done];
        }
        let Some(shard) = self.shard.clone() else {
            return vec![Event::Down];
        };
        match self.timely(shard.replicated()).await {
            Ok(replicated) => {
                let position = replicated.position.clone();
                self.replicated = Some(replicated);
                vec![Event::Done, Event::Seen(position)]
            }
            Err(error) => vec![self.lost(&error)],
        }
    }
}

enum Told {
    Done,
    CannotLead(Position),
}
