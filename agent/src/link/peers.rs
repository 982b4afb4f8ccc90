//! Peer certificates: with these the nodes of a REC meet the nodes of other regions.
//!
//! One Secret `<rec>-peer-tls` per REC. The key pair is made here; the hub signs its public half. It is renewed between half
//! and two thirds of its life, and at once if the roots, the REC's suffix or its identity change. A Secret of that name without
//! our labels is never touched.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    ByteString,
    api::core::v1::{ObjectReference, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{ResourceExt as _, api::DynamicObject};
use meridian_api::{link::proto, renewal};
use rcgen::KeyPair;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{
    identity::{
        Life, Trust, certificate_pem, certificate_request, check_chain, life_of, new_session_key,
    },
    inventory::Names,
    join::roots,
    member::chain,
};
use crate::k8s::{apply::Objects, events::Events, own::Owner};

/// Annotation with what the certificate was asked for; it changes when another one is needed.
const ASKED_FOR: &str = "meridian.dev/peer-request";
/// Reason of the Event about a certificate that is due and could not be had.
const NOT_RENEWED: &str = "PeerCertificateNotRenewed";
/// Why a certificate is needed that is not urgent.
const DUE: &str = "its time to be renewed has come";
/// Longest time without a look at the certificates.
const LOOK: Duration = Duration::from_secs(3600);

/// Name of the Secret of a REC.
#[must_use]
pub fn secret_name(rec: &str) -> String {
    format!("{rec}-peer-tls")
}

/// What the certificate of one REC must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Namespace of the REC.
    pub namespace: String,
    /// Its name.
    pub rec: String,
    /// The identity inside.
    pub spiffe_id: String,
    /// The names that peers ask for.
    pub dns_names: Vec<String>,
    /// The roots that peers are checked against, PEM.
    pub roots_pem: String,
}

impl Wanted {
    /// What the REC needs.
    #[must_use]
    pub fn of(rec: &DynamicObject, names: &Names, trust: &Trust) -> Self {
        let (namespace, name) = (rec.namespace().unwrap_or_default(), rec.name_any());
        Self {
            spiffe_id: names.peer_id(&namespace, &name),
            dns_names: vec![format!("*{}", names.suffix(rec))],
            roots_pem: trust.roots_pem.clone(),
            namespace,
            rec: name,
        }
    }

    fn fingerprint(&self) -> String {
        format!("{} {}", self.spiffe_id, self.dns_names.join(","))
    }
}

/// What to do about the Secret of a REC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing before this moment (milliseconds since 1970); the certificate ends at the second.
    Nothing {
        /// When it is to be renewed.
        until_ms: i64,
        /// Its end.
        ends_ms: i64,
    },
    /// A certificate, for this reason.
    Issue(&'static str),
}

/// Decides about the Secret as it is.
#[must_use]
pub fn need(secret: Option<&Secret>, wanted: &Wanted, now_ms: i64) -> Need {
    let Some(secret) = secret else {
        return Need::Issue("there is none");
    };
    let text = |key: &str| {
        let bytes = secret.data.as_ref()?.get(key)?;
        std::str::from_utf8(&bytes.0).ok()
    };
    let (Some(key), Some(certificate), Some(ca)) =
        (text("tls.key"), text("tls.crt"), text("ca.crt"))
    else {
        return Need::Issue("a part is missing");
    };
    let Ok(key) = KeyPair::from_pem(key) else {
        return Need::Issue("its key cannot be read");
    };
    let chain = roots(certificate).unwrap_or_default();
    let Ok(life) = check_chain(&chain, &key) else {
        return Need::Issue("its certificate is not for its key");
    };
    if ca != wanted.roots_pem {
        return Need::Issue("the roots changed");
    }
    if secret.annotations().get(ASKED_FOR) != Some(&wanted.fingerprint()) {
        return Need::Issue("the names of the REC changed");
    }
    let certificate = chain.first().map(Vec::as_slice).unwrap_or_default();
    let until_ms = life.renewed_at(certificate);
    if now_ms >= until_ms {
        return Need::Issue(DUE);
    }
    Need::Nothing {
        until_ms,
        ends_ms: life.not_after_ms,
    }
}

