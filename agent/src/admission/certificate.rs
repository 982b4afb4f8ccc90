//! The webhook's certificate: made here, kept in the Secret `admission-tls`, judged on every look. Pure but for [`Live`].
//!
//! Each issue makes an authority that signs one certificate and whose key is then forgotten: nothing is left that could
//! sign another. `cert` holds the certificate, its authority, and the authority before, so that it is, as it stands, the
//! `caBundle` of the webhook configuration while replicas change from one to the next.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use x509_parser::{extensions::GeneralName, prelude::*};

use crate::k8s::own::{APP, FIELD_MANAGER, MANAGED_BY};

/// Name of the Secret.
pub(super) const SECRET: &str = "admission-tls";
/// Key of the certificates in it, PEM.
const CERTIFICATES: &str = "cert";
/// Key of the private key in it, PEM.
const PRIVATE_KEY: &str = "privateKey";
/// Key of the authorities, where somebody else brings the Secret and they do not stand under [`CERTIFICATES`].
const AUTHORITIES: &str = "ca.crt";
/// Life of a certificate and of its authority. It is renewed from half of its life.
const LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How far it is back-dated, for API servers whose clock is behind.
const BACKDATE: SignedDuration = SignedDuration::from_mins(10);
const END: &str = "-----END CERTIFICATE-----\n";

/// The certificate in use. Connections that stand keep theirs.
#[derive(Debug, Default)]
pub(super) struct Live(RwLock<Option<Arc<CertifiedKey>>>);

impl Live {
    /// Uses this certificate for every handshake from now on.
    pub(super) fn swap(&self, key: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }
}

impl ResolvesServerCert for Live {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A certificate that can be used.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// For handshakes.
    pub(super) key: Arc<CertifiedKey>,
    /// What clients have to trust, PEM.
    pub(super) bundle: String,
    /// The same, certificate by certificate.
    pub(super) anchors: Vec<CertificateDer<'static>>,
    /// When it is time for another.
    pub(super) renew_at: Timestamp,
    /// When it ends.
    pub(super) ends_at: Timestamp,
}

/// What the Secret says.
#[derive(Debug, Clone)]
pub(super) enum Found {
    /// A certificate that can be used, and why it has to be replaced nevertheless.
    Usable {
        /// The certificate.
        held: Held,
        /// Set if it is ours and due.
        due: Option<&'static str>,
    },
    /// None that can be used; it may be replaced.
    Useless(String),
    /// None that can be used, in somebody else's Secret, which is never written.
    Foreign(String),
}

/// DNS names by which the webhook is called.
fn names(namespace: &str) -> Vec<String> {
    vec![
        format!("admission.{namespace}.svc"),
        format!("admission.{namespace}"),
        format!("admission.{namespace}.svc.cluster.local"),
    ]
}

/// Judges the Secret as it is.
pub(super) fn find(secret: Option<&Secret>, namespace: &str, now: Timestamp) -> Found {
    let Some(secret) = secret else {
        return Found::Useless("there is none".to_owned());
    };
    let ours = is_ours(secret);
    match read(secret, ours, namespace, now) {
        Ok(held) => {
            let due = ours && now >= held.renew_at;
            Found::Usable {
                held,
                due: due.then_some("half of its life has passed"),
            }
        }
        Err(why) if ours => Found::Useless(why),
        Err(why) => Found::Foreign(why),
    }
}

/// What clients of the Secret's certificate have to trust, PEM.
pub(super) fn bundle(secret: &Secret) -> Option<String> {
    let ours = is_ours(secret);
    let data = secret.data.as_ref()?;
    let brought = data.get(AUTHORITIES).filter(|_| !ours);
    let bytes = brought.or_else(|| data.get(CERTIFICATES))?;
    String::from_utf8(bytes.0.clone()).ok()
}

fn is_ours(secret: &Secret) -> bool {
    let labels = secret.metadata.labels.as_ref();
    let manager = labels.and_then(|labels| labels.get(MANAGED_BY));
    manager.map(String::as_str) == Some(FIELD_MANAGER)
}

