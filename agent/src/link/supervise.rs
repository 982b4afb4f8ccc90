//! Keeps the link: joins, connects, holds the session, renews, and comes back after whatever ended it.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, watcher},
};
use meridian_api::link::{
    codes,
    proto::{self, link_client::LinkClient},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{
    backoff::Backoff,
    dial::{Connection, DialError, Dialer, LARGEST_FRAME, ProxySettings},
    enroll::{self, Facts, HubRegistrar},
    identity::{Identity, Trust},
    inventory::Names,
    join::{self, HubAddress, JoinError, JoinMaterial},
    keep::{self, Kept, reference},
    mirror::{Change, follow},
    session::{self, Context, Ended, Ends, Why},
};
use crate::k8s::{events::Events, retry};
use crate::metrics::Metrics;
use upkeep::{Standing, Upkeep};

pub use faults::LinkError;

mod announce;
mod clocks;
mod faults;
mod fresh;
mod upkeep;

/// Addresses of a Drain that are looked at.
const DRAINED_TO: usize = 16;
/// Frames that may wait for the network.
const OUTGOING: usize = 32;

/// The join material as it is now.
pub type Join = Option<Result<JoinMaterial, JoinError>>;

/// What the supervisor needs.
pub struct Supervisor {
    /// The API server.
    pub client: Client,
    /// The agent's namespace.
    pub namespace: String,
    /// The join material.
    pub join: watch::Receiver<Join>,
    /// For sessions.
    pub context: Context,
    /// New roots, as sessions hear of them.
    pub trust: watch::Receiver<Option<proto::TrustBundle>>,
    /// Gets this cluster's names and roots.
    pub membership: watch::Sender<Option<(Names, Trust)>>,
    /// Gets the open connection.
    pub hub: watch::Sender<Option<Channel>>,
    /// How the hub is dialled where a proxy stands before it.
    pub proxy: ProxySettings,
    /// For what a person should look at.
    pub events: Events,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The hub said that it accepts our certificate no more, whatever our clock says.
    pub expired: bool,
    /// The last attempt to speak with our certificate failed. By itself our clock never decides that the certificate has ended:
    /// it may be wrong by weeks, and the hub's decides.
    pub failed: bool,
    /// When this process received the certificate that it holds.
    pub held_since: Option<Instant>,
    /// A connection that already stands, for the next session.
    pub next: Option<Next>,
    /// Where a hub that drained said to come back to, until a session stands again. The hub there is checked as every other.
    pub drained_to: Vec<HubAddress>,
}

/// A connection that was made before the session that it replaces ended.
#[derive(Debug)]
pub struct Next {
    connection: Connection,
    /// The certificate that it was made with.
    chain_pem: String,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// Watches the Secret with the join material.
pub async fn watch_join(
    client: Client,
    namespace: String,
    join: watch::Sender<Join>,
    cancel: CancellationToken,
) {
    let api: Api<Secret> = Api::namespaced(client, &namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={}", join::SECRET));
    let (send, mut changes) = mpsc::channel(4);
    let events = watcher(api, config).backoff(retry::alone());
    let following = follow("Secret meridian-join", events, &cancel, send, |change| {
        change
    });
    let taking = async {
        while let Some(change) = changes.recv().await {
            let now: Join = match change {
                Change::There(secret) => Some(JoinMaterial::read(&secret.data.unwrap_or_default())),
                Change::Gone(_) => None,
                Change::Complete => continue,
            };
            join.send_if_modified(|known| (*known != now).then(|| *known = now).is_some());
        }
    };
    tokio::join!(following, taking);
}

impl Supervisor {
    /// Works until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut backoff = Backoff::default();
        let mut said_idle = false;
        loop {
            let join = self.join.borrow_and_update().clone();
            let attempt = match join {
                None => {
                    if !said_idle {
                        tracing::info!(
                            secret = join::SECRET,
                            "no join material: databases run, the link waits"
                        );
                        said_idle = true;
                    }
                    None
                }
                Some(Err(error)) => Some(Err(error.into())),
                Some(Ok(material)) => Some(self.attempt(&material, &mut backoff, &cancel).await),
            };
            let pause = match attempt {
                None => None,
                Some(Ok(())) if self.next.is_some() => Some(Duration::ZERO),
                Some(Ok(())) => Some(backoff.next_delay((self.context.random)())),
                Some(Err(error)) => {
                    self.expired |= error.needs_another_certificate();
                    self.failed |= matches!(error, LinkError::Dial(_) | LinkError::Session(_));
                    self.tell(&error).await;
                    let pause = backoff.next_delay((self.context.random)());
                    Some(error.pause(pause))
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = self.join.changed() => if changed.is_err() { return },
                () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    async fn tell(&self, error: &LinkError) {
        tracing::warn!(%error, "the link to the hub is down; databases go on");
        if let Some(reason) = error.news() {
            let about = reference(&self.namespace, join::SECRET, None);
            self.events
                .warning(&about, reason, &error.to_string())
                .await;
        }
    }

    /// One attempt: from whatever is stored to the end of a session.
    async fn attempt(
        &mut self,
        material: &JoinMaterial,
        backoff: &mut Backoff,
        cancel: &CancellationToken,
    ) -> Result<(), LinkError> {
        let (mut kept, mut identity) = keep::identity(self.client.clone(), &self.namespace).await?;
        self.become_member(&mut kept, &mut identity, material)
            .await?;
        self.fresh().publish(&identity);
        let mut dialer = self.dialer(&identity, material);
        dialer.also(&self.drained_to);
        let connection = match self.standing(&identity) {
            Some(next) => next,
            None => dialer.connect(Some(&identity), self.context.random).await?,
        };
        tracing::info!(address = connection.address, "connected to the hub");
        let channel = connection.channel.clone();
        let ended = self.hold(channel, (kept, identity), material, cancel).await;
        if self.next.is_none() {
            self.hub.send_replace(None);
        }
        self.failed &= ended.lasted.is_zero();
        if let Why::Drained(drain) = &ended.why {
            self.drained_to = places(&drain.addresses);
        } else if !ended.lasted.is_zero() {
            self.drained_to.clear();
        }
        backoff.session_lasted(ended.lasted);
        if let Some(advice) = &ended.reconnect {
            let millis = |ms: u32| Duration::from_millis(ms.into());
            backoff.hint(millis(advice.spread_ms), millis(advice.cap_ms));
        }
        after(ended.why, |status| connection.explain(status), backoff)
    }

    /// Joins if there is no membership, or none from this material; recovers if the certificate has ended.
    async fn become_member(
        &mut self,
        kept: &mut Kept,
        identity: &mut Identity,
        material: &JoinMaterial,
    ) -> Result<(), LinkError> {
        let known = identity.membership.clone();
        if known
            .as_ref()
            .is_none_or(|known| known.joined_with != material.fingerprint())
        {
            match (self.join_anew(kept, identity, material).await, &known) {
                (Ok(()), _) => return Ok(()),
                // Material that is used up does not end a membership that it once made, or that another made.
                (Err(error), Some(_)) if error.rules_out_the_material() => self.tell(&error).await,
                (Err(error), _) => return Err(error),
            }
        }
        let now_ms = (self.context.wall_ms)();
        let ended = known.is_some_and(|known| known.life.ended(now_ms));
        let asked_for = self.expired || (ended && self.failed);
        if !asked_for {
            return Ok(());
        }
        self.recover(kept, identity, material).await?;
        (self.expired, self.failed) = (false, false);
        Ok(())
    }

    async fn join_anew(
        &mut self,
        kept: &mut Kept,
        identity: &mut Identity,
        material: &JoinMaterial,
    ) -> Result<(), LinkError> {
        let dialer = Dialer {
            addresses: material.addresses.clone(),
            roots_pem: material.ca_pem.clone(),
            proxy: self.proxy.clone(),
        };
        let Connection {
            channel, address, ..
        } = dialer.connect(None, self.context.random).await?;
        let facts = self.facts();
        let mut registrar = HubRegistrar::new(channel);
        let hub_ms = enroll::join(&mut registrar, identity, material, &facts).await?;
        kept.write(identity.data()).await?;
        self.held_since = Some(Instant::now());
        self.compare_clocks(hub_ms, facts.wall_ms).await;
        tracing::info!(name = material.name, address, "joined the hub");
        let about = reference(&self.namespace, join::SECRET, None);
        self.events
            .normal(
                &about,
                "Joined",
                &format!("joined the hub at {address} as `{}`", material.name),
            )
            .await;
        Ok(())
    }

    async fn recover(
        &mut self,
        kept: &mut Kept,
        identity: &mut Identity,
        material: &JoinMaterial,
    ) -> Result<(), LinkError> {
        let Connection {
            channel, address, ..
        } = self
            .dialer(identity, material)
            .connect(None, self.context.random)
            .await?;
        // A lost reply is asked for again with the join state that is stored: the hub takes the one before the last, too.
        let mut renewed = identity.with_new_session_key()?;
        let facts = self.facts();
        let mut registrar = HubRegistrar::new(channel);
        let hub_ms = enroll::recover(&mut registrar, &mut renewed, &facts).await?;
        kept.write(renewed.data()).await?;
        *identity = renewed;
        self.held_since = Some(Instant::now());
        self.compare_clocks(hub_ms, facts.wall_ms).await;
        tracing::info!(address, "recovered the membership with the device key");
        Ok(())
    }

    fn dialer(&self, identity: &Identity, material: &JoinMaterial) -> Dialer {
        dialer(identity, material, &self.proxy)
    }

    fn facts(&self) -> Facts {
        Facts {
            kube_system_uid: self.context.kube_system_uid.clone(),
            agent_version: self.context.agent_version.clone(),
            wall_ms: (self.context.wall_ms)(),
        }
    }

    /// Holds one session, and keeps certificate and roots fresh beside it. New join material ends it.
    async fn hold(
        &mut self,
        channel: Channel,
        (kept, identity): (Kept, Identity),
        material: &JoinMaterial,
        cancel: &CancellationToken,
    ) -> Ended {
        let (outbound, frames) = mpsc::channel(OUTGOING);
        let mut client = LinkClient::new(channel.clone()).max_decoding_message_size(LARGEST_FRAME);
        // The call waits for the first poll: Hello is in the channel by then, and a hub may answer only after it.
        let inbound =
            stream::once(async move { client.session(ReceiverStream::new(frames)).await })
                .map_ok(tonic::Response::into_inner)
                .try_flatten();
        let ends = Ends {
            cancel: cancel.child_token(),
            ..Ends::default()
        };
        let session = session::run(inbound.boxed(), outbound, &self.context, &ends);
        let upkeep = Upkeep {
            hub: Standing {
                channel: channel.clone(),
                dialer: self.dialer(&identity, material),
                random: self.context.random,
            },
            store: kept,
            listener: self.fresh(),
            identity,
            trust: self.trust.clone(),
            observing: self.context.observing.subscribe(),
            early: None,
            cluster_uid: self.context.kube_system_uid.clone(),
            wall_ms: self.context.wall_ms,
            random: self.context.random,
            held_since: self.held_since,
        };
        self.hub.send_replace(Some(channel));
        let mut join = self.join.clone();
        let replaced = async {
            let other = |now: &Join| !matches!(now, Some(Ok(now)) if now.fingerprint() == material.fingerprint());
            if join.wait_for(other).await.is_ok() {
                tracing::info!("the join material changed: connecting anew");
                ends.cancel.cancel();
            }
            std::future::pending::<()>().await;
        };
        let mut next = None;
        let moving = async {
            next = Some(upkeep.run().await);
            ends.moved.cancel();
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = session => ended,
            never = announce::observing(&self.events, &self.namespace, &self.context.observing) => match never {},
            never = clocks::watched(&self.events, &self.namespace, &self.context.clocks) => match never {},
            () = moving => Ended { lasted: Duration::ZERO, reconnect: None, why: Why::Cancelled },
            () = replaced => Ended { lasted: Duration::ZERO, reconnect: None, why: Why::Cancelled },
        };
        if let Some(moved) = next {
            self.held_since = Some(Instant::now());
            self.next = matches!(ended.why, Why::Moved).then(|| Next::of(moved));
        }
        ended
    }
}

/// The addresses that can be read, of a bounded number.
fn places(told: &[String]) -> Vec<HubAddress> {
    let places = told.iter().take(DRAINED_TO);
    let places = places.filter_map(|address| match address.parse() {
        Ok(place) => Some(place),
        Err(error) => {
            tracing::warn!(address, %error, "the hub named an address that cannot be read");
            None
        }
    });
    places.collect()
}

/// What the end of a session means for the next attempt.
fn after(
    why: Why,
    explain: impl FnOnce(&tonic::Status) -> DialError,
    backoff: &mut Backoff,
) -> Result<(), LinkError> {
    match why {
        Why::Cancelled | Why::Moved => Ok(()),
        Why::Drained(drain) => {
            tracing::info!(
                reason = drain.reason,
                slot_ms = drain.slot_ms,
                "the hub drains; coming back in its slot"
            );
            backoff.slot(Duration::from_millis(drain.slot_ms.into()));
            Ok(())
        }
        Why::Broken(status) => {
            if status.code() == tonic::Code::ResourceExhausted {
                backoff.not_before(retry_after(&status));
            }
            let explained = explain(&status);
            if matches!(explained, DialError::Unreachable { .. }) {
                return Err(LinkError::Session(Why::Broken(status)));
            }
            Err(explained.into())
        }
        Why::Bye { code, message } if code == codes::REVOKED => Err(LinkError::Removed(message)),
        Why::Bye { code, message } if code == codes::CERTIFICATE => {
            Err(LinkError::CertificateOver(message))
        }
        why @ (Why::Bye { .. }
        | Why::Idle(_)
        | Why::Stalled(_)
        | Why::Closed
        | Why::Protocol(_)
        | Why::Local(_)) => Err(LinkError::Session(why)),
    }
}

/// How long a busy hub asks to wait (the gRPC convention for it), 5 s if it does not say.
fn retry_after(status: &tonic::Status) -> Duration {
    let asked = status
        .metadata()
        .get("grpc-retry-pushback-ms")
        .and_then(|value| value.to_str().ok());
    Duration::from_millis(asked.and_then(|text| text.parse().ok()).unwrap_or(5_000))
}

/// How the hub of a membership, or of join material, is reached.
fn dialer(identity: &Identity, material: &JoinMaterial, proxy: &ProxySettings) -> Dialer {
    let Some(membership) = &identity.membership else {
        return Dialer {
            addresses: material.addresses.clone(),
            roots_pem: material.ca_pem.clone(),
            proxy: proxy.clone(),
        };
    };
    let mut addresses = membership.addresses.clone();
    // Material of another hub does not say where this one is.
    let same_hub = membership.joined_with == material.fingerprint() || addresses.is_empty();
    let more = material.addresses.iter().filter(|_| same_hub);
    let more: Vec<_> = more
        .filter(|address| !membership.addresses.contains(address))
        .cloned()
        .collect();
    addresses.extend(more);
    Dialer {
        addresses,
        roots_pem: membership.trust.roots_pem.clone(),
        proxy: proxy.clone(),
    }
}

#[cfg(test)]
mod tests;
