//! Who is let in: the revocation of clusters and of single certificates, and the quarantine of an identity that two devices may
//! hold. What stands here reaches the sessions that are open within a second: `tasks::liveness` watches it.

use jiff::Timestamp;
use meridian_api::audit::Outcome;
use meridian_api::ids::ClusterUid;
use uuid::Uuid;

use super::audit::{Deed, Trail};
use super::writes::Manner;
use super::{App, AppError, until_uncontended};
use crate::domain::access::grant::Verb;
use crate::domain::clones::{Heard, what_to_do};
use crate::domain::cluster::Cluster;
use crate::domain::denial::{Denial, Serial, Speaker};
use crate::store::records::{self, Held, TxnExt as _};
use crate::store::{Txn, keys};

/// What a person denies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deny {
    /// The cluster, with every certificate that it has or gets.
    Cluster,
    /// One certificate of those that the hub knows; the device key gets another.
    Certificate(Serial),
    /// As [`Deny::Certificate`], also if the hub knows none of this number: it was given out before the store was lost or put back.
    Unknown(Serial),
}

impl App {
    /// A member that may speak.
    ///
    /// # Errors
    /// [`AppError::Refused`] if it is none.
    pub async fn member(&self, uid: ClusterUid) -> Result<Cluster, AppError> {
        Ok(self.held_member(uid).await?.record)
    }

    /// As [`App::member`], as it is kept.
    pub(super) async fn held_member(&self, uid: ClusterUid) -> Result<Held<Cluster>, AppError> {
        let store = self.store().as_ref();
        if let Some(known) = records::get(store, &keys::cluster(uid)).await? {
            return Ok(known);
        }
        Err(AppError::Refused(
            match records::get(store, &keys::removed(uid)).await? {
                Some(removed) => format!(
                    "the registration of {:?} was removed at {}; join again with a token",
                    removed.record.name, removed.record.removed_at
                ),
                None => format!(
                    "no member has the kube-system UID {uid}; open a session or join with a token"
                ),
            },
        ))
    }

    /// Whether a certificate that TLS has verified opens anything at this moment.
    ///
    /// # Errors
    /// [`AppError::CertificateOver`] if another certificate would, [`AppError::Quarantined`], [`AppError::Refused`] if none would.
    pub async fn must_be_accepted(&self, speaker: &Speaker) -> Result<(), AppError> {
        let now = self.now();
        // TLS looked at it once, when the connection began: that may be longer ago than the certificate lives.
        if speaker.ends_at <= now {
            return Err(ended(speaker, now));
        }
        self.must_not_be_denied(speaker.cluster).await?;
        let key = keys::denied_serial(&speaker.serial);
        match records::get(self.store().as_ref(), &key).await? {
            None => Ok(()),
            Some(denied) => Err(AppError::CertificateOver(format!(
                "the certificate {} was revoked at {} by {} ({}); the device key gets another",
                speaker.serial, denied.record.since, denied.record.by, denied.record.reason
            ))),
        }
    }

    /// Refuses a cluster that is denied or in quarantine.
    ///
    /// # Errors
    /// [`AppError::Quarantined`], [`AppError::Refused`].
    pub(super) async fn must_not_be_denied(&self, uid: ClusterUid) -> Result<(), AppError> {
        let Some(denied) = self.denial(uid).await? else {
            return Ok(());
        };
        let Denial {
            reason,
            by,
            since,
            quarantine,
            name,
        } = &denied.record;
        if *quarantine {
            return Err(AppError::Quarantined(format!(
                "in quarantine since {since}: {reason}"
            )));
        }
        Err(AppError::Refused(format!(
            "the cluster was denied at {since} by {by} ({reason}); `meridian cluster release {name}` on the hub lets it in again"
        )))
    }

    async fn denial(&self, uid: ClusterUid) -> Result<Option<Held<Denial>>, AppError> {
        Ok(records::get(self.store().as_ref(), &keys::denied_cluster(uid)).await?)
    }

