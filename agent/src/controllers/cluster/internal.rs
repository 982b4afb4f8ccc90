//! What the nodes of one REC trust each other by, without the hub: an authority of their own, one certificate that they
//! share, and the password with which replicas follow. No I/O; the randomness is the crypto library's.
//!
//! The authority's key is thrown away, so the certificate is the only one that it ever signed. Whole material is kept as
//! long as it exists: nodes of one REC that held different material would refuse each other's replicas.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::rand;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

use crate::controllers::secrets::{NoRandomness, value};

/// The authority's certificate, PEM.
const CA: &str = "ca.crt";
/// The nodes' certificate, PEM.
const CERTIFICATE: &str = "tls.crt";
/// Its key, PEM.
const KEY: &str = "tls.key";
/// The password of the replication user, 64 hexadecimal digits.
const PASSWORD: &str = "replication-password";
/// Random bytes of the password.
const PASSWORD_BYTES: usize = 32;
/// How long the certificates last: longer than a REC, because nothing renews them.
const YEARS: i16 = 20;

/// Why there is no material.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InternalError {
    /// The system gave no random bytes.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// A certificate could not be made.
    #[error("make the certificate by which the nodes of a cluster trust each other")]
    Certificate(#[from] rcgen::Error),
}

/// The entries of the Secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Internal(BTreeMap<String, ByteString>);

impl fmt::Debug for Internal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Internal")
            .field(&self.0.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl Internal {
    /// The entries of `secret`, if they are whole.
    #[must_use]
    pub(super) fn kept(secret: &Secret) -> Option<Self> {
        let text = |key: &str| std::str::from_utf8(value(secret, key)?).ok();
        KeyPair::from_pem(text(KEY)?).ok()?;
        let whole = !text(CA)?.is_empty() && !text(CERTIFICATE)?.is_empty();
        let password = text(PASSWORD)?;
        let usable = password.len() == 2 * PASSWORD_BYTES
            && password.bytes().all(|byte| byte.is_ascii_hexdigit());
        let entry = |key: &str| Some((key.to_owned(), secret.data.as_ref()?.get(key)?.clone()));
        let all = [CA, CERTIFICATE, KEY, PASSWORD];
        (whole && usable)
            .then(|| all.into_iter().filter_map(entry).collect())
            .map(Self)
    }

    /// New entries for the REC `name` in `namespace`.
    ///
    /// # Errors
    /// [`InternalError`].
    pub(super) fn fresh(
        name: &str,
        namespace: &str,
        now: Timestamp,
    ) -> Result<Self, InternalError> {
        let mut password = [0_u8; PASSWORD_BYTES];
        rand::fill(&mut password).map_err(|_| NoRandomness)?;
        let password = password
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let today = now.to_zoned(TimeZone::UTC).date();

        let ca_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut ca = lasting(CertificateParams::default(), today);
        ca.distinguished_name
            .push(DnType::CommonName, format!("nodes of {namespace}/{name}"));
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca_pem = ca.self_signed(&ca_key)?.pem();

        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let server = vec![server_name(name, namespace)];
        let mut node = lasting(CertificateParams::new(server)?, today);
        node.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        node.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = node.signed_by(&key, &Issuer::new(ca, ca_key))?;

        let entries = [
            (CA, ca_pem),
            (CERTIFICATE, certificate.pem()),
            (KEY, key.serialize_pem()),
            (PASSWORD, password),
        ];
        Ok(Self(entries.map(entry).into()))
    }

    /// The entries as a Secret carries them.
    #[must_use]
    pub(super) fn data(&self) -> BTreeMap<String, ByteString> {
        self.0.clone()
    }
}

fn entry((key, text): (&str, String)) -> (String, ByteString) {
    (key.to_owned(), ByteString(text.into_bytes()))
}

/// The name in the certificate, which every node of the REC asks for.
fn server_name(name: &str, namespace: &str) -> String {
    format!("nodes.{name}.{namespace}.meridian.internal")
}

/// From the day before, because clocks differ a little.
fn lasting(mut params: CertificateParams, today: Date) -> CertificateParams {
    let day = |date: Date| {
        let (year, month, day) = (date.year(), date.month(), date.day());
        rcgen::date_time_ymd(year.into(), month.unsigned_abs(), day.unsigned_abs())
    };
    let end = Date::new(today.year().saturating_add(YEARS), 1, 1).unwrap_or(Date::MAX);
    params.not_before = day(today.yesterday().unwrap_or(today));
    params.not_after = day(end);
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(data: BTreeMap<String, ByteString>) -> Secret {
        Secret {
            data: Some(data),
            ..Secret::default()
        }
    }

    fn fresh() -> Internal {
        let now: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
        Internal::fresh("rec", "ns", now).unwrap()
    }

    #[test]
    fn material_that_is_whole_is_kept_and_differs_from_cluster_to_cluster() {
        let one = fresh();
        assert_eq!(Internal::kept(&secret(one.data())).unwrap(), one);
        assert_ne!(fresh().data()[KEY], one.data()[KEY]);
        assert_ne!(fresh().data()[PASSWORD], one.data()[PASSWORD]);
    }

    #[test]
    fn material_of_which_a_part_is_missing_or_unreadable_is_made_anew() {
        for key in [CA, CERTIFICATE, KEY, PASSWORD] {
            let mut data = fresh().data();
            data.remove(key);
            assert_eq!(Internal::kept(&secret(data.clone())), None, "no {key}");
            data.insert(key.to_owned(), ByteString(Vec::new()));
            assert_eq!(Internal::kept(&secret(data)), None, "empty {key}");
        }
    }

    #[test]
    fn the_certificate_carries_the_name_that_nodes_ask_for_and_is_signed_by_the_authority() {
        use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
        let data = fresh().data();
        let der = |key: &str| x509_parser::pem::parse_x509_pem(&data[key].0).unwrap().1;
        let (ca_pem, pem) = (der(CA), der(CERTIFICATE));
        let (_, ca) = X509Certificate::from_der(&ca_pem.contents).unwrap();
        let (_, node) = X509Certificate::from_der(&pem.contents).unwrap();
        let names = node.subject_alternative_name().unwrap().unwrap();
        assert_eq!(
            names.value.general_names,
            [GeneralName::DNSName("nodes.rec.ns.meridian.internal")]
        );
        assert_eq!(node.issuer(), ca.subject());
        assert!(ca.is_ca() && !node.is_ca());
        assert_eq!(data[PASSWORD].0.len(), 64);
    }
}
