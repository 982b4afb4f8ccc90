//! What is kept fresh beside an open session: the agent's certificate and the roots it trusts.
//!
//! A renewed certificate is stored first; then a second connection is made with it, and only when that stands the session moves
//! there. Until then the stream that is open goes on.

use std::time::Duration;

use meridian_api::{
    link::proto::{self, RenewRequest, link_client::LinkClient},
    renewal,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tonic::transport::Channel;

use crate::link::{
    dial::{Connection, Dialer},
    enroll,
    identity::{Identity, Membership, Trust},
    keep::Kept,
    member::chain,
};

/// A certificate of a root that is on its way out is renewed within this time, at a random moment: the fleet hears of it at once.
const EARLY: Duration = Duration::from_secs(60);
/// Longest sleep before the wall clock is looked at again: it may be set while we sleep.
const LOOK: Duration = Duration::from_secs(600);

/// What the upkeep needs of the hub.
pub(super) trait Hub {
    /// A connection that was made with a renewed certificate.
    type Connection;

    /// Asks for a certificate.
    fn renew(
        &self,
        request: RenewRequest,
    ) -> impl Future<Output = Result<proto::EnrollResult, String>> + Send;

    /// Connects as the member that `identity` says.
    fn connect(
        &self,
        identity: &Identity,
    ) -> impl Future<Output = Result<Self::Connection, String>> + Send;
}

/// The hub over the connection that stands.
pub(super) struct Standing {
    pub(super) channel: Channel,
    pub(super) dialer: Dialer,
    pub(super) random: fn() -> f64,
}

impl Hub for Standing {
    /// With the certificate (PEM) that it was made with.
    type Connection = (Connection, String);

    async fn renew(&self, request: RenewRequest) -> Result<proto::EnrollResult, String> {
        let renewed = LinkClient::new(self.channel.clone()).renew(request).await;
        renewed
            .map(tonic::Response::into_inner)
            .map_err(|status| format!("{} ({:?})", status.message(), status.code()))
    }

    async fn connect(&self, identity: &Identity) -> Result<Self::Connection, String> {
        let membership = identity
            .membership
            .as_ref()
            .ok_or("there is no membership")?;
        let dialer = Dialer {
            roots_pem: membership.trust.roots_pem.clone(),
            ..self.dialer.clone()
        };
        let connection = dialer
            .connect(Some(identity), self.random)
            .await
            .map_err(|error| error.to_string())?;
        Ok((connection, membership.chain_pem.clone()))
    }
}

/// Where the identity is kept.
pub(super) trait Store {
    /// On `Ok` it is durable.
    fn keep(&mut self, identity: &Identity) -> impl Future<Output = Result<(), String>> + Send;
}

impl Store for Kept {
    async fn keep(&mut self, identity: &Identity) -> Result<(), String> {
        self.write(identity.data())
            .await
            .map_err(|error| chain(&error))
    }
}

/// Who is told of it.
pub(super) trait Listener {
    /// The identity is another now: another certificate, or other roots.
    fn changed(&self, identity: &Identity);

    /// A renewal failed; the note says why and how long the certificate still lives.
    fn failing(&self, note: &str) -> impl Future<Output = ()> + Send;

    /// What failed is over.
    fn over(&self);
}

/// Renews the certificate and takes new roots.
pub(super) struct Upkeep<H, S, L> {
    pub(super) hub: H,
    pub(super) store: S,
    pub(super) listener: L,
    pub(super) identity: Identity,
    pub(super) trust: watch::Receiver<Option<proto::TrustBundle>>,
    /// Why the hub is only observed, while it is.
    pub(super) observing: watch::Receiver<Option<String>>,
    pub(super) cluster_uid: String,
    pub(super) wall_ms: fn() -> i64,
    pub(super) random: fn() -> f64,
    /// When this process got the certificate; `None`: an earlier one did.
    pub(super) held_since: Option<Instant>,
    /// When the certificate is renewed because its root is on its way out.
    pub(super) early: Option<Instant>,
}

/// Failures in a row, and when to try again.
#[derive(Default)]
struct Failing {
    times: u32,
    pause: Duration,
}

impl<H: Hub, S: Store, L: Listener> Upkeep<H, S, L> {
    /// Works until there is a connection that was made with a renewed certificate.
    pub(super) async fn run(mut self) -> H::Connection {
        self.trust.mark_unchanged();
        self.look_at_the_root();
        let (mut failing, mut renewed) = (Failing::default(), false);
        loop {
            let due = if renewed {
                Duration::ZERO
            } else {
                self.due_in()
            };
            let wait = due.max(failing.pause).min(LOOK);
            tokio::select! {
                Ok(()) = self.trust.changed() => {
                    self.take_trust().await;
                    self.look_at_the_root();
                    continue;
                }
                () = sleep(wait) => failing.pause = failing.pause.saturating_sub(wait),
            }
            if !failing.pause.is_zero() || !(renewed || self.due_in().is_zero()) {
                continue;
            }
            match self.step(&mut renewed).await {
                Ok(Some(connection)) => return connection,
                Ok(None) => {}
                Err(error) => self.failed(&mut failing, &error).await,
            }
        }
    }

    /// Renews, and connects with what was renewed.
    async fn step(&mut self, renewed: &mut bool) -> Result<Option<H::Connection>, String> {
        if !*renewed {
            self.renew().await?;
            *renewed = true;
        }
        let connection = self.hub.connect(&self.identity).await.map_err(|error| {
            format!("the certificate is new, but no connection could be made with it: {error}")
        })?;
        self.listener.over();
        Ok(Some(connection))
    }

    async fn failed(&self, failing: &mut Failing, error: &str) {
        failing.times = failing.times.saturating_add(1);
        let Some(membership) = &self.identity.membership else {
            return;
        };
        let left = membership.life.left((self.wall_ms)());
        failing.pause = renewal::again(failing.times, (self.random)(), left);
        let again = failing.pause.as_secs();
        let note = format!(
            "the certificate with which this cluster speaks to the hub could not be renewed ({left}): {error}; it is tried again \
             in {again} s. Databases do not need it; once it has ended the device key gets another"
        );
        tracing::warn!(failures = failing.times, %left, again_s = again, error, "the agent's certificate was not renewed");
        self.listener.failing(&note).await;
    }

    /// Draws the moment at which a certificate of a root that is on its way out is renewed.
    fn look_at_the_root(&mut self) {
        let membership = self.identity.membership.as_ref();
        if !membership.is_some_and(Membership::is_of_an_old_root) {
            self.early = None;
        } else if self.early.is_none() {
            let wait = EARLY.mul_f64((self.random)().clamp(0.0, 1.0));
            self.early = Some(Instant::now() + wait);
        }
    }

    /// How long until the certificate is due: at the moment that its root gives, or by the wall clock, but never sooner after it was received than a part of its life.
    fn due_in(&self) -> Duration {
        let Some(membership) = &self.identity.membership else {
            return LOOK;
        };
        if let Some(early) = self.early {
            return early.saturating_duration_since(Instant::now());
        }
        let left = membership.renewed_at().saturating_sub((self.wall_ms)());
        let by_wall = Duration::from_millis(left.max(0).unsigned_abs());
        let held = self.held_since.map(|since| since.elapsed());
        let least = membership.life.held_at_least();
        by_wall.max(held.map_or(Duration::ZERO, |held| least.saturating_sub(held)))
    }

    async fn renew(&mut self) -> Result<(), String> {
        let mut renewed = self
            .identity
            .with_new_session_key()
            .map_err(|error| error.to_string())?;
        let joined_with = renewed
            .membership
            .as_ref()
            .map(|known| known.joined_with.clone())
            .unwrap_or_default();
        let request =
            enroll::renewal(&renewed, &self.cluster_uid).map_err(|error| error.to_string())?;
        let result = self.hub.renew(request).await?;
        if result.cluster_uid != self.cluster_uid {
            return Err(format!(
                "the hub answered for cluster {}, expected {}: nothing of the answer is used",
                result.cluster_uid, self.cluster_uid
            ));
        }
        renewed
            .accept(&result, &joined_with)
            .map_err(|error| error.to_string())?;
        if let Some(membership) = &mut renewed.membership
            && let Some(known) = &self.identity.membership
            && self.observing.borrow().is_some()
        {
            membership.trust = known.trust.clone();
        }
        self.keep(renewed).await?;
        self.held_since = Some(Instant::now());
        tracing::info!("the agent's certificate was renewed");
        Ok(())
    }

    async fn take_trust(&mut self) {
        let Some(bundle) = self.trust.borrow_and_update().clone() else {
            return;
        };
        let taken = match Trust::of(&bundle) {
            Ok(trust) => self.replace_trust(trust).await,
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = taken {
            tracing::warn!(
                error,
                version = bundle.version,
                "new roots of the hub were not taken; the known ones stay"
            );
        }
    }

    async fn replace_trust(&mut self, trust: Trust) -> Result<(), String> {
        let mut changed = self.identity.clone();
        let Some(membership) = changed
            .membership
            .as_mut()
            .filter(|known| known.trust.version < trust.version)
        else {
            return Ok(());
        };
        membership.trust = trust;
        self.keep(changed).await
    }

    async fn keep(&mut self, identity: Identity) -> Result<(), String> {
        self.store.keep(&identity).await?;
        self.identity = identity;
        self.listener.changed(&self.identity);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
