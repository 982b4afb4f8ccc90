//! How a cluster becomes a member, gets a new certificate, and recovers.
//!
//! Joining takes a join token and the proof that the caller holds its device key. It is idempotent for the pair, so a
//! lost reply locks nobody out; the same token with another key is refused. Recovery takes the device key alone.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use meridian_api::ids::ClusterUid;
use meridian_api::link::enroll::{Purpose as Signed, Transcript, transcript};

use super::{App, AppError, until_uncontended};
use crate::ca::Issued;
use crate::domain::access::{JoinToken, Purpose, Token, TokenUse};
use crate::domain::cluster::{Cluster, DeviceKey};
use crate::store::records::{self, Held, NameHolder, TxnExt as _};
use crate::store::{Txn, keys};

/// How long a challenge is accepted.
pub const CHALLENGE_LIFE: SignedDuration = SignedDuration::from_mins(2);
/// Challenges that may be open at one time. Anybody may ask for one, so their memory is bounded; 1,000 clusters that
/// join at once need 1,000.
const CHALLENGES: usize = 4096;

/// Open challenges. They are not in the store: a hub that restarts between two calls makes the caller begin again.
#[derive(Debug, Default)]
pub struct Challenges(Mutex<BTreeMap<String, Challenge>>);

#[derive(Clone, Debug)]
struct Challenge {
    nonce: [u8; 32],
    device_key: DeviceKey,
    cluster: ClusterUid,
    expires_at: Timestamp,
}

/// What a caller has to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Names the challenge.
    pub id: String,
    /// 32 random bytes.
    pub nonce: [u8; 32],
}

/// A join with its proofs.
#[derive(Clone, Copy, Debug)]
pub struct Finish<'a> {
    /// From [`Opened`].
    pub challenge_id: &'a str,
    /// The join token in clear.
    pub token: &'a str,
    /// Name in the caller's join material.
    pub cluster_name: &'a str,
    /// Ed25519 signature of the transcript.
    pub signature: &'a [u8],
    /// PKCS #10 request.
    pub csr: &'a [u8],
    /// Version of the agent.
    pub agent_version: &'a str,
}

/// A recovery with its proofs.
#[derive(Clone, Copy, Debug)]
pub struct Recover<'a> {
    /// From [`Opened`].
    pub challenge_id: &'a str,
    /// Ed25519 signature of the transcript.
    pub signature: &'a [u8],
    /// PKCS #10 request.
    pub csr: &'a [u8],
    /// As last received.
    pub join_state: &'a [u8],
}

/// A member with its new certificate.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// The member.
    pub cluster: Cluster,
    /// Its certificate.
    pub issued: Issued,
}

impl Challenges {
    fn open(&self, challenge: Challenge, now: Timestamp) -> Result<Opened, AppError> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, challenge| challenge.expires_at > now);
        if open.len() >= CHALLENGES {
            return Err(AppError::Busy(format!(
                "{CHALLENGES} clusters are joining at this moment; try again later"
            )));
        }
        let id = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
        let nonce = challenge.nonce;
        open.insert(id.clone(), challenge);
        Ok(Opened { id, nonce })
    }

    /// Takes a challenge out, so that no nonce is good twice.
    fn take(&self, id: &str, now: Timestamp) -> Result<Challenge, AppError> {
        let taken = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
        taken
            .filter(|challenge| challenge.expires_at > now)
            .ok_or_else(|| {
                AppError::Refused(
                    "the challenge is unknown, was used, or is too old; begin again".to_owned(),
                )
            })
    }
}

/// What was signed, and the signature.
struct Proof<'a> {
    purpose: Signed,
    challenge_id: &'a str,
    cluster_name: &'a str,
    credential: &'a [u8],
    csr: &'a [u8],
    signature: &'a [u8],
}

impl Challenge {
    fn verify(&self, proof: &Proof<'_>) -> Result<(), AppError> {
        let Proof {
            purpose,
            challenge_id,
            cluster_name,
            credential,
            csr,
            signature,
        } = *proof;
        let signed = transcript(&Transcript {
            purpose,
            challenge_id,
            nonce: &self.nonce,
            device_public_key: self.device_key.as_bytes(),
            kube_system_uid: &self.cluster.to_string(),
            cluster_name,
            credential,
            csr_der: csr,
        });
        UnparsedPublicKey::new(&ED25519, self.device_key.as_bytes())
            .verify(&signed, signature)
            .map_err(|_| {
                AppError::Refused(
                    "the signature was not made by the device key over this request".to_owned(),
                )
            })
    }
}

