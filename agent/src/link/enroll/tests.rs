use std::collections::BTreeMap;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use meridian_api::link::Bytes;

use super::*;
use crate::link::testing::Authority;

const UNSIGNED: Transcript<'_> = Transcript {
    purpose: Purpose::Finish,
    challenge_id: "",
    nonce: b"",
    device_public_key: b"",
    kube_system_uid: "",
    cluster_name: "",
    credential: b"",
    csr_der: b"",
};

/// A hub with one token, bound to the first device that uses it.
struct FakeHub {
    authority: Authority,
    challenges: BTreeMap<String, EnrollBegin>,
    bound: Option<Bytes>,
    lose_replies: u32,
    answer_for: String,
}

impl FakeHub {
    fn new() -> Self {
        Self {
            authority: Authority::new(),
            challenges: BTreeMap::new(),
            bound: None,
            lose_replies: 0,
            answer_for: "u1".to_owned(),
        }
    }

    fn check(&self, parts: Transcript<'_>, signature: &[u8]) -> Result<Bytes, Status> {
        let begin = self
            .challenges
            .get(parts.challenge_id)
            .ok_or_else(|| Status::invalid_argument("no such challenge"))?;
        let message = transcript(&Transcript {
            nonce: b"nonce",
            device_public_key: &begin.device_public_key,
            kube_system_uid: &begin.kube_system_uid,
            ..parts
        });
        UnparsedPublicKey::new(&ED25519, &begin.device_public_key)
            .verify(&message, signature)
            .map_err(|_| Status::permission_denied("the signature is not of the device key"))?;
        Ok(begin.device_public_key.clone())
    }

    fn result(&mut self, csr: &[u8]) -> Result<EnrollResult, Status> {
        if self.lose_replies > 0 {
            self.lose_replies -= 1;
            return Err(Status::unavailable("connection reset"));
        }
        Ok(EnrollResult {
            cluster_uid: self.answer_for.clone(),
            ..self.authority.result(csr)
        })
    }
}

impl Registrar for FakeHub {
    async fn begin(&mut self, request: EnrollBegin) -> Result<EnrollChallenge, Status> {
        let challenge_id = format!("c{}", self.challenges.len());
        self.challenges.insert(challenge_id.clone(), request);
        Ok(EnrollChallenge {
            challenge_id,
            nonce: Bytes::from_static(b"nonce"),
            ..Default::default()
        })
    }

    async fn finish(&mut self, request: EnrollFinish) -> Result<EnrollResult, Status> {
        let device = self.check(
            Transcript {
                purpose: Purpose::Finish,
                challenge_id: &request.challenge_id,
                cluster_name: &request.cluster_name,
                credential: request.token.as_bytes(),
                csr_der: &request.csr_der,
                ..UNSIGNED
            },
            &request.signature,
        )?;
        if self.bound.get_or_insert_with(|| device.clone()) != &device {
            return Err(Status::permission_denied(
                "the token was used by another device",
            ));
        }
        self.result(&request.csr_der)
    }

    async fn recover(&mut self, request: RecoverProof) -> Result<EnrollResult, Status> {
        let device = self.check(
            Transcript {
                purpose: Purpose::Recover,
                challenge_id: &request.challenge_id,
                credential: &request.join_state,
                csr_der: &request.csr_der,
                ..UNSIGNED
            },
            &request.signature,
        )?;
        if self.bound.as_ref() != Some(&device) {
            return Err(Status::permission_denied("unknown device"));
        }
        self.result(&request.csr_der)
    }
}

fn material() -> JoinMaterial {
    JoinMaterial {
        addresses: vec![],
        ca_pem: "ca".to_owned(),
        token: "t0k3n".to_owned(),
        name: "eu-1".to_owned(),
    }
}

fn facts() -> Facts {
    Facts {
        kube_system_uid: "u1".to_owned(),
        agent_version: "1".to_owned(),
        wall_ms: 1,
    }
}

