//! Certificates of clients (`clientAuthenticationCertificates`): collected from their Secrets, and checked for what the engine can do
//! with them.
//!
//! The engine trusts issuers: a certificate that has signed itself vouches for itself, an authority for everything that it signs. A
//! certificate of an authority that is not in the list therefore vouches for nobody, and is refused instead of locking its owner out.

use k8s_openapi::api::core::v1::Secret;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::ServeError;
use crate::{controllers::secrets::value, k8s::apply::Objects};

/// Reads all of them as one PEM text; empty if none is asked for.
///
/// # Errors
/// [`ServeError::ClientCertificate`]: one is missing or cannot be used. Nothing is served without it then.
pub(crate) async fn certificates(
    objects: &Objects,
    names: &[String],
) -> Result<String, ServeError> {
    let mut found = Vec::new();
    for name in names {
        found.push((name.as_str(), objects.get::<Secret>(name).await?));
    }
    bundle(&found).map_err(ServeError::ClientCertificate)
}

/// Pure.
fn bundle(secrets: &[(&str, Option<Secret>)]) -> Result<String, String> {
    let mut text = String::new();
    let mut all = Vec::new();
    for (n, (name, secret)) in secrets.iter().enumerate() {
        let refuse = |found: &str, next: &str| {
            Err(format!(
                "clientAuthenticationCertificates[{n}]: found {found}, expected certificates in PEM under the key `cert` of the Secret \
                 `{name}`; {next}. No client is served without them"
            ))
        };
        let Some(secret) = secret else {
            return refuse("no such Secret", "create it");
        };
        let Some(pem) = value(secret, "cert").filter(|pem| !pem.is_empty()) else {
            return refuse("no such key", "add it");
        };
        let read: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(pem).collect();
        let certificates = match read {
            Ok(certificates) if !certificates.is_empty() => certificates,
            Ok(_) => return refuse("no certificate in it", "put one in"),
            Err(_) => return refuse("a text that is no PEM", "correct it"),
        };
        for der in &certificates {
            let Some(names) = names(der) else {
                return refuse("a certificate that is no X.509", "correct it");
            };
            all.push((n, *name, names));
        }
        text.push_str(String::from_utf8_lossy(pem).trim());
        text.push('\n');
    }
    for (n, name, Names { issuer, subject }) in &all {
        if !all.iter().any(|(.., known)| known.subject == *issuer) {
            return Err(format!(
                "clientAuthenticationCertificates[{n}]: found the certificate of `{subject}` in the Secret `{name}` without its issuer \
                 `{issuer}`, expected an authority or a certificate that has signed itself; add the issuer's certificate (every \
                 certificate of that issuer is accepted then) or use one that has signed itself. No client is served without them"
            ));
        }
    }
    Ok(text)
}

struct Names {
    issuer: String,
    subject: String,
}

fn names(der: &CertificateDer<'_>) -> Option<Names> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(Names {
        issuer: certificate.issuer().to_string(),
        subject: certificate.subject().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    /// An authority, what it signed, and a certificate that signed itself.
    fn three() -> [String; 3] {
        let key = || KeyPair::generate().unwrap();
        let authority = key();
        let mut ca = params("authority");
        ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = ca.self_signed(&authority).unwrap().pem();
        let issuer = Issuer::new(ca, authority);
        let leaf = params("leaf").signed_by(&key(), &issuer).unwrap().pem();
        [pem, leaf, params("own").self_signed(&key()).unwrap().pem()]
    }

    fn secret(key: &str, text: &str) -> Option<Secret> {
        let bytes = k8s_openapi::ByteString(text.as_bytes().to_vec());
        Some(Secret {
            data: Some([(key.to_owned(), bytes)].into()),
            ..Secret::default()
        })
    }

    #[test]
    fn authorities_and_certificates_that_signed_themselves_are_collected() {
        let [authority, leaf, own] = three();
        let both = bundle(&[
            ("a", secret("cert", &authority)),
            ("b", secret("cert", &own)),
        ])
        .unwrap();
        assert_eq!(both.matches("BEGIN CERTIFICATE").count(), 2);
        let chain = format!("{leaf}{authority}");
        assert!(bundle(&[("a", secret("cert", &chain))]).is_ok());
        assert_eq!(bundle(&[]), Ok(String::new()));
    }

    #[test]
    fn what_would_let_nobody_in_or_everybody_is_refused_with_the_next_step() {
        let [_, leaf, own] = three();
        for (bad, word) in [
            (None, "no such Secret"),
            (secret("crt", &own), "no such key"),
            (secret("cert", ""), "no such key"),
            (secret("cert", "text"), "no certificate"),
            (
                secret(
                    "cert",
                    &own.replace("BEGIN CERTIFICATE-----\n", "BEGIN CERTIFICATE-----\n!"),
                ),
                "no PEM",
            ),
            (secret("cert", &leaf), "without its issuer"),
        ] {
            let problem = bundle(&[("first", secret("cert", &own)), ("wrong", bad)]).unwrap_err();
            for part in ["clientAuthenticationCertificates[1]", "`wrong`", word, "; "] {
                assert!(problem.contains(part), "{part}: {problem}");
            }
        }
    }
}
