//! The root on disk: made at the first start, read at every other.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};
use meridian_api::identity::TrustDomain;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::{Authority, BACKDATE, CaError, serial};

const KEY_FILE: &str = "root.key";
const CERTIFICATE_FILE: &str = "root.crt";
/// Life of the root.
const ROOT_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// Where the authority comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made just now.
    Created,
    /// Read from the data directory, where an earlier start made it.
    Loaded,
    /// Given by whoever runs the hub, perhaps long before the first start.
    Given,
}

/// Who may read a key file: its owner alone, or its group too, as a mounted Secret needs it.
#[derive(Clone, Copy)]
struct Readers {
    forbidden: u32,
    expected: &'static str,
}

const OWNER: Readers = Readers {
    forbidden: 0o077,
    expected: "0600",
};
const GROUP: Readers = Readers {
    forbidden: 0o037,
    expected: "0600 or 0640",
};

impl Authority {
    /// Reads the root from the directory, or makes it there at the first start.
    ///
    /// # Errors
    /// [`CaError::File`] and [`CaError::Content`]; a key that others may read is refused.
    pub fn open(
        dir: &Path,
        trust_domain: TrustDomain,
        now: Timestamp,
    ) -> Result<(Self, Origin), CaError> {
        make_private_dir(dir)?;
        let (key_path, certificate_path) = (dir.join(KEY_FILE), dir.join(CERTIFICATE_FILE));
        let origin = if Self::is_in(dir) {
            Origin::Loaded
        } else {
            Origin::Created
        };
        if origin == Origin::Created {
            let key = KeyPair::generate().map_err(CaError::Sign)?;
            write_file(
                &key_path,
                Zeroizing::new(key.serialize_pem()).as_bytes(),
                0o600,
            )?;
        }
        // The key is written first: a start that ended between the two makes the certificate now.
        if !certificate_path.exists() {
            let key = read_key(&key_path, OWNER)?;
            let certificate = root_params(&trust_domain, now)
                .self_signed(&key)
                .map_err(CaError::Sign)?;
            write_file(&certificate_path, certificate.pem().as_bytes(), 0o644)?;
        }
        Ok((Self::read(dir, trust_domain, OWNER)?, origin))
    }

    /// Whether the directory holds the root's key: [`Authority::open`] would read it, and not make one.
    #[must_use]
    pub fn is_in(dir: &Path) -> bool {
        dir.join(KEY_FILE).exists()
    }

    /// Reads the root from a directory of which nothing is changed: the same files serve several replicas.
    ///
    /// # Errors
    /// As [`Authority::open`], and where a file is missing.
    pub fn given(dir: &Path, trust_domain: TrustDomain) -> Result<(Self, Origin), CaError> {
        Ok((Self::read(dir, trust_domain, GROUP)?, Origin::Given))
    }

    fn read(dir: &Path, trust_domain: TrustDomain, readers: Readers) -> Result<Self, CaError> {
        let certificate_path = dir.join(CERTIFICATE_FILE);
        let key = read_key(&dir.join(KEY_FILE), readers)?;
        let root_pem = read_text(&certificate_path)?;
        let root = CertificateDer::from_pem_slice(root_pem.as_bytes()).map_err(|e| CaError::Content {
            path: certificate_path.clone(),
            reason: format!("not a PEM certificate: {e}; restore it from a backup, or remove it to have it made again"),
        })?;
        check_pair(&root, &key, &certificate_path)?;
        let fingerprint = fingerprint(&key);
        let issuer = Issuer::from_ca_cert_der(&root, key).map_err(CaError::Sign)?;
        Ok(Self {
            root,
            root_pem,
            issuer,
            trust_domain,
            fingerprint,
        })
    }
}

/// Of the public key, so that a certificate that is made again for it changes nothing.
fn fingerprint(key: &KeyPair) -> String {
    let hash = digest(&SHA256, &key.subject_public_key_info());
    let hex: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

fn root_params(trust_domain: &TrustDomain, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = SystemTime::from(now - BACKDATE).into();
    params.not_after = SystemTime::from(now + ROOT_LIFE).into();
    params.serial_number = Some(serial());
    params.distinguished_name = subject(&format!("Meridian root of {trust_domain}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub(super) fn subject(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// A certificate that belongs to another key would sign chains that nobody can verify.
fn check_pair(root: &CertificateDer<'_>, key: &KeyPair, path: &Path) -> Result<(), CaError> {
    let content = |reason: String| CaError::Content {
        path: path.to_owned(),
        reason,
    };
    let (_, parsed) =
        x509_parser::parse_x509_certificate(root).map_err(|e| content(e.to_string()))?;
    if parsed.public_key().subject_public_key.data.as_ref() == key.public_key_raw() {
        return Ok(());
    }
    Err(content(format!(
        "belongs to another key than {KEY_FILE} beside it; restore both from one backup"
    )))
}

fn read_key(path: &Path, readers: Readers) -> Result<KeyPair, CaError> {
    let metadata = std::fs::metadata(path).map_err(|e| file(path, "look at it", e))?;
    let mode = metadata.permissions().mode() & 0o777;
    let Readers {
        forbidden,
        expected,
    } = readers;
    if mode & forbidden != 0 {
        let reason =
            format!("mode {mode:04o} lets others read the key, expected {expected}: chmod 600 it");
        return Err(CaError::Content {
            path: path.to_owned(),
            reason,
        });
    }
    let pem = Zeroizing::new(read_text(path)?);
    KeyPair::from_pem(&pem).map_err(|e| CaError::Content {
        path: path.to_owned(),
        reason: format!("not a PEM private key: {e}; restore it from a backup"),
    })
}

fn read_text(path: &Path) -> Result<String, CaError> {
    std::fs::read_to_string(path).map_err(|e| file(path, "read it", e))
}

fn file(path: &Path, operation: &'static str, source: io::Error) -> CaError {
    CaError::File {
        path: path.to_owned(),
        operation,
        source,
    }
}

/// Makes a directory that only its owner may look into.
///
/// # Errors
/// [`CaError::File`].
pub(crate) fn make_private_dir(dir: &Path) -> Result<(), CaError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| file(dir, "make the directory", e))
}

/// Writes a file so that it is there whole or not at all, whatever ends the process.
///
/// # Errors
/// [`CaError::File`].
pub(crate) fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<(), CaError> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        if temporary.exists() {
            std::fs::remove_file(&temporary)?;
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        match path.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|e| file(path, "write it", e))
}