    /// Takes note of the instance of a member's agent that opens a session. Two that alternate are both put in quarantine.
    ///
    /// # Errors
    /// [`AppError::Quarantined`].
    pub async fn hear_instance(&self, uid: ClusterUid, instance: Uuid) -> Result<(), AppError> {
        let clones = until_uncontended(|| async {
            let key = keys::instances(uid);
            let held = records::get(self.store().as_ref(), &key).await?;
            let mut instances = held
                .as_ref()
                .map(|held| held.record.clone())
                .unwrap_or_default();
            let heard = instances.hear(instance, self.now());
            if heard == Heard::Same {
                return Ok(None);
            }
            self.commit(Txn::new().upsert(&key, held.as_ref(), &instances)?)
                .await?;
            Ok(match heard {
                Heard::Clones { one, other } => Some((one, other)),
                Heard::Same | Heard::Another => None,
            })
        })
        .await?;
        let Some((one, other)) = clones else {
            return Ok(());
        };
        let reason = format!(
            "two agents with one identity took the session from each other again and again (instances {one} and {other})"
        );
        self.quarantine(uid, &reason).await?;
        self.must_not_be_denied(uid).await
    }

    /// Writes down that somebody with the certificate of this cluster said to be another.
    pub async fn tell_impostor(&self, certified: ClusterUid) {
        let trail = Trail::member(certified.to_string(), String::new(), "");
        let deed = Deed::of_identity("session", "");
        let why = (Outcome::Refused, "identity-mismatch");
        self.record_failure(&trail, &deed, why).await;
    }