fn read(secret: &Secret, ours: bool, namespace: &str, now: Timestamp) -> Result<Held, String> {
    let text = |key: &str| {
        let bytes = secret.data.as_ref()?.get(key)?;
        std::str::from_utf8(&bytes.0).ok()
    };
    let part = |key: &str| text(key).ok_or_else(|| format!("it has no text under `{key}`"));
    let (certificates, private) = (part(CERTIFICATES)?, part(PRIVATE_KEY)?);
    let mut chain = CertificateDer::pem_slice_iter(certificates.as_bytes())
        .map(|certificate| certificate.map(CertificateDer::into_owned))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("`{CERTIFICATES}` is no PEM: {error}"))?;
    if ours {
        // The authority before is for those who check, not for those who are checked.
        chain.truncate(2);
    }
    let private = PrivateKeyDer::from_pem_slice(private.as_bytes())
        .map_err(|error| format!("`{PRIVATE_KEY}` is no PEM: {error}"))?;
    let (starts, ends) = chain
        .first()
        .ok_or_else(|| format!("`{CERTIFICATES}` holds no certificate"))
        .and_then(|leaf| life(leaf, namespace))?;
    if now < starts || now >= ends {
        return Err(format!(
            "its certificate is good from {starts} to {ends} only"
        ));
    }
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&private)
        .map_err(|error| format!("`{PRIVATE_KEY}` cannot be used: {error}"))?;
    let key = CertifiedKey::new(chain, key);
    let bundle = bundle(secret).unwrap_or_else(|| certificates.to_owned());
    key.keys_match()
        .map_err(|_| format!("`{PRIVATE_KEY}` does not belong to `{CERTIFICATES}`"))?;
    Ok(Held {
        key: Arc::new(key),
        // One that cannot be read proves nothing to clients either.
        anchors: CertificateDer::pem_slice_iter(bundle.as_bytes())
            .filter_map(Result::ok)
            .map(CertificateDer::into_owned)
            .collect(),
        bundle,
        renew_at: starts + SignedDuration::from_secs(ends.duration_since(starts).as_secs() / 2),
        ends_at: ends,
    })
}

/// From when to when a certificate is good. It must be for the name that API servers call.
fn life(leaf: &CertificateDer<'_>, namespace: &str) -> Result<(Timestamp, Timestamp), String> {
    let unreadable =
        |error: &dyn std::fmt::Display| format!("its certificate cannot be read: {error}");
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| unreadable(&error))?;
    let alternatives = parsed
        .subject_alternative_name()
        .map_err(|error| unreadable(&error))?;
    let wanted = names(namespace).remove(0);
    let named = alternatives
        .iter()
        .flat_map(|names| &names.value.general_names)
        .any(|name| matches!(name, GeneralName::DNSName(name) if *name == wanted));
    if !named {
        return Err(format!("its certificate is not for {wanted}"));
    }
    let at = |time: ASN1Time| Timestamp::from_second(time.timestamp());
    let validity = parsed.validity();
    match (at(validity.not_before), at(validity.not_after)) {
        (Ok(starts), Ok(ends)) => Ok((starts, ends)),
        (Err(error), _) | (_, Err(error)) => Err(unreadable(&error)),
    }
}

/// A Secret with a new certificate, to be written over `old`.
///
/// # Errors
/// The crypto library failed.
pub(super) fn issue(
    old: Option<&Secret>,
    namespace: &str,
    now: Timestamp,
) -> Result<Secret, rcgen::Error> {
    let authority_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut authority = params(Vec::new(), "authority", now)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut leaf = params(names(namespace), "admission", now)?;
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let leaf_pem = leaf.signed_by(&key, &issuer)?.pem();

    let before = old
        .and_then(|old| authority_of(old, now))
        .unwrap_or_default();
    let data = [
        (CERTIFICATES, format!("{leaf_pem}{authority_pem}{before}")),
        (PRIVATE_KEY, key.serialize_pem()),
    ];
    let label = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.to_owned()),
            namespace: Some(namespace.to_owned()),
            resource_version: old.and_then(|old| old.metadata.resource_version.clone()),
            labels: Some(BTreeMap::from([
                label((MANAGED_BY, FIELD_MANAGER)),
                label(APP),
            ])),
            ..ObjectMeta::default()
        },
        data: Some(
            data.into_iter()
                .map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())))
                .collect(),
        ),
        ..Secret::default()
    })
}

fn params(
    names: Vec<String>,
    role: &str,
    now: Timestamp,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.not_before = SystemTime::from(now - BACKDATE).into();
    params.not_after = SystemTime::from(now + LIFE).into();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("meridian-agent {role}"));
    Ok(params)
}

/// The authority of the certificate in a Secret of ours, PEM, unless it has ended.
fn authority_of(secret: &Secret, now: Timestamp) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(CERTIFICATES)?;
    let text = std::str::from_utf8(&bytes.0).ok()?.replace("\r\n", "\n");
    let pem = text.split_inclusive(END).nth(1)?.to_owned();
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, parsed) = X509Certificate::from_der(&der).ok()?;
    let lives = parsed.validity().not_after.timestamp() > now.as_second();
    (parsed.is_ca() && lives).then_some(pem)
}

#[cfg(test)]
mod tests;
