//! The certificates that a REC shows to people and clients, one per role: the one of the Secret that the spec names or,
//! where it names none, one that signs itself. They stand in one Secret, which the nodes watch. Pure but for the randomness
//! of the crypto library.
//!
//! What is in use is only ever replaced by something that can be used: a Secret that is missing, broken or out of time
//! becomes a condition and an Event, and the certificate before stays.

mod idle;
mod pair;

pub(super) use idle::{Idle, named as idle};

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt as _;
use meridian_api::{
    certificates::Role,
    crds::cluster::{Certificates as Fields, CertificatesStatus},
};

use pair::{Names, Pair, Problem};

/// Annotation of the Secret: where the certificate of each role came from, `role=origin` with commas. An origin is
/// [`SELF_SIGNED`] or the name of a Secret.
const ORIGINS: &str = "meridian.dev/certificate-origins";
/// Annotation of the Secret: rises with each change of the certificates of proxy or syncer.
const GENERATION: &str = "meridian.dev/certificate-generation";
/// The origin of a certificate that was made here. No Secret can have this name.
const SELF_SIGNED: &str = "(self-signed)";

/// The field that names a Secret for `role`.
#[must_use]
fn field(role: Role) -> &'static str {
    match role {
        Role::Api => "spec.certificates.apiCertificateSecretName",
        Role::Cm => "spec.certificates.cmCertificateSecretName",
        Role::Metrics => "spec.certificates.metricsExporterCertificateSecretName",
        Role::Proxy => "spec.certificates.proxyCertificateSecretName",
        Role::Syncer => "spec.certificates.syncerCertificateSecretName",
        Role::CpInternode => "spec.certificates.cpInternodeEncryptionCertificateSecretName",
        Role::DpInternode => "spec.certificates.dpInternodeEncryptionCertificateSecretName",
    }
}

fn of(fields: &Fields, role: Role) -> Option<&String> {
    match role {
        Role::Api => fields.api_certificate_secret_name.as_ref(),
        Role::Cm => fields.cm_certificate_secret_name.as_ref(),
        Role::Metrics => fields.metrics_exporter_certificate_secret_name.as_ref(),
        Role::Proxy => fields.proxy_certificate_secret_name.as_ref(),
        Role::Syncer => fields.syncer_certificate_secret_name.as_ref(),
        Role::CpInternode => fields
            .cp_internode_encryption_certificate_secret_name
            .as_ref(),
        Role::DpInternode => fields
            .dp_internode_encryption_certificate_secret_name
            .as_ref(),
    }
}

/// Whether other clusters and clients of databases see a change of it.
fn counts(role: Role) -> bool {
    matches!(role, Role::Proxy | Role::Syncer)
}

/// The Secrets that the spec names, by role.
#[must_use]
pub(super) fn named(fields: Option<&Fields>) -> BTreeMap<Role, String> {
    let name = |role| {
        let name = of(fields?, role).filter(|name| !name.is_empty())?;
        Some((role, name.clone()))
    };
    Role::ALL.into_iter().filter_map(name).collect()
}

/// Whether the spec names the Secret `name`, for whatever it is read.
#[must_use]
pub(super) fn names(fields: Option<&Fields>, name: &str) -> bool {
    let shown = named(fields);
    let idle = idle::named(fields);
    shown
        .values()
        .chain(idle.values())
        .any(|named| named == name)
}

/// By which names a REC is called, which self-signed certificates carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place<'a> {
    /// The REC.
    pub name: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Host of the API outside of the cluster, if the spec names one.
    pub api_host: Option<&'a str>,
    /// Suffix of the hosts of databases outside, if the spec names one.
    pub database_suffix: Option<&'a str>,
}

/// A named Secret as it was found.
#[derive(Debug, Clone)]
pub(super) struct Given {
    /// Its name.
    pub secret: String,
    /// It, if it exists.
    pub found: Option<Secret>,
}

