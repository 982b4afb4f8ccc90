//! Certificates of features that do not exist here yet: nobody is shown them. They are read and judged all the same, so that
//! whoever prepares them learns what is wrong with them, and when they end, as with all others. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use meridian_api::crds::cluster::Certificates as Fields;

use super::{Certificates, Given, Trouble, pair};

/// What such a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::controllers::cluster) enum Idle {
    /// Shown to an LDAP server.
    LdapClient,
    /// Shown to an identity provider.
    SsoService,
    /// That of the identity provider itself: its key is nobody else's to have.
    SsoIssuer,
}

impl Idle {
    const ALL: [Self; 3] = [Self::LdapClient, Self::SsoService, Self::SsoIssuer];

    fn field(self) -> &'static str {
        match self {
            Self::LdapClient => "spec.certificates.ldapClientCertificateSecretName",
            Self::SsoService => "spec.certificates.ssoServiceCertificateSecretName",
            Self::SsoIssuer => "spec.certificates.ssoIssuerCertificateSecretName",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::LdapClient => "ldap-client",
            Self::SsoService => "sso-service",
            Self::SsoIssuer => "sso-issuer",
        }
    }

    fn of(self, fields: &Fields) -> Option<&String> {
        match self {
            Self::LdapClient => fields.ldap_client_certificate_secret_name.as_ref(),
            Self::SsoService => fields.sso_service_certificate_secret_name.as_ref(),
            Self::SsoIssuer => fields.sso_issuer_certificate_secret_name.as_ref(),
        }
    }
}

/// The Secrets that the spec names.
#[must_use]
pub(in crate::controllers::cluster) fn named(fields: Option<&Fields>) -> BTreeMap<Idle, String> {
    let name = |idle: Idle| {
        let name = idle.of(fields?).filter(|name| !name.is_empty())?;
        Some((idle, name.clone()))
    };
    Idle::ALL.into_iter().filter_map(name).collect()
}

/// Says of each what is wrong with it, or until when it is good.
pub(super) fn judge(given: &BTreeMap<Idle, Given>, now: Timestamp, told: &mut Certificates) {
    for (idle, given) in given {
        let judged = match idle {
            Idle::LdapClient | Idle::SsoService => {
                pair::given(given.found.as_ref(), now).map(|pair| pair.good_until(now))
            }
            Idle::SsoIssuer => pair::alone(given.found.as_ref(), now).map(Some),
        };
        match judged {
            Err(problem) => told.troubles.push(Trouble {
                field: idle.field(),
                secret: given.secret.clone(),
                problem,
                stays: None,
            }),
            Ok(ends) => {
                let ends = ends.map(|ends| ends.to_string()).unwrap_or_default();
                told.notes.push(format!(
                    "{}: Secret {:?} is good until {ends}, and nobody is shown it yet",
                    idle.word(),
                    given.secret
                ));
            }
        }
    }
}