    /// Serves nobody with this identity any more until a person has looked.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub(super) async fn quarantine(&self, uid: ClusterUid, reason: &str) -> Result<(), AppError> {
        until_uncontended(|| async {
            if self.denial(uid).await?.is_some() {
                return Ok(());
            }
            let known = records::get(self.store().as_ref(), &keys::cluster(uid)).await?;
            let name = known.map_or_else(|| uid.to_string(), |known| known.record.name);
            tracing::error!(audit = true, cluster = %uid, name, reason, "a cluster is in quarantine: two devices may hold its identity");
            let denial = Denial {
                reason: format!("{reason}. {}", what_to_do(&name, uid)),
                by: "the hub".to_owned(),
                since: self.now(),
                quarantine: true,
                name: name.clone(),
            };
            let txn = Txn::new().create(&keys::denied_cluster(uid), &denial)?;
            let deed = Deed::of_identity("quarantine", &name);
            self.commit_audited(txn, &Trail::default(), &deed).await?;
            Ok(())
        })
        .await
    }

    /// Denies a member, or one certificate of it.
    ///
    /// # Errors
    /// [`AppError::NotFound`], [`AppError::Conflict`] if it is denied already, [`AppError::Changed`].
    pub async fn deny(
        &self,
        name: &str,
        what: &Deny,
        (by, reason): (&str, &str),
        manner: &Manner,
    ) -> Result<(), AppError> {
        until_uncontended(|| async {
            let member = self.member_called(name).await?;
            manner.meets("cluster", name, member.modified)?;
            let key = match what {
                Deny::Cluster => keys::denied_cluster(member.record.uid),
                Deny::Certificate(serial) => {
                    must_be_known(&member.record, serial)?;
                    keys::denied_serial(serial)
                }
                Deny::Unknown(serial) => keys::denied_serial(serial),
            };
            if let Some(denied) = records::get(self.store().as_ref(), &key).await? {
                return Err(AppError::Conflict(format!(
                    "it has been denied since {} by {}: {}",
                    denied.record.since, denied.record.by, denied.record.reason
                )));
            }
            let denial = Denial {
                reason: reason.to_owned(),
                by: by.to_owned(),
                since: self.now(),
                quarantine: false,
                name: name.to_owned(),
            };
            let txn = Txn::new().unchanged(&member).create(&key, &denial)?;
            let deed = Deed::new(Verb::Deny, "cluster", name);
            if self.commit_as(manner, &deed, txn).await?.is_some() {
                tracing::warn!(audit = true, cluster = name, ?what, by, reason, "denied");
            }
            Ok(())
        })
        .await
    }

    /// Lets a denied cluster, or one in quarantine, in again, whether or not it is still registered.
    ///
    /// # Errors
    /// [`AppError::NotFound`], [`AppError::Conflict`] if nothing denies it, [`AppError::Changed`].
    pub async fn release(&self, name: &str, by: &str, manner: &Manner) -> Result<(), AppError> {
        until_uncontended(|| async {
            let (denied, member) = self.denied_called(name).await?;
            let seen = member.as_ref().map(|member| member.modified);
            manner.meets("cluster", name, seen.unwrap_or_default())?;
            let mut txn = Txn::new().unchanged(&denied).delete(denied.key.clone());
            if let Some(member) = member {
                let key = keys::cluster(member.record.uid);
                let released = Cluster {
                    any_join_state: denied.record.quarantine || member.record.any_join_state,
                    ..member.record.clone()
                };
                txn = txn
                    .delete(keys::instances(member.record.uid).text())
                    .replace(&key, &member, &released)?;
            }
            let deed = Deed::new(Verb::Release, "cluster", name);
            if self.commit_as(manner, &deed, txn).await?.is_some() {
                tracing::warn!(audit = true, cluster = name, by, "released");
            }
            Ok(())
        })
        .await
    }

    /// What denies the cluster of this name, and its registration if it has one.
    async fn denied_called(
        &self,
        name: &str,
    ) -> Result<(Held<Denial>, Option<Held<Cluster>>), AppError> {
        let member = self.member_called(name).await;
        if let Ok(member) = &member
            && let Some(denied) = self.denial(member.record.uid).await?
        {
            return Ok((denied, Some(member.clone())));
        }
        // A denial stays when the registration is removed, also if another cluster has the name by now.
        let all = records::list(self.store().as_ref(), &keys::denied_clusters()).await?;
        let mut named = all.value.into_iter();
        if let Some(denied) = named.find(|held| held.record.name == name) {
            return Ok((denied, None));
        }
        member?;
        Err(AppError::Conflict(format!(
            "cluster {name:?} is neither denied nor in quarantine: there is nothing to release"
        )))
    }

    /// The member of this name.
    pub(super) async fn member_called(&self, name: &str) -> Result<Held<Cluster>, AppError> {
        let store = self.store().as_ref();
        let Some(holder) = records::get(store, &keys::cluster_name(name)).await? else {
            return Err(self.no_cluster(name).await?);
        };
        match records::get(store, &keys::cluster(holder.record.cluster)).await? {
            Some(member) => Ok(member),
            None => Err(self.no_cluster(name).await?),
        }
    }
}

/// A number with a slip in it would revoke nothing, and nobody would notice.
fn must_be_known(member: &Cluster, serial: &Serial) -> Result<(), AppError> {
    let mut known = member.certificates.iter().rev();
    if known.any(|one| one.serial == *serial) {
        return Ok(());
    }
    let known = member.certificates.iter().rev();
    let known: Vec<_> = known
        .map(|one| format!("{} until {}", one.serial, one.ends_at))
        .collect();
    Err(AppError::Conflict(format!(
        "no certificate {serial} of cluster {:?} is known, nothing was denied; known are: {}. One that was given out before the hub's \
         store was lost or put back is denied with evenIfUnknown (--even-if-unknown)",
        member.name,
        if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        }
    )))
}

fn ended(speaker: &Speaker, now: Timestamp) -> AppError {
    AppError::CertificateOver(format!(
        "the certificate {} ended at {}, the hub's clock says {now}",
        speaker.serial, speaker.ends_at
    ))
}

#[cfg(test)]
mod tests;
