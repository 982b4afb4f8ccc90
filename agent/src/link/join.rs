//! The join material: what a person carries from the hub into this cluster, once. Pure.
//!
//! It lies in the Secret [`SECRET`] and has four keys: `hub` (one or several `host:port`, separated by commas or
//! white space), `ca.crt` (the hub's root, PEM; the only root that is trusted), `token` (single use) and `name` (the
//! name that the token is bound to).

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::ByteString;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use thiserror::Error;

/// Name of the Secret with the join material.
pub const SECRET: &str = "meridian-join";

/// Join material that was read and checked.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinMaterial {
    /// Link addresses of the hub.
    pub addresses: Vec<HubAddress>,
    /// The pinned root, PEM.
    pub ca_pem: String,
    /// The join token.
    pub token: String,
    /// The name that the cluster shall have at the hub.
    pub name: String,
}

impl std::fmt::Debug for JoinMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinMaterial")
            .field("addresses", &self.addresses)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Where a hub listens for agents.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HubAddress {
    /// DNS name or IP address; an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl std::fmt::Display for HubAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl std::str::FromStr for HubAddress {
    type Err = JoinError;

    fn from_str(text: &str) -> Result<Self, JoinError> {
        let bad = || JoinError::Address {
            found: text.to_owned(),
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port: u16 = port.parse().map_err(|_| bad())?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(bad)?,
            None if host.contains(':') => return Err(bad()),
            None => host,
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || port == 0 || !host.chars().all(allowed) {
            return Err(bad());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// Why the join material cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JoinError {
    /// A key is missing or empty.
    #[error(
        "Secret `{SECRET}` has no key `{key}`: make the join material again with `meridian token create` and apply it"
    )]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A key is not text.
    #[error(
        "Secret `{SECRET}`, key `{key}`: found bytes that are not UTF-8, expected text: apply the join material again"
    )]
    NotText {
        /// The key.
        key: &'static str,
    },
    /// An address is not `host:port`.
    #[error(
        "Secret `{SECRET}`, key `hub`: found `{found}`, expected host:port (IPv6 in brackets), several separated by commas"
    )]
    Address {
        /// What was found.
        found: String,
    },
    /// The root is not a certificate.
    #[error(
        "Secret `{SECRET}`, key `ca.crt`: found no PEM certificate, expected the hub's root: apply the join material again"
    )]
    Authority,
}

impl JoinMaterial {
    /// Reads the data of the Secret [`SECRET`].
    ///
    /// # Errors
    /// [`JoinError`] names the key and what was expected.
    pub fn read(data: &BTreeMap<String, ByteString>) -> Result<Self, JoinError> {
        let addresses = parse_addresses(&text(data, "hub")?)?;
        let ca_pem = text(data, "ca.crt")?;
        if roots(&ca_pem).is_none_or(|roots| roots.is_empty()) {
            return Err(JoinError::Authority);
        }
        let (token, name) = (text(data, "token")?, text(data, "name")?);
        Ok(Self {
            addresses,
            ca_pem,
            token,
            name,
        })
    }

    /// Identifies this material: other material means that a person joins the cluster anew.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut all = String::new();
        for part in [&self.ca_pem, &self.token, &self.name] {
            all.push_str(&format!("{}:{part};", part.len()));
        }
        hex(digest(&SHA256, all.as_bytes()).as_ref())
    }
}

/// Reads a list of `host:port`.
///
/// # Errors
/// [`JoinError::Address`] for the first entry that is none; [`JoinError::Missing`] for an empty list.
pub fn parse_addresses(text: &str) -> Result<Vec<HubAddress>, JoinError> {
    let mut addresses = Vec::new();
    for part in text
        .split([',', ' ', '\n', '\t'])
        .filter(|part| !part.is_empty())
    {
        let address = part.parse()?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        Err(JoinError::Missing { key: "hub" })
    } else {
        Ok(addresses)
    }
}