/// The Secret with a new certificate.
///
/// # Errors
/// A sentence that says what of the hub's answer cannot be used.
pub fn secret(
    wanted: &Wanted,
    key_pem: &str,
    reply: &proto::PeerCertificateReply,
) -> Result<(Secret, Life), String> {
    if reply.spiffe_id != wanted.spiffe_id {
        return Err(format!(
            "the hub signed identity `{}`, expected `{}`",
            reply.spiffe_id, wanted.spiffe_id
        ));
    }
    let key = KeyPair::from_pem(key_pem).map_err(|error| error.to_string())?;
    let life = check_chain(&reply.certificate_chain, &key).map_err(|error| error.to_string())?;
    let chain: String = reply
        .certificate_chain
        .iter()
        .map(|der| certificate_pem(der))
        .collect();
    let data = [
        ("tls.key", key_pem),
        ("tls.crt", &chain),
        ("ca.crt", &wanted.roots_pem),
    ];
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(secret_name(&wanted.rec)),
            namespace: Some(wanted.namespace.clone()),
            labels: Some(Owner::cluster(&wanted.rec).labels()),
            annotations: Some(BTreeMap::from([(
                ASKED_FOR.to_owned(),
                wanted.fingerprint(),
            )])),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(
            data.map(|(key, text)| (key.to_owned(), ByteString(text.as_bytes().to_vec())))
                .into(),
        ),
        ..Secret::default()
    };
    Ok((secret, life))
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
    /// Gets the ends of all certificates, by REC.
    pub ends: watch::Sender<BTreeMap<String, i64>>,
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
        let (mut ends, mut pause, mut first) = (BTreeMap::new(), LOOK, None);
        for rec in recs
            .iter()
            .filter(|rec| rec.metadata.deletion_timestamp.is_none())
        {
            let wanted = Wanted::of(rec, &names, &trust);
            let ended = match self.care(rec, &wanted, hub.as_ref()).await {
                Ok((until_ms, ends_ms)) => {
                    self.events.over(&about(rec), NOT_RENEWED);
                    pause = pause.min(self.until(&wanted.rec, until_ms));
                    Some(ends_ms)
                }
                Err(Missing { reason, ends_ms }) => {
                    let ends_ms = self.missing(rec, &reason, ends_ms).await;
                    first = Some(first.unwrap_or(i64::MAX).min(ends_ms.unwrap_or(i64::MAX)));
                    ends_ms
                }
            };
            ends.extend(ended.map(|ends_ms| (wanted.rec, ends_ms)));
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
        if *self.ends.borrow() != ends {
            self.ends.send_replace(ends);
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

    /// Tells people of a certificate that is needed and could not be had, and gives back when the present one ends.
    async fn missing(
        &self,
        rec: &DynamicObject,
        reason: &str,
        ends_ms: Option<i64>,
    ) -> Option<i64> {
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
        ends_ms
    }

    /// When the REC's certificate is to be renewed and when it ends; it is issued if there is need.
    async fn care(
        &mut self,
        rec: &DynamicObject,
        wanted: &Wanted,
        hub: Option<&Channel>,
    ) -> Result<(i64, i64), Missing> {
        let name = secret_name(&wanted.rec);
        let known = self.objects.get::<Secret>(&name).await;
        let known = known.map_err(|error| Missing {
            reason: chain(&error),
            ends_ms: self.ends.borrow().get(&wanted.rec).copied(),
        })?;
        let ends_ms = known.as_ref().and_then(end_of);
        let reason = match need(known.as_ref(), wanted, (self.wall_ms)()) {
            Need::Nothing { until_ms, ends_ms } => return Ok((until_ms, ends_ms)),
            Need::Issue(DUE) if !self.still_held(&wanted.rec).is_zero() => {
                return Ok((i64::MIN, ends_ms.unwrap_or(i64::MIN)));
            }
            Need::Issue(reason) => reason,
        };
        self.issue(rec, wanted, hub, (known, reason))
            .await
            .map_err(|reason| Missing { reason, ends_ms })
    }

    async fn issue(
        &mut self,
        rec: &DynamicObject,
        wanted: &Wanted,
        hub: Option<&Channel>,
        (known, reason): (Option<Secret>, &str),
    ) -> Result<(i64, i64), String> {
        let name = secret_name(&wanted.rec);
        // A foreign Secret is told before the hub is asked in vain.
        let owner = Owner::cluster(&wanted.rec);
        if let crate::k8s::own::Ownership::Foreign { holder, .. } =
            owner.judge(known.as_ref().map(|secret| &secret.metadata))
        {
            let note = format!(
                "Secret {}/{name} exists and belongs to {holder}: it is left as it is, and the nodes of this REC get no \
                 peer certificate; rename or delete it",
                wanted.namespace
            );
            self.events
                .warning(&about(rec), "ForeignObject", &note)
                .await;
            return Err(note);
        }
        let hub = hub.ok_or_else(|| format!("{reason}, and the hub is not connected"))?;
        let (secret, life) = ask(hub.clone(), wanted).await?;
        self.objects
            .ensure(&secret, &owner)
            .await
            .map_err(|error| chain(&error))?;
        tracing::info!(
            rec = wanted.rec,
            reason,
            ends_ms = life.not_after_ms,
            "a peer certificate was issued"
        );
        let held = (Instant::now(), life.held_at_least());
        self.issued.insert(wanted.rec.clone(), held);
        let certificate = leaf(&secret).unwrap_or_default();
        Ok((life.renewed_at(&certificate), life.not_after_ms))
    }
}

/// A certificate that is needed and could not be had.
struct Missing {
    reason: String,
    /// End of the one that there is.
    ends_ms: Option<i64>,
}

/// The certificate in the Secret, DER.
fn leaf(secret: &Secret) -> Option<Vec<u8>> {
    let pem = secret.data.as_ref()?.get("tls.crt")?;
    let chain = roots(std::str::from_utf8(&pem.0).ok()?)?;
    chain.into_iter().next()
}

fn end_of(secret: &Secret) -> Option<i64> {
    life_of(&leaf(secret)?).ok().map(|life| life.not_after_ms)
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
