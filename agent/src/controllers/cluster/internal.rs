//! What the nodes of one REC trust each other by, without the hub: an authority of their own, one certificate that they
//! share, and the password with which replicas follow. No I/O; the randomness is the crypto library's.
//!
//! An authority's key is thrown away, so the certificate is the only one that it ever signed. Both are renewed together, with
//! the password, at half of their life, in three steps: nodes learn the new authority and the new password beside the old
//! ones; then they show the new certificate and use the new password; then they forget the old ones. Each step waits until
//! every node that runs a shard has said that it took over the one before.

mod make;

use std::{collections::BTreeMap, fmt, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use meridian_api::{
    crds::DatabaseTopology,
    internal::{
        CA, CERTIFICATE, CERTIFICATE_NEXT, KEY, KEY_NEXT, PASSWORD, PASSWORD_BEFORE, PASSWORD_NEXT,
        text,
    },
};

pub(crate) use self::make::InternalError;
use self::make::{Made, authorities, is_good, password};
use crate::controllers::secrets::password_hash;

/// Key of the Secret with the time of the last step.
const SINCE: &str = "since";
/// Key of the Secret with the order ([`RENEW`]) that was followed last.
const RENEWED: &str = "renewed";
/// Annotation of the Secret by which a person orders a renewal: any text that was not there before.
const RENEW: &str = "meridian.dev/renew";
/// The least time between two steps: nodes without a shard say nothing, and see a changed Secret within two minutes.
const PAUSE: SignedDuration = SignedDuration::from_mins(5);
/// Pause between two questions whether the nodes have taken a step over: no watch of the REC tells.
const ASKED_AGAIN: Duration = Duration::from_secs(10);
/// The least length of a password that a person may choose.
const PASSWORD_LENGTH: usize = 16;

/// The entries of the Secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Internal(BTreeMap<String, Vec<u8>>);

impl fmt::Debug for Internal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Internal")
            .field(&self.0.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// Where the nodes are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The name of the REC.
    pub(super) name: &'a str,
    /// Its namespace.
    pub(super) namespace: &'a str,
}

impl Internal {
    /// What `secret` holds, usable or not.
    #[must_use]
    pub(super) fn of(secret: &Secret) -> Self {
        let data = secret.data.iter().flatten();
        Self(
            data.map(|(key, bytes)| (key.clone(), bytes.0.clone()))
                .collect(),
        )
    }

    /// New entries for the REC at `place`.
    ///
    /// # Errors
    /// [`InternalError`].
    pub(super) fn fresh(place: Place<'_>, now: Timestamp) -> Result<Self, InternalError> {
        Self(BTreeMap::new()).mended(place, now)
    }

    /// Whether a renewal is on its way, so that the next step depends on what the nodes say.
    #[must_use]
    pub(super) fn is_changing(&self) -> bool {
        let named = [CERTIFICATE_NEXT, PASSWORD_NEXT, PASSWORD_BEFORE];
        named.iter().any(|key| self.0.contains_key(*key)) || self.authorities().len() > 1
    }

    /// How soon the next step of a renewal that is on its way may be taken; `None`: none is on its way.
    #[must_use]
    pub(super) fn step_in(&self, now: Timestamp) -> Option<Duration> {
        let until = self.pause_until().unwrap_or(now);
        let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
        self.is_changing().then(|| left.max(ASKED_AGAIN))
    }

    /// What the Secret shall hold after `self`: what is missing or cannot be used is made anew at once, and a renewal is begun
    /// when it is due (or `ordered`, see [`order`]) or goes its next step if `taken_over` says so.
    ///
    /// # Errors
    /// [`InternalError`].
    pub(super) fn next(
        self,
        place: Place<'_>,
        ordered: Option<&str>,
        taken_over: bool,
        now: Timestamp,
    ) -> Result<Self, InternalError> {
        let mended = self.clone().mended(place, now)?;
        if mended != self {
            return Ok(mended);
        }
        if self.is_changing() {
            let pause_is_over = self.pause_until().is_none_or(|until| now >= until);
            return Ok(if taken_over && pause_is_over {
                self.stepped(now)
            } else {
                self
            });
        }
        let is_new = ordered.is_some() && ordered != self.text(RENEWED);
        if is_new || self.is_due(now) {
            return self.begun(place, ordered, now);
        }
        Ok(self)
    }

    /// Hash of what nodes read of it, which they report.
    #[must_use]
    pub(super) fn digest(&self) -> String {
        password_hash(text(&self.0).as_bytes())
    }

    /// The entries as a Secret carries them.
    #[must_use]
    pub(super) fn data(&self) -> BTreeMap<String, ByteString> {
        let own = |(key, bytes): (&String, &Vec<u8>)| (key.clone(), ByteString(bytes.clone()));
        self.0.iter().map(own).collect()
    }

    fn text(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(self.0.get(key)?).ok()
    }

    /// When the next step of a renewal may be taken; `None`: at once.
    fn pause_until(&self) -> Option<Timestamp> {
        let since: Timestamp = self.text(SINCE)?.parse().ok()?;
        since.checked_add(PAUSE).ok()
    }

    fn authorities(&self) -> Vec<String> {
        authorities(self.text(CA).unwrap_or_default())
    }

    fn put(&mut self, key: &str, text: String) {
        self.0.insert(key.to_owned(), text.into_bytes());
    }

    fn pair(&self, certificate: &str, key: &str) -> Option<(&str, &str)> {
        Some((self.text(certificate)?, self.text(key)?))
    }

    /// Replaces what cannot be used. Authorities that were believed stay beside a new one until every node knows that.
    fn mended(mut self, place: Place<'_>, now: Timestamp) -> Result<Self, InternalError> {
        let usable = |text: &str| {
            text.len() >= PASSWORD_LENGTH && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !self.text(PASSWORD).is_some_and(usable) {
            self.put(PASSWORD, password()?);
        }
        let before = self.authorities();
        let signed = |pair: (&str, &str)| {
            let first = before.first();
            first.is_some_and(|authority| is_good(authority, pair, place, now))
        };
        if self.pair(CERTIFICATE, KEY).is_some_and(signed) {
            return Ok(self);
        }
        let made = Made::new(place, now)?;
        if !before.is_empty() {
            self.put(SINCE, now.to_string());
        }
        let all: String = std::iter::once(made.authority).chain(before).collect();
        self.put(CA, all);
        self.put(CERTIFICATE, made.certificate);
        self.put(KEY, made.key);
        for key in [CERTIFICATE_NEXT, KEY_NEXT] {
            self.0.remove(key);
        }
        Ok(self)
    }

    fn is_due(&self, now: Timestamp) -> bool {
        let half = self.text(CERTIFICATE).and_then(make::half_life);
        half.is_none_or(|half| now >= half)
    }

    /// The first step: what comes is known beside what is.
    fn begun(
        mut self,
        place: Place<'_>,
        ordered: Option<&str>,
        now: Timestamp,
    ) -> Result<Self, InternalError> {
        let made = Made::new(place, now)?;
        let all = format!("{}{}", self.authorities().concat(), made.authority);
        self.put(CA, all);
        self.put(CERTIFICATE_NEXT, made.certificate);
        self.put(KEY_NEXT, made.key);
        self.put(PASSWORD_NEXT, password()?);
        self.put(SINCE, now.to_string());
        if let Some(order) = ordered {
            self.put(RENEWED, order.to_owned());
        }
        Ok(self)
    }

    /// The second step, or the third.
    fn stepped(mut self, now: Timestamp) -> Self {
        let mut authorities = self.authorities();
        let next = (self.0.remove(CERTIFICATE_NEXT), self.0.remove(KEY_NEXT));
        if let (Some(certificate), Some(key)) = next {
            self.0.insert(CERTIFICATE.to_owned(), certificate);
            self.0.insert(KEY.to_owned(), key);
            authorities.reverse();
        } else {
            authorities.truncate(1);
        }
        let password = self.0.remove(PASSWORD_NEXT);
        self.0.remove(PASSWORD_BEFORE);
        if let Some(password) = password
            && let Some(before) = self.0.insert(PASSWORD.to_owned(), password)
        {
            self.0.insert(PASSWORD_BEFORE.to_owned(), before);
        }
        self.put(CA, authorities.concat());
        if self.is_changing() {
            self.put(SINCE, now.to_string());
        } else {
            self.0.remove(SINCE);
        }
        self
    }
}

/// What a person ordered by [`RENEW`] on the Secret.
#[must_use]
pub(super) fn order(secret: &Secret) -> Option<&str> {
    let annotations = secret.metadata.annotations.as_ref()?;
    annotations.get(RENEW).map(String::as_str)
}

/// Whether every pod that runs, or shall run, a shard of the REC `name` has reported that it took over what has this hash.
#[must_use]
pub(super) fn is_taken_over(topologies: &[DatabaseTopology], name: &str, digest: &str) -> bool {
    let of_it = topologies.iter().filter(|t| t.spec.cluster == name);
    of_it.into_iter().all(|topology| {
        let members = topology.status.as_ref().map(|status| &status.members);
        let said = |pod: &String, id: i32| {
            let mut reports = members.into_iter().flatten();
            let report = reports.find(|member| member.node == *pod);
            let shard = report.and_then(|report| report.shards.iter().find(|s| s.id == id));
            shard.is_some_and(|shard| shard.internal.as_deref() == Some(digest))
        };
        topology.spec.shards.iter().all(|shard| {
            let copies = [&shard.replicas, &shard.in_sync, &shard.joining];
            let mut pods = shard.primary.iter().chain(copies.into_iter().flatten());
            pods.all(|pod| said(pod, shard.id))
        })
    })
}

#[cfg(test)]
mod tests;
