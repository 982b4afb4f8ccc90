//! What the Secret of a REC should be, and what it is. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{ResourceExt as _, api::DynamicObject};
use meridian_api::{link::proto, trust::peer_files};
use rcgen::KeyPair;

use super::{ASKED_FOR, DUE, OLD_ROOT, secret_name};
use crate::{
    k8s::own::Owner,
    link::{
        identity::{Life, Trust, certificate_pem, check_chain, life_of},
        inventory::Names,
        join::roots,
    },
};

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
    /// The roots that peers are checked against.
    pub trust: Trust,
}

/// The peer certificate of one REC, as its Secret has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// End of its life, milliseconds since 1970.
    pub ends_ms: i64,
    /// Names the certificate and the roots beside it, see [`peer_files`].
    pub files: String,
    /// Version of the trust bundle whose roots lie beside it; 0 if they are of another one than the agent's.
    pub trust_version: u64,
    /// Root that signed it; empty if none that the agent trusts.
    pub signer: String,
}

impl PeerState {
    /// Reads it; `None` if it has no certificate that can be read.
    #[must_use]
    pub fn of(secret: &Secret, trust: &Trust) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let (roots, certificate) = (data.get("ca.crt")?, data.get("tls.crt")?);
        let leaf = leaf(secret)?;
        let same = roots.0 == trust.roots_pem.as_bytes();
        Some(Self {
            ends_ms: life_of(&leaf).ok()?.not_after_ms,
            files: peer_files(&roots.0, &certificate.0),
            trust_version: if same { trust.version } else { 0 },
            signer: trust.signer_of(&leaf).unwrap_or_default(),
        })
    }
}

impl Wanted {
    /// What the REC needs.
    #[must_use]
    pub fn of(rec: &DynamicObject, names: &Names, trust: &Trust) -> Self {
        let (namespace, name) = (rec.namespace().unwrap_or_default(), rec.name_any());
        Self {
            spiffe_id: names.peer_id(&namespace, &name),
            dns_names: vec![format!("*{}", names.suffix(rec))],
            trust: trust.clone(),
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
    /// Other roots beside the certificate that there is.
    Roots,
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
    let certificate = chain.first().map(Vec::as_slice).unwrap_or_default();
    if wanted.trust.signer_of(certificate).is_none() {
        return Need::Issue("no root signed it that is trusted");
    }
    if ca != wanted.trust.roots_pem {
        return Need::Roots;
    }
    if secret.annotations().get(ASKED_FOR) != Some(&wanted.fingerprint()) {
        return Need::Issue("the names of the REC changed");
    }
    if !wanted.trust.is_of_the_signing_root(certificate) {
        return Need::Issue(OLD_ROOT);
    }
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
    Ok((as_secret(wanted, key_pem, &chain), life))
}

/// The Secret of a REC with this certificate, and the roots that are wanted.
fn as_secret(wanted: &Wanted, key_pem: &str, chain_pem: &str) -> Secret {
    let data = [
        ("tls.key", key_pem),
        ("tls.crt", chain_pem),
        ("ca.crt", &wanted.trust.roots_pem),
    ];
    Secret {
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
    }
}

/// The certificate in the Secret, DER.
pub(super) fn leaf(secret: &Secret) -> Option<Vec<u8>> {
    let pem = secret.data.as_ref()?.get("tls.crt")?;
    let chain = roots(std::str::from_utf8(&pem.0).ok()?)?;
    chain.into_iter().next()
}

/// The Secret as it is, with the roots that are wanted.
#[must_use]
pub fn with_roots(known: &Secret, wanted: &Wanted) -> Option<Secret> {
    let data = known.data.as_ref()?;
    let text = |key: &str| std::str::from_utf8(&data.get(key)?.0).ok();
    let mut secret = as_secret(wanted, text("tls.key")?, text("tls.crt")?);
    // What it was asked for with: its names are another question.
    let asked_for = known.annotations().get(ASKED_FOR).cloned();
    secret.metadata.annotations = asked_for
        .map(|it| (ASKED_FOR.to_owned(), it))
        .into_iter()
        .collect::<BTreeMap<_, _>>()
        .into();
    Some(secret)
}
