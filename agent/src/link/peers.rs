//! Peer certificates: with these the nodes of a REC meet the nodes of other regions.
//!
//! One Secret `<rec>-peer-tls` per REC. The key pair is made here; the hub signs its public half. It is renewed between half
//! and two thirds of its life, at once if the REC's suffix or its identity change, and within minutes if its root is on its way
//! out. Other roots are written beside the certificate as it is. A Secret of that name without our labels is never touched.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::{ResourceExt as _, api::DynamicObject};
use meridian_api::{link::proto, renewal};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{
    identity::{Life, Trust, certificate_request, new_session_key},
    inventory::Names,
    member::chain,
};
mod wanted;

use wanted::leaf;
pub use wanted::{Need, PeerState, Wanted, need, secret, with_roots};

use crate::k8s::{apply::Objects, events::Events, own::Owner};

/// Annotation with what the certificate was asked for; it changes when another one is needed.
const ASKED_FOR: &str = "meridian.dev/peer-request";
/// Reason of the Event about a certificate that is due and could not be had.
const NOT_RENEWED: &str = "PeerCertificateNotRenewed";
/// Why a certificate is needed that is not urgent.
const DUE: &str = "its time to be renewed has come";
/// Why a certificate is needed that is not of the root that signs.
const OLD_ROOT: &str = "its root is on its way out";
/// Such a certificate is renewed within this time, at a random moment: the fleet hears of it at once.
const EARLY: Duration = Duration::from_secs(60);
/// Longest time without a look at the certificates.
const LOOK: Duration = Duration::from_secs(3600);

/// Name of the Secret of a REC.
#[must_use]
pub fn secret_name(rec: &str) -> String {
    format!("{rec}-peer-tls")
}

/// What the keeper of peer certificates needs.
#[derive(Debug)]
pub struct Peers {
    /// The agent's namespace.
    pub objects: Objects,
    /// The RECs.
    pub recs: watch::Receiver<Vec<DynamicObject>>,
    /// This cluster's names and roots, once it is a member.
    pub membership: watch::Receiver<Option<(Names, Trust)>>,
    /// The open connection to the hub.
    pub hub: watch::Receiver<Option<Channel>>,
    /// Gets the state of all certificates, by REC.
    pub states: watch::Sender<BTreeMap<String, PeerState>>,
    /// For what a person should look at.
    pub events: Events,
    /// The wall clock in milliseconds since 1970.
    pub wall_ms: fn() -> i64,
    /// Random numbers in `[0, 1)`.
    pub random: fn() -> f64,
    /// Looks in a row at which something failed.
    pub failures: u32,
    /// When certificates were received in this process, by REC, and how long they are to be held at least.
    pub issued: BTreeMap<String, (Instant, Duration)>,
    /// When certificates are renewed because their root is on its way out, by REC.
    pub early: BTreeMap<String, Instant>,
}