#[tokio::test]
async fn a_joined_cluster_has_a_certificate_for_its_stored_key() {
    let (mut hub, mut identity) = (FakeHub::new(), Identity::generate().unwrap());
    join(&mut hub, &mut identity, &material(), &facts())
        .await
        .unwrap();
    let membership = identity.membership.clone().unwrap();
    assert_eq!(membership.cluster_name, "eu-1");
    assert_eq!(membership.joined_with, material().fingerprint());
    assert_eq!(
        membership.trust.roots_pem.trim(),
        hub.authority.root_pem().replace("\r\n", "\n").trim()
    );
    assert_eq!(Identity::read(&identity.data()).unwrap(), identity);
}

#[tokio::test]
async fn a_lost_reply_locks_nobody_out() {
    let (mut hub, identity) = (FakeHub::new(), Identity::generate().unwrap());
    hub.lose_replies = 1;
    let mut first = Identity::read(&identity.data()).unwrap();
    let error = join(&mut hub, &mut first, &material(), &facts())
        .await
        .unwrap_err();
    assert!(!error.is_refusal(), "{error}");
    assert_eq!(first.membership, None);
    // The process starts again, from what was stored before the call.
    let mut second = Identity::read(&identity.data()).unwrap();
    join(&mut hub, &mut second, &material(), &facts())
        .await
        .unwrap();
    assert!(second.membership.is_some());
}

#[tokio::test]
async fn the_token_of_another_device_is_refused_with_the_hubs_reason_and_a_next_step() {
    let mut hub = FakeHub::new();
    join(
        &mut hub,
        &mut Identity::generate().unwrap(),
        &material(),
        &facts(),
    )
    .await
    .unwrap();
    let error = join(
        &mut hub,
        &mut Identity::generate().unwrap(),
        &material(),
        &facts(),
    )
    .await
    .unwrap_err();
    assert!(error.is_refusal());
    assert!(
        error.to_string().contains("used by another device"),
        "{error}"
    );
    assert!(
        error.to_string().contains("meridian token create"),
        "{error}"
    );
    assert!(!error.to_string().contains("t0k3n"), "{error}");
}

#[tokio::test]
async fn an_answer_for_another_cluster_is_not_used() {
    let (mut hub, mut identity) = (FakeHub::new(), Identity::generate().unwrap());
    hub.answer_for = "u2".to_owned();
    let error = join(&mut hub, &mut identity, &material(), &facts())
        .await
        .unwrap_err();
    assert!(matches!(error, EnrollError::OtherCluster { .. }), "{error}");
    assert_eq!(identity.membership, None);
}

#[tokio::test]
async fn a_member_recovers_with_its_device_key_alone() {
    let (mut hub, mut identity) = (FakeHub::new(), Identity::generate().unwrap());
    join(&mut hub, &mut identity, &material(), &facts())
        .await
        .unwrap();
    let mut renewed = identity.with_new_session_key().unwrap();
    recover(&mut hub, &mut renewed, &facts()).await.unwrap();
    assert_ne!(
        renewed.membership.as_ref().unwrap().chain_pem,
        identity.membership.as_ref().unwrap().chain_pem
    );
    assert_eq!(
        renewed.membership.unwrap().joined_with,
        material().fingerprint()
    );
    let mut stranger = Identity::generate().unwrap();
    stranger.membership.clone_from(&identity.membership);
    let error = recover(&mut hub, &mut stranger, &facts())
        .await
        .unwrap_err();
    assert!(error.is_refusal(), "{error}");
}

#[tokio::test]
async fn without_a_membership_there_is_nothing_to_recover() {
    let error = recover(
        &mut FakeHub::new(),
        &mut Identity::generate().unwrap(),
        &facts(),
    )
    .await
    .unwrap_err();
    assert!(matches!(error, EnrollError::Identity(_)), "{error}");
}
