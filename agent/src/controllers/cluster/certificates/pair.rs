//! One certificate with its key: read from a Secret, judged, or made.

use std::{collections::BTreeSet, fmt, time::SystemTime};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use x509_parser::{extensions::GeneralName, prelude::*};

use super::{Place, Role};

/// Keys of a certificate in a Secret, in the order in which they are looked for.
const CERTIFICATE_KEYS: [&str; 3] = ["certificate", "cert", "tls.crt"];
/// Keys of a private key.
const KEY_KEYS: [&str; 2] = ["key", "tls.key"];
/// Key of further certificates for the end of the chain.
const CHAIN_KEY: &str = "ca.crt";
/// Life of a self-signed certificate. It is renewed when two thirds of its life have passed.
const LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);
/// How far it is back-dated, for clients whose clock is behind.
const BACKDATE: SignedDuration = SignedDuration::from_mins(10);

/// Why a named Secret cannot be used: what was found, what was expected, the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// There is no such Secret.
    Absent,
    /// There is no such Secret, of which only the certificate is needed.
    AbsentAlone,
    /// It lacks something under any of these keys.
    Lacks(&'static [&'static str]),
    /// What stands under the key cannot be used.
    Unusable { key: &'static str, why: String },
    /// The certificate is not good now.
    Untimely { starts: Timestamp, ends: Timestamp },
    /// The private key is not that of the certificate.
    Mismatch {
        certificate: &'static str,
        key: &'static str,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(
                f,
                "not found, expected a Secret with the keys {CERTIFICATE_KEYS:?} (one of them) and {KEY_KEYS:?} (one of \
                 them); create it, or remove the field"
            ),
            Self::AbsentAlone => write!(
                f,
                "not found, expected a Secret with one of the keys {CERTIFICATE_KEYS:?}; create it, or remove the field"
            ),
            Self::Lacks(keys) => write!(
                f,
                "found no text under any of the keys {keys:?}, expected PEM under one of them; add it"
            ),
            Self::Unusable { key, why } => {
                write!(
                    f,
                    "key {key:?}: found {why}, expected PEM that can be used; replace it"
                )
            }
            Self::Untimely { starts, ends } => write!(
                f,
                "found a certificate that is good from {starts} to {ends} only, expected one that is good now; renew it"
            ),
            Self::Mismatch { certificate, key } => write!(
                f,
                "key {key:?}: found a private key of another certificate, expected the one of the first certificate under \
                 {certificate:?}; replace either"
            ),
        }
    }
}

/// A certificate (with what follows in its chain) and its key, both PEM, that fit together.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
    starts: Timestamp,
    ends: Timestamp,
    names: BTreeSet<String>,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("names", &self.names)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

/// Which part of a pair cannot be used, and why.
pub(super) enum Unfit {
    Certificate(String),
    Key(String),
    Mismatch,
}

impl Pair {
    /// Reads a pair and makes sure that its parts fit together. Whether it is good now is not asked.
    pub(super) fn new(certificate: String, key: String) -> Result<Self, Unfit> {
        let unreadable = |error: &dyn fmt::Display| Unfit::Certificate(error.to_string());
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .map(|der| der.map(CertificateDer::into_owned))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unreadable(&error))?;
        let leaf = chain
            .first()
            .ok_or_else(|| Unfit::Certificate("no certificate".to_owned()))?;
        let (starts, ends, names) = read(leaf).map_err(Unfit::Certificate)?;
        let private = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| Unfit::Key(error.to_string()))?;
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&private)
            .map_err(|error| Unfit::Key(error.to_string()))?;
        CertifiedKey::new(chain, signing)
            .keys_match()
            .map_err(|_| Unfit::Mismatch)?;
        Ok(Self {
            certificate,
            key,
            starts,
            ends,
            names,
        })
    }

    /// When it ends, if it is good now.
    pub(super) fn good_until(&self, now: Timestamp) -> Option<Timestamp> {
        (self.starts <= now && now < self.ends).then_some(self.ends)
    }

    /// Whether a self-signed pair has to be replaced: two thirds of its life have passed, or it lacks a name.
    pub(super) fn is_due(&self, names: &Names, now: Timestamp) -> bool {
        let life = self.ends.duration_since(self.starts).as_secs();
        let renew = self.starts + SignedDuration::from_secs(life / 3 * 2);
        now >= renew || now < self.starts || !names.0.is_subset(&self.names)
    }
}

/// From when to when a certificate is good, and its DNS names.
fn read(leaf: &CertificateDer<'_>) -> Result<(Timestamp, Timestamp, BTreeSet<String>), String> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| error.to_string())?;
    let alternatives = parsed
        .subject_alternative_name()
        .map_err(|error| error.to_string())?;
    let names = alternatives
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| {
            if let GeneralName::DNSName(name) = name {
                Some((*name).to_owned())
            } else {
                None
            }
        })
        .collect();
    let at = |time: ASN1Time| {
        Timestamp::from_second(time.timestamp()).map_err(|error| error.to_string())
    };
    let validity = parsed.validity();
    Ok((at(validity.not_before)?, at(validity.not_after)?, names))
}