impl App {
    /// Opens a challenge for a device.
    ///
    /// # Errors
    /// [`AppError::Busy`].
    pub fn begin_enrolment(
        &self,
        device_key: DeviceKey,
        cluster: ClusterUid,
    ) -> Result<Opened, AppError> {
        let now = self.now();
        let nonce = rand::random();
        let expires_at = now + CHALLENGE_LIFE;
        self.challenges.open(
            Challenge {
                nonce,
                device_key,
                cluster,
                expires_at,
            },
            now,
        )
    }

    /// Joins a cluster.
    ///
    /// # Errors
    /// [`AppError::Refused`] with its reason, [`AppError::Ca`], [`AppError::Store`].
    pub async fn finish_enrolment(&self, finish: Finish<'_>) -> Result<Enrolled, AppError> {
        let Finish {
            challenge_id,
            token,
            cluster_name,
            signature,
            csr,
            agent_version,
        } = finish;
        let challenge = self.challenges.take(challenge_id, self.now())?;
        let credential = token.as_bytes();
        challenge.verify(&Proof {
            purpose: Signed::Finish,
            challenge_id,
            cluster_name,
            credential,
            csr,
            signature,
        })?;
        let token = Token::parse(Purpose::Join, token)
            .map_err(|e| AppError::Refused(format!("join token: {e}")))?;
        let now = self.now();
        let cluster = until_uncontended(|| async {
            let held = self
                .usable_token(&token, cluster_name, &challenge, now)
                .await?;
            self.register(held, &challenge, agent_version, now).await
        })
        .await?;
        let issued = self.ca().issue_agent(cluster.uid, csr, now)?;
        tracing::info!(cluster = %cluster.uid, name = cluster.name, "a cluster joined");
        Ok(Enrolled { cluster, issued })
    }

    /// The token, if this device may use it.
    async fn usable_token(
        &self,
        token: &Token,
        cluster_name: &str,
        challenge: &Challenge,
        now: Timestamp,
    ) -> Result<Held<JoinToken>, AppError> {
        let refused = |reason: String| Err(AppError::Refused(reason));
        let held = records::get(self.store().as_ref(), &keys::token(token.id())).await?;
        // An unknown id and a wrong secret read the same, so that ids cannot be tried out.
        let Some(held) = held.filter(|held| token.matches(&held.record.hash)) else {
            return refused(
                "the join token is unknown to this hub; make one with `meridian token create`"
                    .to_owned(),
            );
        };
        if held.record.cluster_name != cluster_name {
            return refused(format!(
                "the join token is bound to the name {:?}, found {cluster_name:?}; use the join material as it was printed",
                held.record.cluster_name
            ));
        }
        match &held.record.used_by {
            Some(used)
                if used.device_key == challenge.device_key && used.cluster == challenge.cluster =>
            {
                Ok(held)
            }
            Some(used) => refused(format!(
                "the join token was used at {} by another device; make a new one with `meridian token create`",
                used.at
            )),
            None if held.record.expires_at <= now => refused(format!(
                "the join token expired at {}, the hub's clock says {now}; make a new one with `meridian token create`",
                held.record.expires_at
            )),
            None => Ok(held),
        }
    }