/// What the certificates are made of.
#[derive(Debug)]
pub(super) struct Before<'a> {
    /// Our Secret as it stands.
    pub ours: Option<&'a Secret>,
    /// The Secrets that the spec names.
    pub given: &'a BTreeMap<Role, Given>,
    /// Those that it names for what nobody asks for yet.
    pub idle: &'a BTreeMap<Idle, Given>,
    /// The generation that the status shows: a Secret that was deleted does not make it fall.
    pub shown: Option<i64>,
}

/// The certificates of a REC as they are to be.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Certificates {
    data: BTreeMap<String, ByteString>,
    origins: BTreeMap<Role, String>,
    generation: i64,
    /// What keeps a named Secret from being used.
    pub troubles: Vec<Trouble>,
    /// What else a person should know, one sentence each.
    pub notes: Vec<String>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("origins", &self.origins)
            .field("generation", &self.generation)
            .field("troubles", &self.troubles)
            .finish_non_exhaustive()
    }
}

/// A Secret that the spec names and that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    field: &'static str,
    secret: String,
    problem: Problem,
    /// What stays in use meanwhile, if anything is.
    stays: Option<String>,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            secret,
            problem,
            stays,
        } = self;
        write!(f, "{field}: Secret {secret:?}: {problem}")?;
        match stays {
            Some(stays) => write!(f, ". Until then {stays} stays in use"),
            None => Ok(()),
        }
    }
}

impl Certificates {
    /// The entries of the Secret: `<role>.crt` and `<role>.key`.
    #[must_use]
    pub(super) fn data(&self) -> BTreeMap<String, ByteString> {
        self.data.clone()
    }

    /// Its annotations.
    #[must_use]
    pub(super) fn annotations(&self) -> BTreeMap<String, String> {
        let origins = self
            .origins
            .iter()
            .map(|(role, origin)| format!("{role}={origin}"))
            .collect::<Vec<_>>()
            .join(",");
        BTreeMap::from([
            (ORIGINS.to_owned(), origins),
            (GENERATION.to_owned(), self.generation.to_string()),
        ])
    }

    /// Where each came from, for people.
    #[must_use]
    pub(super) fn origins(&self) -> String {
        let one = |(role, origin): (&Role, &String)| match origin.as_str() {
            SELF_SIGNED => format!("{role}: self-signed"),
            secret => format!("{role}: Secret {secret:?}"),
        };
        let all: Vec<String> = self.origins.iter().map(one).collect();
        all.join(", ")
    }

    /// As the REC's status shows them. `Completed`: the nodes' Secret holds what the spec asks for.
    #[must_use]
    pub(super) fn status(&self) -> CertificatesStatus {
        let word = if self.troubles.is_empty() {
            "Completed"
        } else {
            "InProgress"
        };
        CertificatesStatus {
            generation: Some(self.generation),
            update_status: Some(word.to_owned()),
        }
    }
}

/// Decides which certificate each role has.
///
/// # Errors
/// The crypto library made none.
pub(super) fn decide(
    place: &Place<'_>,
    before: &Before<'_>,
    now: Timestamp,
) -> Result<Certificates, rcgen::Error> {
    let origins = before.ours.map(origins_of).unwrap_or_default();
    let mut decided = Certificates {
        data: BTreeMap::new(),
        origins: BTreeMap::new(),
        generation: before.generation(),
        troubles: Vec::new(),
        notes: Vec::new(),
    };
    let mut changed = false;
    for role in Role::ALL {
        let kept = before.ours.and_then(|secret| kept(secret, role));
        let kept = kept.zip(origins.get(&role).cloned());
        let Some((pair, origin)) = choose(place, role, before, kept.clone(), now, &mut decided)?
        else {
            continue;
        };
        changed |= counts(role) && kept.is_none_or(|(before, _)| before != pair);
        let entries = [
            (role.certificate_key(), pair.certificate),
            (role.private_key(), pair.key),
        ];
        for (key, text) in entries {
            decided.data.insert(key, ByteString(text.into_bytes()));
        }
        decided.origins.insert(role, origin);
    }
    if changed {
        decided.generation += 1;
    }
    idle::judge(before.idle, now, &mut decided);
    Ok(decided)
}

