//! How a cluster becomes a member, gets a new certificate, and recovers.
//!
//! Joining takes a join token and the proof that the caller holds its device key. It is idempotent for the pair, so a
//! lost reply locks nobody out; the same token with another key is refused. Recovery takes the device key alone.

mod challenges;
mod pace;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use meridian_api::audit::Outcome;
use meridian_api::ids::ClusterUid;
use meridian_api::link::enroll::Purpose as Signed;

use super::audit::{Deed, Trail};
use super::{App, AppError, until_uncontended};
use crate::ca::Issued;
use crate::domain::access::{JoinToken, Purpose, Token, TokenUse};
use crate::domain::cluster::{Certificate, Cluster, DeviceKey};
use crate::domain::denial::Speaker;
use crate::store::records::{self, Held, NameHolder, TxnExt as _};
use crate::store::{Txn, keys};
use challenges::{Challenge, Proof, verify};

pub use challenges::{CHALLENGE_LIFE, Challenges, Opened};
pub use pace::Pace;

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
    /// Where the caller sits.
    pub address: &'a str,
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
    /// The cluster that the caller names: must be that of the challenge.
    pub cluster: &'a str,
    /// Where the caller sits.
    pub address: &'a str,
}

/// A renewal with its proof.
#[derive(Clone, Copy, Debug)]
pub struct Renewal<'a> {
    /// The device that renews.
    pub device_key: DeviceKey,
    /// Ed25519 signature of the transcript.
    pub signature: &'a [u8],
    /// PKCS #10 request.
    pub csr: &'a [u8],
    /// Where the caller sits.
    pub address: &'a str,
}

/// A member with its new certificate.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// The member.
    pub cluster: Cluster,
    /// Its certificate.
    pub issued: Issued,
}

impl App {
    /// Joins a cluster.
    ///
    /// # Errors
    /// [`AppError::Refused`] with its reason, [`AppError::AwaitsApproval`], [`AppError::Ca`], [`AppError::Store`].
    pub async fn finish_enrolment(&self, finish: Finish<'_>) -> Result<Enrolled, AppError> {
        let (joined, trail) = match self.challenges.take(finish.challenge_id, self.now()) {
            Ok(challenge) => {
                let claimed = challenge.cluster.to_string();
                let joined = self.join(finish, &challenge).await;
                (joined, Trail::stranger(claimed, finish.address))
            }
            Err(unknown) => (Err(unknown), Trail::stranger(String::new(), finish.address)),
        };
        let deed = Deed::of_identity("join", finish.cluster_name);
        self.told(joined, &trail, &deed).await
    }