/// All certificates of a PEM text, DER; `None` if any of them cannot be read.
#[must_use]
pub fn roots(pem: &str) -> Option<Vec<Vec<u8>>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(|certificate| certificate.ok().map(|der| der.as_ref().to_vec()))
        .collect()
}

/// SHA-256 of a root in the form that people compare.
#[must_use]
pub fn pin(ca_pem: &str) -> String {
    match roots(ca_pem).as_deref() {
        Some([root, ..]) => hex(digest(&SHA256, root).as_ref()),
        _ => "unreadable".to_owned(),
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            text.push_str(&format!("{byte:02x}"));
            text
        })
}

fn text(data: &BTreeMap<String, ByteString>, key: &'static str) -> Result<String, JoinError> {
    let bytes = data.get(key).ok_or(JoinError::Missing { key })?;
    let text = std::str::from_utf8(&bytes.0)
        .map_err(|_| JoinError::NotText { key })?
        .trim();
    if text.is_empty() {
        Err(JoinError::Missing { key })
    } else {
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::default()
            .self_signed(&key)
            .unwrap()
            .pem()
    }

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, ByteString> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec())))
            .collect()
    }

    #[test]
    fn material_with_several_addresses_is_read_and_trimmed() {
        let ca = ca();
        let read = JoinMaterial::read(&data(&[
            ("hub", "hub.example:8444, 10.77.0.1:8444\n[fd00::1]:9\n"),
            ("ca.crt", &ca),
            ("token", " t \n"),
            ("name", "eu-1\n"),
        ]))
        .unwrap();
        let shown: Vec<_> = read.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["hub.example:8444", "10.77.0.1:8444", "[fd00::1]:9"]);
        assert_eq!((read.token.as_str(), read.name.as_str()), ("t", "eu-1"));
    }

    #[test]
    fn every_missing_key_is_named() {
        let ca = ca();
        let full = [
            ("hub", "h:1"),
            ("ca.crt", ca.as_str()),
            ("token", "t"),
            ("name", "n"),
        ];
        for (key, _) in full {
            let without: Vec<_> = full.iter().copied().filter(|(k, _)| *k != key).collect();
            let error = JoinMaterial::read(&data(&without)).unwrap_err();
            assert!(error.to_string().contains(&format!("`{key}`")), "{error}");
        }
    }

    #[test]
    fn an_address_that_is_not_host_and_port_is_shown() {
        for bad in [
            "hub",
            "hub:",
            "hub:0",
            "hub:70000",
            "https://hub:1",
            "fd00::1:8",
            "[fd00::1:8",
            ":1",
        ] {
            let error = parse_addresses(bad).unwrap_err();
            assert_eq!(
                error,
                JoinError::Address {
                    found: bad.to_owned()
                }
            );
        }
    }

    #[test]
    fn a_root_that_is_not_a_certificate_is_refused() {
        let error = JoinMaterial::read(&data(&[
            ("hub", "h:1"),
            ("ca.crt", "none"),
            ("token", "t"),
            ("name", "n"),
        ]));
        assert_eq!(error, Err(JoinError::Authority));
    }

    #[test]
    fn the_token_is_never_shown() {
        let ca = ca();
        let read = JoinMaterial::read(&data(&[
            ("hub", "h:1"),
            ("ca.crt", &ca),
            ("token", "s3cr3t"),
            ("name", "n"),
        ]));
        assert!(!format!("{read:?}").contains("s3cr3t"));
    }

    #[test]
    fn a_new_token_is_new_material_and_a_moved_hub_is_not() {
        let ca = ca();
        let of = |hub: &str, token: &str| {
            JoinMaterial::read(&data(&[
                ("hub", hub),
                ("ca.crt", &ca),
                ("token", token),
                ("name", "n"),
            ]))
            .unwrap()
            .fingerprint()
        };
        assert_eq!(of("a:1", "t"), of("b:2", "t"));
        assert_ne!(of("a:1", "t"), of("a:1", "u"));
    }
}
