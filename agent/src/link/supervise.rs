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
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{
    backoff::Backoff,
    dial::{DialError, Dialer, LARGEST_FRAME},
    enroll::{self, EnrollError, Facts, HubRegistrar},
    identity::{Identity, IdentityError, Trust},
    inventory::Names,
    join::{self, JoinError, JoinMaterial},
    keep::{self, KeepError, Kept, reference},
    mirror::{Change, follow},
    session::{self, Context, Ended, Why},
};
use crate::k8s::{events::Events, retry};
use crate::metrics::{Certificate, Metrics};
use upkeep::Upkeep;

mod announce;
mod upkeep;

/// Frames that may wait for the network.
const OUTGOING: usize = 32;
/// Pause after a refusal that only a person can lift; a change of the join material ends it at once.
const REFUSED: Duration = Duration::from_secs(60);

/// The join material as it is now.
pub type Join = Option<Result<JoinMaterial, JoinError>>;

/// Why an attempt came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The join material cannot be used.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No membership.
    #[error(transparent)]
    Enroll(#[from] EnrollError),
    /// Own Secrets cannot be used.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// Keys or certificates cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The hub does not know this cluster any more.
    #[error(
        "this cluster is no member any more: {0}. Its databases run on and nothing is deleted. To join again, apply the \
         Secret that `meridian token create NAME` prints; keys and databases stay"
    )]
    Removed(String),
    /// The session ended.
    #[error("{0}")]
    Session(Why),
}