/// The pair in a Secret that a person or cert-manager made.
pub(super) fn given(secret: Option<&Secret>, now: Timestamp) -> Result<Pair, Problem> {
    let secret = secret.ok_or(Problem::Absent)?;
    let (certificate_key, mut certificate) =
        first(secret, &CERTIFICATE_KEYS).ok_or(Problem::Lacks(&CERTIFICATE_KEYS))?;
    let (key_key, key) = first(secret, &KEY_KEYS).ok_or(Problem::Lacks(&KEY_KEYS))?;
    if let Some((_, chain)) = first(secret, &[CHAIN_KEY])
        && !certificate.contains(chain.trim())
    {
        if !certificate.ends_with('\n') {
            certificate.push('\n');
        }
        certificate.push_str(&chain);
    }
    let pair = Pair::new(certificate, key).map_err(|unfit| match unfit {
        Unfit::Certificate(why) => Problem::Unusable {
            key: certificate_key,
            why,
        },
        Unfit::Key(why) => Problem::Unusable { key: key_key, why },
        Unfit::Mismatch => Problem::Mismatch {
            certificate: certificate_key,
            key: key_key,
        },
    })?;
    if pair.good_until(now).is_none() {
        return Err(Problem::Untimely {
            starts: pair.starts,
            ends: pair.ends,
        });
    }
    Ok(pair)
}

/// Until when the certificate in a Secret is good, of which nobody has the key.
pub(super) fn alone(secret: Option<&Secret>, now: Timestamp) -> Result<Timestamp, Problem> {
    let secret = secret.ok_or(Problem::AbsentAlone)?;
    let (key, text) = first(secret, &CERTIFICATE_KEYS).ok_or(Problem::Lacks(&CERTIFICATE_KEYS))?;
    let unusable = |why: String| Problem::Unusable { key, why };
    let leaf = CertificateDer::from_pem_slice(text.as_bytes())
        .map_err(|error| unusable(error.to_string()))?;
    let (starts, ends, _) = read(&leaf).map_err(unusable)?;
    if starts <= now && now < ends {
        Ok(ends)
    } else {
        Err(Problem::Untimely { starts, ends })
    }
}

/// The first of `keys` under which there is text.
fn first(secret: &Secret, keys: &[&'static str]) -> Option<(&'static str, String)> {
    let data = secret.data.as_ref()?;
    keys.iter().find_map(|key| {
        let text = String::from_utf8(data.get(*key)?.0.clone()).ok()?;
        (!text.trim().is_empty()).then_some((*key, text))
    })
}

/// The DNS names of a self-signed certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    pub(super) fn of(place: &Place<'_>, role: Role) -> Self {
        let Place {
            name,
            namespace,
            api_host,
            database_suffix,
        } = place;
        // Names of Services are short in their own namespace, longer in another, and whole for the careful.
        let service = |service: &str| {
            [
                service.to_owned(),
                format!("{service}.{namespace}"),
                format!("{service}.{namespace}.svc"),
                format!("{service}.{namespace}.svc.cluster.local"),
            ]
        };
        let below = |domain: &str| {
            [
                format!("*.{domain}.svc"),
                format!("*.{domain}.svc.cluster.local"),
            ]
        };
        let mut names: BTreeSet<String> = service(name).into();
        names.extend(below(&format!("{name}.{namespace}")));
        match role {
            Role::Api => {
                names.extend(service(&format!("{name}-api")));
                names.extend(api_host.map(str::to_owned));
            }
            Role::Cm => names.extend(service(&format!("{name}-ui"))),
            Role::Metrics => names.extend(service(&format!("{name}-prom"))),
            Role::Proxy | Role::Syncer => {
                names.extend(below(namespace));
                names.extend(database_suffix.map(|suffix| format!("*{suffix}")));
            }
            // Nodes ask each other by names of their own.
            Role::CpInternode | Role::DpInternode => {}
        }
        // A suffix such as `-db.example.com` makes no name that a certificate may carry.
        names.retain(|name| {
            !name.contains('*') || (name.starts_with("*.") && name.matches('*').count() == 1)
        });
        Self(names)
    }
}

/// A new pair that signs itself.
pub(super) fn self_signed(names: &Names, now: Timestamp) -> Result<Pair, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(names.0.iter().cloned().collect::<Vec<_>>())?;
    let (starts, ends) = (now - BACKDATE, now + LIFE);
    params.not_before = SystemTime::from(starts).into();
    params.not_after = SystemTime::from(ends).into();
    // A common name holds 64 characters at most.
    let shortest = names.0.iter().min_by_key(|name| name.len());
    let common: String = shortest
        .iter()
        .flat_map(|name| name.chars())
        .take(64)
        .collect();
    params.distinguished_name.push(DnType::CommonName, common);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key)?.pem();
    Pair::new(certificate, key.serialize_pem()).map_err(|_| rcgen::Error::CouldNotParseCertificate)
}