    /// Writes the member and the use of its token in one transaction.
    async fn register(
        &self,
        token: Held<JoinToken>,
        challenge: &Challenge,
        agent_version: &str,
        now: Timestamp,
    ) -> Result<Cluster, AppError> {
        let store = self.store().as_ref();
        let name = token.record.cluster_name.clone();
        let (cluster_key, name_key) = (keys::cluster(challenge.cluster), keys::cluster_name(&name));
        let known = records::get(store, &cluster_key).await?;
        let holder = records::get(store, &name_key).await?;
        if let Some(known) = &known
            && known.record.device_key != Some(challenge.device_key)
        {
            return Err(AppError::Refused(format!(
                "the cluster with kube-system UID {} is already a member called {:?} with another device key; remove that registration first",
                challenge.cluster, known.record.name
            )));
        }
        if let Some(known) = &known
            && known.record.name != name
        {
            return Err(AppError::Refused(format!(
                "this cluster is already a member called {:?}, the token is for {name:?}; remove that registration first",
                known.record.name
            )));
        }
        if holder
            .as_ref()
            .is_some_and(|holder| holder.record.cluster != challenge.cluster)
        {
            return Err(AppError::Refused(format!(
                "another member is called {name:?}; make a token with another name"
            )));
        }
        let cluster = Cluster {
            uid: challenge.cluster,
            name,
            device_key: Some(challenge.device_key),
            agent_version: agent_version.to_owned(),
            joined_at: known.as_ref().map_or(now, |known| known.record.joined_at),
            join_state: new_join_state(),
            previous_join_state: known.as_ref().map(|known| known.record.join_state.clone()),
        };
        let mut used = token.record.clone();
        used.used_by.get_or_insert(TokenUse {
            device_key: challenge.device_key,
            cluster: challenge.cluster,
            at: now,
        });
        let txn = Txn::new()
            .replace(&keys::token(&used.id), &token, &used)?
            .upsert(&cluster_key, known.as_ref(), &cluster)?
            .upsert(
                &name_key,
                holder.as_ref(),
                &NameHolder {
                    cluster: cluster.uid,
                },
            )?
            .delete(keys::removed(cluster.uid).text());
        self.commit(txn).await?;
        Ok(cluster)
    }

    /// Gives a member with an expired certificate a new one.
    ///
    /// # Errors
    /// As [`App::finish_enrolment`].
    pub async fn recover(&self, recover: Recover<'_>) -> Result<Enrolled, AppError> {
        let Recover {
            challenge_id,
            signature,
            csr,
            join_state,
        } = recover;
        let challenge = self.challenges.take(challenge_id, self.now())?;
        let (cluster_name, credential) = ("", join_state);
        challenge.verify(&Proof {
            purpose: Signed::Recover,
            challenge_id,
            cluster_name,
            credential,
            csr,
            signature,
        })?;
        let cluster = until_uncontended(|| self.recovered(&challenge, join_state)).await?;
        let issued = self.ca().issue_agent(cluster.uid, csr, self.now())?;
        tracing::info!(cluster = %cluster.uid, name = cluster.name, "a cluster recovered its identity");
        Ok(Enrolled { cluster, issued })
    }

    async fn recovered(
        &self,
        challenge: &Challenge,
        join_state: &[u8],
    ) -> Result<Cluster, AppError> {
        let refused = |reason: &str| Err(AppError::Refused(reason.to_owned()));
        let key = keys::cluster(challenge.cluster);
        let known = records::get(self.store().as_ref(), &key).await?;
        let Some(known) =
            known.filter(|known| known.record.device_key == Some(challenge.device_key))
        else {
            return refused("no member has this device key; join with a token");
        };
        let presented = Some(join_state);
        let current = presented == Some(known.record.join_state.as_bytes());
        if !current
            && presented
                != known
                    .record
                    .previous_join_state
                    .as_deref()
                    .map(str::as_bytes)
        {
            tracing::error!(cluster = %challenge.cluster, "an old join state was presented: two devices may hold one key");
            return refused(
                "the join state is an old one: two devices may hold one key; remove the registration and join again with a token",
            );
        }
        let mut cluster = known.record.clone();
        cluster.join_state = new_join_state();
        cluster.previous_join_state = Some(String::from_utf8_lossy(join_state).into_owned());
        self.commit(Txn::new().replace(&key, &known, &cluster)?)
            .await?;
        Ok(cluster)
    }

    /// Exchanges the key of a member that is known by its certificate.
    ///
    /// # Errors
    /// [`AppError::Refused`] if the registration was removed, [`AppError::Ca`].
    pub async fn renew(&self, cluster: ClusterUid, csr: &[u8]) -> Result<Enrolled, AppError> {
        let cluster = self.member(cluster).await?;
        let issued = self.ca().issue_agent(cluster.uid, csr, self.now())?;
        Ok(Enrolled { cluster, issued })
    }
}

fn new_join_state() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>())
}

#[cfg(test)]
mod tests;