impl LinkError {
    /// The reason of the Event, for what a person should look at.
    fn news(&self) -> Option<&'static str> {
        match self {
            Self::Join(_) => Some("JoinMaterialInvalid"),
            Self::Dial(DialError::WrongAuthority { .. }) => Some("HubNotTrusted"),
            Self::Dial(DialError::BadServer { .. }) => Some("HubCertificateInvalid"),
            Self::Dial(DialError::Unwelcome { .. }) => Some("CertificateRefused"),
            Self::Enroll(error) if error.is_refusal() => Some("JoinRefused"),
            Self::Enroll(EnrollError::OtherCluster { .. }) => Some("JoinRefused"),
            Self::Keep(KeepError::Foreign { .. }) => Some("ForeignObject"),
            Self::Keep(KeepError::Identity(_)) | Self::Identity(_) => Some("IdentityUnreadable"),
            Self::Removed(_) => Some("MembershipRemoved"),
            Self::Session(Why::Bye { code, .. }) if !is_ordinary(code) => Some("SessionRefused"),
            Self::Dial(_) | Self::Enroll(_) | Self::Keep(_) | Self::Session(_) => None,
        }
    }

    fn needs_a_person(&self) -> bool {
        match self {
            Self::Join(_) | Self::Removed(_) => true,
            Self::Enroll(error) => error.is_refusal(),
            Self::Dial(_) | Self::Keep(_) | Self::Identity(_) | Self::Session(_) => false,
        }
    }

    /// Whether the join material itself is at fault, so that an older membership is the better way.
    fn rules_out_the_material(&self) -> bool {
        self.needs_a_person()
            || matches!(
                self,
                Self::Dial(DialError::WrongAuthority { .. } | DialError::BadServer { .. })
            )
    }
}

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
    /// For what a person should look at.
    pub events: Events,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The hub said that our certificate has ended, whatever our clock says.
    pub expired: bool,
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
                Some(Ok(())) => Some(backoff.next_delay((self.context.random)())),
                Some(Err(error)) => {
                    self.expired |= matches!(error, LinkError::Dial(DialError::Expired { .. }));
                    self.tell(&error).await;
                    let pause = backoff.next_delay((self.context.random)());
                    Some(if error.needs_a_person() {
                        pause.max(REFUSED)
                    } else {
                        pause
                    })
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
        self.publish(&identity);
        let dialer = dialer(&identity, material);
        let connected = dialer.connect(Some(&identity), self.context.random).await;
        let (channel, address) = match connected {
            Err(DialError::Expired { .. }) => {
                self.recover(&mut kept, &mut identity, material).await?;
                dialer.connect(Some(&identity), self.context.random).await?
            }
            connected => connected?,
        };
        tracing::info!(address, "connected to the hub");
        let ended = self.hold(channel, (kept, identity), material, cancel).await;
        self.hub.send_replace(None);
        backoff.session_lasted(ended.lasted);
        if let Some(advice) = &ended.reconnect {
            let millis = |ms: u32| Duration::from_millis(ms.into());
            backoff.hint(millis(advice.spread_ms), millis(advice.cap_ms));
        }
        after(ended.why, &dialer, &address, backoff)
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
        let ended = known.is_some_and(|known| known.life.ended((self.context.wall_ms)()));
        if !ended && !self.expired {
            return Ok(());
        }
        self.recover(kept, identity, material).await?;
        self.expired = false;
        Ok(())
    }

    async fn join_anew(
        &self,
        kept: &mut Kept,
        identity: &mut Identity,
        material: &JoinMaterial,
    ) -> Result<(), LinkError> {
        let dialer = Dialer {
            addresses: material.addresses.clone(),
            roots_pem: material.ca_pem.clone(),
        };
        let (channel, address) = dialer.connect(None, self.context.random).await?;
        enroll::join(
            &mut HubRegistrar::new(channel),
            identity,
            material,
            &self.facts(),
        )
        .await?;
        kept.write(identity.data()).await?;
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
        &self,
        kept: &mut Kept,
        identity: &mut Identity,
        material: &JoinMaterial,
    ) -> Result<(), LinkError> {
        let (channel, address) = dialer(identity, material)
            .connect(None, self.context.random)
            .await?;
        // The new key is stored first, so that a lost reply is asked for again with the same.
        let mut renewed = identity.with_new_session_key()?;
        enroll::recover(&mut HubRegistrar::new(channel), &mut renewed, &self.facts()).await?;
        kept.write(renewed.data()).await?;
        *identity = renewed;
        tracing::info!(address, "recovered the membership with the device key");
        Ok(())
    }

    fn facts(&self) -> Facts {
        Facts {
            kube_system_uid: self.context.kube_system_uid.clone(),
            agent_version: self.context.agent_version.clone(),
            wall_ms: (self.context.wall_ms)(),
        }
    }

    fn publish(&self, identity: &Identity) {
        let Some(membership) = &identity.membership else {
            return;
        };
        let ends_ms = membership.life.not_after_ms;
        self.metrics.certificate(Certificate::Agent, Some(ends_ms));
        let names = Names {
            cluster_uid: self.context.kube_system_uid.clone(),
            cluster_name: membership.cluster_name.clone(),
            trust_domain: membership.trust.domain.clone(),
        };
        let now = Some((names, membership.trust.clone()));
        self.membership
            .send_if_modified(|known| (*known != now).then(|| *known = now).is_some());
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
        let leave = cancel.child_token();
        let session = session::run(inbound.boxed(), outbound, &self.context, &leave);
        let upkeep = Upkeep {
            channel: channel.clone(),
            kept,
            identity,
            trust: self.trust.clone(),
            membership: &self.membership,
            metrics: &self.metrics,
            cluster_uid: &self.context.kube_system_uid,
            wall_ms: self.context.wall_ms,
            random: self.context.random,
        };
        self.hub.send_replace(Some(channel));
        let mut join = self.join.clone();
        let replaced = async {
            let other = |now: &Join| !matches!(now, Some(Ok(now)) if now.fingerprint() == material.fingerprint());
            if join.wait_for(other).await.is_ok() {
                tracing::info!("the join material changed: connecting anew");
                leave.cancel();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = session => ended,
            never = upkeep.run() => match never {},
            never = announce::observing(&self.events, &self.namespace, &self.context.observing) => match never {},
            () = replaced => Ended { lasted: Duration::ZERO, reconnect: None, why: Why::Cancelled },
        }
    }
}

/// What the end of a session means for the next attempt.
fn after(why: Why, dialer: &Dialer, address: &str, backoff: &mut Backoff) -> Result<(), LinkError> {
    match why {
        Why::Cancelled => Ok(()),
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
            // A refused certificate shows only after the handshake, inside the error of the first call.
            let explained = dialer.explain(address, &status);
            if matches!(explained, DialError::Unreachable { .. }) {
                return Err(LinkError::Session(Why::Broken(status)));
            }
            Err(explained.into())
        }
        Why::Bye { code, message } if code == codes::REVOKED => Err(LinkError::Removed(message)),
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

/// Ends that belong to the life of a hub and are no news.
fn is_ordinary(code: &str) -> bool {
    [
        codes::SHUTDOWN,
        codes::NOT_LEADER,
        codes::SUPERSEDED,
        codes::IDLE,
    ]
    .contains(&code)
}

/// How the hub of a membership, or of join material, is reached.
fn dialer(identity: &Identity, material: &JoinMaterial) -> Dialer {
    let Some(membership) = &identity.membership else {
        return Dialer {
            addresses: material.addresses.clone(),
            roots_pem: material.ca_pem.clone(),
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
    }
}

#[cfg(test)]
mod tests;
