//! Doing what the core orders.

use tracing::{info, warn};

use super::{Event, Order, Position, Roles, timely};
use crate::atomic_file;
use crate::permission::Following;
use crate::secret::replication_password;
use crate::sync::alive::on_disk;
use crate::sync::exit::Exit;
use crate::sync::shard::{Shard, ShardError};
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
        let told = match &order {
            Order::Follow(host) => self.follow(host).await.map(|()| Told::Done),
            Order::Record(_)
            | Order::Revoke(_)
            | Order::Permit(_)
            | Order::Lead
            | Order::CloseClients => timely(&self.shared.address.name, self.tell(&order)).await,
        };
        match told {
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
        let shard = self.connected()?;
        match order {
            // Both are done elsewhere.
            Order::Record(_) | Order::Follow(_) => {}
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
            Order::CloseClients => shard.close_clients().await?,
        }
        Ok(Told::Done)
    }

    fn connected(&self) -> Result<&Shard, ShardError> {
        self.shard.as_ref().ok_or_else(|| ShardError::Refused {
            shard: self.shared.address.name.clone(),
            command: "any",
            code: "GONE".to_owned(),
            message: "there is no connection".to_owned(),
        })
    }

    /// Makes it follow `host`. The way to the primary before is shut only when the shard has turned away from it.
    async fn follow(&mut self, host: &str) -> Result<(), ShardError> {
        let shard = self.connected()?.clone();
        let password = replication_password(&self.shared.internal).unwrap_or_default();
        let exit = self.way_to(host).await?;
        let (to, port) = match exit.as_ref().map(Exit::address) {
            Some(way) => (way.ip().to_string(), way.port()),
            None => (host.to_owned(), self.port),
        };
        let follow = shard.follow(&to, port, &password);
        let told = timely(&self.shared.address.name, follow).await;
        // Whatever came of it: it may have been heard.
        self.exit = exit;
        told
    }

    /// The way to `host`, if it is followed by TLS.
    async fn way_to(&mut self, host: &str) -> Result<Option<Exit>, ShardError> {
        if !self.by_tls {
            return Ok(None);
        }
        if let Some(open) = self.exit.take_if(|exit| exit.leads_to(host, self.port)) {
            return Ok(Some(open));
        }
        let following = self.shared.following.clone();
        let opened = Exit::open(self.out, host, self.port, following).await;
        opened.map(Some).map_err(|error| ShardError::Gone {
            shard: self.shared.address.name.clone(),
            command: "a way to its primary",
            source: error.into(),
        })
    }

    /// Whom it follows is the core's to say; at which port depends on what is encrypted, and changes while it follows.
    pub(super) async fn follow_at_its_port(
        &mut self,
        replicated: &Replicated,
    ) -> Result<(), ShardError> {
        let Position::Follows { host, .. } = &replicated.position else {
            return Ok(());
        };
        // Somebody's port that is no way of ours: the core sees that it is not whom it should follow.
        if replicated.port == self.port || host.parse() == Ok(self.out) {
            return Ok(());
        }
        info!(
            shard = self.shared.address.name,
            host,
            port = self.port,
            "follows at another port"
        );
        self.follow(host).await
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
        timely(&self.shared.address.name, shard.log_in_with(password)).await?;
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
        match timely(&self.shared.address.name, shard.replicated()).await {
            Ok(replicated) => {
                let replicated = self.seen(replicated);
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
