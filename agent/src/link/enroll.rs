//! Becoming a member: join with a token, recover with the device key, renew before the end.
//!
//! All three may be repeated: the keys are stored before the first call, so a reply that was lost is asked for again
//! with the same keys and gives the same membership.

use std::future::Future;

use meridian_api::{
    link::{
        PROTO_MAX, PROTO_MIN,
        enroll::{Purpose, Transcript, transcript},
        proto::{self, EnrollBegin, EnrollChallenge, EnrollFinish, EnrollResult, RecoverProof},
    },
    words,
};
use thiserror::Error;
use tonic::{Code, Status, transport::Channel};

use super::{
    identity::{Identity, IdentityError, Membership},
    join::JoinMaterial,
};

/// The calls of an enrolment.
pub trait Registrar: Send {
    /// Asks for a challenge.
    fn begin(
        &mut self,
        request: EnrollBegin,
    ) -> impl Future<Output = Result<EnrollChallenge, Status>> + Send;
    /// Joins.
    fn finish(
        &mut self,
        request: EnrollFinish,
    ) -> impl Future<Output = Result<EnrollResult, Status>> + Send;
    /// Recovers.
    fn recover(
        &mut self,
        request: RecoverProof,
    ) -> impl Future<Output = Result<EnrollResult, Status>> + Send;
}

/// The registrar of a hub.
#[derive(Debug)]
pub struct HubRegistrar(proto::enroll_client::EnrollClient<Channel>);

impl HubRegistrar {
    /// Calls over `channel`, which needs no client certificate.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        Self(proto::enroll_client::EnrollClient::new(channel))
    }
}

impl Registrar for HubRegistrar {
    async fn begin(&mut self, request: EnrollBegin) -> Result<EnrollChallenge, Status> {
        self.0.begin(request).await.map(tonic::Response::into_inner)
    }

    async fn finish(&mut self, request: EnrollFinish) -> Result<EnrollResult, Status> {
        self.0
            .finish(request)
            .await
            .map(tonic::Response::into_inner)
    }

    async fn recover(&mut self, request: RecoverProof) -> Result<EnrollResult, Status> {
        self.0
            .recover(request)
            .await
            .map(tonic::Response::into_inner)
    }
}

/// Why the cluster is no member.
#[derive(Debug, Error)]
pub enum EnrollError {
    /// The hub refused; repeating the same does not help.
    #[error("the hub refused to {what} cluster `{name}`: {reason}; next: {next}")]
    Refused {
        /// `enroll` or `recover`.
        what: &'static str,
        /// Name of the cluster.
        name: String,
        /// What the hub said.
        reason: String,
        /// What a person can do.
        next: &'static str,
    },
    /// A person has to compare words and approve; then the same call succeeds.
    #[error(
        "the hub waits for a person who lets cluster `{name}` join. The words of this device are: {words}. Next: on the hub \
         `meridian cluster approve {name} --words \"{words}\"`; if the hub shows other words (`meridian token list`), another \
         device used the token: delete it there and make a new one"
    )]
    AwaitsApproval {
        /// Name of the cluster.
        name: String,
        /// The words of our device key, computed here.
        words: String,
    },
    /// The call failed on its way, or the hub cannot answer now.
    #[error("the call to {what} did not succeed: {status}")]
    Call {
        /// `enroll` or `recover`.
        what: &'static str,
        /// What happened.
        status: Status,
    },
    /// Own keys or the answer cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The answer is for another cluster.
    #[error(
        "the hub answered for cluster {found}, expected {expected}: nothing of the answer is used"
    )]
    OtherCluster {
        /// Whom the answer names.
        found: String,
        /// Who asked.
        expected: String,
    },
}

impl EnrollError {
    /// Whether a person must act before it can succeed.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// What the agent says of itself.
#[derive(Clone, Debug)]
pub struct Facts {
    /// UID of the namespace kube-system.
    pub kube_system_uid: String,
    /// Version of the agent.
    pub agent_version: String,
    /// The wall clock, for messages about certificates.
    pub wall_ms: i64,
}

impl Facts {
    fn begin(&self, identity: &Identity) -> Result<EnrollBegin, IdentityError> {
        Ok(EnrollBegin {
            device_public_key: identity.device_public_key()?.into(),
            kube_system_uid: self.kube_system_uid.clone(),
            proto_min: PROTO_MIN,
            proto_max: PROTO_MAX,
            wall_ms: self.wall_ms,
        })
    }