impl Before<'_> {
    fn generation(&self) -> i64 {
        let written = self.ours.and_then(|secret| {
            let text = secret.annotations().get(GENERATION)?;
            text.parse().ok()
        });
        written.max(self.shown).unwrap_or(0)
    }
}

/// The certificate of one role and its origin; what a person should know of it goes into `told`. None for a role in which nodes
/// have another one, [`Role::is_always_there`].
fn choose(
    place: &Place<'_>,
    role: Role,
    before: &Before<'_>,
    kept: Option<(Pair, String)>,
    now: Timestamp,
    told: &mut Certificates,
) -> Result<Option<(Pair, String)>, rcgen::Error> {
    let Some(given) = before.given.get(&role) else {
        return unnamed(place, role, kept, now, told);
    };
    let problem = match pair::given(given.found.as_ref(), now) {
        Ok(pair) => return Ok(Some((pair, given.secret.clone()))),
        Err(problem) => problem,
    };
    let stays = match kept {
        Some(kept) => Some(kept),
        None => made(place, role, now)?,
    };
    told.troubles.push(Trouble {
        field: field(role),
        secret: given.secret.clone(),
        problem,
        stays: Some(spoken(stays.as_ref().map(|(_, origin)| origin.as_str()))),
    });
    Ok(stays)
}

/// The certificate of a role that nobody gave one.
fn made(
    place: &Place<'_>,
    role: Role,
    now: Timestamp,
) -> Result<Option<(Pair, String)>, rcgen::Error> {
    if !role.is_always_there() {
        return Ok(None);
    }
    let pair = pair::self_signed(&Names::of(place, role), now)?;
    Ok(Some((pair, SELF_SIGNED.to_owned())))
}

/// The certificate of a role for which no Secret is named: the one that is there, unless it is to be renewed. One that came
/// from a Secret stays as long as it is good, because clients know it.
fn unnamed(
    place: &Place<'_>,
    role: Role,
    kept: Option<(Pair, String)>,
    now: Timestamp,
    told: &mut Certificates,
) -> Result<Option<(Pair, String)>, rcgen::Error> {
    let names = Names::of(place, role);
    if let Some((pair, origin)) = kept {
        if origin == SELF_SIGNED {
            if !pair.is_due(&names, now) {
                return Ok(Some((pair, origin)));
            }
        } else if let Some(ends) = pair.good_until(now) {
            let text = format!(
                "{role} has the certificate of the Secret {origin:?} that the spec does not name any more; it stays until \
                 {ends} and {} follows",
                spoken(role.is_always_there().then_some(SELF_SIGNED))
            );
            told.notes.push(text);
            return Ok(Some((pair, origin)));
        }
    }
    made(place, role, now)
}

fn spoken(origin: Option<&str>) -> String {
    match origin {
        Some(SELF_SIGNED) => "a self-signed certificate".to_owned(),
        Some(origin) => format!("the certificate that came from the Secret {origin:?} before"),
        None => "the certificate that the nodes share".to_owned(),
    }
}

/// The pair of a role in our Secret, if its parts fit together.
fn kept(secret: &Secret, role: Role) -> Option<Pair> {
    let text = |key: &str| {
        let bytes = secret.data.as_ref()?.get(key)?;
        String::from_utf8(bytes.0.clone()).ok()
    };
    let certificate = text(&role.certificate_key())?;
    Pair::new(certificate, text(&role.private_key())?).ok()
}

fn origins_of(secret: &Secret) -> BTreeMap<Role, String> {
    let text = secret.annotations().get(ORIGINS);
    let entry = |entry: &str| {
        let (name, origin) = entry.split_once('=')?;
        let role = Role::ALL.into_iter().find(|role| role.name() == name)?;
        Some((role, origin.to_owned()))
    };
    text.iter()
        .flat_map(|text| text.split(','))
        .filter_map(entry)
        .collect()
}

#[cfg(test)]
mod tests;