impl Peers {
    /// Works until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            let next = Instant::now() + self.look().await;
            tokio::select! {
                () = cancel.cancelled() => return,
                Ok(()) = self.recs.changed() => {}
                Ok(()) = self.membership.changed() => {}
                Ok(()) = self.hub.changed() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// Looks at the certificate of every REC; says when to look again.
    async fn look(&mut self) -> Duration {
        let Some((names, trust)) = self.membership.borrow_and_update().clone() else {
            return LOOK;
        };
        let recs = self.recs.borrow_and_update().clone();
        let hub = self.hub.borrow_and_update().clone();
        let (mut states, mut pause, mut first) = (BTreeMap::new(), LOOK, None);
        for rec in recs
            .iter()
            .filter(|rec| rec.metadata.deletion_timestamp.is_none())
        {
            let wanted = Wanted::of(rec, &names, &trust);
            let state = match self.care(rec, &wanted, hub.as_ref()).await {
                Ok((wait, state)) => {
                    self.events.over(&about(rec), NOT_RENEWED);
                    pause = pause.min(wait);
                    Some(state)
                }
                Err(Missing { reason, state }) => {
                    let ends_ms = state.as_ref().map(|state| state.ends_ms);
                    self.missing(rec, &reason, ends_ms).await;
                    first = Some(first.unwrap_or(i64::MAX).min(ends_ms.unwrap_or(i64::MAX)));
                    state
                }
            };
            states.extend(state.map(|state| (wanted.rec, state)));
        }
        self.failures = if first.is_some() {
            self.failures.saturating_add(1)
        } else {
            0
        };
        if let Some(ends_ms) = first {
            let left = renewal::Left(ends_ms.saturating_sub((self.wall_ms)()));
            pause = pause.min(renewal::again(self.failures, (self.random)(), left));
        }
        if *self.states.borrow() != states {
            self.states.send_replace(states);
        }
        pause.max(Duration::from_secs(1))
    }

    /// How long until the certificate is to be renewed, but not sooner after it was received than a part of its life.
    fn until(&self, rec: &str, until_ms: i64) -> Duration {
        let left = until_ms.saturating_sub((self.wall_ms)()).max(0);
        Duration::from_millis(left.unsigned_abs()).max(self.still_held(rec))
    }

    fn still_held(&self, rec: &str) -> Duration {
        let received = self.issued.get(rec);
        received.map_or(Duration::ZERO, |(since, least)| {
            least.saturating_sub(since.elapsed())
        })
    }

    /// Tells people of a certificate that is needed and could not be had.
    async fn missing(&self, rec: &DynamicObject, reason: &str, ends_ms: Option<i64>) {
        let left = ends_ms.map_or_else(
            || "there is none".to_owned(),
            |ends_ms| renewal::Left(ends_ms.saturating_sub((self.wall_ms)())).to_string(),
        );
        tracing::warn!(
            rec = rec.name_any(),
            reason,
            left,
            failures = self.failures,
            "no fresh peer certificate"
        );
        let note = format!(
            "the certificate with which the nodes of this cluster meet those of other regions could not be had ({left}): {reason}; it \
             is tried again. Once it has ended the regions replicate no more, and clients are served as before"
        );
        // A new REC waits for its first certificate while the hub is being joined: that is no news.
        if ends_ms.is_some() {
            self.events.warning(&about(rec), NOT_RENEWED, &note).await;
        }
    }

    /// How long until the REC's certificate is to be looked at again, and how it is; it is issued if there is need.
    async fn care(
        &mut self,
        rec: &DynamicObject,
        wanted: &Wanted,
        hub: Option<&Channel>,
    ) -> Result<(Duration, PeerState), Missing> {
        let name = secret_name(&wanted.rec);
        let known = self.objects.get::<Secret>(&name).await;
        let known = known.map_err(|error| Missing {
            reason: chain(&error),
            state: self.states.borrow().get(&wanted.rec).cloned(),
        })?;
        let present = known
            .as_ref()
            .and_then(|secret| PeerState::of(secret, &wanted.trust));
        let missing = |reason: String| Missing {
            reason,
            state: present.clone(),
        };
        let wrong = || missing("the Secret cannot be read".to_owned());
        let reason = match need(known.as_ref(), wanted, (self.wall_ms)()) {
            Need::Nothing { until_ms, .. } => {
                self.early.remove(&wanted.rec);
                let wait = self.until(&wanted.rec, until_ms);
                return Ok((wait, present.clone().ok_or_else(wrong)?));
            }
            Need::Roots => {
                let secret = known.as_ref().and_then(|known| with_roots(known, wanted));
                let secret = secret.ok_or_else(wrong)?;
                self.write(rec, wanted, (known.as_ref(), &secret))
                    .await
                    .map_err(missing)?;
                let state = PeerState::of(&secret, &wanted.trust);
                // At once: whether its certificate is of the root that signs is another question.
                return Ok((Duration::ZERO, state.ok_or_else(wrong)?));
            }
            Need::Issue(DUE) if !self.still_held(&wanted.rec).is_zero() => {
                let wait = self.still_held(&wanted.rec);
                return Ok((wait, present.clone().ok_or_else(wrong)?));
            }
            Need::Issue(OLD_ROOT) if !self.early_in(&wanted.rec).is_zero() => {
                let wait = self.early_in(&wanted.rec);
                return Ok((wait, present.clone().ok_or_else(wrong)?));
            }
            Need::Issue(reason) => reason,
        };
        self.issue(rec, wanted, hub, (known, reason))
            .await
            .map_err(missing)
    }

    /// How long until a certificate is renewed because its root is on its way out. The moment is drawn once.
    fn early_in(&mut self, rec: &str) -> Duration {
        let wait = EARLY.mul_f64((self.random)().clamp(0.0, 1.0));
        let drawn = self.early.entry(rec.to_owned());
        let drawn = drawn.or_insert_with(|| Instant::now() + wait);
        drawn.saturating_duration_since(Instant::now())
    }

    /// Writes the Secret of a REC; one that is not ours is left alone, and its owner told.
    async fn write(
        &self,
        rec: &DynamicObject,
        wanted: &Wanted,
        (known, secret): (Option<&Secret>, &Secret),
    ) -> Result<(), String> {
        self.must_be_ours(rec, wanted, known).await?;
        let owner = Owner::cluster(&wanted.rec);
        let written = self.objects.ensure(secret, &owner).await;
        written.map(|_| ()).map_err(|error| chain(&error))
    }

    async fn must_be_ours(
        &self,
        rec: &DynamicObject,
        wanted: &Wanted,
        known: Option<&Secret>,
    ) -> Result<(), String> {
        let owner = Owner::cluster(&wanted.rec);
        let crate::k8s::own::Ownership::Foreign { holder, .. } =
            owner.judge(known.map(|secret| &secret.metadata))
        else {
            return Ok(());
        };
        let note = format!(
            "Secret {}/{} exists and belongs to {holder}: it is left as it is, and the nodes of this REC get no peer certificate; \
             rename or delete it",
            wanted.namespace,
            secret_name(&wanted.rec)
        );
        self.events
            .warning(&about(rec), "ForeignObject", &note)
            .await;
        Err(note)
    }

    async fn issue(
        &mut self,
        rec: &DynamicObject,
        wanted: &Wanted,
        hub: Option<&Channel>,
        (known, reason): (Option<Secret>, &str),
    ) -> Result<(Duration, PeerState), String> {
        // A foreign Secret is told before the hub is asked in vain.
        self.must_be_ours(rec, wanted, known.as_ref()).await?;
        let hub = hub.ok_or_else(|| format!("{reason}, and the hub is not connected"))?;
        let (secret, life) = ask(hub.clone(), wanted).await?;
        self.write(rec, wanted, (known.as_ref(), &secret)).await?;
        tracing::info!(
            rec = wanted.rec,
            reason,
            ends_ms = life.not_after_ms,
            "a peer certificate was issued"
        );
        let held = (Instant::now(), life.held_at_least());
        self.issued.insert(wanted.rec.clone(), held);
        self.early.remove(&wanted.rec);
        let certificate = leaf(&secret).unwrap_or_default();
        let state = PeerState::of(&secret, &wanted.trust)
            .ok_or("the certificate that the hub signed cannot be read")?;
        let wait = self.until(&wanted.rec, life.renewed_at(&certificate));
        Ok((wait, state))
    }
}

/// A certificate that is needed and could not be had.
struct Missing {
    reason: String,
    /// The one that there is.
    state: Option<PeerState>,
}

async fn ask(hub: Channel, wanted: &Wanted) -> Result<(Secret, Life), String> {
    let key_pem = new_session_key().map_err(|error| error.to_string())?;
    let csr_der = certificate_request(&key_pem, &[]).map_err(|error| error.to_string())?;
    let request = proto::PeerCertificateRequest {
        rec_namespace: wanted.namespace.clone(),
        rec_name: wanted.rec.clone(),
        csr_der: csr_der.into(),
        dns_names: wanted.dns_names.clone(),
    };
    let reply = proto::link_client::LinkClient::new(hub)
        .issue_peer(request)
        .await;
    let reply = reply.map_err(|status| {
        format!(
            "the hub did not sign: {} ({:?})",
            status.message(),
            status.code()
        )
    })?;
    secret(wanted, &key_pem, reply.get_ref())
}

fn about(rec: &DynamicObject) -> ObjectReference {
    ObjectReference {
        api_version: Some("app.redislabs.com/v1".to_owned()),
        kind: Some("RedisEnterpriseCluster".to_owned()),
        namespace: rec.namespace(),
        name: Some(rec.name_any()),
        uid: rec.uid(),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests;