    async fn join(&self, finish: Finish<'_>, challenge: &Challenge) -> Result<Enrolled, AppError> {
        let Finish {
            challenge_id,
            token,
            cluster_name,
            signature,
            csr,
            address,
            ..
        } = finish;
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
        let uid = challenge.cluster;
        let trail = Trail::member(uid.to_string(), cluster_name.to_owned(), address);
        let joined = until_uncontended(|| async {
            let held = self
                .usable_token(&token, cluster_name, challenge, now)
                .await?;
            let device = (challenge.device_key, uid);
            self.must_be_approved(&held, device, &trail, now).await?;
            self.register(held, challenge, finish, &trail, now).await
        })
        .await?;
        tracing::info!(cluster = %uid, name = joined.cluster.name, "a cluster joined");
        Ok(joined)
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
        finish: Finish<'_>,
        trail: &Trail,
        now: Timestamp,
    ) -> Result<Enrolled, AppError> {
        self.must_not_be_denied(challenge.cluster).await?;
        let store = self.store().as_ref();
        let name = token.record.cluster_name.clone();
        let (cluster_key, name_key) = (keys::cluster(challenge.cluster), keys::cluster_name(&name));
        let known = records::get(store, &cluster_key).await?;
        let holder = records::get(store, &name_key).await?;
        if let Some(known) = &known
            && known.record.device_key != Some(challenge.device_key)
        {
            return Err(AppError::Refused(format!(
                "the cluster with kube-system UID {} is already a member called {:?} with another device key. If this is a copy of \
                 that cluster (a restored etcd or a copied machine has the same UID), it cannot be a member beside it: make it a \
                 cluster of its own. If it is the same cluster and its Secret meridian-identity was lost, remove that registration \
                 first (`meridian cluster remove {}`), then join with a new token",
                challenge.cluster, known.record.name, known.record.name
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
        let mut cluster = Cluster {
            uid: challenge.cluster,
            name,
            device_key: Some(challenge.device_key),
            agent_version: finish.agent_version.to_owned(),
            joined_at: known.as_ref().map_or(now, |known| known.record.joined_at),
            join_state: new_join_state(),
            previous_join_state: known.as_ref().map(|known| known.record.join_state.clone()),
            any_join_state: false,
            too_old: None,
            certificates: certificates_of(known.as_ref()),
        };
        let issued = self.certify(&mut cluster, finish.csr)?;
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
            )?;
        let txn = self.forget_removed(cluster.uid, txn).await?;
        let deed = Deed::of_identity("join", &cluster.name);
        self.commit_audited(txn, trail, &deed).await?;
        Ok(Enrolled { cluster, issued })
    }

    /// Gives a member with an expired certificate a new one.
    ///
    /// # Errors
    /// As [`App::finish_enrolment`]; [`AppError::Quarantined`] if two devices may hold the identity.
    pub async fn recover(&self, recover: Recover<'_>) -> Result<Enrolled, AppError> {
        let recovered = self.recover_device(recover).await;
        // Anything may stand there.
        let claimed = recover.cluster.parse::<ClusterUid>();
        let claimed = claimed.map(|cluster| cluster.to_string());
        let trail = Trail::stranger(claimed.unwrap_or_default(), recover.address);
        let deed = Deed::of_identity("recover", "");
        self.told(recovered, &trail, &deed).await
    }

    async fn recover_device(&self, recover: Recover<'_>) -> Result<Enrolled, AppError> {
        let Recover {
            challenge_id,
            signature,
            csr,
            join_state,
            cluster,
            address,
        } = recover;
        let challenge = self.challenges.take(challenge_id, self.now())?;
        if cluster != challenge.cluster.to_string() {
            return Err(AppError::Refused(format!(
                "the recovery names cluster {cluster:?}, its challenge was opened for {}",
                challenge.cluster
            )));
        }
        let (cluster_name, credential) = ("", join_state);
        challenge.verify(&Proof {
            purpose: Signed::Recover,
            challenge_id,
            cluster_name,
            credential,
            csr,
            signature,
        })?;
        let recovered = || self.recovered(&challenge, (join_state, csr), address);
        let recovered = until_uncontended(recovered).await?;
        let cluster = &recovered.cluster;
        tracing::info!(cluster = %cluster.uid, name = cluster.name, "a cluster recovered its identity");
        Ok(recovered)
    }

    async fn recovered(
        &self,
        challenge: &Challenge,
        (join_state, csr): (&[u8], &[u8]),
        address: &str,
    ) -> Result<Enrolled, AppError> {
        let refused = |reason: &str| Err(AppError::Refused(reason.to_owned()));
        self.must_not_be_denied(challenge.cluster).await?;
        let key = keys::cluster(challenge.cluster);
        let known = records::get(self.store().as_ref(), &key).await?;
        let Some(known) =
            known.filter(|known| known.record.device_key == Some(challenge.device_key))
        else {
            return refused("no member has this device key; join with a token");
        };
        self.must_keep_pace(challenge.cluster)?;
        if !knows(&known.record, join_state) {
            let reason = "a recovery presented a join state that was used before";
            self.quarantine(challenge.cluster, reason).await?;
            self.must_not_be_denied(challenge.cluster).await?;
        }
        let mut cluster = known.record.clone();
        cluster.join_state = new_join_state();
        cluster.previous_join_state = Some(String::from_utf8_lossy(join_state).into_owned());
        cluster.any_join_state = false;
        let issued = self.certify(&mut cluster, csr)?;
        let txn = Txn::new().replace(&key, &known, &cluster)?;
        self.commit_of(txn, &cluster, ("recover", address)).await?;
        Ok(Enrolled { cluster, issued })
    }

    /// Exchanges the key of a member that is known by its certificate and proves that it is the device that joined. A hub that
    /// lost its store and knows the member by its certificate alone learns the device by it.
    ///
    /// # Errors
    /// [`AppError::Refused`] if the registration was removed or the proof is not the device's, [`AppError::Ca`].
    pub async fn renew(
        &self,
        cluster: ClusterUid,
        renewal: Renewal<'_>,
    ) -> Result<Enrolled, AppError> {
        let renewed = self.renew_device(cluster, renewal).await;
        let trail = Trail::member(cluster.to_string(), String::new(), renewal.address);
        let deed = Deed::of_identity("renew", "");
        self.told(renewed, &trail, &deed).await
    }

    async fn renew_device(
        &self,
        cluster: ClusterUid,
        renewal: Renewal<'_>,
    ) -> Result<Enrolled, AppError> {
        let Renewal {
            device_key,
            signature,
            csr,
            address,
        } = renewal;
        let proof = Proof {
            purpose: Signed::Renew,
            challenge_id: "",
            cluster_name: "",
            credential: b"",
            csr,
            signature,
        };
        verify(device_key, cluster, b"", &proof)?;
        until_uncontended(|| self.renewed(cluster, device_key, (csr, address))).await
    }

    async fn renewed(
        &self,
        uid: ClusterUid,
        device_key: DeviceKey,
        (csr, address): (&[u8], &str),
    ) -> Result<Enrolled, AppError> {
        let held = self.held_member(uid).await?;
        let mut cluster = held.record.clone();
        match cluster.device_key {
            Some(known) if known == device_key => {}
            Some(_) => {
                return Err(AppError::Refused(
                    "the renewal was not proved by the device key that joined; whoever holds the certificate alone does not renew it"
                        .to_owned(),
                ));
            }
            None => {
                cluster.device_key = Some(device_key);
                cluster.join_state = new_join_state();
                tracing::info!(cluster = %uid, "the device of a member is learned anew");
            }
        }
        self.must_keep_pace(uid)?;
        let issued = self.certify(&mut cluster, csr)?;
        let txn = Txn::new().replace(&keys::cluster(uid), &held, &cluster)?;
        self.commit_of(txn, &cluster, ("renew", address)).await?;
        Ok(Enrolled { cluster, issued })
    }

    /// Makes a certificate and notes it in the registration, by which a person finds its number.
    fn certify(&self, cluster: &mut Cluster, csr: &[u8]) -> Result<Issued, AppError> {
        let now = self.now();
        let issued = self.ca().issue_agent(cluster.uid, csr, now)?;
        for certificate in issued.chain.iter().take(1) {
            let Speaker {
                serial, ends_at, ..
            } = self.ca().speaker(certificate)?;
            cluster.certified(Certificate { serial, ends_at }, now);
        }
        Ok(issued)
    }

    /// Commits what a member does with its identity, and that it did.
    async fn commit_of(
        &self,
        txn: Txn,
        cluster: &Cluster,
        (verb, address): (&str, &str),
    ) -> Result<(), AppError> {
        let trail = Trail::member(cluster.uid.to_string(), cluster.name.clone(), address);
        let deed = Deed::of_identity(verb, &cluster.name);
        self.commit_audited(txn, &trail, &deed).await?;
        Ok(())
    }

    /// Writes down what was refused. Who waits for a person asks every few seconds and was written down when it asked first, and
    /// of whom asks too often nothing more is written down.
    pub(super) async fn told<T>(
        &self,
        done: Result<T, AppError>,
        trail: &Trail,
        deed: &Deed<'_>,
    ) -> Result<T, AppError> {
        let came_of_it = match &done {
            Ok(_) | Err(AppError::AwaitsApproval(_) | AppError::Busy(_)) => return done,
            Err(AppError::Store(_)) => (Outcome::Failed, "internal"),
            Err(AppError::Quarantined(_)) => (Outcome::Refused, "quarantined"),
            Err(AppError::Ca(_)) => (Outcome::Refused, "certificate"),
            Err(_) => (Outcome::Refused, "unauthorized"),
        };
        self.record_failure(trail, deed, came_of_it).await;
        done
    }
}

/// Whether this is the join state that the device received last, or the one before, in case that reply was lost.
fn knows(known: &Cluster, presented: &[u8]) -> bool {
    let previous = known.previous_join_state.as_deref().map(str::as_bytes);
    known.any_join_state || presented == known.join_state.as_bytes() || Some(presented) == previous
}

fn new_join_state() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>())
}

/// What it was given before, if it was known.
fn certificates_of(known: Option<&Held<Cluster>>) -> Vec<Certificate> {
    let known = known.map(|known| known.record.certificates.clone());
    known.unwrap_or_default()
}

#[cfg(test)]
mod tests;