    fn check(&self, result: &EnrollResult) -> Result<(), EnrollError> {
        if result.cluster_uid == self.kube_system_uid {
            return Ok(());
        }
        Err(EnrollError::OtherCluster {
            found: result.cluster_uid.clone(),
            expected: self.kube_system_uid.clone(),
        })
    }
}

/// Joins with the token of `material`; on success `identity` has a membership, to be stored. Returns the hub's wall clock in
/// milliseconds since 1970, as it was when the call began.
///
/// # Errors
/// [`EnrollError`]; `identity` is unchanged then.
pub async fn join<R: Registrar>(
    registrar: &mut R,
    identity: &mut Identity,
    material: &JoinMaterial,
    facts: &Facts,
) -> Result<i64, EnrollError> {
    let refused = |status| sort("enroll", &material.name, status);
    let challenge = registrar
        .begin(facts.begin(identity)?)
        .await
        .map_err(refused)?;
    let csr = identity.request()?;
    let signed = transcript(&Transcript {
        purpose: Purpose::Finish,
        challenge_id: &challenge.challenge_id,
        nonce: &challenge.nonce,
        device_public_key: &identity.device_public_key()?,
        kube_system_uid: &facts.kube_system_uid,
        cluster_name: &material.name,
        credential: material.token.as_bytes(),
        csr_der: &csr,
    });
    let finish = EnrollFinish {
        challenge_id: challenge.challenge_id,
        token: material.token.clone(),
        signature: identity.sign(&signed)?.into(),
        csr_der: csr.into(),
        agent_version: facts.agent_version.clone(),
        cluster_name: material.name.clone(),
    };
    let result = match registrar.finish(finish).await {
        // Our own words: those that the hub has are the ones to compare with.
        Err(status) if status.code() == Code::Aborted => {
            return Err(EnrollError::AwaitsApproval {
                name: material.name.clone(),
                words: words::of_device(&identity.device_public_key()?, &facts.kube_system_uid),
            });
        }
        answer => answer.map_err(refused)?,
    };
    facts.check(&result)?;
    identity.accept(&result, &material.fingerprint())?;
    Ok(challenge.wall_ms)
}

/// Gets a new certificate with the device key alone. Returns the hub's wall clock as [`join`] does.
///
/// # Errors
/// [`EnrollError`]; `identity` is unchanged then.
pub async fn recover<R: Registrar>(
    registrar: &mut R,
    identity: &mut Identity,
    facts: &Facts,
) -> Result<i64, EnrollError> {
    let Some(Membership {
        cluster_name,
        join_state,
        joined_with,
        ..
    }) = identity.membership.clone()
    else {
        return Err(IdentityError::Stored {
            key: "tls.crt",
            found: "nothing found".to_owned(),
            expected: "a membership to recover",
        }
        .into());
    };
    let refused = |status| sort("recover", &cluster_name, status);
    let challenge = registrar
        .begin(facts.begin(identity)?)
        .await
        .map_err(refused)?;
    let csr = identity.request()?;
    let signed = transcript(&Transcript {
        purpose: Purpose::Recover,
        challenge_id: &challenge.challenge_id,
        nonce: &challenge.nonce,
        device_public_key: &identity.device_public_key()?,
        kube_system_uid: &facts.kube_system_uid,
        cluster_name: "",
        credential: &join_state,
        csr_der: &csr,
    });
    let proof = RecoverProof {
        challenge_id: challenge.challenge_id,
        cluster_uid: facts.kube_system_uid.clone(),
        signature: identity.sign(&signed)?.into(),
        csr_der: csr.into(),
        join_state: join_state.into(),
    };
    let result = registrar.recover(proof).await.map_err(refused)?;
    facts.check(&result)?;
    identity.accept(&result, &joined_with)?;
    Ok(challenge.wall_ms)
}

/// The request for a certificate of the session key, with the proof of the device key.
///
/// # Errors
/// [`IdentityError`]: a key cannot be read or used.
pub fn renewal(
    identity: &Identity,
    cluster_uid: &str,
) -> Result<proto::RenewRequest, IdentityError> {
    let (csr, device) = (identity.request()?, identity.device_public_key()?);
    let signed = transcript(&Transcript {
        purpose: Purpose::Renew,
        challenge_id: "",
        nonce: b"",
        device_public_key: &device,
        kube_system_uid: cluster_uid,
        cluster_name: "",
        credential: b"",
        csr_der: &csr,
    });
    let signature = identity.sign(&signed)?;
    Ok(proto::RenewRequest {
        csr_der: csr.into(),
        device_public_key: device.into(),
        signature: signature.into(),
    })
}

/// Whether the hub refused, or the call did not get through.
fn sort(what: &'static str, name: &str, status: Status) -> EnrollError {
    let next = match status.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::NotFound | Code::AlreadyExists => {
            "make a new token with `meridian token create` and apply the join material again"
        }
        Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented => {
            "check that the versions of hub and agent fit, then apply fresh join material"
        }
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => return EnrollError::Call { what, status },
    };
    EnrollError::Refused {
        what,
        name: name.to_owned(),
        reason: status.message().to_owned(),
        next,
    }
}

#[cfg(test)]
mod tests;
