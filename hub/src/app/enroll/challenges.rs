//! Challenges and what is proved over them: that the caller holds its device key.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use meridian_api::ids::ClusterUid;
use meridian_api::link::enroll::{Purpose, Transcript, transcript};

use crate::app::{App, AppError};
use crate::domain::cluster::DeviceKey;

/// How long a challenge is accepted.
pub const CHALLENGE_LIFE: SignedDuration = SignedDuration::from_mins(2);
/// Challenges that may be open at one time. Anybody may ask for one, so their memory is bounded; 1,000 clusters that
/// join at once need 1,000. Beyond it the oldest goes: whoever floods the hub locks nobody out who answers sooner than that many
/// others ask.
pub(super) const CHALLENGES: usize = 4096;

/// Open challenges. They are not in the store: a hub that restarts between two calls makes the caller begin again.
#[derive(Debug, Default)]
pub struct Challenges(Mutex<VecDeque<(String, Challenge)>>);

#[derive(Clone, Debug)]
pub(super) struct Challenge {
    nonce: [u8; 32],
    pub(super) device_key: DeviceKey,
    pub(super) cluster: ClusterUid,
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

impl Challenges {
    fn open(&self, challenge: Challenge, now: Timestamp) -> Opened {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, challenge)| challenge.expires_at > now);
        if open.len() >= CHALLENGES {
            open.pop_front();
        }
        let id = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
        let nonce = challenge.nonce;
        open.push_back((id.clone(), challenge));
        Opened { id, nonce }
    }

    /// Takes a challenge out, so that no nonce is good twice.
    pub(super) fn take(&self, id: &str, now: Timestamp) -> Result<Challenge, AppError> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = open.iter().position(|(known, _)| known == id);
        place
            .and_then(|place| open.remove(place))
            .map(|(_, challenge)| challenge)
            .filter(|challenge| challenge.expires_at > now)
            .ok_or_else(|| {
                AppError::Refused(
                    "the challenge is unknown, was used, or is too old; begin again".to_owned(),
                )
            })
    }
}

/// What was signed, and the signature.
pub(super) struct Proof<'a> {
    pub(super) purpose: Purpose,
    pub(super) challenge_id: &'a str,
    pub(super) cluster_name: &'a str,
    pub(super) credential: &'a [u8],
    pub(super) csr: &'a [u8],
    pub(super) signature: &'a [u8],
}

impl Challenge {
    pub(super) fn verify(&self, proof: &Proof<'_>) -> Result<(), AppError> {
        verify(self.device_key, self.cluster, &self.nonce, proof)
    }
}

/// Whether the device key signed exactly this.
pub(super) fn verify(
    device_key: DeviceKey,
    cluster: ClusterUid,
    nonce: &[u8],
    proof: &Proof<'_>,
) -> Result<(), AppError> {
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
        nonce,
        device_public_key: device_key.as_bytes(),
        kube_system_uid: &cluster.to_string(),
        cluster_name,
        credential,
        csr_der: csr,
    });
    UnparsedPublicKey::new(&ED25519, device_key.as_bytes())
        .verify(&signed, signature)
        .map_err(|_| {
            AppError::Refused(
                "the signature was not made by the device key over this request".to_owned(),
            )
        })
}

impl App {
    /// Opens a challenge for a device.
    #[must_use]
    pub fn begin_enrolment(&self, device_key: DeviceKey, cluster: ClusterUid) -> Opened {
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
}
