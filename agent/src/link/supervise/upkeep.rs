//! What is kept fresh beside an open session: the agent's certificate and the roots it trusts.

use std::{convert::Infallible, time::Duration};

use meridian_api::link::proto::{self, RenewRequest, link_client::LinkClient};
use tokio::{sync::watch, time::sleep};
use tonic::transport::Channel;

use crate::{
    link::{
        identity::{Identity, Life, Trust},
        inventory::Names,
        keep::Kept,
        member::chain,
    },
    metrics::{Certificate, Metrics},
};

/// Longest sleep before the wall clock is looked at again: it may be set while we sleep.
const LOOK: Duration = Duration::from_secs(600);
/// Pause after a renewal that failed.
const AGAIN: Duration = Duration::from_secs(60);
/// A renewal falls between these parts of the certificate's life, so that a fleet does not renew at once.
const RENEW: (f64, f64) = (0.50, 0.66);

/// Renews the certificate and takes new roots.
pub(super) struct Upkeep<'a> {
    pub(super) channel: Channel,
    pub(super) kept: Kept,
    pub(super) identity: Identity,
    pub(super) trust: watch::Receiver<Option<proto::TrustBundle>>,
    pub(super) membership: &'a watch::Sender<Option<(Names, Trust)>>,
    pub(super) metrics: &'a Metrics,
    pub(super) cluster_uid: &'a str,
    pub(super) wall_ms: fn() -> i64,
    pub(super) random: fn() -> f64,
}

impl Upkeep<'_> {
    /// Works until it is dropped with its session.
    pub(super) async fn run(mut self) -> Infallible {
        self.trust.mark_unchanged();
        let mut unit = (self.random)();
        let mut pause = Duration::ZERO;
        loop {
            let wait = self.renew_in(unit).max(pause);
            pause = Duration::ZERO;
            tokio::select! {
                Ok(()) = self.trust.changed() => self.take_trust().await,
                () = sleep(wait.min(LOOK)) => {
                    if self.renew_in(unit).is_zero() {
                        match self.renew().await {
                            Ok(()) => unit = (self.random)(),
                            Err(error) => {
                                tracing::warn!(error, "the agent's certificate could not be renewed; it is tried again");
                                pause = AGAIN;
                            }
                        }
                    }
                }
            }
        }
    }

    fn renew_in(&self, unit: f64) -> Duration {
        let life = self
            .identity
            .membership
            .as_ref()
            .map(|membership| membership.life);
        life.map_or(LOOK, |life| renew_in(life, unit, (self.wall_ms)()))
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
        let csr_der = renewed.request().map_err(|error| error.to_string())?.into();
        let result = LinkClient::new(self.channel.clone())
            .renew(RenewRequest { csr_der })
            .await;
        let result =
            result.map_err(|status| format!("{} ({:?})", status.message(), status.code()))?;
        renewed
            .accept(result.get_ref(), &joined_with)
            .map_err(|error| error.to_string())?;
        self.keep(renewed).await?;
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
        self.kept
            .write(identity.data())
            .await
            .map_err(|error| chain(&error))?;
        self.identity = identity;
        if let Some(membership) = &self.identity.membership {
            let ends_ms = membership.life.not_after_ms;
            self.metrics.certificate(Certificate::Agent, Some(ends_ms));
            let names = Names {
                cluster_uid: self.cluster_uid.to_owned(),
                cluster_name: membership.cluster_name.clone(),
                trust_domain: membership.trust.domain.clone(),
            };
            self.membership
                .send_replace(Some((names, membership.trust.clone())));
        }
        Ok(())
    }
}

/// How long until a certificate is renewed, for a random `unit` in `[0, 1)`.
fn renew_in(life: Life, unit: f64, now_ms: i64) -> Duration {
    let at = life.at(RENEW.0 + (RENEW.1 - RENEW.0) * unit.clamp(0.0, 1.0));
    Duration::from_millis(at.saturating_sub(now_ms).max(0).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_falls_between_half_and_two_thirds_of_the_life() {
        let life = Life {
            not_before_ms: 0,
            not_after_ms: 1_000_000,
        };
        assert_eq!(renew_in(life, 0.0, 0), Duration::from_secs(500));
        assert_eq!(renew_in(life, 1.0, 0), Duration::from_secs(660));
        assert_eq!(renew_in(life, 0.5, 580_000), Duration::ZERO);
        assert_eq!(renew_in(life, 0.5, 2_000_000), Duration::ZERO);
    }
}
